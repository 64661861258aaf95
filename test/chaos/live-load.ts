import { Engine } from '../../loadtest/engine.ts'
import type { LoadClient } from '../../loadtest/client.ts'
import * as packets from '../conformance/packets.ts'
import type { Address } from '../cast/client.ts'
import { each, openClient, subscribe } from './many-sessions.ts'

/** A publisher waits so long after a PUBACK. */
const PACE_MS = 40
const PAYLOAD_BYTES = 100

/** Times that clients waited, between two calls of `take`. */
export interface Waits {
  readonly acknowledged: number
  readonly medianMs: number
  /** From PUBLISH to PUBACK; one that has not come yet counts with the time it has taken so far. */
  readonly longestMs: number
  /** Publishers that waited for 100 ms and more. */
  readonly delayedPublishers: number
  readonly disconnects: number
}

interface Publisher {
  readonly client: LoadClient
  readonly topic: string
  /** Of the message that is not acknowledged; 0: none. */
  sentMs: number
  longestMs: number
}

/** Publishers of QoS 1, one message at a time each, and as many subscribers with persistent sessions; all stay connected. */
export class LiveLoad {
  readonly #engine = new Engine()
  readonly #publishers: Publisher[] = []
  readonly #waits: number[] = []
  #acknowledged = 0
  #delivered = 0
  #disconnectsTaken = 0
  #isPublishing = false

  /** Connects everybody; publishers and their subscribers land on frontends as `address` says. */
  async start(pairs: number, address: (clientId: string) => Address): Promise<void> {
    await each(pairs, 50, async at => {
      const subscriber = await openClient(this.#engine, () => address(`live-s${at}`), `live-s${at}`)
      await subscribe(subscriber, [`live/${at}`])
      subscriber.deliveries = { delivered: () => void this.#delivered++ }
      const client = await openClient(this.#engine, () => address(`live-p${at}`), `live-p${at}`)
      const publisher: Publisher = { client, topic: `live/${at}`, sentMs: 0, longestMs: 0 }
      client.acks = { acked: () => this.#onAck(publisher) }
      this.#publishers.push(publisher)
    })
    this.#isPublishing = true
    for (const publisher of this.#publishers) this.#publish(publisher)
  }

  #publish(publisher: Publisher): void {
    if (!publisher.client.isReady) return
    publisher.sentMs = performance.now()
    publisher.client.write(packets.publish({ topic: publisher.topic, qos: 1, packetId: 1, payload: Buffer.alloc(PAYLOAD_BYTES, '.') }))
  }

  #onAck(publisher: Publisher): void {
    const waitedMs = performance.now() - publisher.sentMs
    publisher.sentMs = 0
    publisher.longestMs = Math.max(publisher.longestMs, waitedMs)
    this.#waits.push(waitedMs)
    this.#acknowledged++
    if (this.#isPublishing) setTimeout(() => this.#publish(publisher), PACE_MS)
  }

  /** What was since the last call. */
  take(): Waits {
    const now = performance.now()
    const longest = this.#publishers.map(({ sentMs, longestMs }) => Math.max(longestMs, sentMs === 0 ? 0 : now - sentMs))
    const sorted = this.#waits.splice(0).sort((a, b) => a - b)
    const disconnects = this.#engine.disconnects - this.#disconnectsTaken
    this.#disconnectsTaken = this.#engine.disconnects
    for (const publisher of this.#publishers) publisher.longestMs = 0
    return {
      acknowledged: sorted.length,
      medianMs: round(sorted[Math.floor(sorted.length / 2)] ?? 0),
      longestMs: round(longest.reduce((most, one) => Math.max(most, one), 0)),
      delayedPublishers: longest.filter(waitedMs => waitedMs >= 100).length,
      disconnects,
    }
  }

  /** No more messages; waits until what is on its way has arrived. Answers acknowledged messages that did not come to their subscriber. */
  async finish(timeoutMs: number): Promise<number> {
    this.#isPublishing = false
    const endMs = performance.now() + timeoutMs
    const isBusy = (): boolean => this.#publishers.some(({ sentMs }) => sentMs !== 0) || this.#delivered < this.#acknowledged
    while (isBusy() && performance.now() < endMs) await new Promise(resolve => setTimeout(resolve, 50))
    return Math.max(0, this.#acknowledged - this.#delivered)
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10
}
