import type { AuthServicePort } from '#shared/rpc/auth-port.ts'
import type { AuthenticationPort } from '#shared/rpc/authentication.ts'
import type { ServiceLink } from './service-link.ts'

export type AskKind = 'authenticate' | 'authorize' | 'recheck'
export type Answer = Awaited<ReturnType<AuthenticationPort[AskKind]>>

/** One request until it is answered. What it holds of the client's secrets goes with it. */
export class Ask {
  readonly kind: AskKind
  readonly send: (calls: AuthServicePort, number: number) => void
  /** Services that may still answer, by the number that the request has there. */
  readonly attempts = new Map<number, ServiceLink>()
  readonly tried = new Set<ServiceLink>()
  sends = 0
  /** Why a service could not decide; null: none has said so. */
  undecided: string | null = null
  cancelDeadline: () => void = () => undefined
  readonly #onAnswer: (answer: Answer) => void
  #cancelTimer: () => void = () => undefined

  constructor(kind: AskKind, send: (calls: AuthServicePort, number: number) => void, onAnswer: (answer: Answer) => void) {
    this.kind = kind
    this.send = send
    this.#onAnswer = onAnswer
  }

  /** Of what it waits for now: a service that can be asked, or an answer. */
  setTimer(cancel: () => void): void {
    this.#cancelTimer()
    this.#cancelTimer = cancel
  }

  settle(answer: Answer): void {
    this.#cancelTimer()
    this.cancelDeadline()
    for (const [number, service] of this.attempts) service.forget(number)
    this.attempts.clear()
    this.#onAnswer(answer)
  }
}
