import type { Clock } from '#shared/base/clock.ts'
import { TimerWheel, type TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Turn } from '#shared/base/turn.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import { shardOf } from '#shared/cluster/shard.ts'
import type { ConnectionId, SessionHandle } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { ClusterNode, type ClusterParts } from './cluster/cluster-node.ts'
import type { BackendSettings } from './config.ts'
import { BackendCounters } from './counters.ts'
import { RetainedIndex } from './queue/retained-index.ts'
import { FrontendLink } from './session/frontend-link.ts'
import type { NotificationsDue } from './publishing/notifications-due.ts'
import { Publication } from './publishing/publication.ts'
import { StoreAnswers } from './publishing/store-answers.ts'
import { bytesOfSession } from './session/session-bytes.ts'
import type { Session } from './session/session.ts'
import { Journal } from './shard/journal.ts'
import { Shard } from './shard/shard.ts'
import { KeyStore } from './statestore/key-store.ts'
import { KeyStoreCounters } from './statestore/key-store-counters.ts'
import { storeLimits } from './statestore/store-limits.ts'
import type { ShardStore } from './store/shard-store.ts'
import { SubscriptionIndex } from './subscription/subscription-index.ts'

/** Topics whose match result is kept; beyond it the least recently used are matched again. */
const CACHED_TOPICS_MAX = 65_536
const WHEEL_TICK_MS = 100
/**
 * Sessions that end, Wills and expiries in one event-loop turn: after a cut network all of a broker's may be due at once, and
 * connections must not wait for them. The others follow in the next turns, in order.
 */
export const DUE_PER_TURN_MAX = 2_000
/** A SessionHandle is the place in the table and, above it, how often that was given out: never the same twice. */
const SLOTS = 2 ** 27

/** By the policies in force (SessionRights.willGuard). What it throws is a refusal. */
export type WillJudge = (guard: Uint8Array, topicName: string) => boolean

/** What the engine is given from outside: no clock, timer or randomness of its own. */
export interface EngineParts {
  readonly settings: BackendSettings
  readonly clock: Clock
  readonly turn: Turn
  readonly store: ShardStore
  readonly topics: TopicCache
  readonly log: Log
  readonly onFailure: (error: Error) => void
  /** Whether a Will with this guard may go out on the topic now; null or left out: none with a guard may. */
  readonly willJudge?: WillJudge | null
  /** One of several backends; left out: the only one, which has all shards. */
  readonly cluster?: ClusterParts
}

/** The state of one backend: its shards, and the indexes over all of them. Handlers act on it. */
export class Engine {
  readonly settings: BackendSettings
  readonly clock: Clock
  readonly turn: Turn
  readonly store: ShardStore
  readonly topics: TopicCache
  readonly log: Log
  readonly journal: Journal
  readonly willJudge: WillJudge | null
  readonly shards: readonly Shard[]
  readonly index = new SubscriptionIndex<Session>({ cachedTopicsMax: CACHED_TOPICS_MAX })
  readonly retained = new RetainedIndex<Message>()
  readonly counters = new BackendCounters()
  /** Of the state store in all shards, those that have moved away included. */
  readonly storeCounters = new KeyStoreCounters()
  readonly storeAnswers = new StoreAnswers(this)
  readonly #wheel: TimerWheel<() => void>
  #isWheelBehind = false
  /** More entries of the state store have lived their time than one turn removes. */
  isExpiryBehind = false
  /** Changes in the state store of which not all watchers were told, in standalone; null: there was none yet. */
  notificationsDue: NotificationsDue | null = null
  /** Sessions that are being sent Retained Messages, a bounded number of them in each turn. */
  readonly replaying = new Set<Session>()
  /** Links that the publish being matched has recipients on. */
  readonly touchedLinks: FrontendLink[] = []
  readonly publication = new Publication()
  /** Shards that must journal the publish being matched. */
  readonly openShards: Shard[] = []
  /** Sessions whose queue has no room for another message, or not for a large one: while there is none, few publishes have to look. */
  readonly crowdedQueues = new Set<Session>()
  /** Bytes of messages and of uncommitted records at which publishes are refused. */
  readonly watermarkBytes: number
  /** The process is short of memory: publishes are refused (set from outside). */
  isUnderPressure = false
  /** Of Retained Messages that expire. */
  readonly retainedTimers = new Map<Message, TimerHandle>()
  /** Grows with every Retained Message, so that a replay knows what was published after it began. */
  retainedSequence = 0
  readonly #sessions: (Session | null)[] = []
  readonly #freeHandles: SessionHandle[] = []
  readonly #links = new Map<FrontendPort, FrontendLink>()
  readonly cluster: ClusterNode | null
  /** Of each shard, whether the publish under way is for it: when it was last marked. Meaningful while `isRestricted`. */
  readonly #addressed: Float64Array
  #addressing = 0
  isRestricted = false

  constructor(parts: EngineParts) {
    this.settings = parts.settings
    this.clock = parts.clock
    this.turn = parts.turn
    this.store = parts.store
    this.topics = parts.topics
    this.log = parts.log
    this.willJudge = parts.willJudge ?? null
    this.watermarkBytes = (parts.settings.memoryBytesMax * parts.settings.memoryWatermarkPercent) / 100
    this.journal = new Journal(parts.store, parts.turn, parts.onFailure)
    this.#wheel = new TimerWheel(WHEEL_TICK_MS, parts.clock.monotonicMs())
    this.shards = Array.from({ length: parts.store.shardCount }, (_, number) => new Shard(number))
    this.#addressed = new Float64Array(this.shards.length)
    this.cluster = parts.cluster === undefined ? null : new ClusterNode(this, parts.cluster)
  }

  /** The state store of a shard; made with the first request, so that it costs those nothing who do not use it. */
  storeOf(shard: Shard): KeyStore {
    shard.store ??= new KeyStore(storeLimits(this.settings), this.clock.monotonicMs(), this.storeCounters)
    return shard.store
  }

  shardFor(key: string): Shard {
    return this.shards[shardOf(key, this.shards.length)]!
  }

  /**
   * The publish that begins is for these shards alone. Answers those that are not ours, or not since the epoch that the caller has resumed
   * (`resumed`, by shard): it may have sent this before it knew, and newer ones to somebody else. Null when all are.
   */
  addressShards(shards: Shards, resumed: Float64Array): number[] | null {
    this.isRestricted = true
    const mark = ++this.#addressing
    let moved: number[] | null = null
    for (let i = 0; i < shards.count; i++) {
      const number = shards.numbers[i]!
      const shard = this.shards[number]
      if (shard?.phase === 'serving' && resumed[number] === shard.epoch) this.#addressed[number] = mark
      else (moved ??= []).push(number)
    }
    return moved
  }

  /** The same for shards that are known to be ours. */
  address(shards: readonly Shard[]): void {
    this.isRestricted = true
    this.#addressing++
    for (const { number } of shards) this.#addressed[number] = this.#addressing
  }

  /** The restricted publish is over. */
  addressAll(): void {
    this.isRestricted = false
  }

  isAddressed(shard: number): boolean {
    return this.#addressed[shard] === this.#addressing
  }

  addLink(link: FrontendLink): void {
    this.#links.set(link.port, link)
    // Memory may be full already, of what was recovered.
    link.tellPressure(this.isFull)
  }

  removeLink(link: FrontendLink): void {
    this.#links.delete(link.port)
  }

  /** The link of a frontend in this process. */
  link(port: FrontendPort): FrontendLink {
    const known = this.#links.get(port)
    if (known !== undefined) return known
    const link = new FrontendLink(port, '')
    this.addLink(link)
    return link
  }

  get links(): Iterable<FrontendLink> {
    return this.#links.values()
  }

  /** The session that `connection` is attached to, or null when the connection was taken over or is gone. */
  attached(handle: SessionHandle, connection: ConnectionId): Session | null {
    const session = this.#sessions[handle % SLOTS]
    return session && session.handle === handle && session.link !== null && session.connection === connection ? session : null
  }

  /** The client takes messages again: writable, acknowledged, or back. */
  resumeReplays(session: Session): void {
    if (session.replays === null) return
    this.replaying.add(session)
    this.turn.request()
  }

  /** For a new connection: what an older one may still call the session by is void. */
  renewHandle(session: Session): void {
    session.handle += SLOTS
  }

  admit(session: Session): void {
    const used = this.#freeHandles.pop()
    session.handle = used === undefined ? this.#sessions.length : used + SLOTS
    this.#sessions[session.handle % SLOTS] = session
    const shard = this.shards[session.shard]!
    shard.sessions.set(session.clientId, session)
    shard.byNumber.set(session.number, session)
    this.counters.sessionsTotal++
    this.counters.sessionBytes += bytesOfSession(session.clientId)
  }

  forget(session: Session): void {
    const shard = this.shards[session.shard]!
    shard.sessions.delete(session.clientId)
    shard.byNumber.delete(session.number)
    this.#sessions[session.handle % SLOTS] = null
    this.#freeHandles.push(session.handle)
    this.counters.sessionsTotal--
    this.counters.sessionBytes -= bytesOfSession(session.clientId)
  }

  /**
   * Runs `run` when the civil time `wallMs` is reached. The wheel itself turns by the monotonic clock: setting the machine's clock while
   * the process runs neither fires what is not due nor holds up what is.
   */
  at(wallMs: number, run: () => void): TimerHandle {
    return this.#wheel.schedule(run, this.clock.monotonicMs() + wallMs - this.clock.wallMs())
  }

  cancel(timer: TimerHandle | null): null {
    if (timer !== null) this.#wheel.cancel(timer)
    return null
  }

  /** Runs what is due, at most DUE_PER_TURN_MAX of it. Called a few times a second. */
  turnWheel(): void {
    this.#isWheelBehind = !this.#wheel.advance(this.clock.monotonicMs(), run => run(), DUE_PER_TURN_MAX)
    if (this.#isWheelBehind) this.turn.request()
  }

  /** Goes on with what `turnWheel` left. Called at the end of each turn. */
  catchUp(): void {
    if (this.#isWheelBehind) this.turnWheel()
  }

  /** A message is kept somewhere more: its bytes count once. */
  hold(message: Message): void {
    if (message.references++ === 0) this.counters.messageBytes += message.storedBytes
  }

  letGo(message: Message): void {
    if (--message.references === 0) this.counters.messageBytes -= message.storedBytes
  }

  /** Memory that clients' messages, sessions and Subscriptions hold is at its watermark, or the process as a whole is. */
  get isFull(): boolean {
    const { messageBytes, sessionBytes, storeBytes } = this.counters
    return this.isUnderPressure || messageBytes + sessionBytes + storeBytes + this.journal.pendingBytes > this.watermarkBytes
  }
}
