import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { CuttingProxy, PASSING } from '#shared/testing/cutting-proxy.ts'
import type { Address } from '../cast/client.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { chosen, type EventKind, type PlannedEvent } from './events.ts'
import { RedisTrio } from './redis-trio.ts'
import { RoleProcess, settled } from './role-process.ts'
import { Disturbances, type System } from './system.ts'

const START_TIMEOUT_MS = 60_000
const DRAIN_TIMEOUT_MS = 60_000
const PORT_TIMEOUT_MS = 30_000
const CLUSTER_KEY = 'a key that only tests have: chaos'

export interface ClusterPlan {
  /** Logs go here. */
  readonly folder: string
  readonly frontends: number
  readonly backends: number
  readonly persistence: 'stored' | 'replicated'
  /** For every role. */
  readonly flags: readonly string[]
  readonly clusterName: string
}

/** A frontend; its port of MQTT is another after each start, as the address of a pod is. */
interface Frontend {
  readonly process: RoleProcess
  mqttPort: number
  /** A load balancer sends nobody there. */
  isDown: boolean
}

/** A backend behind a proxy, whose port is what it advertises: every link to it goes through there. */
export interface Backend {
  readonly process: RoleProcess
  readonly proxy: CuttingProxy
}

/** Frontends, backends, Redis with a replica and a Sentinel: real processes on loopback, links between them through cutting proxies. */
export class ClusterSystem implements System {
  readonly kinds: readonly EventKind[] = [
    'kill-frontend',
    'kill-backend',
    'stop-frontend',
    'stop-backend',
    'drain-frontend',
    'drain-backend',
    'add-backend',
    'rolling-restart',
    'cut-links',
    'half-open-links',
    'delay-links',
    'refuse-links',
    'kill-redis',
    'stop-redis',
    'fill-redis',
  ]
  readonly disturbances = new Disturbances()
  readonly deaths: string[] = []
  readonly frontends: Frontend[] = []
  readonly backends: Backend[] = []
  readonly #plan: ClusterPlan
  readonly #connects = new Map<string, number>()
  #redis: RedisTrio | null = null
  #backendCount = 0

  constructor(plan: ClusterPlan) {
    this.#plan = plan
  }

  async start(): Promise<void> {
    this.#redis = await RedisTrio.start()
    for (let at = 0; at < this.#plan.backends; at++) await this.addBackend()
    for (let at = 0; at < this.#plan.frontends; at++) {
      const frontend: Frontend = { process: this.#process(`f${at}`), mqttPort: 0, isDown: false }
      this.frontends.push(frontend)
      await this.#launchFrontend(frontend)
    }
    await this.#ready()
  }

  #process(name: string): RoleProcess {
    return new RoleProcess(name, this.#plan.folder, what => this.deaths.push(what))
  }

  #arguments(role: 'frontend' | 'backend', name: string): string[] {
    return [role, '--id', name, '--redis', this.#redis!.url, '--cluster-name', this.#plan.clusterName, ...this.#plan.flags]
  }

  async #launchFrontend(frontend: Frontend): Promise<void> {
    const [mqtt, ws, admin] = await freePorts(3)
    frontend.mqttPort = mqtt!
    const ports = Object.entries({ mqtt, ws, admin }).flatMap(([flag, port]) => [`--${flag}`, `127.0.0.1:${port}`])
    const { process } = frontend
    await process.launch([...this.#arguments('frontend', process.name), ...ports], { MILLRACE_CLUSTER_KEY: CLUSTER_KEY })
    const [unready] = await settled(async () => [await process.unready()].filter(each => each !== null), START_TIMEOUT_MS)
    if (unready !== undefined) this.deaths.push(`not ready after ${START_TIMEOUT_MS} ms: ${unready}`)
    frontend.isDown = false
  }

  /** One more, of a name that no other had. Returns when it takes links. */
  async addBackend(): Promise<Backend> {
    const proxy = await CuttingProxy.open({ host: '127.0.0.1', port: 1 })
    await proxy.refuse()
    const backend: Backend = { process: this.#process(`b${this.#backendCount++}`), proxy }
    this.backends.push(backend)
    await this.#launchBackend(backend)
    return backend
  }

  async #launchBackend({ process, proxy }: Backend): Promise<void> {
    const [rpc] = await freePorts(1)
    proxy.target = { host: '127.0.0.1', port: rpc! }
    const { persistence } = this.#plan
    const copies = persistence === 'replicated' ? 2 : 1
    await process.launch(
      [
        ...this.#arguments('backend', process.name),
        '--rpc',
        `127.0.0.1:${rpc}`,
        '--advertise',
        `127.0.0.1:${proxy.port}`,
        '--persistence',
        persistence,
        '--redundancy-factor',
        `${copies}`,
      ],
      { MILLRACE_CLUSTER_KEY: CLUSTER_KEY },
    )
    if (await listens(rpc!, () => process.isRunning)) await proxy.accept()
    else this.deaths.push(`${process.name} does not listen`)
  }

  async #ready(): Promise<void> {
    const unready = await this.unready(START_TIMEOUT_MS)
    if (unready.length > 0) throw new Error(`not ready after ${START_TIMEOUT_MS} ms: ${unready.join('; ')}`)
  }

  address(clientId: string): Address {
    const count = (this.#connects.get(clientId) ?? 0) + 1
    this.#connects.set(clientId, count)
    const up = this.frontends.filter(({ isDown }) => !isDown)
    const from = up.length > 0 ? up : this.frontends
    const { mqttPort } = from[(hash(clientId) + count) % from.length]!
    return { host: '127.0.0.1', port: mqttPort }
  }

  async perform(event: PlannedEvent): Promise<string> {
    const { kind, lastsMs, target } = event
    const redis = this.#redis!
    switch (kind) {
      case 'kill-frontend':
      case 'stop-frontend':
      case 'drain-frontend':
        return this.#touchFrontend(chosen(this.frontends, target), kind, lastsMs)
      case 'kill-backend':
        return this.killBackend(chosen(this.backends, target), lastsMs / 2)
      case 'stop-backend':
        return this.#stopBackend(chosen(this.backends, target), lastsMs)
      case 'drain-backend':
        return this.drainBackend(chosen(this.backends, target))
      case 'add-backend':
        return this.#resize()
      case 'rolling-restart':
        return this.#rollingRestart()
      case 'kill-redis':
        return redis.killPrimary(lastsMs / 4)
      case 'stop-redis':
        return redis.stopPrimary(lastsMs / 4)
      case 'fill-redis':
        return redis.fill(lastsMs / 2)
      default:
        return this.#breakLinks(event)
    }
  }

  async #touchFrontend(frontend: Frontend, kind: EventKind, lastsMs: number): Promise<string> {
    const { process } = frontend
    const end = this.disturbances.begin(frontend.mqttPort, 'process')
    if (kind === 'stop-frontend') {
      process.pause()
      await sleep(lastsMs)
      process.resume()
    } else {
      frontend.isDown = true
      if (kind === 'kill-frontend') await process.kill()
      else await process.drain(DRAIN_TIMEOUT_MS)
      await sleep(lastsMs / 4)
      await this.#launchFrontend(frontend)
    }
    end()
    return process.name
  }

  /** SIGKILL: its port refuses as that of a dead process does. It comes back after a while. */
  async killBackend(backend: Backend, absentMs: number): Promise<string> {
    await backend.proxy.refuse()
    await backend.process.kill()
    await sleep(absentMs)
    await this.#launchBackend(backend)
    return backend.process.name
  }

  async #stopBackend({ process }: Backend, lastsMs: number): Promise<string> {
    process.pause()
    await sleep(lastsMs)
    process.resume()
    return process.name
  }

  /** SIGTERM, which moves its shards away; then it comes back and takes some. */
  async drainBackend(backend: Backend): Promise<string> {
    await backend.process.drain(DRAIN_TIMEOUT_MS)
    await backend.proxy.refuse()
    await this.#launchBackend(backend)
    return backend.process.name
  }

  /** One more than planned; the next time that one goes for good. */
  async #resize(): Promise<string> {
    if (this.backends.length === this.#plan.backends) return `${(await this.addBackend()).process.name} more`
    const { process, proxy } = this.backends.pop()!
    await process.drain(DRAIN_TIMEOUT_MS)
    await proxy.close()
    return `${process.name} less`
  }

  async #rollingRestart(): Promise<string> {
    for (const backend of this.backends) {
      await this.drainBackend(backend)
      await this.#ready()
    }
    for (const frontend of this.frontends) {
      await this.#touchFrontend(frontend, 'drain-frontend', 0)
      await this.#ready()
    }
    return 'everything'
  }

  async #breakLinks({ kind, lastsMs, target, way }: PlannedEvent): Promise<string> {
    const { process, proxy } = chosen(this.backends, target)
    // The same share chooses who is met and how: thirds of it, each from 0 to below 1.
    const within = (way * 3) % 1
    const links = way < 1 / 3 || proxy.connections.length === 0 ? null : chosen(proxy.connections, within)
    const text = `${links === null ? 'all links' : 'one link'} to ${process.name}`
    // RST alone is nothing that a client may notice: the link is dialled again at once.
    if (kind === 'cut-links') {
      if (links === null) proxy.cut()
      else links.cut()
      return text
    }
    const end = this.disturbances.begin(null, 'links')
    if (kind === 'refuse-links') {
      await proxy.refuse()
      proxy.cut()
      await sleep(lastsMs / 2)
      await proxy.accept()
    } else {
      const delayMs = 20 + Math.floor(within * 600)
      const stopped = chosen([['toServer'], ['toClient'], ['toServer', 'toClient']] as const, within)
      ;(links ?? proxy).flow(kind === 'delay-links' ? { is: 'delayed', delayMs } : { is: 'halfOpen', stopped })
      await sleep(lastsMs)
      ;(links ?? proxy).flow(PASSING)
    }
    end()
    return text
  }

  async unready(timeoutMs: number): Promise<string[]> {
    const processes = [...this.frontends, ...this.backends].map(({ process }) => process)
    return settled(async () => (await Promise.all(processes.map(each => each.unready()))).filter(each => each !== null), timeoutMs)
  }

  async close(): Promise<void> {
    await Promise.all([...this.frontends, ...this.backends].map(({ process }) => process.kill()))
    await Promise.all(this.backends.map(({ proxy }) => proxy.close()))
    await this.#redis?.close()
  }
}

/** Waits until the port takes connections; false when nobody will. */
async function listens(port: number, isAlive: () => boolean): Promise<boolean> {
  const endMs = performance.now() + PORT_TIMEOUT_MS
  while (performance.now() < endMs && isAlive()) {
    const socket = connect({ host: '127.0.0.1', port })
    try {
      await once(socket, 'connect')
      return true
    } catch {
      await sleep(20)
    } finally {
      socket.destroy()
    }
  }
  return false
}

function hash(text: string): number {
  return [...text].reduce((sum, char) => (sum * 31 + char.codePointAt(0)!) % 1_000_003, 7)
}
