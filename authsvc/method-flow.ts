import type { Clock } from '#shared/base/clock.ts'
import { thrownField } from '#shared/base/thrown.ts'
import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthenticationRequest, RecheckRequest, RecheckVerdict, Verdict } from '#shared/rpc/authentication.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { AuthenticationCounters } from './counters.ts'
import type { MethodEntry } from './method-entry.ts'
import { EVIDENCE_BYTES_MAX, type MethodVerdict } from './methods/authentication-method.ts'
import { type EntryName, type Exchange, type Proof, readExchange, readProof, writeExchange, writeProof } from './sealed-content.ts'
import type { Sealing } from './sealing.ts'
import { WorkersBusy } from './worker/workers.ts'

/** Limits of one exchange (decision 10); what exceeds them is refused. */
export const ROUNDS_MAX = 10
export const EXCHANGE_BYTES_MAX = 65_536
export const EXCHANGE_MS_MAX = 30_000
/** Clocks of two services may differ by so much without an exchange that went from one to the other being refused. */
const CLOCK_SKEW_MS = 5_000
/** What a client may be told, whoever it is: nothing of what was looked at. */
const NEUTRAL_DETAIL = 'not authorized'
/** `Verdict.method` where no method has decided. */
const NO_METHOD = 'none'

type Valid = MethodVerdict & { readonly is: 'valid' }
type Refused = Verdict & { readonly is: 'refused' }
type Unavailable = Verdict & { readonly is: 'unavailable' }

/** What authentication alone comes to: what the client may do is decided elsewhere. */
export type Proven = { readonly is: 'proven'; readonly method: string; readonly valid: Valid; readonly proof: Uint8Array }

export interface MethodFlowParts {
  readonly sealing: Sealing
  readonly clock: Clock
  readonly counters: AuthenticationCounters
  /** Clients can cause its lines: rate-limited. */
  readonly log: Log
}

/**
 * Asks the methods of a BrokerAuthentication in their order (decisions 1, 2, 6, 9): the first to whom the credentials belong decides. Never
 * rejects: what fails on our side leaves undecided, which lets nobody in.
 */
export class MethodFlow {
  readonly #parts: MethodFlowParts

  constructor(parts: MethodFlowParts) {
    this.#parts = parts
  }

  async authenticate(
    request: AuthenticationRequest,
    entries: readonly MethodEntry[],
  ): Promise<Exclude<Verdict, { is: 'accepted' }> | Proven> {
    const proof = request.purpose === 'connect' ? null : this.#openProof(request)
    if (request.purpose === 'reauthenticate' && proof === null) return refused('the proof of the connection does not open')
    if (request.sealedState !== null) return await this.#goOn(request, request.sealedState, entries, proof)
    if (dataBytesOf(request) > EXCHANGE_BYTES_MAX) return refused('too much Authentication Data')
    const begun = { round: 1, dataBytes: dataBytesOf(request), startedMs: this.#parts.clock.wallMs() }
    return proof === null ? await this.#askAll(request, entries, begun) : await this.#askSame(request, entries, begun, proof)
  }

  /** Whether the method that let a client in still would. */
  async recheck(request: RecheckRequest, entries: readonly MethodEntry[]): Promise<RecheckVerdict> {
    const proof = this.#openProof(request)
    if (proof === null) return { is: 'refused', cause: 'the proof of the connection does not open' }
    const entry = entryOf(entries, proof.entry)
    if (entry === undefined) return { is: 'refused', cause: `${proof.entry.method} is not among the methods any more` }
    try {
      const outcome = await entry.method.recheck(proof.evidence, request.peerCertificates)
      this.#parts.counters.said(entry.method.name, `recheck ${outcome.is}`)
      if (outcome.is === 'holds') return outcome
      return { is: outcome.is === 'invalid' ? 'refused' : 'unavailable', cause: outcome.cause }
    } catch (error) {
      return this.#failed(entry, error)
    }
  }

  async #askAll(
    request: AuthenticationRequest,
    entries: readonly MethodEntry[],
    begun: Omit<Exchange, 'entry' | 'state'>,
  ): Promise<Exclude<Verdict, { is: 'accepted' }> | Proven> {
    const unreachable: string[] = []
    for (const entry of entries) {
      const verdict = await this.#ask(entry, request, null, null)
      if (verdict.is === 'irrelevant') continue
      // Only the user's own server: whoever lists something behind it means a fallback (specification, section 2).
      if (verdict.is === 'unreachable' && entry.method.name === 'Custom') unreachable.push(verdict.cause)
      else return this.#conclude(entry, verdict, request, begun)
    }
    if (unreachable.length > 0) return { is: 'unavailable', cause: unreachable.join('; ') }
    return nothingRelevant(request, entries)
  }

  /** Only the method that let the client in may let it in again. */
  async #askSame(
    request: AuthenticationRequest,
    entries: readonly MethodEntry[],
    begun: Omit<Exchange, 'entry' | 'state'>,
    proof: Proof,
  ): Promise<Exclude<Verdict, { is: 'accepted' }> | Proven> {
    const entry = entryOf(entries, proof.entry)
    if (entry === undefined) return refused(`${proof.entry.method} is not among the methods any more`)
    return this.#conclude(entry, await this.#ask(entry, request, null, proof.evidence), request, begun)
  }

  /** A further round: of the method that gave the challenge. */
  async #goOn(
    request: AuthenticationRequest,
    sealedState: Uint8Array,
    entries: readonly MethodEntry[],
    proof: Proof | null,
  ): Promise<Exclude<Verdict, { is: 'accepted' }> | Proven> {
    const { sealing, clock, counters } = this.#parts
    const content = sealing.open('exchange', exchangeContext(request), sealedState)
    const before = content === null ? null : readExchange(content)
    if (before === null) {
      counters.sealsRefused++
      return refused('the state of the exchange does not open')
    }
    const { round, dataBytes, startedMs } = before
    const begun = { round: round + 1, dataBytes: dataBytes + dataBytesOf(request), startedMs }
    const fault = limitFault(begun, clock.wallMs())
    if (fault !== null) return refused(fault, before.entry.method)
    const entry = entryOf(entries, before.entry)
    if (entry === undefined) return refused(`${before.entry.method} is not among the methods any more`)
    const verdict = await this.#ask(entry, request, before.state, proof?.evidence ?? null)
    return this.#conclude(entry, verdict, request, begun)
  }

  async #ask(
    entry: MethodEntry,
    request: AuthenticationRequest,
    state: Uint8Array | null,
    evidence: Uint8Array | null,
  ): Promise<MethodVerdict | Unavailable> {
    try {
      const verdict = await entry.method.authenticate(request, state, evidence)
      this.#parts.counters.said(entry.method.name, verdict.is)
      return verdict
    } catch (error) {
      return this.#failed(entry, error)
    }
  }

  #conclude(
    entry: MethodEntry,
    verdict: MethodVerdict | Unavailable,
    request: AuthenticationRequest,
    at: Omit<Exchange, 'entry' | 'state'>,
  ): Exclude<Verdict, { is: 'accepted' }> | Proven {
    const { name } = entry.method
    switch (verdict.is) {
      case 'valid':
        return this.#accept(entry, verdict, request)
      case 'challenge':
        return this.#challenge(entry, verdict, request, at)
      case 'invalid':
        return refused(verdict.cause, name, isFailure(verdict.reason) ? verdict.reason : ReasonCode.NotAuthorized)
      case 'irrelevant':
        return refused('it does not take these credentials any more', name)
      case 'unreachable':
        return { is: 'unavailable', cause: `${name}: ${verdict.cause}` }
      case 'unavailable':
        return verdict
    }
  }

  #accept(entry: MethodEntry, valid: Valid, request: AuthenticationRequest): Proven | Refused | Unavailable {
    const { method } = entry
    if (valid.expiresMs !== null && valid.expiresMs <= this.#parts.clock.wallMs()) return refused('the credential has expired', method.name)
    if (valid.evidence.length > EVIDENCE_BYTES_MAX) return this.#failed(entry, new Error(`evidence of ${valid.evidence.length} bytes`))
    const content = writeProof({ entry: nameOf(entry), evidence: valid.evidence })
    return { is: 'proven', method: method.name, valid, proof: this.#parts.sealing.seal('proof', proofContext(request), content) }
  }

  #challenge(
    entry: MethodEntry,
    { data, state }: MethodVerdict & { readonly is: 'challenge' },
    request: AuthenticationRequest,
    at: Omit<Exchange, 'entry' | 'state'>,
  ): Verdict & { readonly is: 'challenge' | 'refused' } {
    if (request.authenticationMethod === null)
      return refused('it asks for more of a client without an Authentication Method', entry.method.name)
    const dataBytes = at.dataBytes + (data?.length ?? 0)
    // Its answer would be one round too many.
    const fault = limitFault({ ...at, round: at.round + 1, dataBytes }, this.#parts.clock.wallMs())
    if (fault !== null) return refused(fault, entry.method.name)
    const content = writeExchange({ ...at, dataBytes, entry: nameOf(entry), state })
    return { is: 'challenge', data, sealedState: this.#parts.sealing.seal('exchange', exchangeContext(request), content) }
  }

  #openProof(request: Parameters<typeof proofContext>[0] & { readonly proof: Uint8Array | null }): Proof | null {
    const content = request.proof === null ? null : this.#parts.sealing.open('proof', proofContext(request), request.proof)
    const proof = content === null ? null : readProof(content)
    if (proof === null) this.#parts.counters.sealsRefused++
    return proof
  }

  #failed(entry: MethodEntry, error: unknown): Unavailable {
    const { counters, log } = this.#parts
    const { name } = entry.method
    if (error instanceof WorkersBusy) {
      counters.shed++
      return { is: 'unavailable', cause: `${name}: too much to do` }
    }
    counters.failures++
    log.error('authentication_failed', { method: name, error: thrownField(error) })
    return { is: 'unavailable', cause: `${name}: it failed, see the log of the authentication service` }
  }
}

/** For one client on one port, with one way to authenticate; of a re-authentication, of that connection alone. */
function exchangeContext({ listener, policy, clientId, authenticationMethod, purpose, proof }: AuthenticationRequest): readonly string[] {
  const { authentication, authorizations } = policy
  const held = purpose === 'connect' || proof === null ? '' : Buffer.from(proof).toString('base64')
  const names = authorizations.map(({ name }) => name)
  return [purpose, listener, authentication.name, clientId, authenticationMethod ?? '', held, ...names]
}

/** The port and its policies may change while a client is connected; who it is and by whom it was let in may not. */
function proofContext({ policy, clientId }: Pick<RecheckRequest, 'policy' | 'clientId'>): readonly string[] {
  return [policy.authentication.name, clientId]
}

function nameOf({ method, ordinal }: MethodEntry): EntryName {
  return { method: method.name, ordinal }
}

function entryOf(entries: readonly MethodEntry[], { method, ordinal }: EntryName): MethodEntry | undefined {
  return entries.find(entry => entry.method.name === method && entry.ordinal === ordinal)
}

function dataBytesOf({ authenticationData }: AuthenticationRequest): number {
  return authenticationData?.length ?? 0
}

function limitFault({ round, dataBytes, startedMs }: Omit<Exchange, 'entry' | 'state'>, nowMs: number): string | null {
  if (round > ROUNDS_MAX) return `more than ${ROUNDS_MAX} rounds`
  if (dataBytes > EXCHANGE_BYTES_MAX) return 'too much Authentication Data'
  const elapsedMs = nowMs - startedMs
  return elapsedMs > EXCHANGE_MS_MAX || elapsedMs < -CLOCK_SKEW_MS ? 'the exchange takes too long' : null
}

/** Decision 2. */
function nothingRelevant({ authenticationMethod }: AuthenticationRequest, entries: readonly MethodEntry[]): Refused {
  const isUnknown = authenticationMethod !== null && !entries.some(({ method }) => method.handles(authenticationMethod))
  if (!isUnknown) return refused('no method takes these credentials')
  return refused('no method knows this Authentication Method', NO_METHOD, ReasonCode.BadAuthenticationMethod)
}

function refused(cause: string, method: string = NO_METHOD, reason: Refused['reason'] = ReasonCode.NotAuthorized): Refused {
  return { is: 'refused', reason, detail: NEUTRAL_DETAIL, cause, method }
}
