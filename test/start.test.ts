import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createPki } from '#shared/config/pki.ts'

const ROOT = join(import.meta.dirname, '..')
const LAUNCHER = join(ROOT, 'bin/millrace.js')
/** A Node that can neither run the sources nor replace itself; comes with the optional packages. */
const NODE_20 = join(ROOT, `node_modules/node20-linux-${process.arch}/bin/node`)

let directory = ''
const children = new Set<ChildProcessByStdio<null, Readable, Readable>>()

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-start-'))
})

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  children.clear()
  await rm(directory, { recursive: true, force: true })
})

interface Run {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  out: string
  err: string
  /** Exit code or signal. */
  readonly ended: Promise<number | NodeJS.Signals>
  /** Nobody holds the standard output any more: neither the launcher nor what it started. */
  readonly closed: Promise<unknown>
}

function run(args: readonly string[], node = process.execPath, environment: Record<string, string> = {}): Run {
  const env = { PATH: process.env['PATH'], ...environment }
  const child = spawn(node, [LAUNCHER, ...args], { cwd: directory, env, stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  const found: Run = {
    child,
    out: '',
    err: '',
    ended: once(child, 'exit').then(([code, signal]: (number | NodeJS.Signals | null)[]) => (code ?? signal) as number | NodeJS.Signals),
    closed: Promise.all([once(child.stdout, 'close'), once(child.stderr, 'close')]),
  }
  child.stdout.on('data', (chunk: Buffer) => (found.out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (found.err += chunk.toString()))
  return found
}

/** Runs to the end. */
async function finish(args: readonly string[], node?: string): Promise<{ code: number | NodeJS.Signals; out: string; err: string }> {
  const found = run(args, node)
  const code = await found.ended
  await found.closed
  return { code, out: found.out, err: found.err }
}

const EPHEMERAL = ['--mqtt', '127.0.0.1:0', '--ws', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--metrics', '127.0.0.1:0']

interface Broker extends Run {
  readonly pid: number
  readonly port: number
  readonly admin: string
  readonly metrics: string
}

/** Started and serving. */
async function start(args: readonly string[] = [], node?: string): Promise<Broker> {
  const found = run(['start', '--store', 'memory', ...EPHEMERAL, ...args], node)
  const early = found.ended.then(code => {
    throw new Error(`ended with ${code}: ${found.err}`)
  })
  early.catch(() => undefined)
  while (!found.out.includes('Try:') || !found.err.includes('"serving"')) {
    await Promise.race([once(found.child.stdout, 'data'), once(found.child.stderr, 'data'), early])
  }
  const text = (pattern: RegExp, source: string): string => pattern.exec(source)?.[1] ?? ''
  return Object.assign(found, {
    pid: Number(text(/"pid":(\d+)/, found.err)),
    port: Number(text(/MQTT: +127\.0\.0\.1:(\d+)/, found.out)),
    admin: text(/(http:\S+)\/\n/, found.out),
    metrics: text(/(http:\S+)\/metrics/, found.out),
  })
}

describe('millrace start', () => {
  test('says where it listens, serves health, metrics, status page and status, and drains on SIGTERM', async () => {
    const broker = await start()
    expect(broker.out).toContain(`mosquitto_pub -p ${broker.port}`)
    expect((await fetch(`${broker.metrics}/readyz`)).status).toBe(200)
    expect(await (await fetch(`${broker.metrics}/metrics`)).text()).toContain('aio_broker_publishes_received')
    const page = await fetch(`${broker.admin}/`)
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
    expect(await (await fetch(`${broker.admin}/api/v1/status`)).json()).toMatchObject({ version: '0.1.0', waitingFor: [], connections: 0 })
    broker.child.kill('SIGTERM')
    expect(await broker.ended).toBe(0)
    for (const line of broker.err.trim().split('\n'))
      expect(JSON.parse(line)).toMatchObject({ level: expect.any(String), event: expect.any(String) })
  })

  test('is one process: the launcher has become the broker', async () => {
    const broker = await start()
    expect(broker.pid).toBe(broker.child.pid)
    broker.child.kill('SIGINT')
    expect(await broker.ended).toBe(0)
  })

  test('a Ctrl-C that arrives twice, from the terminal and through the launcher, is one', async () => {
    const broker = await start()
    broker.child.kill('SIGINT')
    broker.child.kill('SIGINT')
    expect(await broker.ended).toBe(0)
    expect(broker.err).toContain('"stopped"')
  })

  test.runIf(existsSync(NODE_20))('under Node 20 signals reach the broker, and neither outlives the other', async () => {
    const drained = await start([], NODE_20)
    expect(drained.pid).not.toBe(drained.child.pid)
    drained.child.kill('SIGTERM')
    expect(await drained.ended).toBe(0)

    const orphaned = await start([], NODE_20)
    orphaned.child.kill('SIGKILL')
    await orphaned.closed
    await expect(fetch(`${orphaned.metrics}/livez`)).rejects.toThrow()

    const killed = await start([], NODE_20)
    process.kill(killed.pid, 'SIGKILL')
    expect(await killed.ended).toBe('SIGKILL')
  })

  test('a port in use is named, for each kind of port: exit code 1, no stack', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const address = `127.0.0.1:${(taken.address() as { port: number }).port}`
    for (const flag of ['--mqtt', '--ws', '--admin', '--metrics']) {
      const rest = EPHEMERAL.filter((_, index) => EPHEMERAL[index - (index % 2)] !== flag)
      const { code, err } = await finish(['start', '--store', 'memory', ...rest, flag, address])
      const last = err.trim().split('\n').at(-1)
      expect([flag, code, last]).toEqual([flag, 1, expect.stringContaining(address)])
      expect(err).not.toContain('    at ')
    }
    taken.close()
  }, 60_000)

  test('a start that fails ends, though it watches resources: exit code 1', async () => {
    await mkdir(join(directory, 'config'))
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const address = `127.0.0.1:${(taken.address() as { port: number }).port}`
    for (const flag of ['--mqtt', '--metrics']) {
      const rest = EPHEMERAL.filter((_, index) => EPHEMERAL[index - (index % 2)] !== flag)
      const { code, err } = await finish(['start', '--store', 'memory', '--config', 'config', ...rest, flag, address])
      expect([flag, code, err.trim().split('\n').at(-1)]).toEqual([flag, 1, expect.stringContaining(address)])
    }
    taken.close()
    const args = ['start', '--config', 'config', ...EPHEMERAL]
    const owner = run(args)
    while (!owner.err.includes('"serving"')) await once(owner.child.stderr, 'data')
    const { code, err } = await finish(args)
    expect([code, err]).toEqual([1, expect.stringContaining('is in use by process')])
  }, 60_000)

  test('does not offer a port that asks who clients are to whoever has no credentials', async () => {
    await mkdir(join(directory, 'config/secrets/users'), { recursive: true })
    await writeFile(join(directory, 'config/secrets/users/people'), '[]')
    await writeFile(
      join(directory, 'config/plant.yaml'),
      `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: plant}
spec: {ports: [{port: 0, host: 127.0.0.1, authenticationRef: people}]}
---
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: people}
spec: {authenticationMethods: [{method: Password, passwordSettings: {secretRef: users}}]}
`,
    )
    const quiet = ['--admin', '127.0.0.1:0', '--metrics', '127.0.0.1:0']
    const found = run(['start', '--store', 'memory', '--config', 'config', ...quiet])
    while (!found.out.includes('/metrics\n')) await once(found.child.stdout, 'data')
    found.child.kill('SIGTERM')
    expect(await found.ended).toBe(0)
    expect(found.out).toMatch(/ MQTT: +127\.0\.0\.1:\d+\n/)
    expect(found.out).not.toContain('Try:')
  })

  test('with --config opens the ports of its resources, TLS among them, and keeps one without its secret closed and reported', async () => {
    const pki = await createPki(join(directory, 'config/secrets/web'))
    await writeFile(
      join(directory, 'config/listeners.yaml'),
      `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerListener
metadata: {name: default}
spec:
  ports:
  - {port: 0, tls: {mode: Manual, manual: {secretRef: web}}}
  - {port: 1, tls: {mode: Manual, manual: {secretRef: absent}}}
`,
    )
    await rename(pki.serverCert, join(directory, 'config/secrets/web/tls.crt'))
    await rename(pki.serverKey, join(directory, 'config/secrets/web/tls.key'))
    const broker = await start(['--config', join(directory, 'config')])
    expect(broker.out).toMatch(/MQTT over TLS: +127\.0\.0\.1:\d+\n/)
    const ready = await fetch(`${broker.metrics}/readyz`)
    expect([ready.status, await ready.json()]).toEqual([
      200,
      { ready: true, waitingFor: [], impaired: ['BrokerListener default port 1: secret absent has no tls.crt'] },
    ])
    const socket = connect(broker.port, '127.0.0.1')
    await once(socket, 'connect')
    socket.destroy()
  })
})

describe('usage', () => {
  test.each<[args: string, code: number, text: string]>([
    ['', 2, 'Usage: millrace COMMAND'],
    ['--help', 0, 'Usage: millrace COMMAND'],
    ['--version', 0, '0.1.0'],
    ['start --help', 0, '--connections-max N'],
    ['pki --help', 0, 'Usage: millrace pki DIR'],
    ['strat', 2, 'millrace: there is no command strat; did you mean start?; commands: start, pki,'],
    ['--start', 2, 'millrace: there is no flag --start'],
    ['start --mqt x', 2, 'millrace start: flag --mqt: there is no such flag; did you mean --mqtt?'],
    ['start --config nowhere', 2, 'millrace start: flag --config: the directory'],
    ['pki', 2, 'millrace pki: a directory is missing'],
    ['bench nonsense', 2, 'unknown scenario nonsense'],
    ['validate --help', 0, 'Usage: millrace validate DIR'],
    ['validate', 2, 'millrace validate: expected one directory'],
    ['validate nowhere', 2, 'millrace validate: the directory nowhere does not exist'],
    ['frontend --help', 0, '--workers N'],
    ['backend --help', 0, 'MILLRACE_CLUSTER_KEY (environment only)'],
    ['authsvc --help', 0, 'Usage: millrace authsvc --redis URL'],
    ['cluster --help', 0, '--no-restart'],
    ['backend', 2, 'millrace backend: flag --redis: is missing'],
    ['backend --redis redis://127.0.0.1:1', 2, 'millrace backend: environment MILLRACE_CLUSTER_KEY: is missing'],
    ['frontend --rpc 127.0.0.1:1', 2, 'millrace frontend: flag --rpc: there is no such flag'],
    ['authsvc --cluster-key abc', 2, 'set MILLRACE_CLUSTER_KEY in the environment'],
    ['cluster --frontends none', 2, 'millrace cluster: flag --frontends: expected a whole number from 1 to 50 processes'],
  ])('millrace %s', async (args, code, text) => {
    const result = await finish(args.split(' ').filter(Boolean))
    expect(result.code).toBe(code)
    expect(code === 0 ? result.out : result.err).toContain(text)
    expect(code === 0 ? result.err : result.out).toBe('')
  })

  test('millrace validate prints faults with their lines, and says when there are none', async () => {
    const listener = (fields: string): string =>
      `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerListener\nmetadata: {name: plant}\nspec:\n  ports:\n  - ${fields}\n`
    const file = join(directory, 'plant.yaml')
    await writeFile(file, listener('{port: 70000}'))
    expect(await finish(['validate', '.'])).toEqual({
      code: 1,
      out: 'plant.yaml:6: spec.ports[0].port: expected a whole number from 0 to 65535\n',
      err: '',
    })
    await writeFile(file, listener('{port: 1883, authenticationRef: who}'))
    expect(await finish(['validate', '.'])).toEqual({
      code: 0,
      out: '.: 1 resource, no faults\n',
      err: 'plant.yaml:1: spec.ports[0].authenticationRef: there is no BrokerAuthentication who; port 1883 stays closed until there is one\n',
    })
  })

  test('millrace validate reads what a BrokerAuthentication refers to, and does not repeat it', async () => {
    await writeFile(
      join(directory, 'plant.yaml'),
      `apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthentication
metadata: {name: people}
spec:
  authenticationMethods: [{method: Password, passwordSettings: {secretRef: users}}]
---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {users.yaml: '- {username: ann, password: open-sesame}'}
`,
    )
    const { code, out, err } = await finish(['validate', '.'])
    expect([code, err]).toEqual([1, ''])
    expect(out).toContain('plant.yaml:1: BrokerAuthentication people: ')
    expect(out).not.toContain('open-sesame')
  })

  test('millrace pki writes certificates and the commands that use them', async () => {
    const { code, out, err } = await finish(['pki', 'certs', '--client-name', 'dev-7'])
    expect([code, err]).toEqual([0, ''])
    expect(out).toContain('--tls-client-ca')
    expect(existsSync(join(directory, 'certs/client.key'))).toBe(true)
    const again = await finish(['pki', 'certs'])
    expect([again.code, again.err]).toEqual([0, expect.stringContaining('certs are replaced')])
  })
})
