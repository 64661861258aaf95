import { userProperty, type Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'
import { keepRetained, wouldExceedRetained } from '../queue/retained-store.ts'
import { lacksRoom, mayLackRoom } from '../session/queue-limits.ts'
import type { Session } from '../session/session.ts'
import type { MatchResult, RememberedResult } from '../subscription/match-cache.ts'
import type { Recipient } from '../subscription/recipient.ts'
import type { SharedGroup } from '../subscription/shared-group.ts'
import { endPublication } from './collecting.ts'
import { offer, offerQos0 } from './offer.ts'

/** Who gets messages on this topic, remembered with the Topic. */
export function matchOf(engine: Engine, message: Message): MatchResult<Session> {
  const { topic } = message
  const known = (topic.resolved as RememberedResult<Session> | undefined)?.result
  if (known?.isCurrent === true) return known
  const result = engine.index.match(topic.name)
  topic.resolved = result.remembered
  return result
}

/** Gives the publication that is under way to all who match; answers how many there were. */
export function offerToAll(engine: Engine, origin: Session | null, result: MatchResult<Session>): number {
  const { message } = engine.publication
  let receivers = 0
  for (const matching of result.recipients) {
    const recipient = matching.subscriber === origin ? matching.own : matching
    if (recipient === null || (engine.isRestricted && !engine.isAddressed(recipient.subscriber.shard))) continue
    receivers++
    const retain = message.retain && recipient.retainAsPublished
    const qos = Math.min(message.qos, recipient.qos)
    if (qos === 0) offerQos0(engine, recipient.subscriber, retain, recipient.identifiers)
    else offer(engine, recipient.subscriber, qos as 1 | 2, retain, recipient.identifiers, null)
  }
  for (const group of result.groups) {
    if (offerToGroup(engine, group)) receivers++
    // A message of the broker's own, a Will: publishers were refused before.
    else if (message.qos > 0 && canHold(group)) engine.counters.queueDropped++
  }
  return receivers
}

/** One member of the group gets the publication that is under way (docs/mqtt.md); false when there is none that can. */
export function offerToGroup(engine: Engine, group: SharedGroup<Session>): boolean {
  const { message } = engine.publication
  const partition = message.propertiesLength > 0 ? userProperty(message, '$partition') : undefined
  const member = group.pick(message.topic.name, partition, isAvailable) ?? pickQueue(engine, group, message, partition)
  if (member === null) return false
  const retain = message.retain && member.retainAsPublished
  const qos = Math.min(message.qos, member.qos)
  if (qos === 0) offerQos0(engine, member.subscriber, retain, member.identifiers)
  else offer(engine, member.subscriber, qos as 1 | 2, retain, member.identifiers, group)
  return true
}

/** With nobody to take it now: a member that is online, whose turn comes soon, before one that may be away for days. */
function pickQueue(
  engine: Engine,
  group: SharedGroup<Session>,
  message: Message,
  partition: string | undefined,
): Recipient<Session> | null {
  if (message.qos === 0) return null
  const { name } = message.topic
  const hasRoom = (session: Session): boolean => mayQueue(engine, group, session, message)
  const member = group.pick(name, partition, session => session.link !== null && hasRoom(session), hasRoom)
  if (member !== null || !engine.publication.isAdmitted) return member
  // There was room for it until another copy of this very publication took it (see Publication).
  return group.pick(name, partition, session => group.member(session)!.qos > 0 && (session.link !== null || session.isPersistent))
}

/** Whether any member's Subscription is of a QoS that queues. */
function canHold(group: SharedGroup<Session>): boolean {
  return group.members.some(({ qos }) => qos > 0)
}

function isAvailable(session: Session): boolean {
  if (!session.takesMessages) return false
  const { outbox } = session
  return outbox === null || (outbox.isIdle && outbox.inWindow < session.receiveMaximum)
}

function canQueue(engine: Engine, session: Session, message: Message): boolean {
  return (session.link !== null || session.isPersistent) && !lacksRoom(engine, session, message.storedBytes)
}

/** A member with a Subscription of QoS 0 would not get what waits: it is for another one. */
function mayQueue(engine: Engine, group: SharedGroup<Session>, session: Session, message: Message): boolean {
  return group.member(session)!.qos > 0 && canQueue(engine, session, message)
}

/** Whether a QoS 1 or 2 message would find a queue without room: of a session, or of all members of a group. */
export function findsQueueFull(engine: Engine, message: Message, result: MatchResult<Session>): boolean {
  if (!mayLackRoom(engine, message)) return false
  const bytes = message.storedBytes
  const isFull = ({ subscriber, qos }: Recipient<Session>): boolean =>
    qos > 0 && (!engine.isRestricted || engine.isAddressed(subscriber.shard)) && lacksRoom(engine, subscriber, bytes)
  if (result.recipients.some(isFull)) return true
  return result.groups.some(
    group =>
      canHold(group) && group.members.every(({ subscriber }) => !isAvailable(subscriber) && !mayQueue(engine, group, subscriber, message)),
  )
}

/** A message of the broker's own: a Will, `$SYS`, one handed on. Owns its bytes. Answers how many sessions get it. */
export function publishOwn(engine: Engine, message: Message): number {
  engine.publication.beginKept(message)
  if (message.retain && !wouldExceedRetained(engine, message)) keepRetained(engine, engine.publication)
  const receivers = offerToAll(engine, null, matchOf(engine, message))
  endPublication(engine)
  return receivers
}

/** The same for one that is not retained, and whose bytes are valid only now. */
export function publishBorrowed(engine: Engine, message: Message): void {
  engine.publication.beginBorrowed(message)
  offerToAll(engine, null, matchOf(engine, message))
  endPublication(engine)
}
