import type { Engine } from '../engine.ts'
import { onRelease } from '../handlers/publish.ts'
import type { Session } from '../session/session.ts'
import type { Shard } from '../shard/shard.ts'
import type { HandOver } from './hand-over.ts'

/** A QoS 2 message of `session` is in charge of the hand-over with this number. */
export function noteHandOver(session: Session, packetId: number, sequence: number): void {
  session.handOvers ??= new Map()
  session.handOvers.set(packetId, sequence)
}

/** The shard was taken over: whose hand-overs are these? Which Packet Identifiers they came with is not known any more. */
export function noteRecovered(shard: Shard): void {
  for (const { sequence, target } of shard.handOvers.values()) {
    const session = target.is === 'shards' ? shard.sessions.get(target.origin) : undefined
    if (session === undefined) continue
    session.recoveredHandOvers ??= []
    session.recoveredHandOvers.push(sequence)
  }
}

/**
 * OwnerPort.release. PUBCOMP waits until every shard that the message concerns has taken it, so that it says what PUBACK says: the message
 * is with all who were subscribed when it was published, and with nobody who subscribes afterwards. While it waits, nothing is changed; when
 * the connection or the shard is gone by then, its frontend asks again.
 */
export function releaseFromLink(engine: Engine, session: Session, ticket: number, packetId: number, isRetry: boolean): void {
  const { link, connection } = session
  let missing = 1
  const taken = (): void => {
    if (--missing > 0 || session.link !== link || session.connection !== connection) return
    session.handOvers?.delete(packetId)
    onRelease(engine, session, ticket, packetId, isRetry)
  }
  for (const handOver of untaken(engine.shards[session.shard]!, session, packetId)) {
    missing++
    handOver.whenTaken(taken)
  }
  taken()
}

function untaken(shard: Shard, session: Session, packetId: number): HandOver[] {
  const sequence = session.handOvers?.get(packetId)
  const isThere = (each: HandOver | undefined): each is HandOver => each !== undefined
  if (sequence !== undefined) return [shard.handOvers.get(sequence)].filter(isThere)
  if (session.recoveredHandOvers === null) return []
  const recovered = session.recoveredHandOvers.map(each => shard.handOvers.get(each)).filter(isThere)
  session.recoveredHandOvers = recovered.length === 0 ? null : recovered.map(each => each.sequence)
  return recovered
}
