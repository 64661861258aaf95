import { createServer } from 'node:net'
import { bind } from '../../frontend/listener/socket-listener.ts'
import { NO_STATUS, type RoleStatus, type RunningRole } from '../roles/running-role.ts'
import type { Timers } from '#shared/base/timers.ts'
import { addressText } from '#shared/config/address.ts'
import { limitSettings } from '#shared/config/broker-settings.ts'
import type { PlannedPort } from '#shared/config/port-settings.ts'
import { flagName, readFlags } from '#shared/config/read-settings.ts'
import { frontendSettings, type FrontendRoleSettings, memberSettings } from '#shared/config/role-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { ServiceProcess } from './child-process.ts'
import { mergeMetrics } from './merge-metrics.ts'

const PORT_FLAGS = ['mqtt', 'ws', 'mqtts', 'wss'] as const
/** What the supervisor decides for its workers, whatever it was given itself. */
const DECIDED = new Set<string>([...PORT_FLAGS, 'admin', 'metrics', 'id', 'workers', 'reusePort', 'drainDelayMs'])

/**
 * Starts `settings.workers` frontends as processes that share their ports, and speaks for all of them. One that dies is started again; the
 * kernel gives its new connections to the others meanwhile.
 * @throws {ListenError} a port is in use; sharing it with a stranger would go unnoticed
 */
export async function startWorkers(
  args: readonly string[],
  settings: FrontendRoleSettings,
  log: Log,
  timers: Timers,
): Promise<FrontendWorkers> {
  const ports = await reservePorts(settings)
  const flags = [
    ...keptFlags(args),
    ...PORT_FLAGS.flatMap(flag => portFlags(flag, ports)),
    '--admin=off',
    '--metrics=off',
    '--workers=1',
    '--reuse-port',
    // The supervisor has waited.
    '--drain-delay-ms=0',
  ]
  return new FrontendWorkers(settings, flags, log, timers)
}

/** Nobody else has the ports; where the system shall choose, it does so once for all workers. */
async function reservePorts(settings: FrontendRoleSettings): Promise<readonly PlannedPort[]> {
  const servers = settings.ports.filter(({ closed }) => closed === null).map(listener => ({ listener, server: createServer() }))
  try {
    return await Promise.all(
      servers.map(async ({ listener, server }) => {
        await bind(server, { ...listener, packetBytesMax: settings.limits.packetBytesMax, reusePort: settings.reusePort })
        const bound = server.address()
        return typeof bound === 'object' && bound !== null ? { ...listener, port: bound.port } : listener
      }),
    )
  } finally {
    for (const { server } of servers) server.close()
  }
}

function keptFlags(args: readonly string[]): readonly string[] {
  const given = readFlags({ ...frontendSettings, ...memberSettings, ...limitSettings }, args)
  return [...given].filter(([name]) => !DECIDED.has(name)).flatMap(([name, values]) => values.map(value => `${flagName(name)}=${value}`))
}

/** Ports of resources are not among them: each worker reads its resources itself. */
function portFlags(flag: (typeof PORT_FLAGS)[number], ports: readonly PlannedPort[]): readonly string[] {
  const own = ports.filter(({ name }) => name.startsWith(`${flagName(flag)} `))
  return own.length === 0 ? [`${flagName(flag)}=off`] : own.map(port => `${flagName(flag)}=${addressText(port)}`)
}

/** The workers of a frontend as one. */
export class FrontendWorkers implements RunningRole {
  readonly rpc = null
  readonly #workers: readonly ServiceProcess[]
  #haveServed = false

  constructor(settings: FrontendRoleSettings, flags: readonly string[], log: Log, timers: Timers) {
    this.#workers = Array.from(
      { length: settings.workers },
      (_, index) =>
        new ServiceProcess(
          {
            label: { worker: index },
            args: () => ['frontend', ...flags, `--id=${settings.id}-${index}`],
            environment: {},
            restarts: true,
          },
          log,
          timers,
          { onState: () => undefined, onDeath: () => undefined },
        ),
    )
    for (const worker of this.#workers) worker.start()
  }

  /** The same in every worker; where resources ask for port 0, each has one of its own. */
  get addresses(): RunningRole['addresses'] {
    const all = this.#workers.flatMap(({ state }) => state?.listeners ?? [])
    return all.filter((one, index) => all.findIndex(other => other.address === one.address) === index)
  }

  /** All workers once; then one that serves is enough, for the ports are open. */
  waitingFor(): readonly string[] {
    const isEnough = this.#haveServed ? this.#workers.some(({ isServing }) => isServing) : this.#workers.every(({ isServing }) => isServing)
    if (isEnough) this.#haveServed = true
    return isEnough ? [] : this.#notServing()
  }

  impaired(): readonly string[] {
    const told = new Set(this.#workers.flatMap(({ state }) => state?.impaired ?? []))
    return [...told, ...(this.waitingFor().length === 0 ? this.#notServing() : [])]
  }

  /** Sums over the workers, so far as they are not the cluster's. */
  status(): RoleStatus {
    const all = this.#workers.map(({ state }) => state?.status ?? NO_STATUS)
    const sum = (name: keyof RoleStatus): number => all.reduce((total, status) => total + status[name], 0)
    const most = (name: keyof RoleStatus): number => Math.max(...all.map(status => status[name]))
    return {
      connections: sum('connections'),
      sessions: most('sessions'),
      subscriptions: most('subscriptions'),
      retainedMessages: most('retainedMessages'),
      publishesReceived: sum('publishesReceived'),
      publishesSent: sum('publishesSent'),
    }
  }

  /** Metrics of all, and `own` as worker `supervisor`. */
  async metrics(own: string): Promise<string> {
    const texts = await Promise.all(this.#workers.map(worker => worker.metrics()))
    const parts = texts.flatMap((text, index) => (text === null ? [] : [{ worker: String(index), text }]))
    return mergeMetrics([{ worker: 'supervisor', text: own }, ...parts])
  }

  async drain(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.stop()))
  }

  #notServing(): readonly string[] {
    return this.#workers.flatMap(({ state, isServing }, index) =>
      isServing ? [] : [`worker ${index}: ${state === null ? 'starting' : state.waitingFor.join(', ')}`],
    )
  }
}
