import type { Clock } from '#shared/base/clock.ts'
import type { Random } from '#shared/base/random.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { KubernetesAccess } from '#shared/kubernetes/kubernetes-access.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { Workers } from '../worker/workers.ts'

/** Of `evidence`, which every connection keeps. */
export const EVIDENCE_BYTES_MAX = 1_024

/** One entry of `authenticationMethods`, made from its settings and what they refer to; another one when any of that changes. */
export interface AuthenticationMethod {
  /** As BrokerAuthentication spells it. */
  readonly name: 'X509' | 'ServiceAccountToken' | 'Custom' | 'Scram' | 'Password' | 'Jwt'
  /** Whether an Authentication Method of CONNECT (§3.1.2.11.9) is one of its own: decides between 0x87 and 0x8C when nothing is relevant. */
  handles(authenticationMethod: string): boolean
  /**
   * One round. `state` is what the method gave with its last challenge, null in the first round. For `reauthenticate`, `evidence` is what
   * it gave when it accepted the connection. Never rejects for what a client sent; a rejection is a fault of ours and ends it
   * with ServerUnavailable.
   */
  authenticate(request: AuthenticationRequest, state: Uint8Array | null, evidence: Uint8Array | null): Promise<MethodVerdict>
  /** Whether a client that it accepted with this `evidence`, perhaps under older settings, would still be accepted. */
  recheck(evidence: Uint8Array, peerCertificates: readonly Uint8Array[] | null): Promise<RecheckOutcome>
  /** Its clients are rechecked so often, whatever changes or does not; left out: only when something has changed. */
  readonly recheckAfterMs?: number
  /** Ends connections and timers. Calls under way may still answer. */
  close(): void
}

export type MethodVerdict =
  | {
      readonly is: 'valid'
      /** Verified; empty for none. */
      readonly userName: string
      readonly attributes: ReadonlyMap<string, string>
      /** Wall clock, milliseconds; null: never. */
      readonly expiresMs: number | null
      /** Authentication Data of CONNACK or AUTH 0x00. */
      readonly data: Uint8Array | null
      /** What `recheck` and a re-authentication need of this one: no secret, at most EVIDENCE_BYTES_MAX. */
      readonly evidence: Uint8Array
    }
  | { readonly is: 'challenge'; readonly data: Uint8Array | null; readonly state: Uint8Array }
  /** The credentials are this method's and are wrong. `cause` is for log and audit, without a secret. */
  | { readonly is: 'invalid'; readonly reason: ReasonCode; readonly cause: string }
  /** They are not this method's: the next one is asked. */
  | { readonly is: 'irrelevant' }
  /** Whoever must be asked is out of reach. Custom: the next method is asked; others: it ends here, with ServerUnavailable. */
  | { readonly is: 'unreachable'; readonly cause: string }

export type RecheckOutcome =
  | { readonly is: 'holds' }
  | { readonly is: 'invalid'; readonly cause: string }
  | { readonly is: 'unreachable'; readonly cause: string }

/** What methods are made from besides their settings. */
export interface MethodParts {
  /** Key → text; null: there is none. Whoever asks is made anew when the answer changes. */
  configMap(name: string): ReadonlyMap<string, string> | null
  secret(name: string): ReadonlyMap<string, Uint8Array> | null
  /** Of a ServiceAccount document in `--config`. */
  serviceAccount(namespace: string, name: string): ReadonlyMap<string, string> | null
  /** Null where no API server is configured. */
  readonly kubernetes: KubernetesAccess | null
  readonly workers: Workers
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  /** Rate-limited. */
  readonly log: Log
  /** Other entries of the same method stand behind this one in the list. */
  readonly hasLaterOfSameMethod: boolean
}

/** What a method refers to is missing or cannot be used: its ports stay closed, with this text for the operator. */
export class MethodFault extends Error {
  override readonly name = 'MethodFault'
}
