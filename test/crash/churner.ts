import type { Client } from './client.ts'
import type { Inbox, Publication } from './ledger.ts'
import type { Stage } from './stage.ts'

/** A span in which a Subscription stood or may have stood, in ticks of the ledger; Infinity: not yet. */
interface Span {
  readonly subscribeAt: number
  subackAt: number
  unsubscribeAt: number
  unsubackAt: number
}

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
      if ((await this.client.unsubscribe(filter)) !== null) last.unsubackAt = ledger.tick()
      return
    }
    const span: Span =
      last !== undefined && last.subackAt === Infinity
        ? last
        : { subscribeAt: ledger.tick(), subackAt: Infinity, unsubscribeAt: Infinity, unsubackAt: Infinity }
    if (span !== last) this.#spans.push(span)
    if ((await this.client.subscribe({ filter, qos: 2 })) !== null) span.subackAt = ledger.tick()
  }

  /** Acknowledged while the Subscription stood without doubt, and not here. */
  missing(publications: readonly Publication[]): Publication[] {
    return publications.filter(({ topic, number, sentAt, acknowledgedAt }) => {
      if (!topic.startsWith(this.#topics) || acknowledgedAt === null || this.inbox.has({ topic, number })) return false
      return this.#spans.some(span => span.subackAt < sentAt && acknowledgedAt < span.unsubscribeAt)
    })
  }

  /** Published while there was no Subscription without doubt, and here nevertheless. */
  surplus(publications: readonly Publication[]): Publication[] {
    return publications.filter(({ topic, number, sentAt, acknowledgedAt }) => {
      if (!topic.startsWith(this.#topics) || acknowledgedAt === null || !this.inbox.has({ topic, number })) return false
      return this.#spans.every(span => acknowledgedAt < span.subscribeAt || span.unsubackAt < sentAt)
    })
  }
}
