/**
 * A server that says for an MQTT broker who may connect: users, scrypt hashes of their passwords and their attributes stand in a JSON file.
 *
 *   node main.ts           serves; settings come from the environment, see README.md
 *   node main.ts hash      reads a password from standard input and prints its hash for the file
 */
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { hashPassword } from './password-hash.ts'
import { openServer, secureContextOf } from './server.ts'
import type { ServerTls } from './server.ts'
import { UsersFile } from './users-file.ts'

function log(event: string, fields: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify({ time: new Date(Date.now()).toISOString(), event, ...fields })}\n`)
}

async function serve(env: NodeJS.ProcessEnv): Promise<void> {
  const { HOST = '::', PORT = '8443', TLS_CERT = 'tls/tls.crt', TLS_KEY = 'tls/tls.key', CLIENT_CA, USERS = 'users.json' } = env
  const readTls = async (): Promise<ServerTls> => ({
    cert: await readFile(TLS_CERT),
    key: await readFile(TLS_KEY),
    ...(CLIENT_CA !== undefined && { ca: await readFile(CLIENT_CA) }),
  })
  const users = await UsersFile.open(USERS, fault => log('users_refused', { fault }))
  const server = openServer({ tls: await readTls(), users, nowMs: () => Date.now(), log })
  server.once('error', fail)
  server.listen(Number(PORT), HOST, () => log('listening', { port: (server.address() as AddressInfo).port }))
  onSignals(server, readTls)
}

function onSignals(server: Server, readTls: () => Promise<ServerTls>): void {
  // Certificates are replaced by others while we run; connections that stand keep what they have.
  const renew = async (): Promise<void> => {
    server.setSecureContext(secureContextOf(await readTls()))
    log('certificate_renewed', {})
  }
  process.on('SIGHUP', () => {
    renew().catch((error: unknown) => log('certificate_refused', { fault: String(error) }))
  })
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => {
      server.close()
      server.closeIdleConnections()
    })
  }
}

async function printHash(): Promise<void> {
  const password = (await text(process.stdin)).replace(/\r?\n$/, '')
  if (password === '') throw new Error('expected a password on standard input')
  process.stdout.write(`${await hashPassword(Buffer.from(password, 'utf8'))}\n`)
}

function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}

const command = process.argv[2]
if (command === undefined) serve(process.env).catch(fail)
else if (command === 'hash') printHash().catch(fail)
else fail(`no command ${command}: node main.ts, or node main.ts hash`)
