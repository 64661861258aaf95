import type { PortPolicy, ResourceRef } from '#shared/rpc/authentication.ts'
import type { PortRules } from '#shared/rpc/port-rules.ts'

/** The same resources in the same versions decide. */
export function isSamePolicy(one: PortPolicy | null, other: PortPolicy | null): boolean {
  if (one === null || other === null) return one === other
  return isSameRef(one.authentication, other.authentication) && areSameRefs(one.authorizations, other.authorizations)
}

function isSameRef(one: ResourceRef, other: ResourceRef): boolean {
  return one.name === other.name && one.version === other.version
}

/** Their union counts, but it is not worth telling an order from another: they come from one list. */
function areSameRefs(one: readonly ResourceRef[], other: readonly ResourceRef[]): boolean {
  return one === other || (one.length === other.length && one.every((ref, index) => isSameRef(ref, other[index]!)))
}

/** What a connection was let in by: its grant, or the port's rules where there is none. */
export interface Standing {
  readonly policy: PortPolicy | null
  /** LiveChange.changesBehind of the authentication at the time. */
  readonly changesBehind: number
}

/**
 * What is to become of a connection.
 *   remove      its port is gone: DISCONNECT
 *   disconnect  it is held, then DISCONNECT
 *   reevaluate  it is held until it has its new rights, or is refused them
 *   recheck     it goes on meanwhile: whether its credential would still let it in
 */
export type DutyKind = 'remove' | 'disconnect' | 'reevaluate' | 'recheck'

/** Null: it is as it should be. @param changesBehind of the authentication, now */
export function dutyOf(standing: Standing, rules: PortRules, isClosed: boolean, changesBehind: number): DutyKind | null {
  if (isClosed) return 'remove'
  const { policy } = standing
  const now = rules.policy
  if (policy === null || now === null) return policy === now ? null : 'disconnect'
  // Another one may know it as somebody else, or not at all.
  if (policy.authentication.name !== now.authentication.name) return 'disconnect'
  if (!areSameRefs(policy.authorizations, now.authorizations)) return rules.onUpdate === 'Disconnect' ? 'disconnect' : 'reevaluate'
  const isTrusted = policy.authentication.version === now.authentication.version && standing.changesBehind === changesBehind
  return isTrusted ? null : 'recheck'
}
