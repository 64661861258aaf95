/** One Application Message of the load. Times are ticks of the ledger, so `a < b` means that a happened before b. */
export interface Publication {
  /** Names its publisher, so that order is a matter of the topic alone. */
  readonly topic: string
  /** Counts up per topic from 1. */
  readonly number: number
  readonly qos: 1 | 2
  readonly sentAt: number
  /** Monotonic milliseconds, as `acknowledgedMs`. */
  readonly sentMs: number
  /** When PUBACK or PUBCOMP came without failure; null until then. */
  acknowledgedAt: number | null
  acknowledgedMs: number | null
}

/**
 * What keeps its order towards a session: all messages of a topic, which one process can promise, or those with the same QoS
 * as well, which is what MQTT asks for [MQTT-4.6.0-6].
 */
export type OrderedBy = 'topic' | 'topicAndQos'

/** Of monotonic milliseconds, as the logs of processes have it. */
export function wallClock(monotonicMs: number): string {
  return new Date(performance.timeOrigin + monotonicMs).toISOString().slice(11, 23)
}

/** Everything that was published, and the order of all that happened. */
export class Ledger {
  readonly publications: Publication[] = []
  readonly violations: string[] = []
  acknowledged = 0
  refused = 0
  readonly #counts = new Map<string, number>()
  /** When each tick was, so that a report can say so. */
  readonly #tickMs: number[] = [performance.now()]

  tick(): number {
    return this.#tickMs.push(performance.now()) - 1
  }

  /** Wall clock of a tick, as the logs of processes have it; `never` for none. */
  timeOf(tick: number | null): string {
    const ms = this.#tickMs[tick ?? Infinity]
    return ms === undefined ? 'never' : wallClock(ms)
  }

  /** When these messages of a topic were sent and acknowledged, as far as they are of the present part of the load. */
  timesOf(topic: string, from: number, to: number): string {
    return this.publications
      .filter(each => each.topic === topic && each.number >= from && each.number <= to)
      .map(
        ({ number, qos, sentAt, acknowledgedAt }) =>
          `${number} (QoS ${qos}) sent ${this.timeOf(sentAt)}, acknowledged ${this.timeOf(acknowledgedAt)}`,
      )
      .join('; ')
  }

  begin(topic: string, qos: 1 | 2): Publication {
    const number = (this.#counts.get(topic) ?? 0) + 1
    this.#counts.set(topic, number)
    const publication: Publication = {
      topic,
      number,
      qos,
      sentAt: this.tick(),
      sentMs: performance.now(),
      acknowledgedAt: null,
      acknowledgedMs: null,
    }
    this.publications.push(publication)
    return publication
  }

  acknowledge(publication: Publication): void {
    publication.acknowledgedAt = this.tick()
    publication.acknowledgedMs = performance.now()
    this.acknowledged++
  }

  violation(who: string, what: string): void {
    this.violations.push(`${who}: ${what}`)
  }

  /** Those of a finished part of the load: judged, so no longer needed. */
  forget(): void {
    this.publications.length = 0
  }
}

/** What one application received: how often each number of each topic. */
export class Inbox {
  readonly #topics = new Map<string, { readonly times: Map<number, number>; readonly last: number[] }>()
  readonly #orderedBy: OrderedBy
  /** Different messages. */
  delivered = 0
  /** QoS 1 messages that came again, which they may. */
  repeated = 0
  /** QoS 2 messages that came again, which they must not. */
  duplicates: string[] = []
  /** First deliveries that came after a later one of their topic [MQTT-4.6.0-6]. */
  disordered: string[] = []

  constructor(orderedBy: OrderedBy = 'topic') {
    this.#orderedBy = orderedBy
  }

  /** @param publishedQos that of the publisher, when it is higher than the QoS of the delivery */
  receive(topic: string, number: number, qos: number, publishedQos = qos): void {
    let known = this.#topics.get(topic)
    if (known === undefined) this.#topics.set(topic, (known = { times: new Map(), last: [0, 0, 0] }))
    const times = (known.times.get(number) ?? 0) + 1
    known.times.set(number, times)
    if (times > 1) {
      if (qos === 2) this.duplicates.push(`${topic} ${number}`)
      else this.repeated++
      return
    }
    this.delivered++
    const line = this.#orderedBy === 'topic' ? 0 : publishedQos
    const last = known.last[line]!
    if (number < last) this.disordered.push(`${topic} ${number} after ${last}`)
    known.last[line] = Math.max(last, number)
  }

  has({ topic, number }: { readonly topic: string; readonly number: number }): boolean {
    return this.#topics.get(topic)?.times.has(number) === true
  }
}
