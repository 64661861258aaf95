import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthenticationRequest, Authenticator, Permit, Verdict } from '#shared/rpc/authentication.ts'

/** The Authentication Method of service account tokens, which a port without authentication ignores (docs/mqtt.md). */
const SERVICE_ACCOUNT_METHOD = 'K8S-SAT'

const EVERYTHING: Permit = { mayPublish: () => true, maySubscribe: () => true }

/**
 * A port without authentication: everybody may do everything, whatever user name and password say. An Authentication Method cannot be
 * served, as there is none to ask (§4.12): 0x8C.
 */
export const anonymousAuthenticator: Authenticator = {
  authenticate(request: AuthenticationRequest): Promise<Verdict> {
    const { authenticationMethod } = request
    if (authenticationMethod !== null && authenticationMethod !== SERVICE_ACCOUNT_METHOD) {
      return Promise.resolve({
        is: 'refused',
        reason: ReasonCode.BadAuthenticationMethod,
        detail: 'this port has no authentication methods',
      })
    }
    return Promise.resolve({ is: 'accepted', permit: EVERYTHING })
  },
}
