import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Engine } from '../engine.ts'
import { finish } from '../session/finish.ts'
import { pump } from '../session/sending.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC } from '../session/packet-identifiers.ts'
import type { Session } from '../session/session.ts'
import { Record, writeNumbered } from '../shard/records.ts'

/** PUBACK from the client (§3.4), whatever its reason: the message is not sent again. */
export function onPuback(engine: Engine, session: Session, packetId: number): void {
  if (session.outbox?.ids.phase(packetId) === AWAITING_PUBACK) complete(engine, session, packetId)
}

/** PUBREC from the client (§3.5). For an identifier that is not in use PUBREL says so, that the receiver can let it go (§4.3.3). */
export function onPubrec(engine: Engine, session: Session, packetId: number, reason: ReasonCode): void {
  const phase = session.outbox?.ids.phase(packetId)
  const { port } = session.link!
  // An owner before us sent it and nobody stored it: its QoS is not known.
  const isUnknown = phase === AWAITING_PUBACK && session.isInCluster && session.outbox!.ids.delivery(packetId) === null
  if (phase !== AWAITING_PUBREC && phase !== AWAITING_PUBCOMP && !isUnknown) {
    if (!isFailure(reason)) port.released(session.connection, packetId, ReasonCode.PacketIdentifierNotFound)
    return
  }
  if (isFailure(reason)) return complete(engine, session, packetId)
  const { ids } = session.outbox!
  ids.setPhase(packetId, AWAITING_PUBCOMP)
  const delivery = ids.delivery(packetId)
  if (delivery === null || !session.isJournalled) return port.released(session.connection, packetId, ReasonCode.Success)
  // Stored first: after a restart the message must not be sent again to a receiver that PUBREL has made forget it.
  writeNumbered(engine.journal.writer(session.shard), Record.Received, session.number, delivery.sequence)
  const { connection } = session
  engine.journal.whenStored(() => {
    if (session.connection === connection && session.link !== null) port.released(connection, packetId, ReasonCode.Success)
  })
}

/** PUBCOMP from the client (§3.7). */
export function onPubcomp(engine: Engine, session: Session, packetId: number): void {
  if (session.outbox?.ids.phase(packetId) === AWAITING_PUBCOMP) complete(engine, session, packetId)
}

function complete(engine: Engine, session: Session, packetId: number): void {
  const outbox = session.outbox!
  const delivery = outbox.ids.delivery(packetId)
  outbox.ids.free(packetId)
  if (delivery === null || delivery.inWindow) outbox.inWindow--
  if (delivery !== null) finish(engine, session, delivery)
  if (!outbox.isIdle) pump(engine, session)
  // The window was full and nothing waited: groups in other shards take it for busy until they are told.
  else if (outbox.inWindow === session.receiveMaximum - 1) engine.cluster?.noteStanding(session)
  engine.resumeReplays(session)
}
