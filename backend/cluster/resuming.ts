import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { OutstandingDelivery, ResumedSession } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { bindLink, isOf } from '../handlers/attach.ts'
import type { Delivery } from '../session/delivery.ts'
import { finish } from '../session/finish.ts'
import type { FrontendLink } from '../session/frontend-link.ts'
import { Outbox } from '../session/outbox.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC, FREE } from '../session/packet-identifiers.ts'
import { noteCrowded, takeQueued } from '../session/queue-limits.ts'
import type { Session } from '../session/session.ts'
import { Record, writeIdentified, writeNumbered } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'

/**
 * OwnerPort.resume, for one session: its connection goes on by this link, and the client notices nothing. Null when the connection is not
 * the session's present one. The client gets nothing twice on one connection [MQTT-4.4.0-1]: what the frontend passed on is not sent again.
 */
export function resumeSession(engine: Engine, shard: Shard, link: FrontendLink, resumed: ResumedSession): Session | null {
  const session = shard.sessions.get(resumed.clientId)
  if (session === undefined || !isOf(session, link, resumed.connection)) return null
  // Told twice that the shard is here, with a break that is over, it resumes twice; we have answered, and sent messages, in between.
  const since = session.link === link ? sentSince(session) : NOTHING
  if (session.link !== link) bindLink(engine, session, link)
  session.protocolVersion = resumed.protocolVersion
  session.receiveMaximum = Math.min(resumed.receiveMaximum, engine.settings.inflightMax)
  if (session.outbox !== null || resumed.outstanding.length > 0) reconcile(engine, session, resumed, since)
  session.nextSequence = Math.max(session.nextSequence, resumed.lastSequence + 1)
  engine.resumeReplays(session)
  return session
}

/** What was done on a connection after its frontend said where it stands. */
interface Since {
  readonly sent: ReadonlySet<Delivery>
  /** Packet Identifiers whose PUBREL has gone. */
  readonly released: ReadonlySet<number>
}

const NOTHING: Since = { sent: new Set(), released: new Set() }

function sentSince({ outbox }: Session): Since {
  if (outbox === null) return NOTHING
  const due = new Set(Array.from({ length: outbox.due.length }, (_, i) => outbox.due.at(i)))
  return {
    sent: new Set(outbox.ids.deliveries().filter(delivery => !due.has(delivery))),
    released: new Set(outbox.ids.inPhase(AWAITING_PUBCOMP)),
  }
}

/** Brings the outbox to where the client is. */
function reconcile(engine: Engine, session: Session, resumed: ResumedSession, since: Since): void {
  const outbox = (session.outbox ??= new Outbox())
  const withClient = new WithClient(resumed.outstanding)
  const waiting: Delivery[] = []
  outbox.due.clear()
  outbox.inWindow = 0
  outbox.ids.freeUnknown()
  for (const delivery of outbox.ids.deliveries()) {
    const entry = withClient.take(delivery)
    if (entry === undefined && delivery.sequence > resumed.lastSequence && since.sent.has(delivery)) {
      outbox.inWindow++
      continue
    }
    if (entry === undefined && delivery.sequence > resumed.lastSequence) {
      // It never got to the client on this connection, and on no other when the session began with this one.
      if (session.isNew) delivery.sent = false
      delivery.inWindow = false
      outbox.due.push(delivery)
      continue
    }
    if (entry?.packetId !== delivery.packetId) outbox.ids.free(delivery.packetId)
    if (entry === undefined) finish(engine, session, delivery)
    else hold(engine, session, outbox, delivery, entry, since)
  }
  for (let queued = takeQueued(engine, outbox); queued !== null; queued = takeQueued(engine, outbox)) {
    const entry = withClient.take(queued)
    if (entry !== undefined) hold(engine, session, outbox, queued, entry, since)
    else if (queued.sequence > resumed.lastSequence) waiting.push(queued)
    else finish(engine, session, queued)
  }
  for (const delivery of waiting) {
    outbox.enqueue(delivery)
    engine.counters.queuedMessages++
  }
  for (const entry of withClient.rest()) holdUnknown(engine, session, outbox, entry, since)
  noteCrowded(engine, session, outbox)
}

/** What the client has, to be found by the delivery. */
class WithClient {
  readonly #bySequence = new Map<number, OutstandingDelivery>()
  /** PUBRELs that went (again) on this connection, whose messages came on an earlier one: their frontend has no number for them. */
  readonly #byPacketId = new Map<number, OutstandingDelivery>()

  constructor(outstanding: readonly OutstandingDelivery[]) {
    for (const entry of outstanding) {
      if (entry.sequence === 0) this.#byPacketId.set(entry.packetId, entry)
      else this.#bySequence.set(entry.sequence, entry)
    }
  }

  take(delivery: Delivery): OutstandingDelivery | undefined {
    const numbered = this.#bySequence.get(delivery.sequence)
    if (numbered !== undefined) {
      this.#bySequence.delete(delivery.sequence)
      return numbered
    }
    const entry = delivery.qos === 2 ? this.#byPacketId.get(delivery.packetId) : undefined
    if (entry !== undefined) this.#byPacketId.delete(delivery.packetId)
    return entry
  }

  /** Those that were not taken. */
  *rest(): Iterable<OutstandingDelivery> {
    yield* this.#bySequence.values()
    yield* this.#byPacketId.values()
  }
}

/** A message that no journal knows of: its publisher had no acknowledgement. The client holds its identifier nonetheless; its QoS is not known. */
function holdUnknown(engine: Engine, session: Session, outbox: Outbox, { packetId, phase }: OutstandingDelivery, since: Since): void {
  if (outbox.ids.phase(packetId) !== FREE) return
  outbox.ids.restore(packetId, phase === 'sent' ? AWAITING_PUBACK : AWAITING_PUBCOMP, null)
  outbox.inWindow++
  if (phase === 'received' && !since.released.has(packetId)) releaseWhenStored(engine, session, packetId)
}

/** The client has the delivery and has not finished with it. */
function hold(engine: Engine, session: Session, outbox: Outbox, delivery: Delivery, entry: OutstandingDelivery, since: Since): void {
  const isNew = delivery.packetId !== entry.packetId
  const sentPhase = delivery.qos === 1 ? AWAITING_PUBACK : AWAITING_PUBREC
  delivery.packetId = entry.packetId
  delivery.sent = true
  delivery.inWindow = true
  outbox.inWindow++
  outbox.ids.restore(entry.packetId, entry.phase === 'sent' ? sentPhase : AWAITING_PUBCOMP, delivery)
  if (isNew && session.isJournalled) {
    writeIdentified(engine.journal.writer(session.shard), session.number, delivery.sequence, entry.packetId)
  }
  if (entry.phase !== 'received' || since.released.has(entry.packetId)) return
  // PUBREC came, and whether it was stored is not known: it is now, and PUBREL follows.
  if (session.isJournalled) writeNumbered(engine.journal.writer(session.shard), Record.Received, session.number, delivery.sequence)
  releaseWhenStored(engine, session, entry.packetId)
}

function releaseWhenStored(engine: Engine, session: Session, packetId: number): void {
  const { connection, link } = session
  engine.journal.whenStored(() => {
    if (session.link === link && session.connection === connection) link!.port.released(connection, packetId, ReasonCode.Success)
  })
}
