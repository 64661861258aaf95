import { AuthAskerCalls } from '#shared/rpc/auth-calls.ts'
import { AuthServiceDispatch } from '#shared/rpc/auth-dispatch.ts'
import type { AuthServicePort } from '#shared/rpc/auth-port.ts'
import type { AuthenticationRequest, AuthorizationRequest, RecheckRequest } from '#shared/rpc/authentication.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import type { AuthenticationService } from './authentication-service.ts'

/** What of the service its links need. */
type Service = Pick<AuthenticationService, 'authenticate' | 'authorize' | 'recheck' | 'listen' | 'standings'>

/** Digest of a BrokerAuthentication that cannot be used. */
const UNUSABLE = 'unusable'

/** The links of frontends to this authentication service: what they ask, and what they are told unasked. */
export class AskerLinks {
  readonly #service: Service
  readonly #askers = new Set<Asker>()
  readonly #stopListening: () => void
  /** What was told last, by name. */
  #told = new Map<string, string>()
  #isLeaving = false

  constructor(service: Service) {
    this.#service = service
    this.#stopListening = service.listen(name => this.#onChanged(name))
    this.onApplied()
  }

  get count(): number {
    return this.#askers.size
  }

  /** As AcceptLink. Nobody but a frontend has anything to ask. */
  accept(link: Link): LinkHandler | { readonly declined: string } {
    if (link.peer.role !== 'frontend') return { declined: 'only frontends ask for authentication' }
    if (this.#isLeaving) return { declined: 'draining' }
    const asker = new Asker(link, this.#service)
    this.#askers.add(asker)
    const dispatch = new AuthServiceDispatch(asker, false)
    for (const [name, digest] of this.#told) asker.calls.standing(name, digest, false)
    return {
      onFrame: (method, body) => dispatch.dispatch(method, body),
      onCongestion: () => undefined,
      onClosed: () => {
        asker.isClosed = true
        this.#askers.delete(asker)
      },
    }
  }

  /** The service has taken new resources: frontends hear how those stand that they did not know yet. */
  onApplied(): void {
    const standings = new Map(this.#service.standings())
    for (const [name, digest] of standings) if (this.#told.get(name) !== digest) this.#tell(name, digest, false)
    this.#told = standings
  }

  /** Asks to be asked nothing more. What was asked is still answered. */
  leave(): void {
    this.#isLeaving = true
    this.#stopListening()
    for (const { calls } of this.#askers) calls.leaving()
  }

  #onChanged(name: string): void {
    this.#tell(name, new Map(this.#service.standings()).get(name) ?? UNUSABLE, true)
  }

  #tell(name: string, digest: string, isChanged: boolean): void {
    this.#told.set(name, digest)
    for (const { calls } of this.#askers) calls.standing(name, digest, isChanged)
  }
}

/** One of them. The service bounds what runs and waits, and answers at once what exceeds that. */
class Asker implements AuthServicePort {
  readonly calls: AuthAskerCalls
  isClosed = false
  readonly #service: Service

  constructor(link: Link, service: Service) {
    this.calls = new AuthAskerCalls(link)
    this.#service = service
  }

  authenticate(request: number, asked: AuthenticationRequest): void {
    void this.#service.authenticate(asked).then(verdict => {
      // It was decided: nobody looks at them any more. Of an undecided one a method may still be at work.
      if (verdict.is !== 'unavailable') forget(asked)
      if (!this.isClosed) this.calls.verdict(request, verdict)
    })
  }

  authorize(request: number, asked: AuthorizationRequest): void {
    void this.#service.authorize(asked).then(verdict => {
      if (!this.isClosed) this.calls.authorized(request, verdict)
    })
  }

  recheck(request: number, asked: RecheckRequest): void {
    void this.#service.recheck(asked).then(verdict => {
      if (!this.isClosed) this.calls.rechecked(request, verdict)
    })
  }
}

/** Passwords and tokens are not left lying about in memory. They are our own copies, of the frame. */
function forget({ password, authenticationData }: AuthenticationRequest): void {
  password?.fill(0)
  authenticationData?.fill(0)
}
