import { createHash } from 'node:crypto'
import type { AuthenticationMethodSpec } from '#shared/resources/broker-authentication.ts'
import type { BrokerAuthorizationSpec } from '#shared/resources/broker-authorization.ts'
import type { Resource, ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { AuthenticationRequest, PortPolicy, ResourceRef, Verdict } from '#shared/rpc/authentication.ts'
import { AuthenticationService, type AuthenticationServiceParts } from './authentication-service.ts'
import {
  type AuthenticationMethod,
  MethodFault,
  type MethodParts,
  type MethodVerdict,
  type RecheckOutcome,
} from './methods/authentication-method.ts'
import type { MethodMakers } from './methods/makers.ts'
import { MethodRig, requestOf } from './methods/method-rig.contract.ts'
import { Sealing } from './sealing.ts'

export const TEST_SECRET = Buffer.alloc(32, 9)

/** Answers of a method under test, by what stands in its settings. */
export type Answer = MethodVerdict | 'throws' | Promise<MethodVerdict>

/** One that was made; what it is asked goes to the rig. */
export class FakeMethod implements AuthenticationMethod {
  readonly name: AuthenticationMethod['name']
  readonly recheckAfterMs?: number
  isClosed = false
  readonly parts: MethodParts
  readonly #rig: ServiceRig

  constructor(spec: AuthenticationMethodSpec, parts: MethodParts, rig: ServiceRig) {
    this.name = spec.method
    this.parts = parts
    this.#rig = rig
    if (rig.recheckAfterMs !== null) this.recheckAfterMs = rig.recheckAfterMs
  }

  handles(authenticationMethod: string): boolean {
    return authenticationMethod === `own-${this.name}`
  }

  async authenticate(request: AuthenticationRequest, state: Uint8Array | null, evidence: Uint8Array | null): Promise<MethodVerdict> {
    this.#rig.asked.push(this.name)
    const answer = await this.#rig.answers.get(this.name)?.(request, state, evidence)
    if (answer === 'throws') throw new Error('a fault of the method')
    return answer ?? { is: 'irrelevant' }
  }

  async recheck(evidence: Uint8Array): Promise<RecheckOutcome> {
    const outcome = await this.#rig.onRecheck(this.name, evidence)
    if (outcome === 'throws') throw new Error('a fault of the method')
    return outcome
  }

  close(): void {
    this.isClosed = true
  }
}

/** What a method may say: accepted, with everything that is left out as little as possible. */
export function valid(more: Partial<MethodVerdict & { is: 'valid' }> = {}): MethodVerdict {
  return { is: 'valid', userName: 'u', attributes: new Map(), expiresMs: null, data: null, evidence: Buffer.from('evidence'), ...more }
}

export interface Resources {
  readonly authentications?: Readonly<Record<string, readonly AuthenticationMethodSpec[]>>
  readonly authorizations?: Readonly<Record<string, BrokerAuthorizationSpec['authorizationPolicies']>>
  readonly secrets?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly configMaps?: Readonly<Record<string, Readonly<Record<string, string>>>>
}

/** Resources as a source would give them. */
export function snapshotOf({ authentications = {}, authorizations = {}, secrets = {}, configMaps = {} }: Resources): ResourceSnapshot {
  return {
    values: new Map(),
    broker: null,
    listeners: new Map(),
    authentications: resources(authentications, authenticationMethods => ({ authenticationMethods: [...authenticationMethods] })),
    authorizations: resources(authorizations, authorizationPolicies => ({ authorizationPolicies })),
    configMap: name => (configMaps[name] === undefined ? null : new Map(Object.entries(configMaps[name]))),
    secret: name =>
      secrets[name] === undefined ? null : new Map(Object.entries(secrets[name]).map(([key, text]) => [key, Buffer.from(text)])),
    serviceAccount: () => null,
    faults: [],
    warnings: [],
  }
}

function resources<T, Spec>(all: Readonly<Record<string, T>>, specOf: (given: T) => Spec): ReadonlyMap<string, Resource<Spec>> {
  return new Map(
    Object.entries(all).map(([name, given]) => {
      const spec = specOf(given)
      return [name, { name, spec, version: versionOf(spec), where: `test.yaml:${name}` }]
    }),
  )
}

function versionOf(spec: unknown): string {
  return createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 16)
}

/** Everybody may connect. */
export const ALL_MAY_CONNECT: BrokerAuthorizationSpec['authorizationPolicies'] = {
  rules: [{ principals: { usernames: ['u'] }, brokerResources: [{ method: 'Connect' }] }],
}

/** A service with methods whose answers the test gives, and a clock that stands still. */
export class ServiceRig {
  readonly parts = new MethodRig()
  readonly made: FakeMethod[] = []
  /** Names of the methods in the order in which they were asked. */
  readonly asked: string[] = []
  readonly answers = new Map<string, (request: AuthenticationRequest, state: Uint8Array | null, evidence: Uint8Array | null) => Answer>()
  readonly service: AuthenticationService
  recheckAfterMs: number | null = null
  onRecheck: (name: string, evidence: Uint8Array) => RecheckOutcome | 'throws' | Promise<RecheckOutcome> = () => ({ is: 'holds' })
  snapshot = snapshotOf({})

  constructor(more: Partial<AuthenticationServiceParts> = {}) {
    const { clock, timers, random, log, workers } = this.parts
    const sealing = new Sealing(TEST_SECRET)
    const makers = this.#makers()
    this.service = new AuthenticationService({
      clock,
      timers,
      random,
      log,
      workers,
      kubernetes: null,
      makers,
      sealing,
      requestsMax: 100,
      ...more,
    })
  }

  apply(all: Resources): void {
    this.snapshot = snapshotOf(all)
    this.service.apply(this.snapshot)
  }

  /** What the methods named answer, whatever they are asked. */
  answer(name: AuthenticationMethod['name'], answer: Answer): void {
    this.answers.set(name, () => answer)
  }

  refOf(kind: 'authentications' | 'authorizations', name: string): ResourceRef {
    return { name, version: this.snapshot[kind].get(name)!.version }
  }

  policy(authorizations: readonly string[] = []): PortPolicy {
    return {
      authentication: this.refOf('authentications', 'main'),
      authorizations: authorizations.map(name => this.refOf('authorizations', name)),
    }
  }

  request(more: Partial<AuthenticationRequest> = {}): AuthenticationRequest {
    return requestOf({ policy: more.policy ?? this.policy(), ...more })
  }

  async ask(more: Partial<AuthenticationRequest> = {}): Promise<Verdict> {
    return await this.service.authenticate(this.request(more))
  }

  /** The proof of a client that is let in. */
  async proof(more: Partial<AuthenticationRequest> = {}): Promise<Uint8Array> {
    const verdict = await this.ask(more)
    if (verdict.is !== 'accepted') throw new Error(JSON.stringify(verdict))
    return verdict.grant.proof
  }

  #makers(): MethodMakers {
    const make = (spec: AuthenticationMethodSpec, parts: MethodParts): FakeMethod => {
      const method = new FakeMethod(spec, parts, this)
      const secret = spec.scramSettings === undefined ? null : parts.secret(spec.scramSettings.secretRef)
      if (spec.scramSettings !== undefined && secret === null) throw new MethodFault(`there is no Secret ${spec.scramSettings.secretRef}`)
      if (secret?.has('broken') === true) throw new MethodFault('a line of the Secret cannot be read')
      this.made.push(method)
      return method
    }
    const broken = (): FakeMethod => {
      throw new TypeError('a fault of the maker')
    }
    return { X509: make, ServiceAccountToken: make, Custom: make, Scram: make, Jwt: make, Password: broken }
  }
}

/** Entries of `authenticationMethods`, as short as they can be. */
export const X509: AuthenticationMethodSpec = { method: 'X509' }
export const TOKEN: AuthenticationMethodSpec = { method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: ['a'] } }
export const CUSTOM: AuthenticationMethodSpec = { method: 'Custom', customSettings: { endpoint: 'https://127.0.0.1/' } }
export const SCRAM: AuthenticationMethodSpec = { method: 'Scram', scramSettings: { secretRef: 'users' } }
export const USERS = { users: { alice: 'x' } }
