import type { AuthenticationPort } from './authentication.ts'

const CAUSE = 'there is no authentication service'

/** Decides nothing: whoever must be authenticated is refused. */
export const noAuthentication: AuthenticationPort = {
  authenticate: () => Promise.resolve({ is: 'unavailable', cause: CAUSE }),
  authorize: () => Promise.resolve({ is: 'unavailable', cause: CAUSE }),
  recheck: () => Promise.resolve({ is: 'unavailable', cause: CAUSE }),
  listen: () => () => undefined,
}
