import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from './client.ts'
import type { Stage } from './stage.ts'

const TOPICS = 4
/** Of one topic at a time, so that a crash finds several unacknowledged. */
const INFLIGHT_PER_TOPIC_MAX = 3

/** Payloads that a topic's Retained Message was given, in order; null clears it. */
interface History {
  readonly topic: string
  readonly payloads: (string | null)[]
  /** Index of the last one acknowledged. */
  acknowledged: number
  inflight: number
}

/** Sets and clears Retained Messages with QoS 1 and 2. */
export class RetainedWriter {
  readonly client: Client
  readonly #stage: Stage
  readonly #topics: History[]
  #count = 0

  constructor(stage: Stage, clientId: string, version: 4 | 5) {
    this.#stage = stage
    this.client = stage.client({ clientId, version, isPersistent: true })
    this.#topics = Array.from({ length: TOPICS }, (_, at) => ({
      topic: `kept/${clientId}/${at}`,
      payloads: [null],
      acknowledged: 0,
      inflight: 0,
    }))
  }

  async run(): Promise<void> {
    while (this.#stage.isLoaded) {
      const history = this.#stage.random.pick(this.#topics)
      if (this.client.isOpen && history.inflight < INFLIGHT_PER_TOPIC_MAX) this.#write(history)
      await this.#stage.pause(0, 10)
    }
  }

  async finished(): Promise<void> {
    while (this.client.outgoing.size > 0) await sleep(10)
  }

  #write(history: History): void {
    const { random } = this.#stage
    const payload = random.chance(0.3) ? null : `${history.topic} ${++this.#count}`.padEnd(random.int(1, 2_000), '.')
    const at = history.payloads.push(payload) - 1
    history.inflight++
    void this.client.publish({ topic: history.topic, qos: random.pick([1, 2]), retain: true, payload: payload ?? '' }).then(outcome => {
      history.inflight--
      // Of two with different QoS the later may be answered first; then it speaks for the former, which came before it.
      if (outcome !== 'unknown' && outcome < 0x80) history.acknowledged = Math.max(history.acknowledged, at)
    })
  }

  /** Where `found` (payload by topic) is neither the last acknowledged state nor a later one. */
  differences(found: ReadonlyMap<string, string>): string[] {
    return this.#topics.flatMap(({ topic, payloads, acknowledged }) => {
      const payload = found.get(topic) ?? null
      if (payloads.includes(payload, acknowledged)) return []
      const name = (text: string | null | undefined): string =>
        text === null ? 'nothing' : text === undefined ? 'unknown' : text.slice(0, 24)
      return [
        `${topic} holds ${name(payload)}, acknowledged was ${name(payloads[acknowledged])}, sent ${payloads.length - 1 - acknowledged} after it`,
      ]
    })
  }
}

/** Payloads of the Retained Messages below `kept/`, read with a session of its own. */
export async function readRetained(stage: Stage): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  const reader = stage.client({ clientId: 'reader', version: 5, isPersistent: false }, (_client, packet, topic) => {
    if (packet.retain) found.set(topic, packet.payload.toString('latin1'))
  })
  await reader.start()
  // Retained Messages come after SUBACK, a few thousand in a turn: these few have come when two PINGRESP have.
  if ((await reader.subscribe({ filter: 'kept/#', qos: 1 })) === null || !(await reader.ping()) || !(await reader.ping())) {
    throw new Error('the connection was lost while reading Retained Messages')
  }
  await reader.disconnect()
  return found
}
