import type { Agent } from 'node:https'
import { Gate } from '../gate.ts'
import { requestSource } from '../request-source.ts'
import { ReasonCode, reasonName } from '#shared/mqtt/reason-code.ts'
import type { CustomSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import type { AuthenticationMethod, MethodParts, MethodVerdict, RecheckOutcome } from './authentication-method.ts'
import { answerOf } from './custom/answer.ts'
import type { Answer } from './custom/answer.ts'
import { Breaker } from './breaker.ts'
import { customEndpoint } from './custom/endpoint.ts'
import type { Endpoint } from './custom/endpoint.ts'
import { BODY_BYTES_MAX, exchange, openAgent } from './custom/exchange.ts'
import type { Exchange } from './custom/exchange.ts'
import { questionOf } from './custom/question.ts'
import { retryWhileUnreachable } from './transient-retry.ts'

/** For waiting in the queue, connecting and answering together. */
const TIMEOUT_SECONDS = 5
/** Requests under way to one server, each over a connection of its own. */
export const IN_FLIGHT_MAX = 64
/** Clients that wait for one of those to end; for a further one the server counts as unreachable. */
export const WAITING_MAX = 1_000
/** A connection that nothing was asked over for so long is closed. */
const IDLE_MS = 30_000
/** Of a user name that evidence can hold (it is at most 1 KiB). */
const KEPT_NAME_BYTES_MAX = 1_000

/** First byte of evidence: whether the user name follows. */
const NAME_FOLLOWS = 1
const NAME_TOO_LONG = 0

/**
 * Asks a server of the user's own (Custom Authentication API 0.5.0): its answer decides, and only where it cannot be asked does the next
 * method get its turn.
 * @throws {MethodFault} what the settings say, or refer to, cannot be used
 */
export function makeCustom(settings: CustomSettings, parts: MethodParts): AuthenticationMethod {
  return new Custom(settings, customEndpoint(settings, parts), parts)
}

class Custom implements AuthenticationMethod {
  readonly name = 'Custom'
  readonly #settings: CustomSettings
  readonly #endpoint: Endpoint
  readonly #parts: MethodParts
  readonly #agent: Agent
  readonly #breaker = new Breaker()
  readonly #gate = new Gate(IN_FLIGHT_MAX, WAITING_MAX)
  #isClosed = false

  constructor(settings: CustomSettings, endpoint: Endpoint, parts: MethodParts) {
    this.#settings = settings
    this.#endpoint = endpoint
    this.#parts = parts
    this.#agent = openAgent(endpoint, IN_FLIGHT_MAX, IDLE_MS)
  }

  /** The server may know any of them. */
  handles(): boolean {
    return true
  }

  async authenticate(request: AuthenticationRequest, _state: Uint8Array | null, evidence: Uint8Array | null): Promise<MethodVerdict> {
    if (request.purpose === 'connect') return await this.#ask(request, request.userName ?? '')
    if (request.authenticationMethod === null) return refused(ReasonCode.NotAuthorized, 'a re-authentication without Authentication Method')
    const userName = keptName(evidence) ?? request.userName
    if (userName === null) return refused(ReasonCode.NotAuthorized, 'a user name too long to be kept cannot be re-authenticated')
    return await retryWhileUnreachable(this.#parts.timers, () => this.#ask(request, userName))
  }

  /** The server knows no question about a client that is connected. */
  recheck(): Promise<RecheckOutcome> {
    return Promise.resolve({ is: 'holds' })
  }

  close(): void {
    this.#isClosed = true
    if (this.#gate.inside === 0) this.#agent.destroy()
  }

  async #ask(request: AuthenticationRequest, userName: string): Promise<MethodVerdict> {
    const deadline = new AbortController()
    const timeoutMs = (this.#settings.timeoutSeconds ?? TIMEOUT_SECONDS) * 1_000
    const cancel = this.#parts.timers.after(timeoutMs, () => deadline.abort())
    try {
      return this.#verdictOf(await this.#inTurn(request, deadline.signal), userName)
    } finally {
      cancel()
    }
  }

  async #inTurn(request: AuthenticationRequest, signal: AbortSignal): Promise<Answer> {
    if (this.#breaker.isOpen(this.#nowMs())) return LEFT_ALONE
    const place = await this.#gate.enter(signal, requestSource(request.remoteAddress))
    if (place !== 'inside')
      return { is: 'unreachable', cause: place === 'full' ? `${WAITING_MAX} clients wait already` : 'no turn in time' }
    try {
      // Not earlier: who waits holds what the client sent, but not twice.
      const question = questionOf(request, this.#settings.encodesMethod)
      const first = await this.#answer(question, signal)
      if (first.is !== 'anotherVersion') return first
      const second = await this.#answer(question, signal)
      return second.is === 'anotherVersion' ? { is: 'faulty', cause: 'status 422 for a version that it says it supports' } : second
    } finally {
      this.#gate.leave()
      if (this.#isClosed && this.#gate.inside === 0) this.#agent.destroy()
    }
  }

  async #answer(question: Buffer, signal: AbortSignal): Promise<Answer> {
    const attempt = this.#breaker.begin(this.#nowMs())
    if (attempt === null) return LEFT_ALONE
    const answer = meaningOf(await exchange(this.#endpoint, this.#agent, question, signal), this.#parts.clock.wallMs())
    this.#breaker.end(attempt, answer.is === 'unreachable' ? 'failed' : 'reached', this.#nowMs())
    return answer
  }

  #nowMs(): number {
    return this.#parts.timers.nowMs()
  }

  #verdictOf(answer: Answer, userName: string): MethodVerdict {
    const { log } = this.#parts
    const endpoint = this.#endpoint.name
    switch (answer.is) {
      case 'accepted': {
        const { attributes, expiresMs } = answer
        return { is: 'valid', userName, attributes, expiresMs, data: null, evidence: evidenceOf(userName) }
      }
      case 'denied':
        // The text is the server's, for the operator alone.
        log.info('custom_authentication_denied', { endpoint, reason: reasonName(answer.reason), message: answer.message })
        return refused(answer.reason, `the custom server refused it (${reasonName(answer.reason)})`)
      case 'unreachable':
        log.warn('custom_authentication_unreachable', { endpoint, cause: answer.cause })
        return { is: 'unreachable', cause: `custom server ${endpoint}: ${answer.cause}` }
      default: {
        const cause = answer.is === 'faulty' ? answer.cause : 'status 422'
        log.error('custom_authentication_faulty', { endpoint, cause })
        return refused(ReasonCode.NotAuthorized, `custom server ${endpoint} breaks its contract: ${cause}`)
      }
    }
  }
}

const LEFT_ALONE: Answer = { is: 'unreachable', cause: 'it did not answer several times and is left alone for a while' }

function meaningOf(outcome: Exchange, nowMs: number): Answer {
  if (outcome.is === 'unreachable') return outcome
  if (outcome.is === 'malformed') return { is: 'faulty', cause: `not HTTP: ${outcome.cause}` }
  const answer = answerOf(outcome.status, outcome.body ?? Buffer.alloc(0), nowMs)
  if (outcome.body !== null || answer.is === 'unreachable') return answer
  return { is: 'faulty', cause: `status ${outcome.status} with more than ${BODY_BYTES_MAX} bytes` }
}

function refused(reason: ReasonCode, cause: string): MethodVerdict {
  return { is: 'invalid', reason, cause }
}

/** AUTH has no user name: that of CONNECT comes back from here. */
function evidenceOf(userName: string): Uint8Array {
  const bytes = Buffer.from(userName, 'utf8')
  return bytes.length > KEPT_NAME_BYTES_MAX ? Buffer.of(NAME_TOO_LONG) : Buffer.concat([Buffer.of(NAME_FOLLOWS), bytes])
}

function keptName(evidence: Uint8Array | null): string | null {
  return evidence?.[0] === NAME_FOLLOWS ? Buffer.from(evidence.subarray(1)).toString('utf8') : null
}
