import type { ByteReader } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { filterCovers, filterMatches } from '#shared/mqtt/topic.ts'

export type KeyAccess = 'read' | 'write'

/** One verdict, and for log, audit and `explain` the rule that gave it; null: no rule allows it. */
export interface Decision {
  readonly allowed: boolean
  readonly rule: string | null
}

/** What one rule says of topics; tokens are replaced already. */
export interface TopicRule {
  readonly filter: string
  readonly isDenied: boolean
  readonly rule: string
}

/** What one rule says of state store keys; tokens are replaced already. */
export interface KeyRule {
  readonly access: 'read' | 'write' | 'readwrite'
  /** Pieces of the key as bytes, with what may stand between them. */
  readonly pattern: KeyPattern
  readonly isDenied: boolean
  readonly rule: string
}

/** `literal`: these bytes; `any`: any run of bytes; `one`: one byte or, in UTF-8, one character; `class`: one byte of a class `[0-9]`. */
export type KeyPattern = readonly (
  | { readonly is: 'literal'; readonly bytes: Uint8Array }
  | { readonly is: 'any' }
  | { readonly is: 'one' }
  | { readonly is: 'class'; readonly isNegated: boolean; readonly ranges: readonly (readonly [from: number, to: number])[] }
)[]

export interface PermitParts {
  readonly publish: readonly TopicRule[]
  readonly subscribe: readonly TopicRule[]
  /** Null: no rule of the policies speaks of keys, so that the right to publish to the state store's topic is enough. */
  readonly keys: readonly KeyRule[] | null
  /** Decisions may be kept (`cache`). */
  readonly isCached: boolean
  /** Extension `refusedPublish311`: a client that cannot be told of a refusal is cut off instead of being left to believe. */
  readonly disconnectsRefused311: boolean
}

/** What one client may do, decided without another call: compiled by the authentication service, carried as bytes. */
export class Permit {
  readonly parts: PermitParts

  constructor(parts: PermitParts) {
    this.parts = parts
  }

  get disconnectsRefused311(): boolean {
    return this.parts.disconnectsRefused311
  }

  mayPublish(topicName: string): boolean {
    return this.decidePublish(topicName).allowed
  }

  /** @param filter without `$share/{ShareName}/` */
  maySubscribe(filter: string): boolean {
    return this.decideSubscribe(filter).allowed
  }

  decidePublish(topicName: string): Decision {
    return decide(this.parts.publish, ({ filter }) => filterMatches(filter, topicName))
  }

  decideSubscribe(filter: string): Decision {
    return decide(this.parts.subscribe, allowed => filterCovers(allowed.filter, filter))
  }
}

function decide<R extends { readonly isDenied: boolean; readonly rule: string }>(
  rules: readonly R[],
  fits: (rule: R) => boolean,
): Decision {
  const denied = rules.find(rule => rule.isDenied && fits(rule))
  if (denied !== undefined) return { allowed: false, rule: denied.rule }
  const allowed = rules.find(rule => !rule.isDenied && fits(rule))
  return { allowed: allowed !== undefined, rule: allowed?.rule ?? null }
}

/** For a frame, a journal record, a Grant. */
export function writePermit(writer: ByteWriter, { parts }: Permit): void {
  writer.u8((parts.isCached ? IS_CACHED : 0) | (parts.disconnectsRefused311 ? DISCONNECTS : 0) | (parts.keys === null ? 0 : HAS_KEYS))
  writeTopicRules(writer, parts.publish)
  writeTopicRules(writer, parts.subscribe)
}

const IS_CACHED = 1
const DISCONNECTS = 2
const HAS_KEYS = 4

function writeTopicRules(writer: ByteWriter, rules: readonly TopicRule[]): void {
  writer.varint(rules.length)
  for (const { filter, isDenied, rule } of rules) {
    writer.u8(isDenied ? 1 : 0)
    writer.text(filter)
    writer.text(rule)
  }
}

function readTopicRules(reader: ByteReader): TopicRule[] {
  const rules: TopicRule[] = []
  for (let left = reader.varint(); left > 0; left--) {
    const isDenied = reader.u8() === 1
    rules.push({ isDenied, filter: reader.text(), rule: reader.text() })
  }
  return rules
}

/** @throws {ByteReaderError} */
export function readPermit(reader: ByteReader): Permit {
  const flags = reader.u8()
  return new Permit({
    isCached: (flags & IS_CACHED) !== 0,
    disconnectsRefused311: (flags & DISCONNECTS) !== 0,
    publish: readTopicRules(reader),
    subscribe: readTopicRules(reader),
    keys: (flags & HAS_KEYS) === 0 ? null : [],
  })
}
