import type { Clock } from '#shared/base/clock.ts'
import type { Random } from '#shared/base/random.ts'
import { thrownField } from '#shared/base/thrown.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { KubernetesAccess } from '#shared/kubernetes/kubernetes-access.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type {
  AuthenticationPort,
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  RecheckRequest,
  RecheckVerdict,
  ResourceRef,
  Verdict,
} from '#shared/rpc/authentication.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { Authentications, PREVIOUS_KEPT_MS } from './authentications.ts'
import { AuthenticationCounters, type RequestKind } from './counters.ts'
import type { MethodEntry } from './method-entry.ts'
import { MethodFlow, type Proven } from './method-flow.ts'
import { Gate } from './gate.ts'
import type { MethodMakers } from './methods/makers.ts'
import { Policies, type PolicyDecision } from './policies.ts'
import { requestSource } from './request-source.ts'
import type { Sealing } from './sealing.ts'
import { Waiters } from './waiters.ts'
import type { Workers } from './worker/workers.ts'

/** For so long a version that is not there yet is waited for: a frontend may hear of a change earlier than this service. */
export const VERSION_WAIT_MS = 2_000
/** Requests that wait for one; for a further one the answer is that it is not there. */
const VERSION_WAITERS_MAX = 5_000
/** From its arrival a request is answered within this, come what may. */
export const REQUEST_DEADLINE_MS = 10_000
/** For each request that may run, so many may wait for their turn: what comes beyond is refused at once, instead of all being late. */
const WAITING_PER_RUNNING = 5
/** Those who are connected have a turn of their own among the addresses of those who want to be. */
const RECHECKS = 'rechecks'

export interface AuthenticationServiceParts {
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  /** Clients can cause its lines: rate-limited. */
  readonly log: Log
  readonly workers: Workers
  readonly kubernetes: KubernetesAccess | null
  readonly makers: MethodMakers
  readonly sealing: Sealing
  /** Requests that run at a time (`authRequestsMax`). */
  readonly requestsMax: number
}

/**
 * Says who a client is and what it may do. Remembers nothing of any client: what must be remembered travels sealed with the frontend. No
 * promise that it gives rejects: a fault of ours leaves the question open, and whoever asks lets nobody in.
 */
export class AuthenticationService implements AuthenticationPort {
  readonly counters = new AuthenticationCounters()
  readonly #parts: AuthenticationServiceParts
  readonly #authentications: Authentications
  readonly #policies: Policies
  readonly #flow: MethodFlow
  readonly #gate: Gate
  readonly #versions: Waiters
  readonly #listeners = new Set<(authentication: string) => void>()
  readonly #rechecks = new Map<string, { readonly afterMs: number; readonly cancel: () => void }>()
  #open = 0

  constructor(parts: AuthenticationServiceParts) {
    this.#parts = parts
    const { clock, timers, random, log, workers, kubernetes, makers, sealing, requestsMax } = parts
    this.#authentications = new Authentications({ makers, timers, log, shared: { clock, timers, random, log, workers, kubernetes } })
    this.#policies = new Policies(clock, PREVIOUS_KEPT_MS)
    this.#flow = new MethodFlow({ sealing, clock, counters: this.counters, log })
    this.#gate = new Gate(requestsMax, requestsMax * WAITING_PER_RUNNING)
    this.#versions = new Waiters(timers, VERSION_WAIT_MS, VERSION_WAITERS_MAX)
  }

  /** Takes the resources as they are from now on. What has not changed goes on as it is. */
  apply(snapshot: ResourceSnapshot): void {
    this.#policies.apply(snapshot)
    const changed = this.#authentications.apply(snapshot)
    this.#scheduleRechecks()
    this.#versions.wake()
    for (const name of changed) this.#tell(name)
  }

  /** Seals with another secret of the cluster from now on. What was sealed with the last few opens still. */
  useSecret(secret: Uint8Array): void {
    this.#parts.sealing.use(secret)
  }

  /** Why a BrokerAuthentication cannot be used, for whoever keeps its ports closed; null when it can. */
  faultOf(name: string): string | null {
    return this.#authentications.faultOf(name)
  }

  /** What is wrong with the BrokerAuthentications, for the operator. */
  impaired(): readonly string[] {
    return this.#authentications.impaired()
  }

  /** What stands behind each BrokerAuthentication, as a digest: the same in every service that has the same. */
  standings(): Iterable<readonly [name: string, digest: string]> {
    return this.#authentications.standings()
  }

  /** Requests that were not answered yet. */
  get openCount(): number {
    return this.#open
  }

  /** Those of them that run. */
  get runningCount(): number {
    return this.#gate.inside
  }

  get versionWaiters(): number {
    return this.#versions.count
  }

  async authenticate(request: AuthenticationRequest): Promise<Verdict> {
    return await this.#answer<Verdict>(request.purpose, async signal => {
      const entries = await this.#entriesOf(request.policy.authentication)
      if ('is' in entries) return entries
      const found = await this.#inTurn(signal, requestSource(request.remoteAddress), () => this.#flow.authenticate(request, entries))
      return found.is === 'proven' ? await this.#grant(request, found) : found
    })
  }

  async authorize(request: AuthorizationRequest): Promise<AuthorizationVerdict> {
    return await this.#answer<AuthorizationVerdict>('authorize', async () => (await this.#decide(request)) ?? VERSION_MISSED)
  }

  async recheck(request: RecheckRequest): Promise<RecheckVerdict> {
    return await this.#answer<RecheckVerdict>('recheck', async signal => {
      const entries = await this.#entriesOf(request.policy.authentication)
      return 'is' in entries ? entries : await this.#inTurn(signal, RECHECKS, () => this.#flow.recheck(request, entries))
    })
  }

  listen(onChanged: (authentication: string) => void): () => void {
    this.#listeners.add(onChanged)
    return () => this.#listeners.delete(onChanged)
  }

  /** Ends methods and timers. Requests under way are still answered. */
  close(): void {
    this.#listeners.clear()
    for (const { cancel } of this.#rechecks.values()) cancel()
    this.#rechecks.clear()
    this.#authentications.close()
  }

  async #grant(request: AuthenticationRequest, { method, valid, proof }: Proven): Promise<Verdict> {
    const { userName, attributes, expiresMs, data } = valid
    const identity = { userName, attributes }
    const { clientId, policy } = request
    const decision = await this.#decide({ authorizations: policy.authorizations, clientId, identity })
    if (decision === null) return VERSION_MISSED
    if (decision.is === 'refused') {
      return { is: 'refused', reason: ReasonCode.NotAuthorized, detail: 'not authorized', cause: decision.cause, method }
    }
    const { permit } = decision
    return { is: 'accepted', grant: { method, identity, permit, expiresMs, authenticationData: data, proof } }
  }

  /** Null: one of the policies did not come in time. */
  async #decide(request: AuthorizationRequest): Promise<PolicyDecision | null> {
    const decision = await this.#versions.until(() => this.#policies.decide(request))
    if (decision === null) this.counters.versionsMissed++
    return decision
  }

  async #entriesOf(ref: ResourceRef): Promise<readonly MethodEntry[] | typeof VERSION_MISSED> {
    const found = await this.#versions.until(() => this.#authentications.find(ref))
    if (found === null) {
      this.counters.versionsMissed++
      return VERSION_MISSED
    }
    return found.fault === null ? found.entries : { is: 'unavailable', cause: `BrokerAuthentication ${ref.name}: ${found.fault}` }
  }

  /** What `work` comes to, in time; `signal` says when it is too late. */
  #answer<T extends { readonly is: Parameters<AuthenticationCounters['answered']>[1] }>(
    kind: RequestKind,
    work: (signal: AbortSignal) => Promise<T | Undecided>,
  ): Promise<T | Undecided> {
    return new Promise(resolve => {
      const deadline = new AbortController()
      const { signal } = deadline
      const settle = (answer: T | Undecided): void => {
        if (isSettled) return
        isSettled = true
        cancel()
        this.#open--
        this.counters.answered(kind, answer.is)
        resolve(answer)
      }
      let isSettled = false
      const cancel = this.#parts.timers.after(REQUEST_DEADLINE_MS, () => {
        this.counters.late++
        settle(LATE)
        deadline.abort()
      })
      this.#open++
      void work(signal).then(settle, (error: unknown) => settle(this.#failed(kind, error)))
    })
  }

  async #inTurn<T>(signal: AbortSignal, source: string, work: () => Promise<T>): Promise<T | Undecided> {
    if (signal.aborted) return LATE
    const place = await this.#gate.enter(signal, source)
    if (place === 'full') this.counters.shed++
    if (place !== 'inside') return place === 'full' ? OVERLOADED : LATE
    // A method that never answers must not keep its place: its own limits hold for what it does.
    const leave = once(() => this.#gate.leave())
    signal.addEventListener('abort', leave, { once: true })
    try {
      return await work()
    } finally {
      leave()
    }
  }

  #failed(kind: RequestKind, error: unknown): Undecided {
    this.counters.failures++
    this.#parts.log.error('authentication_service_failed', { request: kind, error: thrownField(error) })
    return { is: 'unavailable', cause: 'it failed, see the log of the authentication service' }
  }

  /** Of each BrokerAuthentication the shortest interval that one of its methods asks for. A timer that runs goes on. */
  #scheduleRechecks(): void {
    const wanted = new Map(this.#authentications.recheckIntervals())
    for (const [name, { afterMs, cancel }] of this.#rechecks) {
      if (wanted.get(name) === afterMs) continue
      cancel()
      this.#rechecks.delete(name)
    }
    for (const [name, afterMs] of wanted) if (!this.#rechecks.has(name)) this.#recheckAfter(name, afterMs)
  }

  #recheckAfter(name: string, afterMs: number): void {
    const cancel = this.#parts.timers.after(afterMs, () => {
      this.#recheckAfter(name, afterMs)
      this.#tell(name)
    })
    this.#rechecks.set(name, { afterMs, cancel })
  }

  #tell(authentication: string): void {
    for (const listener of this.#listeners) listener(authentication)
  }
}

interface Undecided {
  readonly is: 'unavailable'
  readonly cause: string
}

const LATE: Undecided = { is: 'unavailable', cause: `not decided within ${REQUEST_DEADLINE_MS} ms` }
const OVERLOADED: Undecided = { is: 'unavailable', cause: 'the authentication service has too much to do' }
const VERSION_MISSED: Undecided = { is: 'unavailable', cause: 'the authentication service does not have this version of the resources' }

function once(run: () => void): () => void {
  let isDone = false
  return () => {
    if (!isDone) run()
    isDone = true
  }
}
