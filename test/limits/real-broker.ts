import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { afterAll, afterEach } from 'vitest'
import type * as packets from '../conformance/packets.ts'
import { RawClient } from '../conformance/raw-client.ts'

export const ROOT = join(import.meta.dirname, '../..')
/** What is kept of standard error for a message about a broker that does not start. */
const STDERR_MAX = 1_000_000

/** How a process ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Added to that of this process. */
type Environment = Readonly<Record<string, string>>

type Child = ChildProcessByStdio<null, Readable, Readable>

/** A broker process of its own, on ports that the operating system chose. */
export class RealBroker {
  readonly pid: number
  readonly ended: Promise<Ended>
  readonly host = '127.0.0.1'
  readonly #child: Child
  #out = ''
  #err = ''

  constructor(child: Child) {
    this.#child = child
    this.pid = child.pid!
    this.ended = once(child, 'close').then(([code, signal]: unknown[]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }))
    child.stdout.on('data', (text: Buffer) => (this.#out += text.toString()))
    child.stderr.on('data', (text: Buffer) => (this.#err = (this.#err + text.toString()).slice(-STDERR_MAX)))
  }

  /** Serving: all ports are open. @throws the process ended instead */
  async serving(): Promise<this> {
    const early = this.ended.then(ended => {
      throw new Error(`the broker ended with ${JSON.stringify(ended)}: ${this.#err}`)
    })
    early.catch(() => undefined)
    while (!this.#out.includes('\nTry:')) await Promise.race([once(this.#child.stdout, 'data'), early])
    return this
  }

  get out(): string {
    return this.#out
  }

  get err(): string {
    return this.#err
  }

  /** The port of what the greeting calls `name`. */
  portOf(name: string): number {
    const line = this.#out.split('\n').find(each => each.trim().startsWith(`${name}:`))
    const port = /:(\d+)(\/\S*)?$/.exec(line ?? '')?.[1]
    if (port === undefined) throw new Error(`no ${name} in: ${this.#out}`)
    return Number(port)
  }

  get port(): number {
    return this.portOf('MQTT')
  }

  get metricsUrl(): string {
    return `http://${this.host}:${this.portOf('Metrics and health')}`
  }

  /** Sum of the samples of one metric whose labels hold `label`. */
  async metric(name: string, label = ''): Promise<number> {
    const text = await (await fetch(`${this.metricsUrl}/metrics`)).text()
    const samples = text.split('\n').filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    if (samples.length === 0) throw new Error(`no metric ${name}`)
    return samples.filter(line => line.includes(label)).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  /** Resident memory of the process, bytes. */
  async residentBytes(): Promise<number> {
    return this.metric('process_resident_memory_bytes')
  }

  async open(version: packets.Version = 5): Promise<RawClient> {
    return RawClient.open(this.host, this.port, version)
  }

  async connect({ version = 5, ...options }: packets.Connect = {}): Promise<RawClient> {
    const client = await this.open(version)
    return client.connect(options).catch((error: Error) => {
      throw new Error(`${error.message}; the broker said: ${this.#err}`)
    })
  }

  /** SIGTERM: the process drains and ends by itself. */
  async terminate(): Promise<Ended> {
    this.#child.kill('SIGTERM')
    return this.ended
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.ended
  }
}

const EPHEMERAL = ['--mqtt', '--ws', '--admin', '--metrics'].flatMap(flag => [flag, '127.0.0.1:0'])

/** Brokers and directories that are gone when it ends. */
class Scope {
  readonly #brokers: RealBroker[] = []
  readonly #directories: string[] = []

  async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-test-'))
    this.#directories.push(directory)
    return directory
  }

  async launch(flags: readonly string[], environment: Environment = {}): Promise<RealBroker> {
    // A flag would win over what resources say of it.
    const logLevel = flags.includes('--log-level') || flags.includes('--config') ? [] : ['--log-level', 'warn']
    const args = [join(ROOT, 'bin/millrace.js'), 'start', ...EPHEMERAL, ...logLevel, ...flags]
    const cwd = await this.directory()
    const env = { ...process.env, ...environment }
    const child = spawn(join(ROOT, 'node_modules/.bin/node'), args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    const broker = new RealBroker(child)
    this.#brokers.push(broker)
    return broker
  }

  async start(flags: readonly string[], environment?: Environment): Promise<RealBroker> {
    const store = flags.includes('--store') ? [] : ['--store', 'memory']
    return (await this.launch([...store, ...flags], environment)).serving()
  }

  async end(): Promise<void> {
    await Promise.all(this.#brokers.splice(0).map(broker => broker.kill()))
    await Promise.all(this.#directories.splice(0).map(directory => rm(directory, { recursive: true, force: true })))
  }
}

const ofTest = new Scope()
const ofFile = new Scope()
afterEach(() => ofTest.end())
afterAll(() => ofFile.end())

/** A directory that is gone when the test is. */
export function scratchDirectory(): Promise<string> {
  return ofTest.directory()
}

/** A process of `millrace start` that may never serve; it does not outlive the test. */
export function launchBroker(...flags: readonly string[]): Promise<RealBroker> {
  return ofTest.launch(flags)
}

/** A broker that serves, with a store in memory unless `flags` say otherwise. */
export function startBroker(...flags: readonly string[]): Promise<RealBroker> {
  return ofTest.start(flags)
}

/** One that all tests of the file share, made with what `flags` answers: it gets a directory that lives as long. */
export async function startBrokerForFile(
  flags: (directory: string) => Promise<readonly string[]>,
  environment?: Environment,
): Promise<RealBroker> {
  return ofFile.start(await flags(await ofFile.directory()), environment)
}
