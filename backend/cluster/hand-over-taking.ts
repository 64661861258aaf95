import { groupShardOf } from '#shared/cluster/shard.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { endPublication } from '../publishing/collecting.ts'
import { offerToWatcher } from '../publishing/key-notifications.ts'
import { offer, offerQos0 } from '../publishing/offer.ts'
import { matchOf, offerToAll } from '../publishing/route.ts'
import { keepRetained, wouldExceedRetained } from '../queue/retained-store.ts'
import { writeSeen } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'

/** Says what became of it, for these of its target shards, once that is stored. */
export type HandOverAnswer = (shards: readonly number[], outcome: 'done' | 'moved') => void

type ToShards = HandOverTarget & { readonly is: 'shards' }
type ToMember = HandOverTarget & { readonly is: 'member' }

/**
 * OwnerPort.handOver: gives the message to whom it is for in our shards, unless they have had it. No publication may be under way.
 * @param isOurs of the targets: whether we answer for it to the one who sent this
 */
export function takeHandOver(
  engine: Engine,
  isOurs: (shard: Shard) => boolean,
  fromShard: number,
  sequence: number,
  target: HandOverTarget,
  message: Message,
  answer: HandOverAnswer,
): void {
  const done: Shard[] = []
  const moved: number[] = []
  for (const number of target.is === 'shards' ? target.shards : [target.shard]) {
    const shard = engine.shards[number]
    if (shard !== undefined && isOurs(shard)) done.push(shard)
    else moved.push(number)
  }
  const fresh = done.filter(shard => isFirst(engine, shard, fromShard, sequence))
  if (fresh.length > 0) {
    if (target.is === 'shards') takeForShards(engine, fresh, target, message)
    else if (target.is === 'session') takeForWatcher(engine, target, message)
    else if (target.clientId === '') takeForGroup(engine, fresh[0]!, target, message)
    else takeForMember(engine, fresh[0]!, sequence, target, message)
  }
  if (sequence === 0) return
  if (moved.length > 0) answer(moved, 'moved')
  if (done.length > 0) answerWhenStored(engine, done, answer)
}

function takeForShards(engine: Engine, shards: readonly Shard[], target: ToShards, message: Message): void {
  engine.address(shards)
  begin(engine, message)
  if (message.retain && engine.isAddressed(engine.shardFor(message.topic.name).number)) {
    if (wouldExceedRetained(engine, message)) engine.counters.refusedRetainedFull++
    else keepRetained(engine, engine.publication)
  }
  const origin = target.origin === '' ? null : (engine.shardFor(target.origin).sessions.get(target.origin) ?? null)
  const result = matchOf(engine, message)
  offerToAll(engine, origin, result)
  const { groups } = engine.cluster!
  if (message.retain) engine.cluster!.noteRetained(message.topic.name, result.recipients)
  groups.offer(groups.matching(message), message)
  endPublication(engine)
  engine.addressAll()
}

/** For one member that a group chose. It may have gone meanwhile: then the message is taken all the same, to be given back to the group. */
function takeForMember(engine: Engine, shard: Shard, sequence: number, target: ToMember, message: Message): void {
  const { groupName, groupFilter } = target
  const session = shard.sessions.get(target.clientId)
  const subscription = session?.subscriptions?.get(`$share/${groupName}/${groupFilter}`)
  begin(engine, message)
  if (session === undefined || subscription === undefined) return giveBack(engine, shard, sequence, target)
  // The group chose it because its queue had room. What was on the way when it filled up was acknowledged, and is taken.
  engine.publication.isAdmitted = true
  const qos = Math.min(message.qos, subscription.qos)
  const retain = message.retain && subscription.retainAsPublished
  const identifiers = subscription.identifier === 0 ? null : [subscription.identifier]
  if (qos === 0) offerQos0(engine, session, retain, identifiers)
  else offer(engine, session, qos as 1 | 2, retain, identifiers, { name: groupName, filter: groupFilter })
  endPublication(engine)
}

/**
 * Stored as ours together with the number that says that we have had it. An answer that the member is gone could be lost, and by the time
 * that the message came again a later one would make it look like a repeat.
 */
function giveBack(engine: Engine, shard: Shard, sequence: number, target: ToMember): void {
  const { clientId, groupName, groupFilter } = target
  const { memberships, handOvers } = engine.cluster!
  memberships.deny(shard, clientId, groupName, groupFilter)
  if (sequence === 0) return
  const group = { ...target, shard: groupShardOf(groupName, groupFilter, engine.shards.length), clientId: '' }
  handOvers.add(shard, group, engine.publication.kept(engine))
}

/** A notification of the state store. */
function takeForWatcher(engine: Engine, target: HandOverTarget & { readonly is: 'session' }, message: Message): void {
  begin(engine, message)
  offerToWatcher(engine, target)
  endPublication(engine)
}

/** A message that a member did not acknowledge before it went away for good. */
function takeForGroup(engine: Engine, shard: Shard, target: ToMember, message: Message): void {
  begin(engine, message)
  engine.cluster!.groups.choose(shard, target.groupName, target.groupFilter, message)
  endPublication(engine)
}

/** Kept as it was received, not as if it had come from a client just now; nobody is left to refuse it to. */
function begin(engine: Engine, message: Message): void {
  if (message.ownsBytes) return engine.publication.beginKept(message)
  engine.publication.begin(message)
  engine.publication.isAdmitted = false
}

/** A shard that is another's by then has not stored it: the store has refused its part of the commit. */
function answerWhenStored(engine: Engine, shards: readonly Shard[], answer: HandOverAnswer): void {
  const epochs = shards.map(({ epoch }) => epoch)
  engine.journal.whenStored(() => {
    const done: number[] = []
    const moved: number[] = []
    shards.forEach(({ number, phase, epoch }, i) => {
      const isStored = epoch === epochs[i] && (phase === 'serving' || phase === 'leaving')
      ;(isStored ? done : moved).push(number)
    })
    if (moved.length > 0) answer(moved, 'moved')
    if (done.length > 0) answer(done, 'done')
  })
}

/** True the first time; remembered together with what is done with the message. QoS 0 has no number and no memory. */
function isFirst(engine: Engine, shard: Shard, fromShard: number, sequence: number): boolean {
  if (sequence === 0) return true
  if (sequence <= (shard.seen.get(fromShard) ?? 0)) return false
  shard.seen.set(fromShard, sequence)
  if (engine.journal.isDurable) writeSeen(engine.journal.writer(shard.number), fromShard, sequence)
  return true
}
