import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { parseTopicFilter, type Topic } from '#shared/mqtt/topic.ts'
import { readBelow, readCount, readFlag, writeFlag } from '#shared/rpc/body-fields.ts'
import { type Decided, DecisionCache } from './decision-cache.ts'
import { filtersOverlap } from './filters-overlap.ts'
import type { GlobPart } from './glob.ts'
import { type KeyAccess, type KeyRule, KeyRules } from './key-rules.ts'
import { type TopicRule, TopicRules } from './topic-rules.ts'

/** One verdict, and for log, audit and `explain` the rule that gave it; null: no rule allows it, or none is needed. */
export interface Decision {
  readonly allowed: boolean
  readonly rule: string | null
}

/** A rule by its place. */
export interface RuleName {
  /** Name of the BrokerAuthorization. */
  readonly policy: string
  /** From 0, as in `spec.authorizationPolicies.rules[0]`. */
  readonly index: number
}

export interface PermitParts {
  /** The rules that the others point at, by their place here. */
  readonly rules: readonly RuleName[]
  readonly publish: readonly TopicRule[]
  readonly subscribe: readonly TopicRule[]
  /** Null: no rule of the policies speaks of keys, so that the right to publish to the state store's topic is enough. */
  readonly keys: readonly KeyRule[] | null
  /** Decisions may be kept (`cache`). */
  readonly isCached: boolean
  /** Extension `refusedPublish311`: a client that cannot be told of a refusal is cut off instead of being left to believe. */
  readonly disconnectsRefused311: boolean
}

const FREE: Decision = { allowed: true, rule: null }

/**
 * What one client may do, decided without another call: compiled by the authentication service, carried as bytes (`writePermit`).
 * What no rule allows is denied; a Deny wins over all that allow.
 */
export class Permit {
  readonly parts: PermitParts
  readonly #publishDenied: TopicRules
  readonly #publishAllowed: TopicRules
  readonly #subscribeDenied: readonly TopicRule[]
  readonly #subscribeAllowed: TopicRules
  readonly #keys: { readonly [access in KeyAccess]: { readonly denied: KeyRules; readonly allowed: KeyRules } } | null
  readonly #decisions: DecisionCache
  #decided: Decided | null = null

  constructor(parts: PermitParts, decisions: DecisionCache = new DecisionCache()) {
    this.parts = parts
    this.#decisions = decisions
    this.#publishDenied = topicRules(parts.publish.filter(isDenied))
    this.#publishAllowed = topicRules(parts.publish.filter(isAllowed))
    this.#subscribeDenied = parts.subscribe.filter(isDenied)
    this.#subscribeAllowed = topicRules(parts.subscribe.filter(isAllowed))
    this.#keys = parts.keys === null ? null : { read: keyRules(parts.keys, 'read'), write: keyRules(parts.keys, 'write') }
  }

  get disconnectsRefused311(): boolean {
    return this.parts.disconnectsRefused311
  }

  /** `mayPublish` of a Topic Name that was decided before costs a look into a table, unless a policy has `cache: Disabled`. */
  mayPublishTopic(topic: Topic): boolean {
    if (!this.parts.isCached) return this.mayPublish(topic.name)
    const decided = (this.#decided ??= new Map())
    const known = decided.get(topic)
    if (known !== undefined) return known
    const isAllowed = this.mayPublish(topic.name)
    this.#decisions.remember(decided, topic, isAllowed)
    return isAllowed
  }

  mayPublish(topicName: string): boolean {
    return !this.#publishDenied.matches(topicName) && this.#publishAllowed.matches(topicName)
  }

  /** @param filter without `$share/{ShareName}/` */
  maySubscribe(filter: string): boolean {
    return this.#subscribeDenial(filter) === null && this.#subscribeAllowed.covers(filter)
  }

  mayAccessKey(key: Uint8Array, access: KeyAccess): boolean {
    return this.decideKey(key, access).allowed
  }

  decidePublish(topicName: string): Decision {
    return this.#decision(this.#publishDenied.matching(topicName), this.#publishAllowed.matching(topicName))
  }

  /**
   * Allowed when the filter of one rule covers the requested one; denied when a Deny names any topic that the requested one matches.
   * @param filter without `$share/{ShareName}/`
   */
  decideSubscribe(filter: string): Decision {
    return this.#decision(this.#subscribeDenial(filter), this.#subscribeAllowed.covering(filter))
  }

  /** One rule allows all keys that begin so, and no Deny could name one of them. What cannot be told by the patterns alone is no. */
  mayReadKeysUnder(prefix: Uint8Array): boolean {
    if (this.#keys === null) return true
    const bytes = Buffer.from(prefix.buffer, prefix.byteOffset, prefix.byteLength)
    const { denied, allowed } = this.#keys.read
    return !denied.mayNameUnder(bytes) && allowed.nameAllUnder(bytes)
  }

  decideKey(key: Uint8Array, access: KeyAccess): Decision {
    if (this.#keys === null) return FREE
    const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength)
    const { denied, allowed } = this.#keys[access]
    return this.#decision(denied.matching(bytes), allowed.matching(bytes))
  }

  #subscribeDenial(filter: string): TopicRule | null {
    for (const rule of this.#subscribeDenied) if (filtersOverlap(rule.filter, filter)) return rule
    return null
  }

  #decision(denied: { readonly rule: number } | null, allowed: { readonly rule: number } | null): Decision {
    const decisive = denied ?? allowed
    return { allowed: denied === null && allowed !== null, rule: decisive === null ? null : ruleText(this.parts.rules[decisive.rule]!) }
  }
}

/** `BrokerAuthorization plant, rules[3]` */
export function ruleText({ policy, index }: RuleName): string {
  return `BrokerAuthorization ${policy}, rules[${index}]`
}

function isDenied(rule: TopicRule | KeyRule): boolean {
  return rule.isDenied
}

function isAllowed(rule: TopicRule | KeyRule): boolean {
  return !rule.isDenied
}

/** Most clients are denied nothing by name: they share one. */
const NO_TOPICS = new TopicRules([])

function topicRules(rules: readonly TopicRule[]): TopicRules {
  return rules.length === 0 ? NO_TOPICS : new TopicRules(rules)
}

function keyRules(rules: readonly KeyRule[], access: KeyAccess): { readonly denied: KeyRules; readonly allowed: KeyRules } {
  const having = rules.filter(rule => rule.access === access || rule.access === 'readwrite')
  return { denied: new KeyRules(having.filter(isDenied)), allowed: new KeyRules(having.filter(isAllowed)) }
}

/**
 * A Permit as bytes: for a Grant, a frame, the state of a session. Names of policies stand once; rules are numbers into a table of them.
 *
 *   layout, flags, policies: texts, rules: (policy, index), publish and subscribe: (denied, rule, filter), keys: (denied, access, rule, parts)
 */
const LAYOUT = 1

const IS_CACHED = 1
const DISCONNECTS = 2
const HAS_KEYS = 4
const FLAGS = 8

const ACCESSES = ['read', 'write', 'readwrite'] as const
const PARTS = ['literal', 'any', 'one', 'class'] as const

/** A count of so many bytes per element at least is borne out by the bytes at hand. */
const TEXT_BYTES_MIN = 1
const RULE_BYTES_MIN = 2
const TOPIC_BYTES_MIN = 3
const KEY_BYTES_MIN = 4
const RANGE_BYTES_MIN = 2

const CODE_POINT_MAX = 0x10_ffff

/** The permit as it travels to frontends and backends; `readPermit` reads it. */
export function writePermit(writer: ByteWriter, { parts }: Permit): void {
  writer.u8(LAYOUT)
  writer.u8((parts.isCached ? IS_CACHED : 0) | (parts.disconnectsRefused311 ? DISCONNECTS : 0) | (parts.keys === null ? 0 : HAS_KEYS))
  const policies = [...new Set(parts.rules.map(({ policy }) => policy))]
  writer.varint(policies.length)
  for (const policy of policies) writer.text(policy)
  writer.varint(parts.rules.length)
  for (const { policy, index } of parts.rules) {
    writer.varint(policies.indexOf(policy))
    writer.varint(index)
  }
  writeTopics(writer, parts.publish)
  writeTopics(writer, parts.subscribe)
  if (parts.keys !== null) writeKeys(writer, parts.keys)
}

/** The bytes of `permit` alone. */
export function permitBytes(permit: Permit): Buffer {
  const writer = new ByteWriter()
  writePermit(writer, permit)
  return writer.take()
}

function writeTopics(writer: ByteWriter, rules: readonly TopicRule[]): void {
  writer.varint(rules.length)
  for (const { filter, isDenied, rule } of rules) {
    writeFlag(writer, isDenied)
    writer.varint(rule)
    writer.text(filter)
  }
}

function writeKeys(writer: ByteWriter, rules: readonly KeyRule[]): void {
  writer.varint(rules.length)
  for (const { access, isDenied, rule, pattern } of rules) {
    writeFlag(writer, isDenied)
    writer.u8(ACCESSES.indexOf(access))
    writer.varint(rule)
    writer.varint(pattern.length)
    for (const part of pattern) writePart(writer, part)
  }
}

function writePart(writer: ByteWriter, part: GlobPart): void {
  writer.u8(PARTS.indexOf(part.is))
  if (part.is === 'literal') writer.bytes(part.bytes)
  if (part.is !== 'class') return
  writeFlag(writer, part.isNegated)
  writer.varint(part.ranges.length)
  for (const [from, to] of part.ranges) {
    writer.varint(from)
    writer.varint(to)
  }
}

/**
 * The Permit whose bytes follow; it owns its memory.
 * @throws {ByteReaderError} they are none
 */
export function readPermit(reader: ByteReader, decisions?: DecisionCache): Permit {
  const layout = reader.u8()
  if (layout !== LAYOUT) throw new ByteReaderError(`layout ${layout} of a permit`)
  const flags = readBelow(reader, FLAGS, 'a set of flags')
  const rules = readRules(reader)
  const parts: PermitParts = {
    rules,
    isCached: (flags & IS_CACHED) !== 0,
    disconnectsRefused311: (flags & DISCONNECTS) !== 0,
    publish: readTopics(reader, rules.length),
    subscribe: readTopics(reader, rules.length),
    keys: (flags & HAS_KEYS) === 0 ? null : readKeys(reader, rules.length),
  }
  return new Permit(parts, decisions)
}

function readRules(reader: ByteReader): readonly RuleName[] {
  const policies = readList(reader, TEXT_BYTES_MIN, () => reader.text())
  return readList(reader, RULE_BYTES_MIN, () => ({ policy: policies[readPlace(reader, policies.length)]!, index: reader.varint() }))
}

function readTopics(reader: ByteReader, ruleCount: number): readonly TopicRule[] {
  return readList(reader, TOPIC_BYTES_MIN, () => ({
    isDenied: readFlag(reader),
    rule: readPlace(reader, ruleCount),
    filter: readFilter(reader),
  }))
}

function readFilter(reader: ByteReader): string {
  const filter = reader.text()
  try {
    if (parseTopicFilter(filter).group === null) return filter
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
  }
  throw new ByteReaderError('a rule without a Topic Filter')
}

function readKeys(reader: ByteReader, ruleCount: number): readonly KeyRule[] {
  return readList(reader, KEY_BYTES_MIN, () => ({
    isDenied: readFlag(reader),
    access: ACCESSES[readBelow(reader, ACCESSES.length, 'an access')]!,
    rule: readPlace(reader, ruleCount),
    pattern: readList(reader, 1, () => readPart(reader)),
  }))
}

function readPart(reader: ByteReader): GlobPart {
  const is = PARTS[readBelow(reader, PARTS.length, 'a part of a pattern')]!
  switch (is) {
    case 'literal':
      return { is, bytes: Buffer.from(reader.bytes()) }
    case 'class':
      return {
        is,
        isNegated: readFlag(reader),
        ranges: readList(reader, RANGE_BYTES_MIN, () => [readCodePoint(reader), readCodePoint(reader)]),
      }
    default:
      return { is }
  }
}

function readCodePoint(reader: ByteReader): number {
  const value = reader.varint()
  if (value > CODE_POINT_MAX) throw new ByteReaderError(`${value} is no character`)
  return value
}

/** A place in a table of `count` elements. */
function readPlace(reader: ByteReader, count: number): number {
  const place = reader.varint()
  if (place >= count) throw new ByteReaderError(`element ${place} of ${count}`)
  return place
}

function readList<T>(reader: ByteReader, elementBytesMin: number, read: () => T): readonly T[] {
  const list: T[] = []
  for (let left = readCount(reader, elementBytesMin); left > 0; left--) list.push(read())
  return list
}
