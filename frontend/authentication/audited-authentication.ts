import { reasonName } from '#shared/mqtt/reason-code.ts'
import type {
  AuthenticationPort,
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  RecheckRequest,
  RecheckVerdict,
  Verdict,
} from '#shared/rpc/authentication.ts'
import type { Audit } from '#shared/telemetry/audit.ts'

/**
 * An AuthenticationPort whose decisions about who comes in stand in the audit. What becomes of those who are in (authorize, recheck) is in
 * the audit of their connection.
 */
export class AuditedAuthenticationPort implements AuthenticationPort {
  readonly #port: AuthenticationPort
  readonly #audit: Pick<Audit, 'authentication'>

  constructor(port: AuthenticationPort, audit: Pick<Audit, 'authentication'>) {
    this.#port = port
    this.#audit = audit
  }

  async authenticate(request: AuthenticationRequest): Promise<Verdict> {
    const verdict = await this.#port.authenticate(request)
    this.#write(request, verdict)
    return verdict
  }

  authorize(request: AuthorizationRequest): Promise<AuthorizationVerdict> {
    return this.#port.authorize(request)
  }

  recheck(request: RecheckRequest): Promise<RecheckVerdict> {
    return this.#port.recheck(request)
  }

  listen(onChanged: (authentication: string) => void): () => void {
    return this.#port.listen(onChanged)
  }

  #write({ purpose, listener, remoteAddress, clientId }: AuthenticationRequest, verdict: Verdict): void {
    const who = { purpose, listener, remoteAddress, clientId, method: 'none', userName: '', reason: '', cause: '' }
    switch (verdict.is) {
      case 'challenge':
        // Nothing is decided before the last round.
        return
      case 'accepted': {
        const { method, identity } = verdict.grant
        return this.#audit.authentication({ ...who, verdict: verdict.is, method, userName: identity.userName })
      }
      case 'refused': {
        const { method, reason, cause } = verdict
        return this.#audit.authentication({ ...who, verdict: verdict.is, method, reason: reasonName(reason), cause })
      }
      case 'unavailable':
        return this.#audit.authentication({ ...who, verdict: verdict.is, cause: verdict.cause })
    }
  }
}
