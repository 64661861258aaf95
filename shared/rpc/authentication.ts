import type { ReasonCode } from '#shared/mqtt/reason-code.ts'

/** Authentication Method of service account tokens, and the user name with which clients without one say that their password is such a token. */
export const SERVICE_ACCOUNT_METHOD = 'K8S-SAT'

/**
 * What a frontend asks an authentication service (ARCHITECTURE.md). Function calls in the standalone shape, frames over a link in a
 * cluster: hence plain values. A rejected promise is a fault of ours and refuses the client with ServerUnavailable: closed, never open.
 */
export interface AuthenticationPort {
  /** One round: CONNECT, AUTH of an exchange under way, or AUTH 0x19 (§4.12). Safe to repeat with another service. */
  authenticate(request: AuthenticationRequest): Promise<Verdict>
  /** What somebody who is authenticated already may do now: the policies have changed. */
  authorize(request: AuthorizationRequest): Promise<AuthorizationVerdict>
  /** Whether what once let a client in still would: its authentication method, or what that trusts, has changed. */
  recheck(request: RecheckRequest): Promise<RecheckVerdict>
  /**
   * Calls with the name of a BrokerAuthentication when something behind it that frontends do not see has changed (a Secret with
   * passwords, a list of revoked certificates): its clients are to be rechecked. Answers how to stop.
   */
  listen(onChanged: (authentication: string) => void): () => void
}

/** A resource by its name, and the version of it that the asker has (ResourceVersion). */
export interface ResourceRef {
  readonly name: string
  readonly version: string
}

/** Who decides for the clients of a port. */
export interface PortPolicy {
  readonly authentication: ResourceRef
  /** Their union counts. Empty: whoever is authenticated may do everything. */
  readonly authorizations: readonly ResourceRef[]
}

/** What a client shows of itself: all of it untrusted. */
export interface Credentials {
  readonly userName: string | null
  readonly password: Uint8Array | null
  readonly authenticationMethod: string | null
  readonly authenticationData: Uint8Array | null
  /** DER as presented, leaf first; null without TLS or certificate. */
  readonly peerCertificates: readonly Uint8Array[] | null
}

export interface AuthenticationRequest extends Credentials {
  readonly purpose: 'connect' | 'reauthenticate'
  /** Name of the port, for log and audit. */
  readonly listener: string
  readonly policy: PortPolicy
  readonly remoteAddress: string
  readonly clientId: string
  readonly protocolVersion: 3 | 4 | 5
  /** `Verdict.sealedState` of the challenge that the client answers; null in the first round. */
  readonly sealedState: Uint8Array | null
  /** For `reauthenticate`: `Grant.proof` of the connection. */
  readonly proof: Uint8Array | null
}

export type Verdict =
  | { readonly is: 'accepted'; readonly grant: Grant }
  /** AUTH 0x18 with `data`; the answer comes back with `sealedState`. */
  | { readonly is: 'challenge'; readonly data: Uint8Array | null; readonly sealedState: Uint8Array }
  /** `detail` may be shown to the client; `cause` is for log and audit alone. Neither holds a secret. */
  | { readonly is: 'refused'; readonly reason: ReasonCode; readonly detail: string; readonly cause: string; readonly method: string }
  /** It could not be decided now; a later attempt may be. CONNECT: ServerUnavailable. Re-authentication: AUTH 0x18. */
  | { readonly is: 'unavailable'; readonly cause: string }

export interface Grant {
  /** The method that accepted: `X509`, `ServiceAccountToken`, …; `none` on a port without authentication. */
  readonly method: string
  readonly identity: Identity
  /** Permit as bytes (shared/authorization/permit.ts); null: everything is allowed. */
  readonly permit: Uint8Array | null
  /** Wall clock, milliseconds; null: never. */
  readonly expiresMs: number | null
  /** Authentication Data of CONNACK or AUTH 0x00; null for none. */
  readonly authenticationData: Uint8Array | null
  /** Sealed; comes back in `reauthenticate`, `recheck`. */
  readonly proof: Uint8Array
}

/** Who the client is, as proven. */
export interface Identity {
  /** What rules may call its user name; empty where none is verified. */
  readonly userName: string
  readonly attributes: ReadonlyMap<string, string>
}

export interface AuthorizationRequest {
  readonly authorizations: readonly ResourceRef[]
  readonly clientId: string
  readonly identity: Identity
}

export type AuthorizationVerdict =
  | { readonly is: 'allowed'; readonly permit: Uint8Array | null }
  /** It may not be connected any more. */
  | { readonly is: 'refused'; readonly cause: string }
  | { readonly is: 'unavailable'; readonly cause: string }

export interface RecheckRequest {
  readonly policy: PortPolicy
  readonly clientId: string
  readonly peerCertificates: readonly Uint8Array[] | null
  readonly proof: Uint8Array
}

export type RecheckVerdict =
  | { readonly is: 'holds' }
  | { readonly is: 'refused'; readonly cause: string }
  | { readonly is: 'unavailable'; readonly cause: string }
