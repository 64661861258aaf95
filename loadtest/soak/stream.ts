import type { AckSink, DeliverySink, LoadClient } from '../client.ts'
import type { Engine } from '../engine.ts'
import type { PublishTemplate } from '../frames.ts'
import type { Histogram } from '../histogram.ts'
import { readU32, writeU32 } from '../message.ts'

/** Unacknowledged messages of a publisher at most; above that a message is an overrun and not sent. */
const UNACKNOWLEDGED_MAX = 1_000

/** Gaps that are remembered; beyond that they count as lost at once. */
const GAPS_MAX = 100_000

/**
 * The messages of one publisher to one session, QoS 1, each numbered. A number above the expected one leaves a gap, which
 * is lost unless the message comes later: then the broker broke the order [MQTT-4.6.0-6]. Any other number below is a
 * repeat, which QoS 1 allows after a resumption.
 * Payload: 0 u32 stamp, 4 u32 stream, 8 u32 number, 12 u32 run.
 */
export class NumberedStream implements AckSink, DeliverySink {
  readonly #engine: Engine
  readonly #runId: number
  readonly #id: number
  readonly #publisher: LoadClient
  readonly #template: PublishTemplate
  readonly latency: Histogram
  #sent = 0
  #acked = 0
  #expected = 0
  #packetId = 0
  readonly #gaps = new Set<number>()
  #beyondGaps = 0
  repeats = 0
  /** Messages that came after a later one. */
  disordered = 0
  received = 0
  overruns = 0

  constructor(of: { engine: Engine; runId: number; id: number; publisher: LoadClient; template: PublishTemplate; latency: Histogram }) {
    this.#engine = of.engine
    this.#runId = of.runId
    this.#id = of.id
    this.#publisher = of.publisher
    this.#template = of.template
    this.latency = of.latency
    of.publisher.acks = this
  }

  get sent(): number {
    return this.#sent
  }

  /** Everything sent is acknowledged, and everything acknowledged has arrived. */
  get isDrained(): boolean {
    return this.#acked === this.#sent && this.#expected === this.#sent && this.#gaps.size === 0
  }

  /** What never came although it was sent; call when no more is on the way. */
  get missing(): number {
    return this.#gaps.size + this.#beyondGaps + this.#sent - this.#expected
  }

  send(stampUs: number): void {
    if (!this.#publisher.isReady || this.#sent - this.#acked >= UNACKNOWLEDGED_MAX) {
      this.overruns++
      return
    }
    this.#packetId = this.#packetId >= 65_535 ? 1 : this.#packetId + 1
    const { bytes, packetIdAt, payloadAt } = this.#template
    const at = this.#publisher.reserve(bytes.length)
    const out = this.#publisher.outBuffer
    out.set(bytes, at)
    out[at + packetIdAt] = this.#packetId >> 8
    out[at + packetIdAt + 1] = this.#packetId
    writeU32(out, at + payloadAt, stampUs)
    writeU32(out, at + payloadAt + 4, this.#id)
    writeU32(out, at + payloadAt + 8, this.#sent++)
    writeU32(out, at + payloadAt + 12, this.#runId)
  }

  acked(): void {
    this.#acked++
  }

  delivered(_firstByte: number, bytes: Uint8Array, payloadAt: number): void {
    if (readU32(bytes, payloadAt + 12) !== this.#runId || readU32(bytes, payloadAt + 4) !== this.#id) return
    const number = readU32(bytes, payloadAt + 8)
    if (number < this.#expected) {
      if (!this.#gaps.delete(number)) {
        this.repeats++
        return
      }
      this.disordered++
    } else {
      const kept = Math.min(number, this.#expected + GAPS_MAX - this.#gaps.size)
      for (let gap = this.#expected; gap < kept; gap++) this.#gaps.add(gap)
      this.#beyondGaps += number - kept
      this.#expected = number + 1
    }
    this.received++
    this.latency.record((this.#engine.nowUs - readU32(bytes, payloadAt)) >>> 0)
  }
}
