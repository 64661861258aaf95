import type { Timers } from '#shared/base/timers.ts'
import type { AuthAskerPort, AuthServicePort } from '#shared/rpc/auth-port.ts'
import type {
  AuthenticationPort,
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  RecheckRequest,
  RecheckVerdict,
  Verdict,
} from '#shared/rpc/authentication.ts'
import type { Link } from '#shared/rpc/link.ts'
import { type Answer, Ask, type AskKind } from './ask.ts'
import { Changes } from './changes.ts'
import { ServiceLink } from './service-link.ts'

export interface AuthenticationCallsLimits {
  /** Requests without an answer in all; a further one is answered `unavailable` at once. */
  readonly asksMax: number
  /** The same to one service; further ones go to another, or wait. */
  readonly asksPerLinkMax: number
  /** A service that has not answered after this is not waited for alone: another one is asked as well. */
  readonly answerMs: number
  /**
   * Requests that may be with two services at a time for that reason: when all of them are slow, asking each other one as well would only
   * give them twice as much to do. Besides these, one in eight of those without an answer.
   */
  readonly slowMax: number
  /** From the first to the last attempt; then `unavailable`. */
  readonly deadlineMs: number
  /** So long a request waits for a service that it can be sent to. */
  readonly waitMs: number
  /** Services that one request may be sent to, one after the other: should it be what ends them, it does not end them all. */
  readonly sendsMax: number
  /** News of one BrokerAuthentication within this count as one. */
  readonly mergeMs: number
}

export const AUTHENTICATION_CALLS_LIMITS: AuthenticationCallsLimits = {
  asksMax: 10_000,
  asksPerLinkMax: 2_000,
  answerMs: 3_000,
  slowMax: 16,
  deadlineMs: 8_000,
  waitMs: 1_000,
  sendsMax: 4,
  mergeMs: 200,
}

/** See `slowMax`. */
const SLOW_SHARE = 8

/** Plain numbers, read by whoever wants to show them. */
export class AuthenticationCallsCounters {
  asked = 0
  /** Sent again, because the link ended or the answer did not come. */
  resent = 0
  /** Answers that came when nobody waited for them any more. */
  late = 0
  /** Refused at `asksMax`. */
  shed = 0
  /** Not answered in time, or no service to ask. */
  unanswered = 0
}

/**
 * The authentication services of a cluster as one AuthenticationPort. Each request goes to the service that has least to do; when that does not
 * answer, cannot decide, or its link ends, it goes to another one: a service remembers nothing, so any of them can answer, and the first that
 * decides counts. Until one does nobody is let in.
 */
export class AuthenticationCalls implements AuthenticationPort {
  readonly counters = new AuthenticationCallsCounters()
  readonly #timers: Timers
  readonly #limits: AuthenticationCallsLimits
  readonly #links = new Map<Link, ServiceLink>()
  readonly #asks = new Set<Ask>()
  /** Those of them that no service can be asked for at this moment, in order. */
  readonly #waiting = new Set<Ask>()
  /** Those that another service was asked as well, because the first one is slow. */
  readonly #slow = new Set<Ask>()
  readonly #changes: Changes
  #nextNumber = 0
  /** Where to begin to look for a link, so that services with equally little to do take turns. */
  #turn = 0

  constructor(timers: Timers, limits: Partial<AuthenticationCallsLimits> = {}) {
    this.#timers = timers
    this.#limits = { ...AUTHENTICATION_CALLS_LIMITS, ...limits }
    this.#changes = new Changes(timers, this.#limits.mergeMs)
  }

  /** Services that can be asked. */
  get linkCount(): number {
    let count = 0
    for (const { isLeaving } of this.#links.values()) if (!isLeaving) count++
    return count
  }

  /** Requests without an answer. */
  get openCount(): number {
    return this.#asks.size
  }

  authenticate(request: AuthenticationRequest): Promise<Verdict> {
    return this.#ask<Verdict>('authenticate', (calls, number) => calls.authenticate(number, request))
  }

  authorize(request: AuthorizationRequest): Promise<AuthorizationVerdict> {
    return this.#ask<AuthorizationVerdict>('authorize', (calls, number) => calls.authorize(number, request))
  }

  recheck(request: RecheckRequest): Promise<RecheckVerdict> {
    return this.#ask<RecheckVerdict>('recheck', (calls, number) => calls.recheck(number, request))
  }

  listen(onChanged: (authentication: string) => void): () => void {
    return this.#changes.listen(onChanged)
  }

  /** A link to an authentication service stands. */
  onLinkOpen(link: Link, calls: AuthServicePort): AuthAskerPort {
    const service = new ServiceLink(link, calls)
    this.#links.set(link, service)
    this.#sendWaiting()
    return {
      verdict: (number, verdict) => this.#onAnswer(service, 'authenticate', number, verdict),
      authorized: (number, verdict) => this.#onAnswer(service, 'authorize', number, verdict),
      rechecked: (number, verdict) => this.#onAnswer(service, 'recheck', number, verdict),
      standing: (name, digest, isChanged) => this.#changes.standing(name, digest, isChanged),
      leaving: () => {
        service.isLeaving = true
      },
    }
  }

  /** What was sent over it and not answered goes to another one. */
  onLinkClosed(link: Link): void {
    const service = this.#links.get(link)
    if (service === undefined) return
    this.#links.delete(link)
    for (const ask of service.drain()) if (ask.attempts.size === 0 && this.#asks.has(ask)) this.#place(ask)
  }

  onCongestion(_link: Link, isCongested: boolean): void {
    if (!isCongested) this.#sendWaiting()
  }

  /** Everything that is open is answered `unavailable`. */
  close(): void {
    this.#changes.close()
    for (const ask of this.#asks) this.#giveUp(ask, 'this process stops')
  }

  #ask<T extends Answer>(kind: AskKind, send: (calls: AuthServicePort, number: number) => void): Promise<T | Unavailable> {
    const { asksMax, deadlineMs } = this.#limits
    this.counters.asked++
    if (this.#asks.size >= asksMax) {
      this.counters.shed++
      return Promise.resolve(unavailable(`${asksMax} requests wait for the authentication services already`))
    }
    return new Promise(resolve => {
      // Only answers to this kind of request settle it.
      const ask = new Ask(kind, send, answer => resolve(answer as T))
      this.#asks.add(ask)
      ask.cancelDeadline = this.#timers.after(deadlineMs, () => this.#giveUp(ask, `no answer within ${deadlineMs} ms`))
      this.#place(ask)
    })
  }

  /** Sends it to a service, or lets it wait for one. */
  #place(ask: Ask): void {
    const { sendsMax, waitMs } = this.#limits
    if (ask.sends >= sendsMax) return this.#giveUp(ask, `none of ${sendsMax} authentication services answered`)
    const service = this.#pick(ask)
    if (service !== null) return this.#send(ask, service)
    this.#waiting.add(ask)
    ask.setTimer(this.#timers.after(waitMs, () => this.#giveUp(ask, 'no authentication service can be reached')))
  }

  #send(ask: Ask, service: ServiceLink): void {
    if (ask.sends > 0) this.counters.resent++
    const number = ++this.#nextNumber
    ask.sends++
    ask.tried.add(service)
    service.add(number, ask)
    ask.setTimer(this.#timers.after(this.#limits.answerMs, () => this.#onSlow(ask)))
    ask.send(service.calls, number)
  }

  /** Whoever was asked may still answer. Where there is nobody else to ask it is waited for up to the deadline. */
  #onSlow(ask: Ask): void {
    const { sendsMax, slowMax, answerMs } = this.#limits
    const mayAsk = ask.sends < sendsMax && this.#slow.size < slowMax + this.#asks.size / SLOW_SHARE
    const other = mayAsk ? this.#pick(ask) : null
    if (other === null || ask.tried.has(other)) return ask.setTimer(this.#timers.after(answerMs, () => this.#onSlow(ask)))
    this.#slow.add(ask)
    this.#send(ask, other)
  }

  /** One that was not tried before one that was, then the one with least to do. */
  #pick(ask: Ask): ServiceLink | null {
    const services = [...this.#links.values()]
    let best: ServiceLink | null = null
    for (let i = 0; i < services.length; i++) {
      const service = services[(this.#turn + i) % services.length]!
      if (service.isLeaving || service.link.isCongested || service.openCount >= this.#limits.asksPerLinkMax) continue
      if (best === null || isBetter(service, best, ask)) best = service
    }
    this.#turn++
    return best
  }

  #sendWaiting(): void {
    for (const ask of this.#waiting) {
      const service = this.#pick(ask)
      if (service === null) return
      this.#waiting.delete(ask)
      this.#send(ask, service)
    }
  }

  /** @throws {Error} an answer to another kind of request: the link is of no use */
  #onAnswer(service: ServiceLink, kind: AskKind, number: number, answer: Answer): void {
    const ask = service.find(number)
    if (ask === undefined) {
      this.counters.late++
      return
    }
    if (ask.kind !== kind) throw new Error(`an answer to ${kind} where ${ask.kind} was asked`)
    if (answer.is !== 'unavailable' || !this.#isAskedElsewhere(ask, service, number, answer.cause)) this.#settle(ask, answer)
    this.#sendWaiting()
  }

  /**
   * A service that cannot decide may be alone in that: its way to a server is broken, or it has not heard of a resource yet. And as it answers
   * sooner than those that can it has least to do: without this it would draw the clients of all others.
   */
  #isAskedElsewhere(ask: Ask, service: ServiceLink, number: number, cause: string): boolean {
    service.forget(number)
    ask.attempts.delete(number)
    ask.undecided = cause
    if (ask.attempts.size > 0) return true
    const other = ask.sends < this.#limits.sendsMax ? this.#pick(ask) : null
    if (other === null || ask.tried.has(other)) return false
    this.#send(ask, other)
    return true
  }

  #giveUp(ask: Ask, cause: string): void {
    this.counters.unanswered++
    this.#settle(ask, unavailable(ask.undecided === null ? cause : `${cause}; ${ask.undecided}`))
  }

  #settle(ask: Ask, answer: Answer): void {
    this.#asks.delete(ask)
    this.#waiting.delete(ask)
    this.#slow.delete(ask)
    ask.settle(answer)
  }
}

type Unavailable = Answer & { readonly is: 'unavailable' }

function unavailable(cause: string): Unavailable {
  return { is: 'unavailable', cause }
}

function isBetter(one: ServiceLink, other: ServiceLink, { tried }: Ask): boolean {
  if (tried.has(one) !== tried.has(other)) return tried.has(other)
  return one.openCount < other.openCount
}
