/** Bytes are not the DER (X.690) of what they should be. */
export class DerError extends Error {
  override readonly name = 'DerError'
}

/** Tags as they stand in the identifier octet. */
export const Tag = {
  Boolean: 0x01,
  Integer: 0x02,
  BitString: 0x03,
  OctetString: 0x04,
  Null: 0x05,
  Oid: 0x06,
  Enumerated: 0x0a,
  Utf8String: 0x0c,
  NumericString: 0x12,
  PrintableString: 0x13,
  TeletexString: 0x14,
  Ia5String: 0x16,
  UtcTime: 0x17,
  GeneralizedTime: 0x18,
  VisibleString: 0x1a,
  UniversalString: 0x1c,
  BmpString: 0x1e,
  Sequence: 0x30,
  Set: 0x31,
} as const

/** `[number]` of the context-specific class. */
export function contextTag(number: number, form: 'primitive' | 'constructed'): number {
  return (form === 'constructed' ? 0xa0 : 0x80) | number
}

/** One element: what it is and what is in it, as views. */
export interface DerElement {
  readonly tag: number
  readonly content: Uint8Array
  /** With identifier and length. */
  readonly whole: Uint8Array
}

/**
 * Walks over the elements of one level; who wants to go deeper makes a reader for the content. So depth is that of the caller's code,
 * never that of the input, and each byte is looked at once per level. Strict: definite lengths in the fewest octets, tags below 31.
 */
export class DerReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Reader of the content of the one element that `bytes` are. @throws {DerError} another tag, or bytes behind it */
  static only(bytes: Uint8Array, tag: number = Tag.Sequence): DerReader {
    const reader = new DerReader(bytes)
    const inner = reader.enter(tag)
    reader.finish()
    return inner
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length
  }

  /** Tag of the next element; -1 at the end. */
  get tag(): number {
    return this.done ? -1 : this.#bytes[this.#at]!
  }

  /** @throws {DerError} there is none, or its length is wrong */
  next(): DerElement {
    const start = this.#at
    const tag = this.#octet()
    if ((tag & 0x1f) === 0x1f) throw new DerError('a tag of several octets')
    const length = this.#length()
    const contentStart = this.#at
    if (length > this.#bytes.length - contentStart) throw new DerError('an element is longer than what holds it')
    this.#at = contentStart + length
    return { tag, content: this.#bytes.subarray(contentStart, this.#at), whole: this.#bytes.subarray(start, this.#at) }
  }

  /** Content of the next element. @throws {DerError} it is no `tag` */
  content(tag: number): Uint8Array {
    if (this.tag !== tag) throw new DerError(`tag ${this.tag} where ${tag} is due`)
    return this.next().content
  }

  /** The same, null when the next element is another one. */
  optional(tag: number): Uint8Array | null {
    return this.tag === tag ? this.next().content : null
  }

  enter(tag: number = Tag.Sequence): DerReader {
    return new DerReader(this.content(tag))
  }

  /** @throws {DerError} something is left */
  finish(): void {
    if (!this.done) throw new DerError('more than is due')
  }

  #octet(): number {
    if (this.done) throw new DerError('truncated')
    return this.#bytes[this.#at++]!
  }

  #length(): number {
    const first = this.#octet()
    if (first < 0x80) return first
    const count = first & 0x7f
    if (count === 0) throw new DerError('an indefinite length')
    if (count > 4) throw new DerError('a length over 32 bits')
    let length = 0
    for (let i = 0; i < count; i++) length = length * 256 + this.#octet()
    if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError('a length in more octets than it needs')
    return length
  }
}

/** Longest Object Identifier that is read; each certificate has dozens, none near this. */
const OID_BYTES_MAX = 64

/** Dotted form of the content of an OBJECT IDENTIFIER. @throws {DerError} */
export function readOid(content: Uint8Array): string {
  if (content.length === 0 || content.length > OID_BYTES_MAX) throw new DerError('an object identifier of no or many octets')
  const arcs: number[] = []
  let arc = 0
  let isStart = true
  for (const octet of content) {
    if (isStart && octet === 0x80) throw new DerError('an arc in more octets than it needs')
    arc = arc * 128 + (octet & 0x7f)
    if (arc > Number.MAX_SAFE_INTEGER / 128) throw new DerError('an arc over 46 bits')
    isStart = octet < 0x80
    if (!isStart) continue
    if (arcs.length === 0) arcs.push(Math.min(2, Math.floor(arc / 40)), arc - 40 * Math.min(2, Math.floor(arc / 40)))
    else arcs.push(arc)
    arc = 0
  }
  if (!isStart) throw new DerError('a truncated object identifier')
  return arcs.join('.')
}

/** @throws {DerError} neither 0x00 nor 0xff */
export function readBoolean(content: Uint8Array): boolean {
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerError('no boolean')
  return content[0] === 0xff
}

/** Hexadecimal digits of an INTEGER as it stands, sign octet and all: to compare, not to count with. @throws {DerError} */
export function readSerial(content: Uint8Array): string {
  checkInteger(content)
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('hex')
}

/** An INTEGER from 0 to 2^31 - 1. @throws {DerError} */
export function readSmallInteger(content: Uint8Array): number {
  checkInteger(content)
  if (content[0]! >= 0x80 || content.length > 4) throw new DerError('a negative or large integer')
  return content.reduce((sum, octet) => sum * 256 + octet, 0)
}

function checkInteger(content: Uint8Array): void {
  const [first, second] = content
  if (first === undefined) throw new DerError('an integer without octets')
  if (second === undefined) return
  if ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)) throw new DerError('an integer in more octets than it needs')
}

/** A BIT STRING of whole octets, such as a signature. @throws {DerError} */
export function readOctetBits(content: Uint8Array): Uint8Array {
  if (content[0] !== 0) throw new DerError('a bit string with a broken octet')
  return content.subarray(1)
}

/** Numbers of the bits that are set in a BIT STRING of named bits, as bits of a number. @throws {DerError} over 16 bits */
export function readNamedBits(content: Uint8Array): number {
  const unused = content[0]
  if (unused === undefined || unused > 7 || content.length > 3 || (content.length === 1 && unused > 0)) throw new DerError('no named bits')
  if ((content.at(-1)! & ((1 << unused) - 1)) !== 0 && content.length > 1) throw new DerError('unused bits that are set')
  let bits = 0
  for (let number = 0; number < (content.length - 1) * 8; number++) {
    if ((content[1 + (number >> 3)]! & (0x80 >> (number & 7))) !== 0) bits |= 1 << number
  }
  return bits
}

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/

/** Wall clock in milliseconds of a UTCTime or GeneralizedTime in the form of RFC 5280 4.1.2.5. @throws {DerError} */
export function readTime(element: DerElement): number {
  const isUtc = element.tag === Tag.UtcTime
  if (!isUtc && element.tag !== Tag.GeneralizedTime) throw new DerError('no time')
  if (element.content.length > 15) throw new DerError('no time')
  const found = (isUtc ? UTC_TIME : GENERALIZED_TIME).exec(Buffer.from(element.content).toString('latin1'))
  if (found === null) throw new DerError('no time')
  const [year, month, day, hour, minute, second] = found.slice(1).map(Number) as [number, number, number, number, number, number]
  const fullYear = isUtc ? (year < 50 ? 2000 : 1900) + year : year
  const date = new Date(0)
  date.setUTCFullYear(fullYear, month - 1, day)
  date.setUTCHours(hour, minute, second)
  // What Date has carried over (32 January) was no date.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59)
    throw new DerError('no time')
  return date.getTime()
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const strictUtf16 = new TextDecoder('utf-16be', { fatal: true, ignoreBOM: true })

/**
 * Text of a string type; null for another type.
 * @throws {DerError} octets that the type does not have, or U+0000: names that hold it are made to be misread
 */
export function readText(element: DerElement): string | null {
  const text = decodeText(element)
  if (text?.includes('\0')) throw new DerError('a text with U+0000')
  return text
}

function decodeText({ tag, content }: DerElement): string | null {
  switch (tag) {
    case Tag.Utf8String:
      return guarded(() => strictUtf8.decode(content))
    case Tag.BmpString:
      return guarded(() => strictUtf16.decode(content))
    case Tag.TeletexString:
      return Buffer.from(content).toString('latin1')
    case Tag.NumericString:
    case Tag.PrintableString:
    case Tag.Ia5String:
    case Tag.VisibleString:
      return readAscii(content)
    case Tag.UniversalString:
      return readUtf32(content)
    default:
      return null
  }
}

/** @throws {DerError} an octet over 0x7f */
export function readAscii(content: Uint8Array): string {
  for (const octet of content) if (octet >= 0x80) throw new DerError('a text that is not ASCII')
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('latin1')
}

function readUtf32(content: Uint8Array): string {
  if (content.length % 4 !== 0) throw new DerError('a truncated text')
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength)
  let text = ''
  for (let at = 0; at < content.length; at += 4) {
    const code = view.getUint32(at)
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) throw new DerError('a text with no character')
    text += String.fromCodePoint(code)
  }
  return text
}

function guarded(decode: () => string): string {
  try {
    return decode()
  } catch {
    throw new DerError('a text that is not Unicode')
  }
}
