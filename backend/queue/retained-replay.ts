import { RECIPIENT_RETAIN } from '#shared/rpc/recipients.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'
import { endPublication, offer, setRemainingExpiry } from '../session/sending.ts'
import type { Session, SessionSubscription } from '../session/session.ts'
import type { RetainedCursor } from './retained-index.ts'

/** Levels of the retained index that all replays of one turn look at together; the rest waits for the next turn. */
const STEPS_PER_TURN = 4_096
/** And for one replay, so that a long one does not hold up the others. */
const STEPS_PER_REPLAY = 1_024

/**
 * Sending Retained Messages for a new Subscription (§3.3.1.3), a bounded number in each turn: a `#` over a million of
 * them must not hold up anybody. Waits while the client's socket or window is full; goes on with the next connection of the session.
 */
export class RetainedReplay {
  readonly session: Session
  readonly subscription: SessionSubscription
  readonly #cursor: RetainedCursor<Message>
  /** Messages retained after the Subscription was made reached it as they came. */
  readonly #newestSequence: number
  isCancelled = false

  constructor(engine: Engine, session: Session, subscription: SessionSubscription, newestSequence: number) {
    this.session = session
    this.subscription = subscription
    this.#cursor = engine.retained.cursor(subscription.filter.filter)
    this.#newestSequence = newestSequence
  }

  get isDone(): boolean {
    return this.isCancelled || this.#cursor.done
  }

  /** Sends what fits within `budget`. False when it must wait for the client. */
  run(engine: Engine, budget: { steps: number }): boolean {
    const nowMs = engine.clock.wallMs()
    while (budget.steps > 0 && !this.isDone) {
      if (!canTake(this.session)) return false
      const message = this.#cursor.next(budget)
      if (message === undefined || message.retainedSequence > this.#newestSequence || message.expiresAtMs <= nowMs) continue
      this.#send(engine, message, nowMs)
    }
    return true
  }

  #send(engine: Engine, message: Message, nowMs: number): void {
    const { session, subscription } = this
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
  if (session.link === null || !session.isWritable) return false
  // One message may wait in the queue and no more: whatever its limits are, replays do not fill it.
  return session.outbox === null || session.outbox.queuedMessages === 0
}

/** One turn's share of all replays; those that must wait are woken by `resumeReplays`. */
export function runReplays(engine: Engine): void {
  if (engine.replays.size === 0) return
  let steps = STEPS_PER_TURN
  for (const replay of engine.replays) {
    if (steps <= 0) break
    const budget = { steps: Math.min(steps, STEPS_PER_REPLAY) }
    steps -= budget.steps
    // Taken out and put back at the end: the next turn starts with those that had no share in this one.
    engine.replays.delete(replay)
    const goesOn = replay.run(engine, budget)
    if (replay.isDone) leave(replay)
    else if (goesOn) engine.replays.add(replay)
  }
  if (engine.replays.size > 0) engine.turn.request()
}

/** @param newestSequence `engine.retainedSequence` when the Subscription was made: from then on it got messages as they came */
export function startReplay(engine: Engine, session: Session, subscription: SessionSubscription, newestSequence: number): void {
  const replay = new RetainedReplay(engine, session, subscription, newestSequence)
  session.replays ??= []
  session.replays.push(replay)
  engine.replays.add(replay)
  engine.turn.request()
}

/** The client takes messages again: writable, acknowledged, or back. */
export function resumeReplays(engine: Engine, session: Session): void {
  if (session.replays === null) return
  for (const replay of session.replays) engine.replays.add(replay)
  engine.turn.request()
}

/** The Subscription with this filter text is gone or replaced: nothing new starts for it. */
export function cancelReplays(engine: Engine, session: Session, text: string | null): void {
  for (const replay of session.replays?.slice() ?? []) {
    if (text !== null && replay.subscription.filter.text !== text) continue
    replay.isCancelled = true
    engine.replays.delete(replay)
    leave(replay)
  }
}

function leave(replay: RetainedReplay): void {
  const { session } = replay
  const others = session.replays?.filter(other => other !== replay) ?? []
  session.replays = others.length === 0 ? null : others
}
