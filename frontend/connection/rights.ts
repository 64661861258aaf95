import { writeWillGuard } from '#shared/authorization/will-guard.ts'
import type { SessionRights } from '#shared/rpc/backend-port.ts'
import type { ConnectionGrant } from './grant.ts'

/** What the session of a client is told of what it was granted; null: everything is allowed. */
export function rightsOf(clientId: string, grant: ConnectionGrant | null, permitBytes: Uint8Array | null): SessionRights | null {
  if (grant === null || permitBytes === null) return null
  const { userName, attributes } = grant.identity
  const authorizations = grant.policy.authorizations.map(({ name }) => name)
  return { permit: permitBytes, willGuard: writeWillGuard({ authorizations, clientId, userName, attributes }) }
}
