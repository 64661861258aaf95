import type { AuthServicePort } from '#shared/rpc/auth-port.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { Ask } from './ask.ts'

/** A link to one authentication service, and what it was asked. */
export class ServiceLink {
  readonly link: Link
  readonly calls: AuthServicePort
  /** It drains: nothing more is asked of it. */
  isLeaving = false
  readonly #asks = new Map<number, Ask>()

  constructor(link: Link, calls: AuthServicePort) {
    this.link = link
    this.calls = calls
  }

  get openCount(): number {
    return this.#asks.size
  }

  add(number: number, ask: Ask): void {
    this.#asks.set(number, ask)
    ask.attempts.set(number, this)
  }

  find(number: number): Ask | undefined {
    return this.#asks.get(number)
  }

  forget(number: number): void {
    this.#asks.delete(number)
  }

  /** The link has ended: what it was asked, in that order, none of which it will answer. */
  drain(): readonly Ask[] {
    const asks = [...this.#asks]
    this.#asks.clear()
    for (const [number, ask] of asks) ask.attempts.delete(number)
    return asks.map(([, ask]) => ask)
  }
}
