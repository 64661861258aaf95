import type { DeliverySink } from '../client.ts'
import { LoadClient } from '../client.ts'
import { publishTemplate } from '../frames.ts'
import { sleep } from '../monotonic.ts'
import type { Generator } from '../scenario.ts'
import { connectFields, targetOf } from '../scenario.ts'

/** Retained topics that are set at once, before the oldest is cleared. */
const RETAINED_KEPT = 500
const WILL_TIMEOUT_MS = 10_000

/** What the churn of one process has done and seen. */
export interface ChurnCounts {
  visitors: number
  willsDue: number
  willsSeen: number
  retainedSet: number
  failures: number
}

export function newChurnCounts(): ChurnCounts {
  return { visitors: 0, willsDue: 0, willsSeen: 0, retainedSet: 0, failures: 0 }
}

/** Counts Wills of the visitors of this process. */
export class WillWitness implements DeliverySink {
  readonly #counts: ChurnCounts

  constructor(counts: ChurnCounts) {
    this.#counts = counts
  }

  delivered(): void {
    this.#counts.willsSeen++
  }
}

export function willTopic(generator: Generator): string {
  return `${generator.options.prefix}/soak/will/${generator.index}`
}

/** Connects, subscribes, leaves: every second time without DISCONNECT, so that the Will is due. */
export async function visit(generator: Generator, counts: ChurnCounts): Promise<void> {
  const { options, engine } = generator
  const client = new LoadClient(engine, targetOf(options))
  const number = counts.visitors++
  const topic = willTopic(generator)
  try {
    await client.open({
      ...connectFields(options, `visitor${generator.index}-${number}`),
      will: { topic, payload: new TextEncoder().encode(String(number)), qos: 1, retain: false },
    })
    await client.subscribe(`${options.prefix}/soak/visit/${generator.index}/${number}/+`, 1)
    if (number % 2 === 0) return await client.disconnect()
    counts.willsDue++
    await client.destroy()
  } catch {
    counts.failures++
  }
}

/** Sets one retained topic and clears the one set RETAINED_KEPT steps before. QoS 0: what is left over is looked at in the end. */
export function turnRetained(generator: Generator, keeper: LoadClient, counts: ChurnCounts): void {
  if (!keeper.isReady) return
  const number = counts.retainedSet++
  keeper.write(retainedFrame(generator, number, new Uint8Array(64).fill(97)))
  if (number >= RETAINED_KEPT) keeper.write(retainedFrame(generator, number - RETAINED_KEPT, new Uint8Array(0)))
}

/** Clears what `turnRetained` left; resolves with the number of retained messages that are still there afterwards. */
export async function clearRetained(generator: Generator, keeper: LoadClient, counts: ChurnCounts): Promise<number> {
  for (let number = Math.max(0, counts.retainedSet - RETAINED_KEPT); number < counts.retainedSet; number++) {
    keeper.write(retainedFrame(generator, number, new Uint8Array(0)))
  }
  // The same client: its SUBACK comes after the broker has read the messages before [MQTT-4.6.0].
  let left = 0
  keeper.deliveries = {
    delivered(firstByte, _bytes, payloadAt, end) {
      if ((firstByte & 1) === 1 && end > payloadAt) left++
    },
  }
  await keeper.subscribe(`${generator.options.prefix}/soak/ret/${generator.index}/+`, 0)
  await sleep(300)
  return left
}

function retainedFrame(generator: Generator, number: number, payload: Uint8Array): Uint8Array {
  const topic = `${generator.options.prefix}/soak/ret/${generator.index}/${number % (RETAINED_KEPT * 4)}`
  return publishTemplate(generator.options.protocol, { topic, qos: 0, retain: true, payload }).bytes
}

/** Waits until every due Will has come. */
export async function wills(counts: ChurnCounts): Promise<void> {
  for (let waitedMs = 0; counts.willsSeen < counts.willsDue && waitedMs < WILL_TIMEOUT_MS; waitedMs += 50) await sleep(50)
}
