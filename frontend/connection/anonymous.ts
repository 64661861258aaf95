import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { type Grant, SERVICE_ACCOUNT_METHOD, type Verdict } from '#shared/rpc/authentication.ts'

const EVERYTHING: Grant = {
  method: 'none',
  identity: { userName: '', attributes: new Map() },
  permit: null,
  expiresMs: null,
  authenticationData: null,
  proof: new Uint8Array(0),
}

/**
 * A port without authentication: everybody may do everything, whatever user name and password say. An Authentication Method cannot be
 * served, as there is none to ask (§4.12): 0x8C, but for that of service account tokens, which is ignored (docs/mqtt.md).
 */
export function anonymousVerdict(authenticationMethod: string | null): Verdict {
  if (authenticationMethod === null || authenticationMethod === SERVICE_ACCOUNT_METHOD) return { is: 'accepted', grant: EVERYTHING }
  const detail = 'this port has no authentication methods'
  return { is: 'refused', reason: ReasonCode.BadAuthenticationMethod, detail, cause: detail, method: 'none' }
}
