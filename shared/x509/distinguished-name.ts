import { attributeTypeName, attributeTypeOid, COMMON_NAME } from './attribute-types.ts'
import { DerError, DerReader, readOid, readText, Tag } from './der.ts'

/** One attribute of a name. */
export interface NameAttribute {
  /** Object identifier in dotted form. */
  readonly type: string
  /** Text; for a value that is no text U+0000 and its DER in hexadecimal digits, which no text can be. */
  readonly value: string
}

/** Relative distinguished names in the order of the certificate; most have one attribute. */
export type DistinguishedName = readonly (readonly NameAttribute[])[]

/** A text that is no distinguished name. */
export class NameError extends Error {
  override readonly name = 'NameError'
}

/** Longest name that is read, in characters or octets, and most attributes: names that are used have a handful. */
const LENGTH_MAX = 8_192
const ATTRIBUTES_MAX = 128

/** @param bytes a Name (RFC 5280 4.1.2.4) with its tag @throws {DerError} */
export function decodeName(bytes: Uint8Array): DistinguishedName {
  if (bytes.length > LENGTH_MAX) throw new DerError('a name that is too long')
  const parts: NameAttribute[][] = []
  let count = 0
  for (const reader = DerReader.only(bytes); !reader.done; ) {
    const set = reader.enter(Tag.Set)
    if (set.done) throw new DerError('a part of a name without attributes')
    const part: NameAttribute[] = []
    while (!set.done) {
      if (++count > ATTRIBUTES_MAX) throw new DerError('a name of too many attributes')
      part.push(decodeAttribute(set.enter()))
    }
    parts.push(part)
  }
  return parts
}

function decodeAttribute(reader: DerReader): NameAttribute {
  const type = readOid(reader.content(Tag.Oid))
  const element = reader.next()
  reader.finish()
  return { type, value: readText(element) ?? binaryValue(element.whole) }
}

function binaryValue(der: Uint8Array): string {
  return `\0${Buffer.from(der).toString('hex')}`
}

/**
 * Reads `CN = a, OU = b, C = US` (OpenSSL's one line), RFC 4514 with its escapes and `#hex` values, quoted values of RFC 2253's
 * ancestors, and `/C=US/CN=a`. White space around `=`, `,`, `+` does not count. Types: names in any case, or object identifiers.
 * @throws {NameError} what is wrong, for an operator
 */
export function parseName(text: string): DistinguishedName {
  if (text.length > LENGTH_MAX) throw new NameError(`a name of more than ${LENGTH_MAX} characters`)
  const scanner = new NameScanner(text)
  const parts: NameAttribute[][] = [[]]
  let count = 0
  for (let separator: string = ','; separator !== ''; separator = scanner.separator()) {
    if (++count > ATTRIBUTES_MAX) throw new NameError(`a name of more than ${ATTRIBUTES_MAX} attributes`)
    if (separator !== '+' && parts.at(-1)!.length > 0) parts.push([])
    parts.at(-1)!.push(scanner.attribute())
  }
  return parts
}

const SPACE = /\s/
/** After a backslash they stand for themselves (RFC 4514 2.4), `/` in OpenSSL's slash form. */
const ESCAPABLE = ' "#+,;<=>\\/'

class NameScanner {
  readonly #text: string
  readonly #isSlashForm: boolean
  #at = 0

  constructor(text: string) {
    this.#text = text.trimStart()
    this.#isSlashForm = this.#text.startsWith('/')
    if (this.#isSlashForm) this.#at = 1
    if (this.#text.trim() === '') throw new NameError('an empty name')
  }

  attribute(): NameAttribute {
    const end = this.#text.indexOf('=', this.#at)
    const typeText = this.#text.slice(this.#at, end === -1 ? undefined : end).trim()
    if (end === -1) throw new NameError(`'=' is missing after '${typeText}'`)
    const type = attributeTypeOid(typeText)
    if (type === null) throw new NameError(`'${typeText}' is no known attribute type; write its object identifier`)
    this.#at = end + 1
    this.#skipSpace()
    const first = this.#text[this.#at]
    if (first === '#') return { type, value: this.#hexValue() }
    return { type, value: first === '"' ? this.#quoted() : this.#plain() }
  }

  /** `,` or `+`; empty at the end. */
  separator(): string {
    this.#skipSpace()
    const found = this.#text[this.#at]
    if (found === undefined) return ''
    if (!this.#isSeparator(found)) throw new NameError(`'${found}' after a value; escape what belongs to it with \\`)
    this.#at++
    return found === '+' ? '+' : ','
  }

  #isSeparator(character: string): boolean {
    return character === '+' || (this.#isSlashForm ? character === '/' : character === ',' || character === ';')
  }

  #skipSpace(): void {
    while (this.#at < this.#text.length && SPACE.test(this.#text[this.#at]!)) this.#at++
  }

  #plain(): string {
    const pieces: (string | number)[] = []
    /** Pieces up to the last one that is no space, or an escaped one. */
    let kept = 0
    while (this.#at < this.#text.length) {
      const character = this.#text[this.#at]!
      if (this.#isSeparator(character)) break
      const isEscaped = character === '\\'
      pieces.push(isEscaped ? this.#escaped() : this.#take())
      if (isEscaped || !SPACE.test(character)) kept = pieces.length
    }
    return joined(pieces.slice(0, kept))
  }

  #quoted(): string {
    const pieces: (string | number)[] = []
    this.#at++
    for (;;) {
      const character = this.#text[this.#at]
      if (character === undefined) throw new NameError('a quoted value that does not end')
      if (character === '"') break
      pieces.push(character === '\\' ? this.#escaped() : this.#take())
    }
    this.#at++
    return joined(pieces)
  }

  #take(): string {
    return this.#text[this.#at++]!
  }

  /** A character, or an octet of UTF-8. */
  #escaped(): string | number {
    const pair = this.#text.slice(this.#at + 1, this.#at + 3)
    if (/^[\da-f]{2}$/i.test(pair)) {
      this.#at += 3
      return Number.parseInt(pair, 16)
    }
    const character = pair[0]
    if (character === undefined || !ESCAPABLE.includes(character)) throw new NameError(`'\\${character ?? ''}' is no escape`)
    this.#at += 2
    return character
  }

  #hexValue(): string {
    const digits = /^[\da-f]+/i.exec(this.#text.slice(this.#at + 1))?.[0] ?? ''
    this.#at += 1 + digits.length
    try {
      if (digits.length % 2 !== 0) throw new DerError('half an octet')
      const der = Buffer.from(digits, 'hex')
      const reader = new DerReader(der)
      const text = readText(reader.next())
      reader.finish()
      return text ?? binaryValue(der)
    } catch {
      throw new NameError(`'#${digits}' is no value`)
    }
  }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function joined(pieces: readonly (string | number)[]): string {
  let text = ''
  for (let at = 0; at < pieces.length; ) {
    const piece = pieces[at]!
    if (typeof piece === 'string') {
      text += piece
      at++
      continue
    }
    const octets: number[] = []
    for (let octet = pieces[at]; typeof octet === 'number'; octet = pieces[++at]) octets.push(octet)
    try {
      text += strictUtf8.decode(Uint8Array.from(octets))
    } catch {
      throw new NameError('escaped octets that are no UTF-8')
    }
  }
  if (text.includes('\0')) throw new NameError('a value with U+0000')
  return text
}

/** Equal for names that are the same (`sameName`), different for others. */
export function nameKey(name: DistinguishedName): string {
  const parts = name.map(part => JSON.stringify(part.map(({ type, value }) => `${type}=${value}`).sort()))
  const [forward, backward] = [parts.join(), parts.toReversed().join()]
  return forward < backward ? forward : backward
}

/** Whether both have the same attributes in the same order, or one in the reverse of the other's: OpenSSL and RFC 4514 print opposite orders. */
export function sameName(a: DistinguishedName, b: DistinguishedName): boolean {
  return nameKey(a) === nameKey(b)
}

/** Equal for names that RFC 5280 7.1 holds to be the same when a chain is built: case of ASCII and white space do not count; order does. */
export function chainingKey(name: DistinguishedName): string {
  return chainingKeys(name).join()
}

/** The same for each part, for comparing the first parts of a name. */
export function chainingKeys(name: DistinguishedName): readonly string[] {
  return name.map(part => JSON.stringify(part.map(({ type, value }) => `${type}=${folded(value)}`).sort()))
}

function folded(value: string): string {
  return value
    .replace(/[A-Z]/g, letter => letter.toLowerCase())
    .replace(/[ \t\n\v\f\r]+/g, ' ')
    .replace(/^ | $/g, '')
}

/** The last Common Name that is a text; empty without one. */
export function commonNameOf(name: DistinguishedName): string {
  const last = name.flat().findLast(attribute => attribute.type === COMMON_NAME)
  return last === undefined || last.value.startsWith('\0') ? '' : last.value
}

/** For log lines and faults, in the order of the certificate. */
export function nameText(name: DistinguishedName): string {
  return name
    .flat()
    .map(({ type, value }) => `${attributeTypeName(type)} = ${value.replace('\0', '#')}`)
    .join(', ')
}
