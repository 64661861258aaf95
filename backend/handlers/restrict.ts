import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { SessionRights } from '#shared/rpc/backend-port.ts'
import type { Engine } from '../engine.ts'
import { permitOf } from '../session/rights.ts'
import { pump } from '../session/sending.ts'
import type { Session } from '../session/session.ts'
import { guardWill } from '../session/will.ts'
import { withdraw } from '../session/withdrawing.ts'
import { answer, asked } from './answering.ts'

/** What the client of a connected session may do has changed. See BackendPort.restrict. */
export function onRestrict(engine: Engine, session: Session, ticket: number, rights: SessionRights): void {
  const permit = permitOf(rights)
  if (permit === null) {
    const { port } = session.link!
    return port.disconnect(session.connection, ReasonCode.ImplementationSpecificError, 'its rights cannot be read')
  }
  withdraw(engine, session, permit)
  guardWill(engine, session, rights.willGuard)
  answer(engine, asked(session, ticket), [], () => {})
  // What stood before the rest in the window may have gone.
  pump(engine, session)
}
