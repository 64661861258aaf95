import { setTimeout as sleep } from 'node:timers/promises'
import { type RetainedHistory, retainedDifferences } from './checker.ts'
import type { Client } from './client.ts'
import type { Stage } from './stage.ts'

const TOPICS = 4
/** Retained Messages that have not come so long after SUBACK are not there. */
const READ_TIMEOUT_MS = 3_000
/** Of one topic at a time, so that a crash finds several unacknowledged. */
const INFLIGHT_PER_TOPIC_MAX = 3

interface Topic extends RetainedHistory {
  readonly payloads: (string | null)[]
  acknowledged: number
  readonly qos: readonly (1 | 2)[]
  inflight: number
}

/** Sets and clears Retained Messages with QoS 1 and 2. */
export class RetainedWriter {
  readonly client: Client
  readonly #stage: Stage
  readonly #topics: Topic[]
  #count = 0

  constructor(stage: Stage, clientId: string, version: 4 | 5) {
    this.#stage = stage
    this.client = stage.client({ clientId, version, isPersistent: true })
    this.#topics = Array.from({ length: TOPICS }, (_, at) => ({
      topic: `kept/${clientId}/${at}`,
      payloads: [null],
      acknowledged: 0,
      // Where only messages of one QoS keep their order, a topic that had both would have no last one.
      qos: stage.scenery.orderedBy === 'topic' ? [1, 2] : [at % 2 === 0 ? 1 : 2],
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

  #write(history: Topic): void {
    const { random } = this.#stage
    const payload = random.chance(0.3) ? null : `${history.topic} ${++this.#count}`.padEnd(random.int(1, 2_000), '.')
    const at = history.payloads.push(payload) - 1
    history.inflight++
    void this.client
      .publish({ topic: history.topic, qos: random.pick(history.qos), retain: true, payload: payload ?? '' })
      .then(outcome => {
        history.inflight--
        // Of two with different QoS the later may be answered first; then it speaks for the former, which came before it.
        if (outcome !== 'unknown' && outcome < 0x80) history.acknowledged = Math.max(history.acknowledged, at)
      })
  }

  /** Where `found` (payload by topic) is neither the last acknowledged state nor a later one. */
  differences(found: ReadonlyMap<string, string>): string[] {
    return retainedDifferences(this.#topics, found)
  }
}

/**
 * Payloads of the Retained Messages below `kept/`, read with a session of its own. They come after SUBACK, in a cluster from several
 * backends: what `isComplete` says is missing is waited for.
 */
export async function readRetained(
  stage: Stage,
  isComplete: (found: ReadonlyMap<string, string>) => boolean,
): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  const reader = stage.client({ clientId: 'reader', version: 5, isPersistent: false }, (_client, packet, topic) => {
    if (packet.retain) found.set(topic, packet.payload.toString('latin1'))
  })
  await reader.start()
  if ((await reader.subscribe({ filter: 'kept/#', qos: 1 })) === null || !(await reader.ping()) || !(await reader.ping())) {
    throw new Error('the connection was lost while reading Retained Messages')
  }
  const endMs = performance.now() + READ_TIMEOUT_MS
  while (!isComplete(found) && performance.now() < endMs) await sleep(10)
  await reader.disconnect()
  return found
}
