import type { Clock } from '#shared/base/clock.ts'
import { permitFor } from '#shared/authorization/permit-for.ts'
import { permitBytes } from '#shared/authorization/permit.ts'
import { PolicyBook } from '#shared/authorization/policy-book.ts'
import type { Policy } from '#shared/authorization/policy.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { AuthorizationRequest } from '#shared/rpc/authentication.ts'
import { logText } from '#shared/telemetry/log.ts'

/** Characters of a user name that a cause holds: it may have 64 KiB. */
const USER_NAME_SHOWN = 128

export type PolicyDecision =
  | { readonly is: 'allowed'; readonly permit: Uint8Array | null }
  /** It may not connect. `cause` names policy and rule, for audit alone. */
  | { readonly is: 'refused'; readonly cause: string }

/** What clients may do under the BrokerAuthorizations of the newest snapshot, and for a time those before them. */
export class Policies {
  readonly #book: PolicyBook

  constructor(clock: Clock, keepMs: number) {
    this.#book = new PolicyBook({ clock, keepMs })
  }

  apply(snapshot: ResourceSnapshot): void {
    this.#book.update(snapshot.authorizations)
  }

  /** Null: one of these very versions is not there, not yet or not any more. */
  decide({ authorizations, clientId, identity }: AuthorizationRequest): PolicyDecision | null {
    const policies: Policy[] = []
    for (const ref of authorizations) {
      const policy = this.#book.find(ref)
      if (policy === null) return null
      policies.push(policy)
    }
    // Who is authenticated may do everything where nothing else is said.
    if (policies.length === 0) return { is: 'allowed', permit: null }
    const { connect, permit } = permitFor(policies, { clientId, ...identity })
    if (!connect.allowed) return { is: 'refused', cause: causeOf(connect.rule, authorizations, identity.userName) }
    return { is: 'allowed', permit: permitBytes(permit) }
  }
}

/** For the operator, who has no other way to learn the user name: a refusal has none, though it was proven. */
function causeOf(rule: string | null, authorizations: AuthorizationRequest['authorizations'], userName: string): string {
  const who = userName === '' ? '' : ` (user name ${logText(userName, USER_NAME_SHOWN)})`
  if (rule !== null) return `Connect denied by ${rule}${who}`
  return `no rule of ${authorizations.map(({ name }) => name).join(', ')} allows Connect${who}`
}
