import type {
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  RecheckRequest,
  RecheckVerdict,
  Verdict,
} from './authentication.ts'

/*
 * AuthenticationPort over a link. A frontend numbers its requests; the service answers each once, in any order, whatever it says. It
 * remembers nothing of a request that it has answered, so that the same one may be asked of another service as well.
 */

/** What frontends ask of an authentication service. */
export interface AuthServicePort {
  authenticate(request: number, asked: AuthenticationRequest): void
  authorize(request: number, asked: AuthorizationRequest): void
  recheck(request: number, asked: RecheckRequest): void
}

/** What it tells them. */
export interface AuthAskerPort {
  verdict(request: number, verdict: Verdict): void
  authorized(request: number, verdict: AuthorizationVerdict): void
  rechecked(request: number, verdict: RecheckVerdict): void
  /**
   * What stands behind a BrokerAuthentication besides its document. First of all on a link, for each that there is, with `isChanged` false: a
   * frontend that knows another `digest` has missed something. Then whenever it changes, or is to be asked again for another reason.
   */
  standing(authentication: string, digest: string, isChanged: boolean): void
  /** This service drains: it answers what it was asked, and is to be asked nothing more. */
  leaving(): void
}
