import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, vi } from 'vitest'
import type * as packets from './packets.ts'
import { RawClient } from './raw-client.ts'

const ROOT = join(import.meta.dirname, '../..')
const START_TIMEOUT_MS = 20_000

/** `host:port` of a broker that is already running, to run the suite on it; its WebSocket address is optional. */
const UNDER_TEST = process.env['MQTT_UNDER_TEST']
const WS_UNDER_TEST = process.env['MQTT_WS_UNDER_TEST']

/** The store of the broker that is started: acknowledgements then wait for the disk, or do not. */
const STORE = process.env['MILLRACE_STORE'] ?? 'memory'

/** Whether the broker is not ours to start: tests that need a flag or a project decision's default are skipped then. */
export const external = UNDER_TEST !== undefined
/** Whether MQTT over WebSocket can be reached. */
export const hasWebSocket = !external || WS_UNDER_TEST !== undefined

/** The broker that a test file shares. Addresses are known once `beforeAll` has run. */
export class BrokerUnderTest {
  host = '127.0.0.1'
  port = 0
  wsPort = 0
  readonly #flags: readonly string[]
  readonly #clients: RawClient[] = []
  #process: ChildProcess | null = null
  #data = ''
  #stderr = ''

  constructor(flags: readonly string[]) {
    this.#flags = flags
  }

  async start(): Promise<void> {
    if (UNDER_TEST !== undefined) {
      const [host, port] = UNDER_TEST.split(':')
      this.host = host!
      this.port = Number(port)
      this.wsPort = Number(WS_UNDER_TEST?.split(':')[1] ?? 0)
      return
    }
    const [mqtt, ws, admin, metrics] = await freePorts(4)
    this.port = mqtt!
    this.wsPort = ws!
    this.#data = await mkdtemp(join(tmpdir(), 'millrace-conformance-'))
    const listen = ['--mqtt', mqtt, '--ws', ws, '--admin', admin, '--metrics', metrics].map(each =>
      typeof each === 'number' ? `127.0.0.1:${each}` : each!,
    )
    this.#process = spawn(
      join(ROOT, 'node_modules/.bin/node'),
      [join(ROOT, 'bin/millrace.js'), 'start', ...listen, '--data', this.#data, '--store', STORE, ...this.#flags],
      { cwd: this.#data, stdio: ['ignore', 'ignore', 'pipe'] },
    )
    this.#process.stderr!.on('data', (text: Buffer) => (this.#stderr = (this.#stderr + text.toString()).slice(-4_000)))
    await this.#accepting()
  }

  async #accepting(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS
    for (const port of [this.port, this.wsPort]) {
      while (!(await accepts(port))) {
        if (this.#process!.exitCode !== null) throw new Error(`the broker exited with ${this.#process!.exitCode}: ${this.#stderr}`)
        if (performance.now() > deadline) throw new Error(`the broker does not listen on ${port}: ${this.#stderr}`)
        await sleep(50)
      }
    }
  }

  /** Whether the process that this file started still runs; true for an external broker. */
  get running(): boolean {
    return this.#process === null || (this.#process.exitCode === null && this.#process.signalCode === null)
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.drop()
    const child = this.#process
    if (child && child.exitCode === null && child.signalCode === null) {
      const exited = new Promise(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      await exited
    }
    if (this.#data) await rm(this.#data, { recursive: true, force: true })
  }

  /** A TCP connection with nothing sent yet. */
  async open(version: packets.Version = 5): Promise<RawClient> {
    return this.adopt(await RawClient.open(this.host, this.port, version))
  }

  /** Drops `client` when the file ends. */
  adopt(client: RawClient): RawClient {
    this.#clients.push(client)
    return client
  }

  /** A connected client; a fresh Client Identifier unless one is given. */
  async connect({ version = 5, ...options }: packets.Connect = {}): Promise<RawClient> {
    const client = await this.open(version)
    return client.connect({ clientId: unique('c'), ...options })
  }

  /** Proves that the broker still serves: one message of QoS 1 through two fresh clients. */
  async stillServes(): Promise<void> {
    const [subscriber, publisher] = await Promise.all([this.connect(), this.connect({ version: 4 })])
    const topic = unique('alive')
    await subscriber.subscribe({ filter: topic, qos: 1 })
    await publisher.publish({ topic, payload: 'alive', qos: 1 })
    const message = await subscriber.receive()
    if (message.payload.toString() !== 'alive') throw new Error('the broker garbled a message')
    await Promise.all([subscriber.disconnect(), publisher.disconnect()])
  }
}

/** Starts a broker for the calling test file and stops it afterwards. `flags` are added to the command line. */
export function useBroker(...flags: string[]): BrokerUnderTest {
  const broker = new BrokerUnderTest(flags)
  vi.setConfig({ testTimeout: 40_000, hookTimeout: START_TIMEOUT_MS + 5_000 })
  beforeAll(() => broker.start(), START_TIMEOUT_MS + 5_000)
  afterAll(() => broker.stop())
  return broker
}

const run = randomBytes(3).toString('hex')
let counter = 0

/** A name that no other test of this or an earlier run uses: 23 letters and digits at most, so legal as any Client Identifier. */
export function unique(prefix: string): string {
  counter += 1
  return `${prefix}${run}${counter}`
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port })
  const accepted = await new Promise<boolean>(resolve => socket.once('connect', () => resolve(true)).once('error', () => resolve(false)))
  socket.destroy()
  return accepted
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listenAnywhere))
  const ports = servers.map(server => (server.address() as { port: number }).port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}

function listenAnywhere(): Promise<ReturnType<typeof createServer>> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
}
