import packageJson from '../package.json' with { type: 'json' }
import { anonymousAuthenticator } from '../authsvc/anonymous.ts'
import { Backend } from '../backend/backend.ts'
import { publishSysTopics } from '../backend/sys-topics.ts'
import { openLmdbStore } from '../backend/store/lmdb/lmdb-store.ts'
import { openMemoryStore } from '../backend/store/memory/memory-store.ts'
import type { ShardStore } from '../backend/store/shard-store.ts'
import type { BrokerStatus } from '../frontend/admin/broker-status.ts'
import { drainConnections } from '../frontend/draining.ts'
import { Frontend } from '../frontend/frontend.ts'
import { listen } from '../frontend/listener/listen.ts'
import { hostAndPort, type Listener } from '../frontend/listener/listener.ts'
import { systemClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ImmediateTurn } from '#shared/base/turn.ts'
import type { BrokerSettings, ListenerSettings } from '#shared/config/broker-settings.ts'
import { TopicCache } from '#shared/mqtt/topic.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { MemoryWatch, processMemory, type WatchedMemory } from '#shared/telemetry/memory-watch.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { RateLimitedLog } from '#shared/telemetry/rate-limited-log.ts'
import type { RunningRole } from './running-role.ts'
import { registerBrokerMetrics, registerListenerMetrics } from './standalone-metrics.ts'

/** Topics whose bytes are known in this process, so that a message makes no string. */
const TOPICS_CACHED_MAX = 131_072
const TICK_MS = 100
/** How often the process's memory is read; reading costs some microseconds. */
const MEMORY_CHECK_MS = 1_000

/**
 * One process: frontend, backend and store wired by function calls.
 * @throws {ListenError} a port cannot be opened
 * @throws {StoreError} the store cannot be used
 */
export async function startStandalone(settings: BrokerSettings, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  const standalone = await Standalone.open(settings, log)
  try {
    await standalone.listen()
  } catch (error) {
    await standalone.drain()
    throw error
  }
  registerBrokerMetrics(metrics, standalone.backend.engine, standalone.frontend)
  registerListenerMetrics(metrics, standalone.addresses)
  return standalone
}

async function openStore(settings: BrokerSettings): Promise<ShardStore> {
  const shardCount = settings.limits.shards
  if (settings.store === 'memory') return openMemoryStore({ shardCount })
  return openLmdbStore({ directory: settings.dataDirectory, shardCount, clusterName: 'standalone', level: settings.durability })
}

class Standalone implements RunningRole {
  readonly backend: Backend
  readonly frontend: Frontend
  /** No other process has anything to say to this one. */
  readonly rpc = null
  readonly #settings: BrokerSettings
  readonly #log: RateLimitedLog
  readonly #listeners: { readonly listener: Listener; readonly settings: ListenerSettings }[] = []
  readonly #startedMs = systemClock.wallMs()
  readonly #memoryWatch: MemoryWatch
  #stopTicking: () => void = () => {}
  #sinceMemoryCheckMs = 0
  #sinceSysTopicsMs = 0

  private constructor(settings: BrokerSettings, log: RateLimitedLog, backend: Backend, frontend: Frontend, memory: WatchedMemory) {
    this.#settings = settings
    this.#log = log
    this.backend = backend
    this.frontend = frontend
    this.#memoryWatch = new MemoryWatch(backend.engine.watermarkBytes, memory)
    this.#tick()
  }

  static async open(settings: BrokerSettings, log: Log): Promise<Standalone> {
    const clientLog = new RateLimitedLog(log, settings.logLinesPerSecond, systemClock, systemTimers)
    const topics = new TopicCache({ topicsMax: TOPICS_CACHED_MAX, levelsMax: settings.limits.topicLevelsMax })
    const steps: (() => void)[] = []
    const turn = new ImmediateTurn(steps)
    // Before the store maps its file.
    const memory = processMemory()
    const store = await openStore(settings)
    const backend = await Backend.open({
      settings: settings.limits,
      clock: systemClock,
      turn,
      store,
      topics,
      log: clientLog,
      onFailure: error => log.error('store_failed', { error }),
    }).catch(async (error: unknown) => {
      await store.close()
      throw error
    })
    const frontend = new Frontend({
      settings: settings.limits,
      backend,
      authenticator: anonymousAuthenticator,
      clock: systemClock,
      random: systemRandom,
      turn,
      topics,
      log: clientLog,
    })
    steps.push(backend.endTurn, frontend.endTurn)
    return new Standalone(settings, clientLog, backend, frontend, memory)
  }

  async listen(): Promise<void> {
    const { limits } = this.#settings
    for (const settings of this.#settings.listeners) {
      const listener = await listen(
        { ...settings, packetBytesMax: limits.packetBytesMax },
        {
          connectionsMax: limits.connectionsMax,
          unauthenticatedPerAddressMax: limits.unauthenticatedPerAddressMax,
          upgradeDeadlineMs: limits.connectDeadlineMs,
        },
        transport => this.frontend.onTransport(transport, settings.name),
        ({ reason, remoteAddress, detail }) => {
          // The frontend refused it: counted and logged there.
          if (reason === 'handlerRefused') return
          this.frontend.counters.connectionsRefused++
          this.#log.warn('connection_refused', { listener: settings.name, remote: remoteAddress, reason, detail })
        },
        systemTimers,
      )
      this.#listeners.push({ listener, settings })
      this.#log.info('listening', {
        listener: settings.name,
        address: hostAndPort(listener.address.host, listener.address.port),
        engine: listener.engine,
      })
    }
    for (const { name, reason } of this.#settings.closedListeners) this.#log.warn('port_closed', { listener: name, reason })
    if (limits.sysTopicIntervalSeconds > 0) this.#publishSysTopics()
  }

  get addresses(): BrokerStatus['listeners'] {
    const open = this.#listeners.map(({ listener, settings }) => ({
      name: listener.name,
      address: hostAndPort(listener.address.host, listener.address.port),
      protocol: settings.protocol,
      tls: settings.tls !== null,
      engine: listener.engine,
      closedReason: null,
    }))
    const closed = this.#settings.closedListeners.map(({ name, host, port, reason }) => ({
      name,
      address: hostAndPort(host, port),
      protocol: 'Mqtt' as const,
      tls: false,
      engine: null,
      closedReason: reason,
    }))
    return [...open, ...closed]
  }

  waitingFor(): readonly string[] {
    return this.backend.failure === null ? [] : [`store: ${this.backend.failure.message}`]
  }

  impaired(): readonly string[] {
    return this.#settings.closedListeners.map(({ name, reason }) => `${name}: ${reason}`)
  }

  status(): ReturnType<RunningRole['status']> {
    const { engine } = this.backend
    return {
      connections: this.frontend.counters.connectionsOpen,
      sessions: engine.counters.sessionsTotal,
      subscriptions: engine.index.subscriptionCount + engine.index.sharedSubscriptionCount,
      retainedMessages: engine.counters.retainedMessages,
      publishesReceived: engine.counters.publishesReceived,
      publishesSent: engine.counters.publishesSent,
    }
  }

  async drain(): Promise<void> {
    await Promise.all(this.#listeners.map(({ listener }) => listener.stopAccepting()))
    const { drainDisconnectsPerSecond, drainTimeoutMs } = this.#settings.limits
    await drainConnections(this.frontend, { perSecond: drainDisconnectsPerSecond, withinMs: drainTimeoutMs }, systemTimers)
    this.#stopTicking()
    await Promise.all(this.#listeners.map(({ listener }) => listener.close()))
    await this.backend.close()
    this.#log.flush()
  }

  #tick(): void {
    this.#stopTicking = systemTimers.after(TICK_MS, () => {
      this.#tick()
      this.backend.tick()
      this.frontend.deadlines.tick()
      this.#sinceMemoryCheckMs += TICK_MS
      if (this.#sinceMemoryCheckMs >= MEMORY_CHECK_MS) this.#checkMemory()
      this.#sinceSysTopicsMs += TICK_MS
      const intervalMs = this.#settings.limits.sysTopicIntervalSeconds * 1_000
      if (intervalMs > 0 && this.#sinceSysTopicsMs >= intervalMs) this.#publishSysTopics()
    })
  }

  #checkMemory(): void {
    this.#sinceMemoryCheckMs = 0
    const { engine } = this.backend
    engine.isUnderPressure = this.#memoryWatch.check()
  }

  #publishSysTopics(): void {
    this.#sinceSysTopicsMs = 0
    const { counters } = this.frontend
    publishSysTopics(
      this.backend.engine,
      {
        version: packageJson.version,
        connectionsTotal: counters.connectionsTotal,
        bytesReceived: counters.bytesReceived,
        bytesSent: counters.bytesSent,
      },
      this.#startedMs,
    )
  }
}
