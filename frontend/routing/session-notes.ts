import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { RECIPIENT_QOS, Recipients } from '#shared/rpc/recipients.ts'
import { Outstanding } from './outstanding.ts'
import type { OwnerLink } from './owner-link.ts'
import type { RouterCounters } from './router-counters.ts'
import type { LateAcknowledgement, SessionRoute, SessionRoutes } from './session-routes.ts'

/**
 * What clients have got and acknowledged: noted on the way through, so that the next owner of a session can be told (ResumedSession).
 *   sent ─PUBACK→ gone;  sent ─PUBREC→ received ─PUBREL→ released ─PUBCOMP→ gone;  sent ─PUBREC, failure→ gone
 */
export class SessionNotes {
  readonly #routes: SessionRoutes
  readonly #counters: RouterCounters
  /** Those of a delivery who are left when some have another owner by now. */
  readonly #rest = new Recipients()
  #frontend: FrontendPort | null = null

  constructor(routes: SessionRoutes, counters: RouterCounters) {
    this.#routes = routes
    this.#counters = counters
  }

  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
  }

  /** FrontendPort.deliver, from `owner`. QoS 1 and 2 by one who does not serve the session any more would come twice, or spoil identifiers. */
  deliver(owner: OwnerLink, message: Message, recipients: Recipients): void {
    let ignored = 0
    if (message.qos > 0) for (let at = 0; at < recipients.count; at++) if (!this.#note(owner, recipients, at)) ignored++
    if (ignored === 0) return this.#frontend!.deliver(message, recipients)
    this.#counters.deliveriesIgnored += ignored
    const rest = this.#rest
    rest.clear()
    for (let at = 0; at < recipients.count; at++) {
      if (!this.#isServedBy(owner, recipients, at)) continue
      const { connections, flags, packetIds, identifiers, sequences } = recipients
      rest.add(connections[at]!, flags[at]!, packetIds[at]!, identifiers[at]!, sequences[at]!)
    }
    if (rest.count > 0) this.#frontend!.deliver(message, rest)
  }

  /** FrontendPort.released, from `owner`: PUBREL goes to the client. */
  released(owner: OwnerLink, connection: number, packetId: number, reason: ReasonCode): void {
    const route = this.#routes.get(connection)
    if (route === null || route.owner !== owner) return
    if (reason === ReasonCode.Success) (route.outstanding ??= new Outstanding()).setPhase(packetId, 'released')
    this.#frontend!.released(connection, packetId, reason)
  }

  puback(connection: number, packetId: number): void {
    const route = this.#routes.get(connection)
    if (route === null) return
    const isKnown = route.outstanding !== null && route.outstanding.phase(packetId) !== null
    route.outstanding?.delete(packetId)
    this.#pass(route, isKnown, { is: 'puback', packetId, reason: ReasonCode.Success })
  }

  pubrec(connection: number, packetId: number, reason: ReasonCode): void {
    const route = this.#routes.get(connection)
    if (route === null) return
    const isKnown = route.outstanding !== null && route.outstanding.phase(packetId) !== null
    if (isKnown && isFailure(reason)) route.outstanding!.delete(packetId)
    else if (route.outstanding?.phase(packetId) === 'sent') route.outstanding.setPhase(packetId, 'received')
    if (isKnown || isFailure(reason) || route.phase === 'bound') return this.#pass(route, isKnown, { is: 'pubrec', packetId, reason })
    // Nobody is there to say so, and it is for no message that this connection has brought.
    this.#frontend!.released(connection, packetId, ReasonCode.PacketIdentifierNotFound)
  }

  pubcomp(connection: number, packetId: number): void {
    const route = this.#routes.get(connection)
    if (route === null) return
    const isKnown = route.outstanding !== null && route.outstanding.phase(packetId) !== null
    route.outstanding?.delete(packetId)
    this.#pass(route, isKnown, { is: 'pubcomp', packetId, reason: ReasonCode.Success })
  }

  writable(connection: number, isWritable: boolean): void {
    const route = this.#routes.get(connection)
    if (route === null) return
    route.isWritable = isWritable
    if (route.phase !== 'bound') return
    route.isToldWritable = isWritable
    route.owner!.calls.writable(route.remote, connection, isWritable)
  }

  /** To the owner; while `resume` is not answered, later; before `resume`, never: it will say where things stand. */
  #pass(route: SessionRoute, isKnown: boolean, acknowledgement: LateAcknowledgement): void {
    if (route.phase === 'bound') tell(route, route.owner!, acknowledgement)
    else if (route.phase === 'resuming' && isKnown) (route.late ??= []).push(acknowledgement)
  }

  #note(owner: OwnerLink, recipients: Recipients, at: number): boolean {
    const qos = recipients.flags[at]! & RECIPIENT_QOS
    if (qos === 0) return true
    const route = this.#routes.get(recipients.connections[at]!)
    // The core ignores those who are gone.
    if (route === null) return true
    if (route.phase !== 'bound' || route.owner !== owner) return false
    const sequence = recipients.sequences[at]!
    if (sequence > route.lastSequence) route.lastSequence = sequence
    route.outstanding ??= new Outstanding()
    route.outstanding.sent(recipients.packetIds[at]!, sequence)
    return true
  }

  #isServedBy(owner: OwnerLink, recipients: Recipients, at: number): boolean {
    if ((recipients.flags[at]! & RECIPIENT_QOS) === 0) return true
    const route = this.#routes.get(recipients.connections[at]!)
    return route !== null && route.phase === 'bound' && route.owner === owner
  }
}

/** After `resumed`: what was acknowledged since `resume`. */
export function tellLate(route: SessionRoute, owner: OwnerLink): void {
  const { late } = route
  route.late = null
  if (late !== null) for (const acknowledgement of late) tell(route, owner, acknowledgement)
}

function tell(route: SessionRoute, owner: OwnerLink, { is, packetId, reason }: LateAcknowledgement): void {
  if (is === 'puback') owner.calls.puback(route.remote, route.connection, packetId)
  else if (is === 'pubrec') owner.calls.pubrec(route.remote, route.connection, packetId, reason)
  else owner.calls.pubcomp(route.remote, route.connection, packetId)
}
