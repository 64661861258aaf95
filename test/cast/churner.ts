import type { ChurnHistory, Span } from './checker.ts'
import type { Client } from './client.ts'
import type { Inbox } from './ledger.ts'
import type { Stage } from './stage.ts'

/** A persistent session that subscribes and unsubscribes all the time: what SUBACK or UNSUBACK confirmed must hold after a crash. */
export class Churner {
  readonly client: Client
  readonly inbox: Inbox
  readonly #stage: Stage
  readonly #topics: string
  readonly #spans: Span[] = []

  constructor(stage: Stage, clientId: string, version: 4 | 5) {
    this.#stage = stage
    this.#topics = `churn/${clientId}/`
    const { client, inbox } = stage.receiver({ clientId, version, isPersistent: true })
    this.client = client
    this.inbox = inbox
  }

  async run(): Promise<void> {
    while (this.#stage.isLoaded) {
      await this.#step()
      await this.#stage.pause(10, 150)
    }
  }

  /** Does what comes next: SUBSCRIBE, or UNSUBSCRIBE. One without an answer is repeated. */
  async #step(): Promise<void> {
    const { ledger } = this.#stage
    await this.client.opened()
    const last = this.#spans.at(-1)
    const filter = `${this.#topics}#`
    if (last !== undefined && last.unsubackAt === Infinity && last.subackAt !== Infinity) {
      last.unsubscribeAt = Math.min(last.unsubscribeAt, ledger.tick())
      const reasons = await this.client.unsubscribe(filter)
      if (reasons !== null && reasons.every(reason => reason < 0x80)) last.unsubackAt = ledger.tick()
      return
    }
    const span: Span =
      last !== undefined && last.subackAt === Infinity
        ? last
        : { subscribeAt: ledger.tick(), subackAt: Infinity, unsubscribeAt: Infinity, unsubackAt: Infinity }
    if (span !== last) this.#spans.push(span)
    const reasons = await this.client.subscribe({ filter, qos: 2 })
    if (reasons !== null && reasons.every(reason => reason < 0x80)) span.subackAt = ledger.tick()
  }

  get history(): ChurnHistory {
    return { name: this.client.options.clientId, topics: this.#topics, spans: this.#spans, inbox: this.inbox }
  }
}
