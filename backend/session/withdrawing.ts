import { mayHear } from '#shared/authorization/may-hear.ts'
import type { Permit } from '#shared/authorization/permit.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import { notifiedKey } from '#shared/state-store/topics.ts'
import type { Engine } from '../engine.ts'
import { cancelReplay } from '../queue/retained-replay.ts'
import { FilterSet } from '../subscription/filter-set.ts'
import { Record, writeNumbered, writeUnsubscribed } from '../shard/records.ts'
import type { Delivery } from './delivery.ts'
import { giveToAnother } from './ending.ts'
import { finish } from './finish.ts'
import type { Outbox } from './outbox.ts'
import { AWAITING_PUBCOMP } from './packet-identifiers.ts'
import { takeOut } from './queue-limits.ts'
import { sendAfterCommit } from './sending.ts'
import type { Session } from './session.ts'
import { forget } from './subscriptions.ts'

/**
 * What `permit` does not allow (any more) ends, all in the commit of whoever calls: Subscriptions, as by UNSUBSCRIBE, with the Retained
 * Messages on their way for them, and every message that waits to be sent, for the first time or again, because of them. What the
 * present connection has got already is acknowledged as ever. Done a second time, it finds nothing more to do.
 */
export function withdraw(engine: Engine, session: Session, permit: Permit): void {
  const ended = endSubscriptions(engine, session, permit)
  const { outbox } = session
  if (outbox === null || outbox.isIdle) return
  const judge = new WaitingJudge(session, ended, permit)
  const taken = takeDue(engine, session, outbox, judge)
  taken.push(...takeOut(engine, session, outbox, delivery => !judge.mayGo(delivery)))
  for (const delivery of taken) {
    // A Shared Subscription's message was for any member: another one gets it, as when a member's session ends.
    if (delivery.shared === null || !giveToAnother(engine, session, delivery)) engine.counters.withdrawnMessages++
    finish(engine, session, delivery)
  }
  if (taken.length === 0) return
  // Retained Messages wait for the queue to be empty, whatever emptied it.
  engine.resumeReplays(session)
  engine.cluster?.noteStanding(session)
}

function endSubscriptions(engine: Engine, session: Session, permit: Permit): ParsedFilter[] {
  const ended: ParsedFilter[] = []
  for (const { filter } of session.subscriptions?.values() ?? []) if (!permit.maySubscribe(filter.filter)) ended.push(filter)
  for (const filter of ended) {
    forget(engine, session, filter)
    cancelReplay(session, filter.text)
    engine.counters.withdrawnSubscriptions++
    if (session.isJournalled) writeUnsubscribed(engine.journal.writer(session.shard), session.number, filter.text)
  }
  return ended
}

/** Out of what has an identifier and is still to be sent on this connection; what only waits for its PUBREL stays. */
function takeDue(engine: Engine, session: Session, outbox: Outbox, judge: WaitingJudge): Delivery[] {
  const taken: Delivery[] = []
  for (let left = outbox.due.length; left > 0; left--) {
    const delivery = outbox.due.shift()!
    const { packetId } = delivery
    // Acknowledged before it was sent again.
    if (outbox.ids.delivery(packetId) !== delivery) continue
    if (outbox.ids.phase(packetId) === AWAITING_PUBCOMP || judge.mayGo(delivery)) {
      outbox.due.push(delivery)
      continue
    }
    if (delivery.qos === 2 && delivery.sent) {
      releaseUnsent(engine, session, outbox, delivery)
      continue
    }
    if (delivery.inWindow) outbox.inWindow--
    outbox.ids.free(packetId)
    taken.push(delivery)
  }
  return taken
}

/**
 * An earlier connection may have brought this QoS 2 message, and its client then remembers the identifier until PUBREL (§4.3.3): freed
 * without, the next message with it would pass for a repeat of this one. So PUBREL goes in the place of the PUBLISH; who has never had
 * the message answers it with PUBCOMP all the same.
 */
function releaseUnsent(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery): void {
  engine.counters.withdrawnMessages++
  outbox.ids.setPhase(delivery.packetId, AWAITING_PUBCOMP)
  outbox.due.push(delivery)
  if (!session.isJournalled) return
  writeNumbered(engine.journal.writer(session.shard), Record.Received, session.number, delivery.sequence)
  sendAfterCommit(engine, session, delivery)
}

/** Whether what waits may still be sent. Each topic is looked at once, however many messages wait on it. */
class WaitingJudge {
  readonly #permit: Permit
  readonly #ended = new FilterSet()
  readonly #present = new FilterSet()
  readonly #topics = new Map<string, boolean>()
  readonly #shared = new Map<string, boolean>()

  constructor(session: Session, ended: readonly ParsedFilter[], permit: Permit) {
    this.#permit = permit
    for (const filter of ended) if (filter.group === null) this.#ended.add(filter.filter)
    for (const { filter } of session.subscriptions?.values() ?? []) if (filter.group === null) this.#present.add(filter.filter)
  }

  mayGo({ message, shared }: Delivery): boolean {
    if (shared !== null) return remembered(this.#shared, shared.filter, filter => this.#permit.maySubscribe(filter))
    return remembered(this.#topics, message.topic.name, topic => this.#mayHear(topic))
  }

  /**
   * A Subscription that stays wants it; or none that ended now did, and the client could subscribe to that very topic: it came for a
   * Subscription that the client gave up itself. A notification of the state store came for none.
   */
  #mayHear(topic: string): boolean {
    if (notifiedKey(topic) !== null) return mayHear(this.#permit, topic)
    return this.#present.matches(topic) || (!this.#ended.matches(topic) && this.#permit.maySubscribe(topic))
  }
}

function remembered(known: Map<string, boolean>, key: string, judge: (key: string) => boolean): boolean {
  let verdict = known.get(key)
  if (verdict === undefined) known.set(key, (verdict = judge(key)))
  return verdict
}
