/** Ports of one Millrace process, without and with rules: what is compared is the rules alone, in the same warm process. */
import { rmSync } from 'node:fs'
import path from 'node:path'
import type { PortPlan } from '../authentication/resources.ts'
import {
  BENCH_PASSWORD,
  BENCH_USER,
  cheapUser,
  listenerText,
  passwordMethod,
  policyText,
  usualUsers,
  writeResources,
} from '../authentication/resources.ts'
import type { LoadOptions } from '../options.ts'
import type { Peer, RunningBroker } from './broker.ts'
import { temporaryDirectory } from './broker.ts'
import { answersReady } from './cluster.ts'
import { missingMillrace, PROGRAM } from './millrace.ts'
import { freePort, ServerProcess } from './server-process.ts'

/** More than can log in while it is measured: nobody comes twice, since a password that was right is remembered for a minute. */
const USUAL_USERS = 10_000

interface PortKind extends Omit<PortPlan, 'port'> {
  readonly name: string
  readonly username: string
}

const KINDS: readonly PortKind[] = [
  { name: 'no-rules', username: BENCH_USER, authentication: 'cheap' },
  { name: 'rules-100', username: BENCH_USER, authentication: 'cheap', authorization: 'rules-100' },
  { name: 'rules-100-uncached', username: BENCH_USER, authentication: 'cheap', authorization: 'rules-100-uncached' },
  { name: 'rules-10000', username: BENCH_USER, authentication: 'cheap', authorization: 'rules-10000' },
  { name: 'passwords', username: `${BENCH_USER}-%i`, authentication: 'usual' },
]

/** The process behind all of the ports; there is one as long as any of them is used. */
class RuledProcess {
  readonly #directory = temporaryDirectory('ruled')
  readonly #ports = new Map<string, number>()
  #server: ServerProcess | null = null
  #metrics = ''

  /** @throws {Error} it did not start */
  async start(): Promise<void> {
    for (const { name } of KINDS) this.#ports.set(name, await freePort())
    this.#metrics = `127.0.0.1:${await freePort()}`
    const ports = KINDS.map(({ name, ...kind }) => ({ ...kind, port: this.#ports.get(name)! }))
    writeResources(this.#resources, {
      'listener.yaml': listenerText(ports),
      'cheap.yaml': passwordMethod('cheap', 'cheap-users'),
      'secrets/cheap-users/users': cheapUser(),
      'usual.yaml': passwordMethod('usual', 'usual-users'),
      'secrets/usual-users/users': usualUsers(USUAL_USERS) ?? cheapUser(),
      'rules-100.yaml': policyText('rules-100', 100, { cache: 'Enabled' }),
      'rules-100-uncached.yaml': policyText('rules-100-uncached', 100, { cache: 'Disabled' }),
      'rules-10000.yaml': policyText('rules-10000', 10_000, { cache: 'Enabled' }),
    })
    const addresses = ['--admin', `127.0.0.1:${await freePort()}`, '--metrics', this.#metrics]
    this.#server = new ServerProcess({
      name: 'ruled',
      command: [process.execPath, PROGRAM, 'start', '--config', this.#resources, '--store', 'memory', ...addresses],
      directory: this.#directory,
      isReady: () => answersReady(`http://${this.#metrics}/readyz`),
    })
    await this.#server.ready()
  }

  async stop(): Promise<void> {
    await this.#server?.stop()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  broker({ name, username }: PortKind, stop: () => Promise<void>): RunningBroker {
    const set: Partial<LoadOptions> = {
      username,
      password: BENCH_PASSWORD,
      metricsUrl: `http://${this.#metrics}/metrics`,
      resources: this.#resources,
    }
    return { name, port: this.#ports.get(name)!, parts: [{ name: 'broker', pids: [this.#server!.pid] }], redisPort: null, set, stop }
  }

  get #resources(): string {
    return path.join(this.#directory, 'resources')
  }
}

let shared: { readonly started: Promise<RuledProcess>; users: number } | null = null

async function share(): Promise<RuledProcess> {
  shared ??= { started: begin(), users: 0 }
  shared.users++
  return await shared.started
}

async function begin(): Promise<RuledProcess> {
  const ruled = new RuledProcess()
  try {
    await ruled.start()
  } catch (error) {
    shared = null
    await ruled.stop()
    throw error
  }
  return ruled
}

async function release(): Promise<void> {
  if (shared === null || --shared.users > 0) return
  const { started } = shared
  shared = null
  await (await started).stop()
}

function ruledPort(kind: PortKind): Peer {
  const start = async (): Promise<RunningBroker> => (await share()).broker(kind, release)
  return { name: kind.name, lacks: [], roundsMax: Number.POSITIVE_INFINITY, missing: missingMillrace, start }
}

export const ruledPorts: readonly Peer[] = KINDS.map(ruledPort)
