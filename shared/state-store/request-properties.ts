import { EMPTY, type Message } from '#shared/mqtt/message.ts'
import { PERSISTENCE_NAME, PERSISTENCE_VALUE } from '#shared/mqtt/persistence-request.ts'
import { Property } from '#shared/mqtt/property.ts'
import { binaryDataEnd } from '#shared/mqtt/utf8.ts'
import { type ClockTime, type Given, givenClock, givenTime, type HybridClock } from './hybrid-clock.ts'
import { StoreProperty } from './properties.ts'

const USER_PROPERTIES = [StoreProperty.Timestamp, StoreProperty.FencingToken, StoreProperty.ProtocolVersion, PERSISTENCE_NAME] as const
const [TIMESTAMP, FENCING_TOKEN, PROTOCOL_VERSION, PERSISTENCE] = [0, 1, 2, 3]
const NAMES = USER_PROPERTIES.map(name => Buffer.from(name))

/**
 * Where in a request stands what the store looks at: one pass, no allocation. The first of several User Properties with one name
 * counts (spec state-store.md 2.2). Good until the next `read`.
 */
export class RequestProperties {
  #bytes: Buffer = EMPTY
  /** What was read last. */
  message: Message | null = null
  /** Of the Response Topic; -1: there is none. */
  topicStart = -1
  topicEnd = -1
  /** Of the Correlation Data; -1: there is none. */
  correlationStart = -1
  correlationEnd = -1
  readonly #starts = NAMES.map(() => -1)
  readonly #ends = NAMES.map(() => -1)

  /** @throws {ProtocolError} MalformedPacket: a property runs past the end, which no message that was decoded has */
  read(message: Message): void {
    const { propertyBytes: bytes, propertiesEnd } = message
    this.message = message
    this.#bytes = bytes
    this.topicStart = this.topicEnd = this.correlationStart = this.correlationEnd = -1
    for (let name = 0; name < NAMES.length; name++) this.#starts[name] = -1
    let at = message.propertiesStart
    while (at < propertiesEnd) {
      const property = bytes[at++]!
      if (property === Property.PayloadFormatIndicator) {
        at++
        continue
      }
      const end = binaryDataEnd(bytes, at, propertiesEnd)
      if (property === Property.UserProperty) {
        const valueEnd = binaryDataEnd(bytes, end, propertiesEnd)
        this.#user(at + 2, end, valueEnd)
        at = valueEnd
        continue
      }
      if (property === Property.ResponseTopic) {
        this.topicStart = at + 2
        this.topicEnd = end
      } else if (property === Property.CorrelationData) {
        this.correlationStart = at + 2
        this.correlationEnd = end
      }
      at = end
    }
  }

  get timestamp(): Given<ClockTime> {
    const start = this.#starts[TIMESTAMP!]!
    return start === -1 ? null : givenTime(this.#bytes, start, this.#ends[TIMESTAMP!]!)
  }

  get fencingToken(): Given<HybridClock> {
    return givenClock(this.#text(FENCING_TOKEN!))
  }

  /** Null: there is none. */
  get protocolVersion(): string | null {
    return this.#text(PROTOCOL_VERSION!)
  }

  get isPersistent(): boolean {
    return this.#text(PERSISTENCE!) === PERSISTENCE_VALUE
  }

  #text(name: number): string | null {
    const start = this.#starts[name]!
    return start === -1 ? null : this.#bytes.toString('utf8', start, this.#ends[name])
  }

  #user(start: number, end: number, valueEnd: number): void {
    for (let name = 0; name < NAMES.length; name++) {
      if (!isSame(this.#bytes, start, end, NAMES[name]!)) continue
      if (this.#starts[name] !== -1) return
      this.#starts[name] = end + 2
      this.#ends[name] = valueEnd
      return
    }
  }
}

function isSame(bytes: Buffer, start: number, end: number, wanted: Buffer): boolean {
  if (end - start !== wanted.length) return false
  // From the end: the names begin alike.
  for (let i = wanted.length - 1; i >= 0; i--) if (bytes[start + i] !== wanted[i]) return false
  return true
}
