import { RECIPIENT_RETAIN } from '#shared/rpc/recipients.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { isOwnTopic } from '#shared/mqtt/topic.ts'
import { RetainedRead } from '../cluster/retained-read.ts'
import type { Engine } from '../engine.ts'
import { endPublication } from '../publishing/collecting.ts'
import { offer } from '../publishing/offer.ts'
import { setRemainingExpiry } from '../publishing/publication.ts'
import type { Session, SessionSubscription } from '../session/session.ts'
import type { RetainedCursor } from './retained-index.ts'

/** Levels of the retained index that all replays of one turn look at together; the rest waits for the next turn. */
const STEPS_PER_TURN = 4_096
/** And those of one session, so that a long one does not hold up the others. */
const STEPS_PER_SESSION = 1_024

/**
 * Sending Retained Messages for a new Subscription (§3.3.1.3), a bounded number in each turn: a `#` over a million of
 * them must not hold up anybody. Waits while the client's socket or window is full; goes on with the next connection of the session.
 */
export class RetainedReplay {
  readonly #session: Session
  #subscription: SessionSubscription
  /** Of the only backend there is, or of this one's own topics: what it retains itself. */
  readonly #cursor: RetainedCursor<Message> | null
  /** Messages retained after the Subscription was made reached it as they came. */
  readonly #newestSequence: number
  /** In a cluster: of all backends. */
  readonly #read: RetainedRead | null
  #isCancelled = false

  constructor(engine: Engine, session: Session, subscription: SessionSubscription, newestSequence: number) {
    this.#session = session
    this.#subscription = subscription
    this.#newestSequence = newestSequence
    const { cluster } = engine
    const { filter } = subscription.filter
    const isHere = cluster === null || isOwnTopic(filter)
    this.#cursor = isHere ? engine.retained.cursor(filter) : null
    this.#read = isHere ? null : new RetainedRead(engine, cluster, session, filter, newestSequence)
  }

  get isDone(): boolean {
    return this.#isCancelled || ((this.#cursor?.done ?? true) && (this.#read?.isDone ?? true))
  }

  /** Nothing more is wanted of other backends. */
  close(): void {
    this.#read?.close()
  }

  /** RetainedRead.overtake */
  overtake(topicName: string): void {
    this.#read?.overtake(topicName)
  }

  /** Sends what fits within `budget`. False when it must wait for the client, or for other backends. */
  run(engine: Engine, budget: { steps: number }): boolean {
    // As it is now: its options may have been replaced, and it may have gone before its SUBACK left.
    const subscription = this.#session.subscriptions?.get(this.#subscription.filter.text)
    if (subscription === undefined) this.#isCancelled = true
    else this.#subscription = subscription
    const nowMs = engine.clock.wallMs()
    while (budget.steps > 0 && !this.isDone) {
      // Whoever answers resumes.
      if (!canTake(this.#session) || this.#read?.mustWait === true) return false
      const message = this.#next(budget)
      if (message !== undefined && message.expiresAtMs > nowMs) this.#send(engine, message, nowMs)
    }
    return true
  }

  #next(budget: { steps: number }): Message | undefined {
    if (this.#read !== null) return this.#read.next(budget)
    const message = this.#cursor!.next(budget)
    return message === undefined || message.retainedSequence > this.#newestSequence ? undefined : message
  }

  #send(engine: Engine, message: Message, nowMs: number): void {
    const session = this.#session
    const subscription = this.#subscription
    const identifiers = subscription.identifier === 0 ? null : [subscription.identifier]
    const qos = Math.min(message.qos, subscription.qos)
    if (qos === 0) {
      const { single, port } = session.link!
      setRemainingExpiry(message, nowMs)
      engine.counters.publishesSent++
      single.add(session.connection, RECIPIENT_RETAIN, 0, identifiers)
      port.deliver(message, single)
      single.clear()
      return
    }
    setRemainingExpiry(message, nowMs)
    engine.publication.beginKept(message)
    offer(engine, session, qos as 1 | 2, true, identifiers, null)
    endPublication(engine)
  }
}

function canTake(session: Session): boolean {
  if (!session.takesMessages) return false
  // One message may wait in the queue and no more: whatever its limits are, replays do not fill it.
  return session.outbox === null || session.outbox.queued.length === 0
}

/** One turn's share of all sessions that are being sent Retained Messages; those that must wait are woken by `Engine.resumeReplays`. */
export function runReplays(engine: Engine): void {
  if (engine.replaying.size === 0) return
  let steps = STEPS_PER_TURN
  for (const session of engine.replaying) {
    if (steps <= 0) break
    const share = Math.min(steps, STEPS_PER_SESSION)
    const budget = { steps: share }
    // Taken out and put back at the end: the next turn starts with those that had no share in this one.
    engine.replaying.delete(session)
    const goesOn = runSession(engine, session, budget)
    steps -= share - budget.steps
    if (goesOn && session.replays !== null) engine.replaying.add(session)
  }
  if (engine.replaying.size > 0) engine.turn.request()
}

/** The replays of one session, one after the other. False when the client must take what was sent first. */
function runSession(engine: Engine, session: Session, budget: { steps: number }): boolean {
  const { replays } = session
  if (replays === null) return false
  for (const [text, replay] of replays) {
    if (!replay.run(engine, budget)) return false
    if (replay.isDone) {
      replay.close()
      replays.delete(text)
    }
    if (budget.steps <= 0) break
  }
  if (replays.size === 0) session.replays = null
  return true
}

/**
 * Instead of a replay that is under way for the same filter [MQTT-3.8.4-4].
 * @param newestSequence `engine.retainedSequence` when the Subscription was made: from then on it got messages as they came
 */
export function startReplay(engine: Engine, session: Session, subscription: SessionSubscription, newestSequence: number): void {
  session.replays ??= new Map()
  session.replays.get(subscription.filter.text)?.close()
  session.replays.set(subscription.filter.text, new RetainedReplay(engine, session, subscription, newestSequence))
  engine.resumeReplays(session)
}

/** The Subscription with this filter text is gone: nothing new starts for it. */
export function cancelReplay(session: Session, text: string): void {
  session.replays?.get(text)?.close()
  if (session.replays?.delete(text) === true && session.replays.size === 0) session.replays = null
}

/** The session ends. */
export function cancelReplays(engine: Engine, session: Session): void {
  for (const replay of session.replays?.values() ?? []) replay.close()
  session.replays = null
  engine.replaying.delete(session)
}
