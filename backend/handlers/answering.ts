import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { Engine } from '../engine.ts'
import type { FrontendLink } from '../session/frontend-link.ts'
import type { Session } from '../session/session.ts'

/** Who asked, before anything is waited for: whoever the connection is with by then asks again (OwnerPort). */
export interface Asked {
  readonly session: Session
  readonly link: FrontendLink
  readonly connection: ConnectionId
  readonly ticket: number
}

/** The connection that `session` has now is asking; it must have one. */
export function asked(session: Session, ticket: number): Asked {
  return { session, link: session.link!, connection: session.connection, ticket }
}

/** FrontendPort.subscribed, once what was recorded so far is stored, and if the connection is still there. */
export function answer(engine: Engine, by: Asked, reasons: readonly ReasonCode[], then: () => void): void {
  const { session, link, connection, ticket } = by
  engine.journal.whenStored(() => {
    if (session.connection !== connection || session.link !== link) return
    link.port.subscribed(connection, ticket, reasons)
    then()
  })
}
