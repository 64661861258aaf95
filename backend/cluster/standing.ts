import type { Standing } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { lacksRoom } from '../session/queue-limits.ts'
import type { Session } from '../session/session.ts'

/** How a member of a Shared Subscription stands: see Standing. */
export function standingOf(engine: Engine, session: Session): Standing {
  const { outbox } = session
  if (session.takesMessages && (outbox === null || (outbox.isIdle && outbox.inWindow < session.receiveMaximum))) return 'able'
  // One byte: whether its queue takes anything at all.
  if (lacksRoom(engine, session, 1)) return 'full'
  if (session.isConnected) return 'busy'
  return session.isPersistent ? 'away' : 'full'
}
