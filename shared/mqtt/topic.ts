import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'
import { isMqttUtf8 } from './utf8.ts'

/** Levels that a Topic Name or Topic Filter may have unless the caller says otherwise (docs/mqtt.md). */
export const TOPIC_LEVELS_MAX = 128

/** Topics of the broker itself begin so: clients read them, never write them. */
export const OWN_TOPICS = '$SYS/'

/** Longer Topic Names are not cached, so that a full cache stays within topicsMax times about 4 KiB: each message has a Topic of its own. */
export const CACHED_TOPIC_BYTES_MAX = 1_024

/** Slots of the direct-mapped table before the maps of a TopicCache; a power of two. */
const FRONT_SLOTS = 4_096

/** The clause of the error that a valid name with too many levels gets; this and nothing else has it with TopicNameInvalid. */
export const TOO_MANY_LEVELS = '§4.7.3'

const SLASH = 0x2f
const PLUS = 0x2b
const HASH = 0x23
const DOLLAR = 0x24

/**
 * A validated Topic Name (§4.7), shared by all who publish to it for as long as the cache keeps it. Two Topics may
 * bear one name, so compare names, not identity.
 */
export class Topic {
  readonly name: string
  /** the name as it stands in packets: own memory, never a view into a network chunk */
  readonly utf8: Buffer
  /** what the owner of the index found for this topic; it says itself whether it is still right */
  resolved: unknown = undefined

  /** For names that are known to be good. Others go through `TopicCache`. */
  constructor(name: string, utf8: Buffer) {
    this.name = name
    this.utf8 = utf8
  }
}

/** The Topic of a message that has none yet. */
export const NO_TOPIC = new Topic('', Buffer.alloc(0))

/**
 * From the UTF-8 bytes of a Topic Name to its Topic, without making a string when the name is known. One per process.
 * Holds at most `topicsMax` Topics: names live in two generations, and when the young one is half of the limit it
 * becomes the old one; whatever was not used since then goes. The front table spares the map lookup; names that meet
 * in one slot cost only that lookup, so a client that makes names collide gains nothing.
 */
export class TopicCache {
  readonly #levelsMax: number
  readonly #generationMax: number
  /** keys: the bytes as Latin-1, so that equal keys are equal bytes */
  #young = new Map<string, Topic>()
  #old = new Map<string, Topic>()
  readonly #front: (Topic | undefined)[] = Array.from({ length: FRONT_SLOTS })

  constructor(limits: { topicsMax: number; levelsMax: number }) {
    this.#levelsMax = limits.levelsMax
    this.#generationMax = Math.max(1, limits.topicsMax >>> 1)
  }

  /** Topics held now. */
  get size(): number {
    return this.#young.size + this.#old.size
  }

  /**
   * The Topic whose name is `bytes[start, end)`. Linear in the length of the name.
   * @throws {ProtocolError} MalformedPacket: not UTF-8 or U+0000 [MQTT-1.5.4-1], [MQTT-1.5.4-2]. ProtocolError: empty
   *   [MQTT-4.7.3-1]. TopicNameInvalid: a wildcard [MQTT-3.3.2-2], too many levels.
   */
  get(bytes: Uint8Array, start: number, end: number): Topic {
    if (end - start > CACHED_TOPIC_BYTES_MAX) return newTopic(bytes, start, end, this.#levelsMax)
    const slot = hashOf(bytes, start, end) & (FRONT_SLOTS - 1)
    const seen = this.#front[slot]
    if (seen !== undefined && sameBytes(bytes, start, end, seen.utf8)) return seen
    return this.#lookUp(bytes, start, end, slot)
  }

  /** `get` for a name that is a string already: wills, topics of our own, topics from the store. */
  fromName(name: string): Topic {
    const utf8 = Buffer.from(name, 'utf8')
    return this.get(utf8, 0, utf8.length)
  }

  #lookUp(bytes: Uint8Array, start: number, end: number, slot: number): Topic {
    const key = asBuffer(bytes).latin1Slice(start, end)
    let topic = this.#young.get(key)
    if (topic === undefined) {
      topic = this.#old.get(key)
      if (topic === undefined) topic = newTopic(bytes, start, end, this.#levelsMax)
      else this.#old.delete(key)
      if (this.#young.size >= this.#generationMax) this.#age()
      this.#young.set(key, topic)
    }
    this.#front[slot] = topic
    return topic
  }

  #age(): void {
    this.#old = this.#young
    this.#young = new Map()
    // Otherwise a topic found in front of the maps would never be seen as used, and would keep an evicted Topic alive.
    this.#front.fill(undefined)
  }
}

interface SliceableBuffer extends Buffer {
  latin1Slice(start: number, end: number): string
  utf8Slice(start: number, end: number): string
}

function asBuffer(bytes: Uint8Array): SliceableBuffer {
  return (Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)) as SliceableBuffer
}

function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = end - start
  for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0
  return hash ^ (hash >>> 15)
}

function newTopic(bytes: Uint8Array, start: number, end: number, levelsMax: number): Topic {
  checkTopicName(bytes, start, end, levelsMax)
  // Not out of Node's pool: a cached name would pin 8 KiB of it.
  const utf8 = Buffer.allocUnsafeSlow(end - start)
  utf8.set(bytes.subarray(start, end))
  return new Topic(utf8.toString('utf8'), utf8)
}

/**
 * The rules of a Topic Name (§4.7) on its bytes, in one pass.
 * @throws {ProtocolError} as `TopicCache.get`
 */
export function checkTopicName(bytes: Uint8Array, start: number, end: number, levelsMax: number): void {
  if (start === end) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.7.3-1', 'empty Topic Name')
  if (end - start > 65_535) throw new ProtocolError(ReasonCode.TopicNameInvalid, 'MQTT-4.7.3-3', 'Topic Name over 65,535 bytes')
  if (!isMqttUtf8(bytes, start, end)) {
    throw new ProtocolError(ReasonCode.MalformedPacket, 'MQTT-1.5.4-1', 'the Topic Name is not UTF-8 or holds U+0000')
  }
  let levels = 1
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (byte === SLASH) levels++
    else if (byte === PLUS || byte === HASH)
      throw new ProtocolError(ReasonCode.TopicNameInvalid, 'MQTT-3.3.2-2', 'wildcard in a Topic Name')
  }
  if (levels > levelsMax)
    throw new ProtocolError(ReasonCode.TopicNameInvalid, TOO_MANY_LEVELS, `${levels} topic levels, ${levelsMax} allowed`)
}

/** A topic of the broker itself: never written by clients, never journalled, never counted. */
export function isOwnTopic(name: string): boolean {
  return name.startsWith(OWN_TOPICS)
}

/** Whether `a[aStart, aEnd)` equals `b`. Short names differ at their end more often than at their start, so it looks there first. */
export function sameBytes(a: Uint8Array, aStart: number, aEnd: number, b: Uint8Array): boolean {
  let at = b.length
  if (aEnd - aStart !== at) return false
  while (--at >= 0) if (a[aStart + at] !== b[at]) return false
  return true
}

/** A Topic Filter as given (`text`) and what it means (§4.8.2). */
export interface ParsedFilter {
  readonly text: string
  /** ShareName of a Shared Subscription, or null. */
  readonly group: string | null
  /** The filter to match with: `text` without `$share/{ShareName}/`. */
  readonly filter: string
}

const SHARE_PREFIX = '$share/'

/**
 * Checks a Topic Filter as it stands in SUBSCRIBE or UNSUBSCRIBE and splits a Shared Subscription.
 * @throws {ProtocolError} TopicFilterInvalid: empty [MQTT-4.7.3-1], U+0000 [MQTT-4.7.3-2], longer than 65,535 bytes
 *   [MQTT-4.7.3-3], a wildcard out of place [MQTT-4.7.1-1], [MQTT-4.7.1-2], more than `levelsMax` levels, a ShareName that is
 *   empty or holds a wildcard [MQTT-4.8.2-1], nothing after it [MQTT-4.8.2-2].
 */
export function parseTopicFilter(filter: string, levelsMax: number = TOPIC_LEVELS_MAX): ParsedFilter {
  if (filter.length > 65_535 || Buffer.byteLength(filter) > 65_535) throw filterError('MQTT-4.7.3-3', 'over 65,535 bytes')
  if (!filter.startsWith(SHARE_PREFIX)) {
    checkFilter(filter, levelsMax)
    return { text: filter, group: null, filter }
  }
  const groupEnd = filter.indexOf('/', SHARE_PREFIX.length)
  if (groupEnd === -1) throw filterError('MQTT-4.8.2-2', 'no Topic Filter after the ShareName')
  const group = filter.slice(SHARE_PREFIX.length, groupEnd)
  if (group === '') throw filterError('MQTT-4.8.2-1', 'empty ShareName')
  if (group.includes('+') || group.includes('#')) throw filterError('MQTT-4.8.2-2', 'wildcard in the ShareName')
  if (group.includes('\0')) throw filterError('MQTT-4.7.3-2', 'U+0000')
  const shared = filter.slice(groupEnd + 1)
  if (shared === '') throw filterError('MQTT-4.8.2-2', 'no Topic Filter after the ShareName')
  checkFilter(shared, levelsMax)
  return { text: filter, group, filter: shared }
}

function checkFilter(filter: string, levelsMax: number): void {
  const end = filter.length
  if (end === 0) throw filterError('MQTT-4.7.3-1', 'empty')
  let levels = 1
  for (let at = 0; at < end; at++) {
    const code = filter.charCodeAt(at)
    if (code === SLASH) {
      if (++levels > levelsMax) throw filterError('§4.7.3', `more than ${levelsMax} levels`)
    } else if (code === PLUS || code === HASH) {
      const startsLevel = at === 0 || filter.charCodeAt(at - 1) === SLASH
      const isLast = at + 1 === end
      if (code === HASH && !(startsLevel && isLast)) throw filterError('MQTT-4.7.1-1', '# that is not the last level')
      if (code === PLUS && !(startsLevel && (isLast || filter.charCodeAt(at + 1) === SLASH)))
        throw filterError('MQTT-4.7.1-2', '+ beside other characters')
    } else if (code === 0) throw filterError('MQTT-4.7.3-2', 'U+0000')
  }
}

function filterError(clause: `MQTT-${string}` | `§${string}`, detail: string): ProtocolError {
  return new ProtocolError(ReasonCode.TopicFilterInvalid, clause, `Topic Filter: ${detail}`)
}

/** The levels of a Topic Name or Topic Filter; an empty level is an empty string (§4.7.1.1). */
export function splitLevels(topicOrFilter: string): string[] {
  return topicOrFilter.split('/')
}

/**
 * Whether `filter` (without `$share/…`) matches the Topic Name `topic` (§4.7), wildcards not matching a leading `$`
 * [MQTT-4.7.2-1]. The reference for every index; linear. Both must be valid.
 */
export function filterMatches(filter: string, topic: string): boolean {
  const first = filter.charCodeAt(0)
  if (topic.charCodeAt(0) === DOLLAR && (first === PLUS || first === HASH)) return false
  const filterLength = filter.length
  const topicLength = topic.length
  let f = 0
  let t = 0
  for (;;) {
    const code = f < filterLength ? filter.charCodeAt(f) : -1
    if (code === HASH) return true
    if (code === PLUS) {
      f++
      while (t < topicLength && topic.charCodeAt(t) !== SLASH) t++
    } else {
      while (f < filterLength && t < topicLength && filter.charCodeAt(f) === topic.charCodeAt(t) && filter.charCodeAt(f) !== SLASH) {
        f++
        t++
      }
    }
    const filterEnds = f === filterLength
    if (t === topicLength)
      return filterEnds || (f + 2 === filterLength && filter.charCodeAt(f) === SLASH && filter.charCodeAt(f + 1) === HASH)
    if (filterEnds || filter.charCodeAt(f) !== SLASH || topic.charCodeAt(t) !== SLASH) return false
    f++
    t++
  }
}

/**
 * Whether every Topic Name that `requested` matches is matched by `allowed` too. Both without `$share/…`, both valid. Linear.
 */
export function filterCovers(allowed: string, requested: string): boolean {
  const a = splitLevels(allowed)
  const r = splitLevels(requested)
  // `#` asks for one level or more, none starting with `$`: so does `+/#`, the only filter that covers it without being it.
  if (requested === '#') return allowed === '#' || allowed === '+/#'
  for (let level = 0; level < a.length; level++) {
    const want = r[level]
    if (a[level] === '#') return want === undefined || level > 0 || !want.startsWith('$')
    if (want === undefined || want === '#') return false
    if (a[level] === '+') {
      if (level === 0 && want.startsWith('$')) return false
    } else if (a[level] !== want) return false
  }
  return r.length === a.length
}
