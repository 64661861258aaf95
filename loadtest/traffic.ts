import type { DeliverySink } from './client.ts'
import type { Engine } from './engine.ts'
import { Histogram } from './histogram.ts'
import { generationOf, MESSAGE_HEADER_BYTES, readU32, slotOf, SLOTS_MAX } from './message.ts'
import { nowMs } from './monotonic.ts'
import { Pace } from './pace.ts'
import type { SlotWatcher, WindowPublisher } from './publisher.ts'

/** How often the open loop and the stall watch look at the clock. */
const PACE_INTERVAL_MS = 1
const WATCH_INTERVAL_MS = 50

export interface TrafficGoal {
  /** Seconds of publishing; 0: until `count` is reached. */
  readonly seconds: number
  /** Messages to publish in this process; 0: until the time is over. */
  readonly count: number
  /** Messages per second of this process, open loop; 0: closed loop. */
  readonly ratePerS: number
  /** Without any progress for so long, the rest counts as lost. */
  readonly stallS: number
}

export interface TrafficCounts {
  readonly published: number
  readonly delivered: number
  readonly duplicates: number
  /** Messages of the open loop that found no free slot: they were not sent. */
  readonly overruns: number
  readonly latency: Histogram
}

/** Copies of a message whose publisher lives in another process: reported when all local ones are here. */
export interface ForeignCopies {
  /** Local copies of each message: 500 subscribers here, or 1 for a Shared Subscription. */
  readonly copies: number
  readonly report: (publisherId: number, ticket: number) => void
}

interface ForeignSlots {
  readonly generation: Uint32Array
  readonly seen: Uint32Array
}

/** The publishers of one generator process, their common phase of traffic, and the messages that come back. */
export class Traffic implements DeliverySink, SlotWatcher {
  readonly #engine: Engine
  readonly #runId: number
  readonly #foreign: ForeignCopies | null
  readonly #publishers: WindowPublisher[] = []
  readonly #byId = new Map<number, WindowPublisher>()
  readonly #foreignSlots = new Map<number, ForeignSlots>()
  readonly #listed: WindowPublisher[] = []
  /** Runs before each message of a publisher; a scenario with changing topics swaps the template here. */
  beforePublish: ((publisher: WindowPublisher) => void) | null = null
  #latency = new Histogram()
  #publishing = false
  #closedLoop = true
  #quota = 0
  #outstanding = 0
  #published = 0
  #delivered = 0
  #duplicates = 0
  #overruns = 0
  #progress = 0
  #lastUs = 0
  #onSettled: (() => void) | null = null

  constructor(engine: Engine, runId: number, foreign: ForeignCopies | null) {
    this.#engine = engine
    this.#runId = runId
    this.#foreign = foreign
    engine.onTurn('before', () => this.#fill())
  }

  add(publisher: WindowPublisher): void {
    this.#publishers.push(publisher)
    this.#byId.set(publisher.id, publisher)
  }

  slotFreed(publisher: WindowPublisher): void {
    this.#outstanding--
    this.#progress++
    this.#lastUs = this.#engine.nowUs
    if (this.#publishing && this.#closedLoop) this.#list(publisher)
    else if (!this.#publishing && this.#outstanding === 0) this.#onSettled?.()
  }

  #list(publisher: WindowPublisher): void {
    if (publisher.isListed) return
    publisher.isListed = true
    this.#listed.push(publisher)
    this.#engine.requestTurn()
  }

  #fill(): void {
    if (this.#listed.length > 0) this.#engine.tick()
    const stamp = this.#engine.nowUs
    for (const publisher of this.#listed) {
      publisher.isListed = false
      if (!publisher.client.isReady) continue
      while (this.#publishing && this.#quota > 0 && publisher.freeSlots > 0) this.#publish(publisher, stamp)
    }
    this.#listed.length = 0
    if (this.#publishing && this.#quota === 0) this.#stopPublishing()
  }

  #publish(publisher: WindowPublisher, stamp: number): void {
    this.beforePublish?.(publisher)
    this.#quota--
    this.#published++
    this.#outstanding++
    publisher.publish(stamp)
  }

  #stopPublishing(): void {
    this.#publishing = false
    if (this.#outstanding === 0) this.#onSettled?.()
  }

  delivered(_firstByte: number, bytes: Uint8Array, payloadAt: number, end: number): void {
    if (end - payloadAt < MESSAGE_HEADER_BYTES || readU32(bytes, payloadAt + 12) !== this.#runId) {
      this.#duplicates++
      return
    }
    const publisherId = readU32(bytes, payloadAt + 4)
    const ticket = readU32(bytes, payloadAt + 8)
    const publisher = this.#byId.get(publisherId)
    if (!(publisher ? publisher.arrived(ticket) : this.#arrivedForeign(publisherId, ticket))) {
      this.#duplicates++
      return
    }
    const now = this.#engine.nowUs
    this.#delivered++
    this.#progress++
    const latencyUs = (now - readU32(bytes, payloadAt)) >>> 0
    // The clock of a chunk is read once, before it is handled: a message of another process may be a little younger.
    this.#latency.record(latencyUs > 0xf000_0000 ? 0 : latencyUs)
  }

  /** A report from another process: its share of the message is complete. */
  arrivedElsewhere(publisherId: number, ticket: number): void {
    this.#engine.tick()
    this.#byId.get(publisherId)?.arrived(ticket)
  }

  #arrivedForeign(publisherId: number, ticket: number): boolean {
    if (!this.#foreign) return false
    let slots = this.#foreignSlots.get(publisherId)
    if (!slots) {
      slots = { generation: new Uint32Array(SLOTS_MAX), seen: new Uint32Array(SLOTS_MAX) }
      this.#foreignSlots.set(publisherId, slots)
    }
    const slot = slotOf(ticket)
    if (slots.generation[slot] !== generationOf(ticket)) {
      slots.generation[slot] = generationOf(ticket)
      slots.seen[slot] = 0
    }
    const seen = ++slots.seen[slot]!
    if (seen > this.#foreign.copies) return false
    if (seen === this.#foreign.copies) this.#foreign.report(publisherId, ticket)
    return true
  }

  /** Publishes until the goal is reached, then waits for what is in flight. Resolves at once when this process has no publisher. */
  async run(goal: TrafficGoal): Promise<{ readonly seconds: number; readonly lost: number }> {
    const startMs = nowMs()
    this.#engine.tick()
    this.#lastUs = this.#engine.nowUs
    const startUs = this.#lastUs
    this.#quota = goal.count > 0 ? goal.count : Number.MAX_SAFE_INTEGER
    this.#publishing = this.#publishers.length > 0
    this.#closedLoop = goal.ratePerS <= 0
    let lost = 0
    if (this.#publishing) {
      const settled = new Promise<void>(resolve => {
        this.#onSettled = resolve
      })
      const stop = this.#keepTime(goal, startMs, missing => {
        lost += missing
      })
      if (this.#closedLoop) for (const publisher of this.#publishers) this.#list(publisher)
      await settled
      stop()
      this.#onSettled = null
    }
    return { seconds: ((this.#lastUs - startUs) >>> 0) / 1e6, lost }
  }

  /** What was counted since `reset`, which comes before `run` in every process: copies arrive in processes that publish nothing. */
  counts(): TrafficCounts {
    return {
      published: this.#published,
      delivered: this.#delivered,
      duplicates: this.#duplicates,
      overruns: this.#overruns,
      latency: this.#latency,
    }
  }

  reset(): void {
    this.#latency = new Histogram()
    this.#published = 0
    this.#delivered = 0
    this.#duplicates = 0
    this.#overruns = 0
  }

  #keepTime(goal: TrafficGoal, startMs: number, onLost: (missing: number) => void): () => void {
    const endMs = goal.seconds > 0 ? startMs + goal.seconds * 1_000 : Number.POSITIVE_INFINITY
    let progress = -1
    let movedMs = startMs
    const watch = setInterval(() => {
      const now = nowMs()
      if (this.#publishing && now >= endMs) this.#stopPublishing()
      if (this.#progress !== progress || (this.#publishing && !this.#closedLoop && this.#outstanding === 0)) {
        progress = this.#progress
        movedMs = now
      } else if (now - movedMs > goal.stallS * 1_000) {
        this.#publishing = false
        for (const publisher of this.#publishers) onLost(publisher.giveUp())
        this.#onSettled?.()
      }
    }, WATCH_INTERVAL_MS)
    const paced = this.#closedLoop ? null : this.#startPace(goal, startMs, endMs)
    return () => {
      clearInterval(watch)
      if (paced) clearInterval(paced)
    }
  }

  #startPace(goal: TrafficGoal, startMs: number, endMs: number): NodeJS.Timeout {
    const pace = new Pace(goal.ratePerS, startMs)
    let turn = 0
    return setInterval(() => {
      const now = nowMs()
      if (now >= endMs) return
      for (let due = pace.due(now); due > 0 && this.#publishing; due--) {
        const publisher = this.#publishers[turn++ % this.#publishers.length]!
        const stamp = pace.take(now)
        if (publisher.freeSlots > 0 && publisher.client.isReady) this.#publish(publisher, stamp)
        else this.#overruns++
        if (this.#quota === 0) this.#stopPublishing()
      }
    }, PACE_INTERVAL_MS)
  }
}
