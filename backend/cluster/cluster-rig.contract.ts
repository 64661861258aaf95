import { ManualClock } from '#shared/base/clock.ts'
import { groupShardOf, shardOf } from '#shared/cluster/shard.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { TOPIC_LEVELS_MAX, TopicCache } from '#shared/mqtt/topic.ts'
import { CallerCalls } from '#shared/rpc/caller-calls.ts'
import { CallerDispatch } from '#shared/rpc/caller-dispatch.ts'
import type { DispatchParts } from '#shared/rpc/dispatch.ts'
import { PROTOCOL_VERSION } from '#shared/rpc/handshake.ts'
import { linkPair, type LinkPair } from '#shared/rpc/link-pair.contract.ts'
import type { Link, PeerIdentity, Role } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import { OwnerDispatch } from '#shared/rpc/owner-dispatch.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { DEFAULT_SETTINGS, type MessageOptions, ManualTurn, nextTurn } from '../backend-rig.contract.ts'
import { Backend, type ClusterBackend } from '../backend.ts'
import type { BackendSettings } from '../config.ts'
import type { Engine, WillJudge } from '../engine.ts'
import type { DurabilityLevel } from '../store/shard-store.ts'
import { Caller, callerKey } from './caller.ts'
import type { ClusterPersistence } from './cluster-node.ts'
import { OtherBackends } from './other-backends.ts'
import { RigFrontend } from './rig-frontend.contract.ts'
import { SharedStore, type SharedStoreClient } from './shared-store.contract.ts'

const TICK_MS = 100

export interface ClusterRigOptions {
  readonly backends?: readonly string[]
  readonly frontends?: readonly string[]
  readonly shards?: number
  readonly level?: DurabilityLevel
  readonly settings?: Partial<BackendSettings>
  readonly willJudge?: WillJudge | null
  readonly persistence?: () => ClusterPersistence | null
  /** Nobody owns anything yet. By default the backends own the shards in turn. */
  readonly isUnowned?: boolean
}

/** A link between a caller and a backend. */
export interface RigLink {
  readonly caller: string
  readonly owner: RigBackend
  readonly pair: LinkPair
  readonly end: Caller
}

/** One run of a backend process. */
export class RigBackend {
  readonly id: string
  readonly instance: string
  readonly turn = new ManualTurn()
  /** Each process has Topics of its own: they remember who is subscribed in its engine. */
  readonly parts: DispatchParts
  readonly log = new RecordingLog()
  readonly store: SharedStoreClient
  readonly others: OtherBackends
  readonly cluster: ClusterBackend
  readonly failures: Error[] = []
  /** What ShardOwnership would say. */
  mayServe: (shard: number) => boolean = () => true
  isAlive = true

  constructor(rig: ClusterRig, id: string, instance: string) {
    this.id = id
    this.instance = instance
    this.parts = partsOf(rig.shardCount)
    this.store = rig.shared.open({ id, instance })
    this.others = new OtherBackends(rig.shardCount, rig.clock)
    this.cluster = Backend.join(
      {
        settings: { ...DEFAULT_SETTINGS, ...rig.options.settings },
        clock: rig.clock,
        turn: this.turn,
        store: this.store,
        topics: this.parts.topics,
        log: this.log,
        onFailure: error => this.failures.push(error),
        willJudge: rig.options.willJudge ?? null,
        cluster: {
          store: this.store,
          others: this.others,
          registeredCallers: () => rig.callersOf(this),
          ...(rig.options.persistence !== undefined && { persistence: rig.options.persistence }),
        },
      },
      shard => this.mayServe(shard),
    )
    const released: number[] = []
    this.others.bind(this.cluster.node, { onShardReleased: shard => released.push(shard), onOwnedElsewhere: () => undefined })
    this.store.onFenced = shard => {
      this.cluster.hosting.drop(shard)
      rig.closeLinksTo(this, 'fenced')
    }
  }

  get engine(): Engine {
    return this.cluster.backend.engine
  }

  get owned(): number[] {
    return this.engine.shards.filter(({ isServing }) => isServing).map(({ number }) => number)
  }
}

/**
 * Several backends over one store, with real links' codecs between them and to frontends that a test plays. The test is the ownership: it
 * says who takes and leaves which shard, who dies, and which link is cut.
 */
export class ClusterRig {
  readonly options: ClusterRigOptions
  readonly clock = new ManualClock()
  readonly shardCount: number
  readonly shared: SharedStore
  readonly parts: DispatchParts
  readonly backends = new Map<string, RigBackend>()
  readonly frontends = new Map<string, RigFrontend>()
  readonly #links = new Set<RigLink>()
  /** Pairs that are not linked, and not linked again by `settle`. */
  readonly #cut = new Set<string>()
  #instances = 0

  private constructor(options: ClusterRigOptions) {
    this.options = options
    this.shardCount = options.shards ?? 4
    this.shared = new SharedStore(this.shardCount, options.level)
    this.parts = partsOf(this.shardCount)
  }

  static async open(options: ClusterRigOptions = {}): Promise<ClusterRig> {
    const rig = new ClusterRig(options)
    const ids = options.backends ?? ['a', 'b']
    for (const id of ids) rig.start(id)
    for (const id of options.frontends ?? ['f']) rig.frontends.set(id, new RigFrontend(rig, id, `${id}1`))
    rig.link()
    if (options.isUnowned !== true) for (let shard = 0; shard < rig.shardCount; shard++) await rig.take(shard, ids[shard % ids.length]!)
    await rig.settle()
    return rig
  }

  /** A backend process, with nothing yet. */
  start(id: string): RigBackend {
    const backend = new RigBackend(this, id, `${id}${++this.#instances}`)
    this.backends.set(id, backend)
    return backend
  }

  backend(id: string): RigBackend {
    return this.backends.get(id)!
  }

  frontend(id = 'f'): RigFrontend {
    return this.frontends.get(id)!
  }

  shardOf(key: string): number {
    return shardOf(key, this.shardCount)
  }

  groupShardOf(groupName: string, filter: string): number {
    return groupShardOf(groupName, filter, this.shardCount)
  }

  /** `prefix` and the first number that makes its shard this one. */
  keyIn(shard: number, prefix: string): string {
    for (let i = 0; ; i++) if (this.shardOf(`${prefix}${i}`) === shard) return `${prefix}${i}`
  }

  ownerOf(shard: number): RigBackend | null {
    return [...this.backends.values()].find(({ isAlive, engine }) => isAlive && engine.shards[shard]!.isServing) ?? null
  }

  /** Claims the shard for the backend, whoever has it, and serves it. */
  async take(shard: number, id: string): Promise<void> {
    const { store, cluster } = this.backend(id)
    const epoch = await store.claim(shard, this.shared.shards[shard]!.owner?.epoch ?? 0)
    await cluster.hosting.take(shard, epoch!)
  }

  /** In order: read ahead, let go, claimed, served. */
  async move(shard: number, to: string): Promise<void> {
    const from = this.ownerOf(shard)!
    await this.backend(to).cluster.hosting.prepare(shard)
    await this.release(shard, from)
    await this.take(shard, to)
  }

  /** The owner lets the shard go, in order. */
  async release(shard: number, from = this.ownerOf(shard)!): Promise<void> {
    const stopped = from.cluster.hosting.stop(shard)
    for (let isDone = false; !isDone; ) {
      if (from.turn.isRequested) this.endTurn(from)
      from.store.complete()
      isDone = await Promise.race([stopped.then(() => true), nextTurn().then(() => false)])
    }
    await from.store.release(shard)
    from.cluster.hosting.released(shard)
  }

  /** The process dies; of what it was writing, the oldest `reached` steps get through. */
  kill(id: string, reached = 0): void {
    const backend = this.backend(id)
    backend.isAlive = false
    backend.store.kill(reached)
    for (const link of this.#links) if (link.owner === backend || link.caller === callerKey(backend)) this.#cutLink(link)
    this.backends.delete(id)
  }

  /** Its shards, or those of whoever owns nothing that lives, go to `to`. */
  async takeOrphans(to: string): Promise<void> {
    for (let shard = 0; shard < this.shardCount; shard++) if (this.ownerOf(shard) === null) await this.take(shard, to)
  }

  /** Breaks the links between a caller (a frontend's or a backend's id) and a backend, until `heal`. */
  cut(caller: string, owner: string): void {
    this.#cut.add(`${caller}>${owner}`)
    for (const link of this.#links) if (link.caller.split('/')[0] === caller && link.owner.id === owner) this.#cutLink(link)
  }

  heal(): void {
    this.#cut.clear()
    this.link()
  }

  linkOf(caller: string, owner: string): RigLink {
    return [...this.#links].find(link => link.caller.split('/')[0] === caller && link.owner.id === owner)!
  }

  closeLinksTo(owner: RigBackend, reason: string): void {
    for (const { end } of [...this.#links].filter(link => link.owner === owner)) end.close(reason)
  }

  /** Opens every link that is missing and was not cut. */
  link(): void {
    for (const owner of this.backends.values()) {
      for (const other of this.backends.values()) if (other !== owner) this.#linkUp('backend', other, owner)
      for (const frontend of this.frontends.values()) this.#linkUp('frontend', frontend, owner)
    }
  }

  /** Keys of those who may have publishes for the backend. */
  *callersOf(backend: RigBackend): Iterable<string> {
    for (const other of this.backends.values()) if (other.isAlive && other !== backend) yield callerKey(other)
    for (const frontend of this.frontends.values()) yield callerKey(frontend)
  }

  endTurn(backend: RigBackend): void {
    backend.turn.isRequested = false
    backend.cluster.backend.endTurn()
  }

  /** Frames are delivered, turns end and commits complete until nothing is left to do. */
  async settle(): Promise<void> {
    for (let isBusy = true; isBusy; ) {
      this.link()
      isBusy = await this.step()
    }
  }

  /** One round of that. False when nothing happened. */
  async step(): Promise<boolean> {
    let events = 0
    for (const link of this.#links) {
      events += link.pair.deliver()
      if (link.pair.a.thrown.length + link.pair.b.thrown.length > 0) throw link.pair.a.thrown[0] ?? link.pair.b.thrown[0]
      if (link.pair.a.closed !== null && this.#links.delete(link)) events++
    }
    for (const backend of this.backends.values()) {
      if (backend.turn.isRequested) events++
      if (backend.turn.isRequested) this.endTurn(backend)
      events += backend.store.waiting
      backend.store.complete()
    }
    await nextTurn()
    return events > 0 || [...this.backends.values()].some(({ turn, store }) => turn.isRequested || store.waiting > 0) || this.#hasFrames()
  }

  /** Time passes in ticks, with heartbeats, and everything settles after each. */
  async advance(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= TICK_MS) {
      this.clock.advance(Math.min(left, TICK_MS))
      for (const { pair } of this.#links) pair.tick()
      for (const { others, cluster } of this.backends.values()) {
        others.tick()
        cluster.backend.tick()
      }
      await this.settle()
    }
  }

  message(topic: string, payload: string, options: MessageOptions = {}): Message {
    const message = newMessage(this.parts.topics.fromName(topic), Buffer.from(payload), options.qos ?? 0, options.retain ?? false)
    message.expirySeconds = options.expirySeconds ?? -1
    message.packetId = options.packetId ?? 0
    message.dup = options.dup ?? false
    return message
  }

  #hasFrames(): boolean {
    for (const { pair } of this.#links) if (!pair.isStalled && pair.a.pendingFrames + pair.b.pendingFrames > 0) return true
    return false
  }

  #cutLink(link: RigLink): void {
    this.#links.delete(link)
    link.pair.cut()
  }

  #linkUp(role: Role, caller: RigBackend | RigFrontend, owner: RigBackend): void {
    const key = callerKey(caller)
    if (this.#cut.has(`${caller.id}>${owner.id}`)) return
    for (const link of this.#links) if (link.caller === key && link.owner === owner) return
    const pair = linkPair(identityOf(role, caller), identityOf('backend', owner), { clock: this.clock })
    pair.tick()
    const handler = caller instanceof RigFrontend ? caller.onLinkOpen(owner.id, pair.a) : openLink(caller, pair.a)
    const atCaller = new CallerDispatch(handler.port, caller.parts)
    pair.a.start({
      onFrame: (method, body) => atCaller.dispatch(method, body),
      onCongestion: () => undefined,
      onClosed: () => handler.onClosed(),
    })
    const end = new Caller(owner.engine, owner.cluster.node, {
      peer: pair.b.peer,
      calls: new CallerCalls(pair.b),
      heardMs: () => pair.b.heardMs,
      isCongested: () => pair.b.isCongested,
      onRequestShard: () => Promise.resolve(false),
      close: reason => pair.b.close(reason),
    })
    const atOwner = new OwnerDispatch(end, owner.parts)
    pair.b.start({
      onFrame: (method, body) => atOwner.dispatch(method, body),
      onCongestion: isCongested => end.onCongestion(isCongested),
      onClosed: () => {
        // A process that is dead hears nothing.
        if (owner.isAlive) end.closed()
      },
    })
    this.#links.add({ caller: key, owner, pair, end })
    end.open()
  }
}

function openLink({ others }: RigBackend, link: Link): { port: ReturnType<OtherBackends['onLinkOpen']>; onClosed: () => void } {
  return { port: others.onLinkOpen(link, new OwnerCalls(link)), onClosed: () => others.onLinkClosed(link) }
}

function identityOf(role: Role, { id, instance }: { readonly id: string; readonly instance: string }): PeerIdentity {
  return { role, id, instance, protocolVersion: PROTOCOL_VERSION }
}

function partsOf(shardCount: number): DispatchParts {
  const topics = new TopicCache({ topicsMax: 1_000, levelsMax: TOPIC_LEVELS_MAX })
  return { topics, shardCount, levelsMax: TOPIC_LEVELS_MAX, isPeerNewer: false }
}
