import { ErrorText } from '#shared/state-store/errors.ts'
import { type ClockTime, compareClocks, type HybridClock, isTooFarAhead } from '#shared/state-store/hybrid-clock.ts'
import type { Moment } from './moment.ts'
import type { StoreRequest } from './store-request.ts'

/** Those that a request has. */
export interface Clocks {
  readonly timestamp: ClockTime | null
  readonly token: HybridClock | null
}

/** The clocks of a request, or the first fault of section 10 that they have. */
export function checkedClocks({ command, timestamp, fencingToken }: StoreRequest, now: Moment): Clocks | ErrorText {
  if (command.is === 'set' && timestamp === null) return ErrorText.MissingTimestamp
  if (timestamp === 'malformed') return ErrorText.MalformedTimestamp
  if (timestamp !== null && isTooFarAhead(timestamp, now.wallMs)) return ErrorText.TimestampAhead
  if (fencingToken === 'malformed') return ErrorText.MalformedTimestamp
  // A token means nothing to a command that changes no entry.
  const isFenced = command.is === 'set' || command.is === 'del' || command.is === 'vdel'
  if (isFenced && fencingToken !== null && isTooFarAhead(fencingToken, now.wallMs)) return ErrorText.TokenAhead
  return { timestamp, token: fencingToken }
}

/** What an entry that is there says to a request that would change it (spec state-store.md 7). */
export function fencingFault(held: HybridClock | null, given: HybridClock | null): ErrorText | null {
  if (held === null) return null
  if (given === null) return ErrorText.TokenRequired
  return compareClocks(given, held) < 0 ? ErrorText.TokenLower : null
}
