import { parseTopicFilter } from '#shared/mqtt/topic.ts'
import type { Qos } from './history.ts'

/** A place in the history: the number of an event. */
export type Place = number
export const NEVER = Infinity

/** One Subscription of a session, from SUBSCRIBE to what ended it. */
export interface Subscribed {
  readonly client: string
  readonly filter: string
  /** ShareName, or null; then `matched` is `filter`. */
  readonly group: string | null
  readonly matched: string
  readonly qos: Qos
  readonly noLocal: boolean
  /** SUBSCRIBE sent: from here on it may hold. */
  readonly askedAt: Place
  /** SUBACK received: from here on it must hold. */
  confirmedAt: Place
  /** UNSUBSCRIBE sent, or another one for the same filter, or its session may have ended: from here on it need not hold. */
  endingAt: Place
  /** UNSUBACK received, or the session is known to have ended: from here on it must not hold. */
  endedAt: Place
}

/** A Session State of the broker as its client may believe in it. */
export class SessionModel {
  readonly client: string
  readonly isPersistent: boolean
  readonly startedAt: Place
  readonly subscriptions: Subscribed[] = []
  /** From here on it may be gone. */
  endingAt: Place = NEVER
  /** From here on it is gone. */
  endedAt: Place = NEVER
  /** Message → where its application got it first. */
  readonly received = new Map<string, Place>()
  /** QoS 2 messages → how often the application got them, not counting Retained Messages that a SUBSCRIBE brought. */
  readonly timesQos2 = new Map<string, number>()

  constructor(client: string, isPersistent: boolean, startedAt: Place) {
    this.client = client
    this.isPersistent = isPersistent
    this.startedAt = startedAt
  }

  ask(filter: string, qos: Qos, noLocal: boolean, at: Place): void {
    // The same filter again replaces the Subscription; until SUBACK either may hold.
    for (const old of this.#running(filter)) old.endingAt = Math.min(old.endingAt, at)
    const { group, filter: matched } = parseTopicFilter(filter)
    this.subscriptions.push({
      client: this.client,
      filter,
      group,
      matched,
      qos,
      noLocal,
      askedAt: at,
      confirmedAt: NEVER,
      endingAt: NEVER,
      endedAt: NEVER,
    })
  }

  /** SUBACK: clients here have one request for a filter at a time, so it answers the last one. */
  confirm(filter: string, at: Place): void {
    const all = this.#running(filter)
    const confirmed = all.findLastIndex(({ confirmedAt }) => confirmedAt === NEVER)
    if (confirmed === -1) return
    all[confirmed]!.confirmedAt = at
    for (const replaced of all.slice(0, confirmed)) replaced.endedAt = at
  }

  /** UNSUBSCRIBE went out. */
  unask(filter: string, at: Place): void {
    for (const each of this.#running(filter)) each.endingAt = Math.min(each.endingAt, at)
  }

  /** UNSUBACK: of what was asked before its UNSUBSCRIBE nothing holds. */
  unconfirm(filter: string, at: Place): void {
    const unasked = this.subscriptions.findLast(each => each.filter === filter && each.endingAt !== NEVER)
    if (unasked === undefined) return
    for (const each of this.#running(filter)) if (each.askedAt <= unasked.askedAt) each.endedAt = at
  }

  mayEnd(at: Place): void {
    this.endingAt = Math.min(this.endingAt, at)
    for (const each of this.subscriptions) each.endingAt = Math.min(each.endingAt, at)
  }

  end(at: Place): void {
    this.mayEnd(at)
    this.endedAt = Math.min(this.endedAt, at)
    for (const each of this.subscriptions) each.endedAt = Math.min(each.endedAt, at)
  }

  #running(filter: string): Subscribed[] {
    return this.subscriptions.filter(each => each.filter === filter && each.endedAt === NEVER)
  }
}

/** It holds for certain from before `from` until after `until`. */
export function holdsThroughout({ confirmedAt, endingAt }: Subscribed, from: Place, until: Place): boolean {
  return confirmedAt < from && endingAt > until
}

/** It may have held at some moment from `from` to `until`. */
export function mayHoldWithin({ askedAt, endedAt }: Subscribed, from: Place, until: Place): boolean {
  return askedAt < until && endedAt > from
}
