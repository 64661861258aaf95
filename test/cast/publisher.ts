import { setTimeout as sleep } from 'node:timers/promises'
import { CHURNERS, type PublisherPart } from './parts.ts'
import type { Client } from './client.ts'
import type { Stage } from './stage.ts'

const PACE_MS = 4

/** Publishes numbered messages of QoS 1 and 2 as long as there is load. */
export class Publisher {
  readonly client: Client
  readonly #stage: Stage
  readonly #part: PublisherPart

  constructor(stage: Stage, part: PublisherPart) {
    this.#stage = stage
    this.#part = part
    this.client = stage.client(part.options)
  }

  async run(): Promise<void> {
    while (this.#stage.isLoaded) {
      // The session of a publisher that is not persistent would forget what it is given while it is away.
      const mayPublish = this.client.isOpen || this.#part.options.isPersistent
      if (mayPublish && this.client.outgoing.size < this.#part.inflightMax) this.#publishOne()
      await sleep(this.#stage.random.int(0, PACE_MS))
    }
  }

  /** Everything published has been answered. */
  async finished(): Promise<void> {
    while (this.client.outgoing.size > 0) await sleep(10)
  }

  #publishOne(): void {
    const { ledger, random } = this.#stage
    const publication = ledger.begin(this.#topic(), random.pick(this.#part.qos))
    const { topic, qos, number } = publication
    const payload = `${number} ${qos} `.padEnd(random.int(12, this.#part.payloadBytesMax), '.')
    void this.client.publish({ topic, qos, payload }).then(outcome => {
      if (outcome === 'unknown') return
      if (outcome < 0x80) ledger.acknowledge(publication)
      else ledger.refused++
    })
  }

  #topic(): string {
    const { random } = this.#stage
    const { clientId } = this.#part.options
    const dice = random.next()
    if (dice < 0.7) return `load/${clientId}/${random.int(0, 2)}`
    return dice < 0.85 ? `jobs/${clientId}` : `churn/${random.pick(CHURNERS)}/${clientId}`
  }
}
