import packageJson from '../../package.json' with { type: 'json' }
import { Backend, type ClusterBackend } from '../../backend/backend.ts'
import { Caller, callerKey } from '../../backend/cluster/caller.ts'
import type { ClusterPersistence } from '../../backend/cluster/cluster-node.ts'
import { OtherBackends } from '../../backend/cluster/other-backends.ts'
import { ShardOwnership } from '../../backend/ownership/shard-ownership.ts'
import { persistencePolicyOf } from '../../backend/shard/persistence-policy.ts'
import { isSelective } from '../../backend/shard/persistence.ts'
import { engineFigures, publishSysTopics } from '../../backend/sys-topics.ts'
import { openRedisStore, type RedisStore } from '../../backend/store/redis/redis-store.ts'
import { registerEngineMetrics } from '../metrics/broker-metrics.ts'
import { registerOwnershipMetrics } from '../metrics/cluster-metrics.ts'
import { systemClock } from '#shared/base/clock.ts'
import { ClusterRun } from '#shared/cluster/cluster-run.ts'
import { sumOfFigures } from '#shared/cluster/figures.ts'
import { thrownField, thrownText } from '#shared/base/thrown.ts'
import { systemTimers } from '#shared/base/timers.ts'
import type { BackendRoleSettings } from '#shared/config/role-settings.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import { CallerCalls } from '#shared/rpc/caller-calls.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerDispatch } from '#shared/rpc/owner-dispatch.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { MemoryWatch, processMemory } from '#shared/telemetry/memory-watch.ts'
import type { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import type { RateLimitedLog } from '#shared/telemetry/rate-limited-log.ts'
import { adoptLimits } from '#shared/config/adopt-limits.ts'
import { BackendDialers } from '#shared/cluster/backend-dialers.ts'
import type { LiveSettings } from '#shared/config/live-settings.ts'
import { linkDialers } from '#shared/cluster/member-dialers.ts'
import { LinkedProcess } from './linked-process.ts'
import { redisTls, type RegisteredMember } from './member-registry.ts'
import type { RoleStatus, RunningRole } from './running-role.ts'
import { started } from './started.ts'
import { Ticker } from './ticker.ts'
import { openTopicCache } from './topic-cache.ts'
import { willJudgeOf } from './will-judging.ts'

/** One backend process: the shards that it owns, and links to and from everybody. */
export async function startBackendRole(live: LiveSettings<BackendRoleSettings>, log: Log, metrics: MetricsRegistry): Promise<RunningRole> {
  return started(new BackendRole(live, log, metrics))
}

class BackendRole implements RunningRole {
  readonly addresses = []
  readonly #live: LiveSettings<BackendRoleSettings>
  readonly #settings: BackendRoleSettings
  readonly #log: RateLimitedLog
  readonly #metrics: MetricsRegistry
  readonly #process: LinkedProcess
  readonly #topics: TopicCache
  readonly #steps: (() => void)[] = []
  readonly #memory = processMemory()
  readonly #stop = new AbortController()
  #storeStatus = 'connecting'
  #store: RedisStore | null = null
  #member: RegisteredMember | null = null
  #cluster: ClusterBackend | null = null
  #ownership: ShardOwnership | null = null
  #run: ClusterRun | null = null
  #dialers: BackendDialers | null = null
  #ticker: Ticker | null = null
  #onWaiting: () => void = () => undefined
  #isDraining = false
  #isLeaseChecked = false
  #sinceSysTopicsSeconds = 0
  readonly #startedMs = systemClock.wallMs()
  #drained: Promise<void> | null = null

  constructor(live: LiveSettings<BackendRoleSettings>, log: Log, metrics: MetricsRegistry) {
    const { settings } = live
    this.#live = live
    this.#settings = settings
    this.#metrics = metrics
    this.#process = new LinkedProcess('backend', settings, log, metrics, this.#steps)
    this.#log = this.#process.log
    this.#topics = openTopicCache(settings.limits)
  }

  /** @throws what keeps the port from being opened. The store may take its time: `waitingFor` says so meanwhile */
  async start(): Promise<void> {
    this.#live.listen(({ limits }) => adoptLimits(this.#settings.limits, limits, this.#log))
    // Bound before it is registered, and links are taken when there is somebody to take them.
    const links = new DeferredLinks()
    this.#member = await this.#process.open(
      link => links.accept(link),
      () => (this.#cluster === null ? new Map<string, number>() : engineFigures(this.#cluster.backend.engine)),
    )
    await this.#openOrWait(this.#member, links)
  }

  get rpc(): string | null {
    return this.#process.rpc
  }

  waitingFor(): readonly string[] {
    if (this.#isDraining) return ['draining']
    const waiting = [...this.#member!.waitingFor()]
    if (this.#ownership === null) return [...waiting, `store: ${this.#storeStatus}`]
    const status = this.#store!.status()
    if (!status.ready) waiting.push(`store: ${status.detail}`)
    waiting.push(...this.#ownership.problems())
    if (waiting.length === 0 && !this.#ownership.isReady) waiting.push('shards: taking over')
    return waiting
  }

  impaired(): readonly string[] {
    return this.#live.impaired()
  }

  status(): RoleStatus {
    const engine = this.#cluster?.backend.engine
    return {
      connections: 0,
      sessions: engine?.counters.sessionsTotal ?? 0,
      subscriptions: engine?.index.subscriptionCount ?? 0,
      retainedMessages: engine?.counters.retainedMessages ?? 0,
      publishesReceived: engine?.counters.publishesReceived ?? 0,
      publishesSent: engine?.counters.publishesSent ?? 0,
    }
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  /** Ends at once: nothing is handed over. */
  async close(): Promise<void> {
    this.#isDraining = true
    this.#stop.abort()
    await this.#live.stop()
    this.#run?.stop()
    this.#ownership?.stop()
    this.#dialers?.stop()
    await this.#process.closeLinks()
    this.#ticker?.stop()
    await this.#cluster?.backend.close()
    await this.#process.leave(() => this.#run?.end())
  }

  async #drain(): Promise<void> {
    this.#isDraining = true
    await this.#ownership?.drain(this.#settings.limits.drainTimeoutMs)
    await this.close()
  }

  /**
   * Resolves when it serves, or when Redis does not answer: then the process is there and says what it waits for.
   * @throws {StoreError} what waiting does not repair, if Redis says so at once; later it stays and says so
   */
  async #openOrWait(member: RegisteredMember, links: DeferredLinks): Promise<void> {
    const opened = this.#open(member, links)
    const waits = new Promise<void>(resolve => {
      this.#onWaiting = resolve
    })
    opened.catch((error: unknown) => {
      if (this.#isDraining) return
      this.#storeStatus = thrownText(error)
      this.#log.error('store_failed', { error: thrownField(error) })
    })
    await Promise.race([opened, waits])
  }

  async #open(member: RegisteredMember, links: DeferredLinks): Promise<void> {
    const { limits } = this.#settings
    const { membership } = member
    const store = await this.#openStore(member)
    this.#store = store
    const others = new OtherBackends(limits.shards, systemClock)
    const cluster = this.#join(store, others, member)
    this.#cluster = cluster
    const ownership = new ShardOwnership({
      membership,
      store,
      host: cluster.hosting,
      peers: others,
      timers: systemTimers,
      log: this.#log,
      closeLinks: reason => {
        for (const caller of cluster.node.callers) caller.close(reason)
      },
    })
    this.#ownership = ownership
    others.bind(cluster.node, ownership)
    this.#steps.push(cluster.backend.endTurn, () => {
      this.#isLeaseChecked = false
    })
    links.serve(link => this.#accept(link, cluster, ownership))
    this.#dialers = new BackendDialers({
      membership,
      dialerTo: linkDialers(this.#process.hub, this.#process.linkSettings),
      topics: this.#topics,
      topicLevelsMax: limits.topicLevelsMax,
      shardCount: limits.shards,
      caller: others,
      log: this.#log,
    })
    registerEngineMetrics(this.#metrics, cluster.backend.engine, null)
    registerOwnershipMetrics(this.#metrics, ownership, cluster.node)
    this.#startTicking(cluster, others)
    membership.start()
    this.#joinRun(member, cluster, ownership)
  }

  /** Before it is known of which run of the cluster we are, no shard is taken: what it holds might be of an earlier one. */
  #joinRun({ membership, registry }: RegisteredMember, { hosting }: ClusterBackend, ownership: ShardOwnership): void {
    let isStarted = false
    this.#run = new ClusterRun({
      membership,
      registry,
      timers: systemTimers,
      onKnown: () => {
        hosting.noteRun()
        if (!isStarted) ownership.start()
        isStarted = true
      },
    })
    this.#live.listen(() => hosting.noteRun())
    this.#run.start()
  }

  #persistence(): ClusterPersistence | null {
    const policy = persistencePolicyOf(this.#live.snapshot)
    const runId = this.#run?.id ?? null
    return isSelective(policy) && runId !== null ? { policy, runId } : null
  }

  #openStore(member: RegisteredMember): Promise<RedisStore> {
    const { limits, redis, clusterName, persistence, redundancyFactor, id } = this.#settings
    return openRedisStore({
      url: redis,
      tls: redisTls(this.#settings.redisTls),
      shardCount: limits.shards,
      clusterName,
      level: persistence,
      redundancyFactor,
      owner: { id, instance: member.instance },
      log: this.#log,
      signal: this.#stop.signal,
      onStatus: status => {
        this.#storeStatus = status.detail
        if (!status.ready) this.#onWaiting()
      },
    })
  }

  #join(store: RedisStore, others: OtherBackends, member: RegisteredMember): ClusterBackend {
    return Backend.join(
      {
        settings: this.#settings.limits,
        clock: systemClock,
        turn: this.#process.turn,
        store,
        topics: this.#topics,
        log: this.#log,
        onFailure: error => this.#log.error('store_failed', { error }),
        willJudge: willJudgeOf(this.#live),
        cluster: { store, others, registeredCallers: () => callersOf(member), persistence: () => this.#persistence() },
      },
      shard => this.#ownership!.mayServe(shard),
    )
  }

  #startTicking({ backend }: ClusterBackend, others: OtherBackends): void {
    const memoryWatch = new MemoryWatch(backend.engine.watermarkBytes, this.#memory)
    this.#ticker = new Ticker(systemTimers, {
      tick: () => {
        this.#process.hub.tick()
        others.tick()
        backend.tick()
      },
      everySecond: () => {
        backend.engine.isUnderPressure = memoryWatch.check()
        this.#sinceSysTopicsSeconds++
        const { sysTopicIntervalSeconds } = this.#settings.limits
        if (sysTopicIntervalSeconds > 0 && this.#sinceSysTopicsSeconds >= sysTopicIntervalSeconds) this.#publishSysTopics(backend)
      },
    })
  }

  /** Asked of the clock once in a turn; when the lease is over everything is dropped and the links are closed before the answer. */
  #hasLease(): boolean {
    if (this.#isLeaseChecked) return true
    this.#isLeaseChecked = this.#member!.membership.checkLease()
    if (this.#isLeaseChecked) this.#process.turn.request()
    return this.#isLeaseChecked
  }

  /** What the whole cluster counts, to the sessions that are here. */
  #publishSysTopics({ engine }: Backend): void {
    this.#sinceSysTopicsSeconds = 0
    const others = this.#member!.membership.members.filter(({ instance }) => instance !== this.#member!.instance)
    const figures = sumOfFigures([engineFigures(engine), ...others.map(member => member.figures ?? new Map<string, number>())])
    publishSysTopics(engine, packageJson.version, this.#startedMs, figures)
  }

  #accept(link: Link, { backend, node }: ClusterBackend, ownership: ShardOwnership): LinkHandler {
    const caller = new Caller(backend.engine, node, {
      peer: link.peer,
      calls: new CallerCalls(link),
      heardMs: () => link.heardMs,
      isCongested: () => link.isCongested,
      onRequestShard: (memberId, shard) => ownership.onRequestShard(memberId, shard),
      close: reason => link.close(reason),
    })
    const { shards, topicLevelsMax } = this.#settings.limits
    const dispatch = new OwnerDispatch(caller, {
      topics: this.#topics,
      shardCount: shards,
      levelsMax: topicLevelsMax,
      isPeerNewer: false,
    })
    caller.open()
    return {
      // Whoever stood still finds out before it answers: the shards may be others' by now.
      onFrame: (method, body) => {
        if (this.#hasLease()) dispatch.dispatch(method, body)
      },
      onCongestion: isCongested => caller.onCongestion(isCongested),
      onClosed: () => caller.closed(),
    }
  }
}

/** Links that come before there is an engine to answer them are declined: their dialers try again. */
class DeferredLinks {
  #accept: ((link: Link) => LinkHandler) | null = null

  serve(accept: (link: Link) => LinkHandler): void {
    this.#accept = accept
  }

  accept(link: Link): LinkHandler | { readonly declined: string } {
    return this.#accept === null ? { declined: 'starting' } : this.#accept(link)
  }
}

/** Processes that may have publishes for this backend: frontends, and the other backends. */
function* callersOf({ membership }: RegisteredMember): Iterable<string> {
  for (const member of membership.members) {
    if (member.role === 'authsvc') continue
    if (member.role === 'backend' && member.id === membership.self.id) continue
    yield callerKey(member)
  }
}
