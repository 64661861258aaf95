import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { Readable } from 'node:stream'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '#shared/testing/free-ports.ts'

const ROOT = join(import.meta.dirname, '..')
const PAGE = join(ROOT, 'docs/first-policy.md')
/** The port of the page; taken on some machines, so each run has one of its own. */
const PAGE_PORT = '8883'

interface Ran {
  readonly output: string
  readonly code: number | null
}

/** The shell blocks of the page, in order. */
function blocks(): readonly string[] {
  return [...readFileSync(PAGE, 'utf8').matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text]) => text!)
}

/** A copy of what the page speaks of, with `npx millrace` as the command of this checkout. */
function workplace(port: number): { readonly directory: string; readonly environment: NodeJS.ProcessEnv } {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-test-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  mkdirSync(join(directory, 'docs/examples'), { recursive: true })
  cpSync(join(ROOT, 'docs/examples/first-policy'), join(directory, 'docs/examples/first-policy'), { recursive: true })
  const example = join(directory, 'docs/examples/first-policy/broker.yaml')
  writeFileSync(example, readFileSync(example, 'utf8').replaceAll(PAGE_PORT, String(port)))
  mkdirSync(join(directory, 'commands'))
  symlinkSync(process.execPath, join(directory, 'commands/node'))
  // Addresses of admin and metrics are those of other brokers on this machine.
  const quiet = 'case "$1" in start) shift; set -- start --admin off --metrics off "$@";; esac'
  writeFileSync(join(directory, 'commands/npx'), `#!/bin/sh\nshift\n${quiet}\nexec node ${join(ROOT, 'bin/main.ts')} "$@"\n`, {
    mode: 0o755,
  })
  return { directory, environment: { ...process.env, PATH: `${join(directory, 'commands')}:${process.env['PATH']}` } }
}

/** Resolves when `stream` has said `text`. */
async function waitForText(stream: Readable, text: string): Promise<void> {
  let said = ''
  for await (const bytes of stream) {
    said += String(bytes)
    if (said.includes(text)) return
  }
  throw new Error(`ended without a word of it: ${said}`)
}

test('docs/first-policy.md does what it says, run as written', { timeout: 60_000 }, async () => {
  const port = await freePort()
  const { directory, environment } = workplace(port)
  const run = async (script: string): Promise<Ran> => {
    const child = spawn('sh', ['-c', script], { cwd: directory, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (output += bytes.toString()))
    const [code] = (await once(child, 'exit')) as [number | null]
    return { output, code }
  }
  const [pki, prepare, start, allowed, topicRefused, connectRefused, explain, change, retry] = blocks().map(block =>
    block.replaceAll(PAGE_PORT, String(port)),
  ) as [string, string, string, string, string, string, string, string, string]

  expect((await run(pki)).code).toBe(0)
  expect(await run(prepare)).toEqual({ output: 'config: 3 resources, no faults\n', code: 0 })
  // The broker outlives its block, as it does in a terminal.
  const broker = spawn('sh', ['-c', `exec ${start.replace(/ &\n$/, '')}`], {
    cwd: directory,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let log = ''
  broker.stderr.on('data', (bytes: Buffer) => (log += bytes.toString()))
  onTestFinished(async () => {
    if (broker.exitCode !== null) return
    broker.kill('SIGTERM')
    await once(broker, 'exit')
  })
  await waitForText(broker.stdout, `MQTT over TLS:                127.0.0.1:${port}`)

  expect(await run(allowed)).toEqual({ output: '', code: 0 })
  expect((await run(topicRefused)).output).toContain('Warning: Publish 1 failed: Not authorized.')
  const [otherName, noCertificate] = connectRefused.trim().split('\n') as [string, string]
  expect((await run(otherName)).output).toContain('Not authorized')
  expect((await run(noCertificate)).code).not.toBe(0)
  const audited = (): unknown[] =>
    log
      .split('\n')
      .filter(line => line.includes('"audit":true'))
      .map(line => JSON.parse(line) as unknown)
  await expect
    .poll(audited)
    .toMatchObject([
      { event: 'audit_authentication_accepted' },
      { event: 'audit_authentication_accepted' },
      { event: 'audit_refused', action: 'publish', topic: 'sensors/thermostats/humidity' },
      { event: 'audit_authentication_refused', clientId: 'fan-1' },
      { event: 'audit_refused', action: 'handshake', cause: 'client certificate: none was sent' },
    ])
  const [why, whyNot] = explain.trim().split('\n') as [string, string]
  expect(await run(why)).toMatchObject({ code: 0, output: expect.stringMatching(/^allowed: [^]*rules\[0\] \(config\/broker\.yaml:\d+\)/) })
  expect(await run(whyNot)).toMatchObject({ code: 1, output: expect.stringMatching(/^denied: [^]*no rule of this client allows/) })
  expect((await run(change)).code).toBe(0)
  expect(await run(retry)).toEqual({ output: '', code: 0 })
})
