import type { ReasonCode } from '#shared/mqtt/reason-code.ts'

/** What the frontend forwards of a CONNECT to have it judged (ARCHITECTURE.md). */
export interface AuthenticationRequest {
  readonly listener: string
  readonly remoteAddress: string
  readonly clientId: string
  readonly userName: string | null
  readonly password: Uint8Array | null
  readonly authenticationMethod: string | null
  readonly authenticationData: Uint8Array | null
  /** DER, leaf first; null without TLS or certificate. */
  readonly peerCertificates: readonly Uint8Array[] | null
}

export type Verdict =
  | { readonly is: 'accepted'; readonly permit: Permit }
  | { readonly is: 'refused'; readonly reason: ReasonCode; readonly detail: string }

/** What an accepted client may do; decided from it on the frontend, without another call. */
export interface Permit {
  mayPublish(topicName: string): boolean
  maySubscribe(filter: string): boolean
}

/** Fails closed: a rejected promise refuses the client with ServerUnavailable. */
export interface Authenticator {
  authenticate(request: AuthenticationRequest): Promise<Verdict>
}
