import type { Grant, Identity, PortPolicy } from '#shared/rpc/authentication.ts'
import { isSamePolicy } from '../live-change/policies.ts'
import type { Connection } from './connection.ts'

/** What a connection was granted, and by which rules. */
export interface ConnectionGrant {
  /** The versions that decided. A port that has others now is a reason to decide again. */
  readonly policy: PortPolicy
  /** LiveChange.changesBehind of the authentication when it was asked. */
  readonly changesBehind: number
  readonly method: string
  readonly identity: Identity
  readonly proof: Uint8Array
  /** Wall clock, milliseconds; null: never. */
  readonly expiresMs: number | null
}

/** What is kept of a verdict. */
export function connectionGrant(grant: Grant, policy: PortPolicy, changesBehind: number): ConnectionGrant {
  const { method, identity, proof, expiresMs } = grant
  return { policy, changesBehind, method, identity, proof, expiresMs }
}

/**
 * From now on the connection is judged by `grant` and its permit (null: everything is allowed); what was decided before is forgotten.
 * Answers whether its session has to be told.
 * @throws {ByteReaderError} the permit is broken: then nothing has changed
 */
export function adopt(connection: Connection, grant: ConnectionGrant, permitBytes: Uint8Array | null): boolean {
  const { grant: grantBefore, permit: permitBefore } = connection
  // The same bytes are the same Permit, as a rule.
  connection.permit = permitBytes === null ? null : connection.frontend.permits.get(permitBytes)
  connection.grant = grant
  connection.permittedTopic = null
  connection.permittedResponseTopic = null
  if (connection.permit !== permitBefore || grantBefore === null) return true
  // Who judges its Will by what.
  return !isSameIdentity(grantBefore.identity, grant.identity) || !isSamePolicy(grantBefore.policy, grant.policy)
}

function isSameIdentity(one: Identity, other: Identity): boolean {
  if (one.userName !== other.userName || one.attributes.size !== other.attributes.size) return false
  return [...one.attributes].every(([name, value]) => other.attributes.get(name) === value)
}
