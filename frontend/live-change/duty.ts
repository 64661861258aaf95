import type { PortPolicy } from '#shared/rpc/authentication.ts'
import type { Connection } from '../connection/connection.ts'
import type { ConnectionGrant } from '../connection/grant.ts'
import type { DutyKind } from './policies.ts'

/** What is to happen to one connection. A newer one takes its place: whatever comes of this one is then ignored. */
export interface Duty {
  readonly is: DutyKind
  readonly connection: Connection
  /** Who it was when this was begun. */
  readonly grant: ConnectionGrant | null
  /** By which it is to be judged; null: the port has none. */
  readonly policy: PortPolicy | null
  /** Monotonic, milliseconds: of a connection that is held for its new rights, since when. */
  readonly sinceMs: number
  /** Until the next attempt, when this one cannot be answered. */
  retryMs: number
}

/** No other duty has taken its place, and the connection has not ended. */
export function isDue(duty: Duty): boolean {
  return duty.connection.duty === duty
}
