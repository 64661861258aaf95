import type { Message } from '#shared/mqtt/message.ts'
import type { HandOverTarget } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { endPublication } from '../publishing/collecting.ts'
import { offer, offerQos0 } from '../publishing/offer.ts'
import { matchOf, offerToAll } from '../publishing/route.ts'
import { keepRetained, wouldExceedRetained } from '../queue/retained-store.ts'
import { writeSeen } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'

/** Says what became of it, for these of its target shards, once that is stored. */
export type HandOverAnswer = (shards: readonly number[], outcome: 'done' | 'moved' | 'gone') => void

/** OwnerPort.handOver: gives the message to whom it is for in our shards, unless they have had it. */
export function takeHandOver(
  engine: Engine,
  fromShard: number,
  sequence: number,
  target: HandOverTarget,
  message: Message,
  answer: HandOverAnswer,
): void {
  if (target.is === 'member') return takeForMember(engine, fromShard, sequence, target, message, answer)
  const done: number[] = []
  const moved: number[] = []
  const fresh: Shard[] = []
  for (const number of target.shards) {
    const shard = engine.shards[number]
    if (shard === undefined || !shard.isServing) {
      moved.push(number)
      continue
    }
    done.push(number)
    if (isFirst(engine, shard, fromShard, sequence)) fresh.push(shard)
  }
  if (fresh.length > 0) {
    engine.address(fresh)
    engine.publication.begin(message)
    // Kept as it was received, not as if it had come from a client just now.
    if (message.retain && engine.isAddressed(engine.shardFor(message.topic.name).number) && !wouldExceedRetained(engine, message)) {
      keepRetained(engine, engine.publication)
    }
    engine.publication.isAdmitted = false
    const origin = target.origin === '' ? null : (engine.shardFor(target.origin).sessions.get(target.origin) ?? null)
    offerToAll(engine, origin, matchOf(engine, message))
    engine.cluster!.groups.offer(message)
    endPublication(engine)
    engine.addressAll()
  }
  if (sequence === 0) return
  if (moved.length > 0) answer(moved, 'moved')
  if (done.length > 0) engine.journal.whenStored(() => answer(done, 'done'))
}

function takeForMember(
  engine: Engine,
  fromShard: number,
  sequence: number,
  target: HandOverTarget & { readonly is: 'member' },
  message: Message,
  answer: HandOverAnswer,
): void {
  const shard = engine.shards[target.shard]
  if (shard === undefined || !shard.isServing) return sequence === 0 ? undefined : answer([target.shard], 'moved')
  if (target.clientId === '') return takeForGroup(engine, shard, fromShard, sequence, target, message, answer)
  const session = shard.sessions.get(target.clientId)
  const subscription = session?.subscriptions?.get(`$share/${target.groupName}/${target.groupFilter}`)
  const isRepeated = sequence !== 0 && sequence <= (shard.seen.get(fromShard) ?? 0)
  if (!isRepeated && (session === undefined || subscription === undefined)) return answer([target.shard], 'gone')
  if (!isRepeated && isFirst(engine, shard, fromShard, sequence)) {
    const { qos: granted, retainAsPublished, identifier } = subscription!
    const qos = Math.min(message.qos, granted)
    const retain = message.retain && retainAsPublished
    const identifiers = identifier === 0 ? null : [identifier]
    engine.publication.begin(message)
    engine.publication.isAdmitted = false
    if (qos === 0) offerQos0(engine, session!, retain, identifiers)
    else offer(engine, session!, qos as 1 | 2, retain, identifiers, { name: target.groupName, filter: target.groupFilter })
    endPublication(engine)
  }
  if (sequence > 0) engine.journal.whenStored(() => answer([target.shard], 'done'))
}

/** A message that a member did not acknowledge before it went away for good. */
function takeForGroup(
  engine: Engine,
  shard: Shard,
  fromShard: number,
  sequence: number,
  target: HandOverTarget & { readonly is: 'member' },
  message: Message,
  answer: HandOverAnswer,
): void {
  if (isFirst(engine, shard, fromShard, sequence)) {
    engine.publication.begin(message)
    engine.cluster!.groups.choose(shard, target.groupName, target.groupFilter, message)
    endPublication(engine)
  }
  engine.journal.whenStored(() => answer([shard.number], 'done'))
}

/** True the first time; remembered together with what is done with the message. QoS 0 has no number and no memory. */
function isFirst(engine: Engine, shard: Shard, fromShard: number, sequence: number): boolean {
  if (sequence === 0) return true
  if (sequence <= (shard.seen.get(fromShard) ?? 0)) return false
  shard.seen.set(fromShard, sequence)
  if (engine.journal.isDurable) writeSeen(engine.journal.writer(shard.number), fromShard, sequence)
  return true
}
