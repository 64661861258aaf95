import { ManualClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { ManualTimers } from '#shared/base/timers.ts'
import type { X509Settings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import type { IssuedCertificate } from '#shared/testing/certificates.ts'
import { sameThreadWorkers } from '../worker/same-thread-workers.contract.ts'
import type { AuthenticationMethod, MethodParts, MethodVerdict } from './authentication-method.ts'
import { makeX509 } from './x509.ts'

export const NOW_MS = Date.UTC(2026, 10, 22)

/** Key → text by name. */
export type ConfigMaps = Readonly<Record<string, Readonly<Record<string, string>>>>

export interface X509Rig {
  readonly method: AuthenticationMethod
  readonly clock: ManualClock
  readonly log: RecordingLog
}

/** The method in 2026, with ConfigMaps, and tasks in this thread unless `more` says otherwise. */
export function makeRig(settings: X509Settings, maps: ConfigMaps, more: Partial<MethodParts> = {}): X509Rig {
  const clock = new ManualClock(NOW_MS)
  const log = new RecordingLog()
  const parts: MethodParts = {
    configMap: name => (Object.hasOwn(maps, name) ? new Map(Object.entries(maps[name]!)) : null),
    secret: () => null,
    serviceAccount: () => null,
    kubernetes: null,
    workers: sameThreadWorkers,
    clock,
    timers: new ManualTimers(),
    random: systemRandom,
    log,
    hasLaterOfSameMethod: false,
    ...more,
  }
  return { method: makeX509(settings, parts), clock, log }
}

/** What the method says to a CONNECT of a client with these certificates; null: without TLS or certificate. */
export function ask(
  { method }: X509Rig,
  certificates: readonly IssuedCertificate[] | null,
  more: Partial<AuthenticationRequest> = {},
): Promise<MethodVerdict> {
  const request: AuthenticationRequest = {
    purpose: 'connect',
    userName: 'somebody else',
    password: null,
    authenticationMethod: null,
    authenticationData: null,
    peerCertificates: certificates?.map(each => each.der) ?? null,
    listener: 'listener',
    policy: { authentication: { name: 'authn', version: '1' }, authorizations: [] },
    remoteAddress: '127.0.0.1',
    clientId: 'client',
    protocolVersion: 5,
    sealedState: null,
    proof: null,
    ...more,
  }
  return method.authenticate(request, null, null)
}
