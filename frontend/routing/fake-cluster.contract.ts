import { ManualClock } from '#shared/base/clock.ts'
import { RouteDigest } from '#shared/cluster/route-digest.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { filterMatches, Topic } from '#shared/mqtt/topic.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'
import type { RouterLimits } from './limits.ts'
import { Router } from './router.ts'

/** A SUBACK leaves when all registered callers have the route, or after so long: also when there is no link to them. */
const SUBACK_MS = 1_000
/** An owner that was replaced notices by itself, when it next registers. */
const NOTICE_MS = 900
const HEARTBEAT_MS = 200

interface Arrival {
  readonly text: string
  /** Somebody had subscribed. A message that came for nobody keeps its place in the order too. */
  readonly isMatch: boolean
  isAnswered: boolean
}

interface Subscription {
  readonly filter: string
  /** Since when publishes must not miss it; Infinity: not yet. */
  sinceMs: number
  readonly askedMs: number
  isApplied: boolean
  isGone: boolean
  barrier: number
}

/** What the store of the cluster knows of one shard. */
class FakeShard {
  epoch = 0
  owner: FakeBackend | null = null
  readonly log: Arrival[] = []
  readonly subscriptions = new Map<string, Subscription>()

  digest(): RouteDigest {
    const digest = new RouteDigest()
    for (const filter of this.subscriptions.keys()) digest.add(filter)
    return digest
  }

  matches(topic: string): boolean {
    return [...this.subscriptions.keys()].some(filter => filterMatches(filter, topic))
  }
}

interface Unanswered {
  readonly sequence: number
  readonly arrivals: readonly Arrival[]
  readonly moved: readonly number[] | null
  readonly reason: ReasonCode
}

/** A link with everything under way on it; what is under way when it closes is lost. */
class FakeLink {
  readonly backend: FakeBackend
  readonly toOwner: (() => void)[] = []
  readonly toCaller: { readonly sentMs: number; readonly call: () => void }[] = []
  readonly unanswered: Unanswered[] = []
  /** Epoch in which this caller has resumed the shard. */
  readonly resumed = new Map<number, number>()
  readonly link: Link & { heardMs: number }
  caller!: CallerPort
  isOpen = true
  isSilent = false

  constructor(cluster: FakeCluster, backend: FakeBackend) {
    this.backend = backend
    this.link = {
      peer: { role: 'backend', id: backend.name, instance: '1', protocolVersion: 1 },
      heardMs: cluster.clock.monotonicMs(),
      isCongested: false,
      close: () => cluster.closeLink(this),
    } as Partial<Link> as Link & { heardMs: number }
  }
}

interface FakeBackend {
  readonly name: string
  /** Shards that it believes to own, and since which epoch. */
  readonly owns: Map<number, number>
  /** Since when it owns less than it believes. */
  replacedMs: number
  link: FakeLink | null
}

export interface Published {
  readonly publisher: number
  readonly topic: string
  readonly text: string
  readonly ticket: number
  readonly atMs: number
  /** Shards that must get it, whatever happens, while there is this subscription. */
  readonly mustReach: readonly { readonly shard: number; readonly subscription: { readonly isGone: boolean } }[]
  readonly answers: ReasonCode[]
}

/** Backends that keep only what publishes need, with links in memory whose every step somebody else decides; and a Router before them. */
export class FakeCluster {
  readonly clock = new ManualClock()
  readonly router: Router
  readonly shards: FakeShard[]
  readonly backends: FakeBackend[]
  readonly published: Published[] = []
  readonly topics = new Map<string, Topic>()
  /** Called by the core when it gets an acknowledgement. */
  onAcknowledged: (publisher: number) => void = () => undefined
  readonly #random: SeededRandom
  #wantsTurn = false
  #barrier = 0
  #number = 0
  readonly #tickets: number[] = []

  constructor(random: SeededRandom, shape: { shards: number; backends: number; limits?: Partial<RouterLimits> }) {
    this.#random = random
    this.shards = Array.from({ length: shape.shards }, () => new FakeShard())
    this.backends = Array.from({ length: shape.backends }, (_, at) => ({
      name: `b${at}`,
      owns: new Map<number, number>(),
      replacedMs: Infinity,
      link: null,
    }))
    const turn = { request: () => (this.#wantsTurn = true) }
    this.router = new Router({ shardCount: shape.shards, clock: this.clock, turn, log: new RecordingLog(), limits: shape.limits })
    this.router.bind({
      acknowledged: (connection: number, ticket: number, reason: ReasonCode) => this.#acknowledged(connection, ticket, reason),
      pressure: () => undefined,
    } as Partial<FrontendPort> as FrontendPort)
  }

  openLink(backend: FakeBackend): void {
    if (backend.link !== null) return
    const link = new FakeLink(this, backend)
    backend.link = link
    link.caller = this.router.onLinkOpen(link.link, this.#ownerPort(link))
    for (const [shard, epoch] of backend.owns) this.#tellOwned(link, shard, epoch)
    this.#send(link, () => link.caller.allOwned())
  }

  closeLink(link: FakeLink): void {
    if (!link.isOpen) return
    link.isOpen = false
    link.backend.link = null
    this.router.onLinkClosed(link.link)
  }

  /** The owner is asked and lets go: everything it has stored is answered first. */
  move(shard: number, to: FakeBackend): void {
    const from = this.shards[shard]!.owner
    if (from === to) return
    if (from !== null && from.owns.get(shard) === this.shards[shard]!.epoch) {
      from.owns.delete(shard)
      if (from.link !== null) {
        const { link } = from
        while (link.unanswered.length > 0) this.#answer(link, this.#random.int(0, link.unanswered.length - 1))
        this.#send(link, () => link.caller.lost(shard))
      }
    }
    this.claim(shard, to)
  }

  /** Whoever owned it is not asked. What nobody was told of may be gone. */
  claim(shard: number, by: FakeBackend): void {
    const state = this.shards[shard]!
    const former = state.owner
    if (former !== null && former.owns.has(shard)) former.replacedMs = Math.min(former.replacedMs, this.clock.monotonicMs())
    state.epoch++
    state.owner = by
    by.owns.set(shard, state.epoch)
    if (by.link !== null) this.#tellOwned(by.link, shard, state.epoch)
  }

  crash(backend: FakeBackend): void {
    backend.owns.clear()
    if (backend.link !== null) this.closeLink(backend.link)
    for (const state of this.shards) {
      if (state.owner !== backend) continue
      state.owner = null
      const last = state.log.findLastIndex(arrival => arrival.isAnswered)
      state.log.length = this.#random.int(last + 1, state.log.length)
    }
  }

  subscribe(shard: number, filter: string): void {
    const state = this.shards[shard]!
    if (state.owner === null || state.owner.owns.get(shard) !== state.epoch || state.subscriptions.has(filter)) return
    const barrier = ++this.#barrier
    const askedMs = this.clock.monotonicMs()
    state.subscriptions.set(filter, { filter, sinceMs: Infinity, askedMs, isApplied: false, isGone: false, barrier })
    const { link } = state.owner
    if (link !== null) this.#send(link, () => link.caller.routes(shard, barrier, false, [filter], []))
  }

  unsubscribe(shard: number, filter: string): void {
    const state = this.shards[shard]!
    const subscription = state.subscriptions.get(filter)
    if (state.owner === null || state.owner.owns.get(shard) !== state.epoch || subscription === undefined) return
    subscription.isGone = true
    state.subscriptions.delete(filter)
    const { link } = state.owner
    if (link === null) return
    const barrier = ++this.#barrier
    this.#send(link, () => link.caller.routes(shard, barrier, false, [], [filter]))
  }

  publish(publisher: number, name: string, qos: number): void {
    let topic = this.topics.get(name)
    if (topic === undefined) this.topics.set(name, (topic = new Topic(name, Buffer.from(name))))
    const text = `${publisher} ${name} ${qos} ${++this.#number}`
    const message = newMessage(topic, Buffer.from(text), qos)
    const ticket = qos === 0 ? 0 : (this.#tickets[publisher] ?? 0)
    if (qos > 0) {
      this.#tickets[publisher] = ticket + 1
      const atMs = this.clock.monotonicMs()
      const mustReach = this.shards.flatMap((state, shard) => {
        const subscriptions = [...state.subscriptions.values()].filter(one => one.sinceMs <= atMs && filterMatches(one.filter, name))
        return subscriptions.map(subscription => ({ shard, subscription }))
      })
      this.published.push({ publisher, topic: name, text, ticket, atMs, mustReach, answers: [] })
    }
    this.router.publish(publisher, publisher, ticket, message)
    message.payloadBytes.fill(0)
  }

  /** One step of something that is under way; false when there is nothing. */
  step(): boolean {
    const links = this.backends.flatMap(({ link }) => (link !== null && !link.isSilent ? [link] : []))
    const steps: (() => void)[] = []
    for (const link of links) {
      if (link.toOwner.length > 0) steps.push(() => link.toOwner.shift()!())
      if (link.toCaller.length > 0) steps.push(() => this.#receive(link))
      if (link.unanswered.length > 0) steps.push(() => this.#answer(link, this.#random.int(0, link.unanswered.length - 1)))
    }
    if (this.#wantsTurn) steps.push(() => this.endTurn())
    if (steps.length === 0) return false
    this.#random.pick(steps)()
    return true
  }

  endTurn(): void {
    this.#wantsTurn = false
    this.router.endTurn()
  }

  /** Time passes, in which the Router may not have been awake (`ticks` false). */
  pass(ms: number, ticks: boolean): void {
    this.endTurn()
    this.clock.advance(ms)
    for (const { link } of this.backends) {
      if (link !== null && !link.isSilent && ms >= HEARTBEAT_MS) this.#send(link, () => undefined)
      if (link !== null && !link.isSilent && link.toCaller.length === 0 && ticks) link.link.heardMs = this.clock.monotonicMs()
    }
    if (ticks) this.router.tick()
    this.#notice()
    const nowMs = this.clock.monotonicMs()
    for (const state of this.shards) {
      for (const subscription of state.subscriptions.values()) {
        const isDone = subscription.isApplied || nowMs - subscription.askedMs >= SUBACK_MS
        if (isDone && subscription.sinceMs === Infinity) subscription.sinceMs = nowMs
      }
    }
  }

  #notice(): void {
    for (const backend of this.backends) {
      if (this.clock.monotonicMs() - backend.replacedMs < NOTICE_MS) continue
      backend.replacedMs = Infinity
      for (const [shard, epoch] of backend.owns) if (this.shards[shard]!.epoch !== epoch) backend.owns.delete(shard)
      if (backend.link !== null) this.closeLink(backend.link)
    }
  }

  #receive(link: FakeLink): void {
    const { sentMs, call } = link.toCaller.shift()!
    // As if what comes were never long on its way: a link must not count as heard by what was sent long ago.
    link.link.heardMs = Math.max(link.link.heardMs, sentMs)
    call()
  }

  #send(link: FakeLink, call: () => void): void {
    link.toCaller.push({ sentMs: this.clock.monotonicMs(), call })
  }

  #tellOwned(link: FakeLink, shard: number, epoch: number): void {
    const { count, value } = this.shards[shard]!.digest()
    this.#send(link, () => link.caller.owned(shard, epoch, count, value))
  }

  #answer(link: FakeLink, at: number): void {
    const [{ sequence, arrivals, moved, reason }] = link.unanswered.splice(at, 1) as [Unanswered]
    for (const arrival of arrivals) arrival.isAnswered = true
    this.#send(link, () => link.caller.published(sequence, reason, moved))
  }

  #ownerPort(link: FakeLink): OwnerPort {
    const later =
      <A extends unknown[]>(call: (...given: A) => void) =>
      (...given: A): void => {
        link.toOwner.push(() => call(...given))
      }
    return {
      publish: (sequence: number, _connection: number, _isRefusable: boolean, shards: Shards, message: Message) => {
        const numbers = [...shards.numbers.subarray(0, shards.count)]
        const [topic, text] = [message.topic.name, message.payload.toString()]
        link.toOwner.push(() => this.#arrive(link, sequence, numbers, topic, text))
      },
      resume: later((shard: number, _sessions: unknown, isLast: boolean) => {
        const epoch = link.backend.owns.get(shard)
        if (isLast && epoch !== undefined) link.resumed.set(shard, epoch)
      }),
      wantRoutes: later((shard: number) => {
        const [first, ...rest] = [...this.shards[shard]!.subscriptions.keys()]
        const barrier = ++this.#barrier
        this.#send(link, () => link.caller.routes(shard, 0, true, first === undefined ? [] : [first], []))
        this.#send(link, () => link.caller.routes(shard, barrier, false, rest, []))
      }),
      routesApplied: later((barrier: number) => {
        for (const state of this.shards)
          for (const subscription of state.subscriptions.values()) if (subscription.barrier === barrier) subscription.isApplied = true
      }),
    } as Partial<OwnerPort> as OwnerPort
  }

  /** A publish reaches the backend: stored at once, answered later. Of a shard that another owns by now the store refuses it, and links close. */
  #arrive(link: FakeLink, sequence: number, numbers: readonly number[], topic: string, text: string): void {
    const { backend } = link
    const isFenced = numbers.some(shard => backend.owns.has(shard) && backend.owns.get(shard) !== this.shards[shard]!.epoch)
    if (isFenced) {
      for (const [shard, epoch] of backend.owns) if (epoch !== this.shards[shard]!.epoch) backend.owns.delete(shard)
      return this.closeLink(link)
    }
    const arrivals: Arrival[] = []
    const moved: number[] = []
    for (const shard of numbers) {
      const epoch = backend.owns.get(shard)
      if (epoch === undefined || link.resumed.get(shard) !== epoch) moved.push(shard)
      else {
        const arrival = { text, isMatch: this.shards[shard]!.matches(topic), isAnswered: false }
        this.shards[shard]!.log.push(arrival)
        arrivals.push(arrival)
      }
    }
    if (sequence === 0) return
    const reason = arrivals.some(({ isMatch }) => isMatch) ? ReasonCode.Success : ReasonCode.NoMatchingSubscribers
    link.unanswered.push({ sequence, arrivals, moved: moved.length > 0 ? moved : null, reason })
  }

  #acknowledged(connection: number, ticket: number, reason: ReasonCode): void {
    this.published.find(one => one.publisher === connection && one.ticket === ticket)!.answers.push(reason)
    this.onAcknowledged(connection)
  }
}
