import { ManualClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { ManualTimers } from '#shared/base/timers.ts'
import type { KubernetesAccess } from '#shared/kubernetes/kubernetes-access.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { WorkersBusy } from '../worker/workers.ts'
import type { Workers } from '../worker/workers.ts'
import type { MethodParts } from './authentication-method.ts'

const noWorkers: Workers = { run: () => Promise.reject(new WorkersBusy()), close: () => Promise.resolve() }

/** What tests of methods make them from: a clock and timers that stand still, a log that remembers, and what they refer to. */
export class MethodRig implements MethodParts {
  readonly configMaps = new Map<string, ReadonlyMap<string, string>>()
  readonly secrets = new Map<string, ReadonlyMap<string, Uint8Array>>()
  /** By `namespace/name`. */
  readonly serviceAccounts = new Map<string, ReadonlyMap<string, string>>()
  kubernetes: KubernetesAccess | null = null
  workers = noWorkers
  hasLaterOfSameMethod = false
  readonly clock: ManualClock
  readonly timers = new ManualTimers()
  readonly random = systemRandom
  readonly log = new RecordingLog()

  /** @param startMs wall clock; default some day of 2023 */
  constructor(startMs?: number) {
    this.clock = new ManualClock(startMs)
  }

  configMap(name: string): ReadonlyMap<string, string> | null {
    return this.configMaps.get(name) ?? null
  }

  secret(name: string): ReadonlyMap<string, Uint8Array> | null {
    return this.secrets.get(name) ?? null
  }

  serviceAccount(namespace: string, name: string): ReadonlyMap<string, string> | null {
    return this.serviceAccounts.get(`${namespace}/${name}`) ?? null
  }

  /** Lets time pass for clock and timers. */
  pass(ms: number): void {
    this.clock.advance(ms)
    this.timers.advance(ms)
  }

  /** Everything that was logged, as one text. */
  get logged(): string {
    return JSON.stringify(this.log.lines)
  }
}

/** A request that shows nothing but what `fields` says. */
export function requestOf(fields: Partial<AuthenticationRequest>): AuthenticationRequest {
  return {
    purpose: 'connect',
    listener: 'default:8883',
    policy: { authentication: { name: 'default', version: '1' }, authorizations: [] },
    remoteAddress: '127.0.0.1',
    clientId: 'pump',
    protocolVersion: 5,
    sealedState: null,
    proof: null,
    userName: null,
    password: null,
    authenticationMethod: null,
    authenticationData: null,
    peerCertificates: null,
    ...fields,
  }
}
