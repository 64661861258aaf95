import type { PortPolicy } from './authentication.ts'

/** What holds for the clients of one port. Another one as a whole when resources change. */
export interface PortRules {
  /** Null: no authentication; everybody may do everything. */
  readonly policy: PortPolicy | null
  /** What new policies do to clients that are connected (docs/authorization.md). */
  readonly onUpdate: 'Disconnect' | 'Reevaluate'
  /** Disconnects for that reason are spread over so long, milliseconds. */
  readonly disconnectWithinMs: number
  /** DISCONNECT 0x87 before a connection is closed because its credential has expired. */
  readonly disconnectsOnExpiry: boolean
}

/** Of a port without `authenticationRef`. */
export const OPEN_TO_ALL: PortRules = { policy: null, onUpdate: 'Disconnect', disconnectWithinMs: 5_000, disconnectsOnExpiry: false }
