import { isUtf8 } from 'node:buffer'
import { parseTemplate, PatternFault, type Subject, type Template, type Token, tokenText, valueOf } from './template.ts'

/** One character that stands in the class, by code points. */
export interface CharacterClass {
  readonly is: 'class'
  readonly isNegated: boolean
  readonly ranges: readonly (readonly [from: number, to: number])[]
}

/** `literal`: these bytes; `any`: any run of bytes, none too; `one`: one character; `class`: one character of a class such as `[0-9]`. */
export type GlobPart =
  | { readonly is: 'literal'; readonly bytes: Uint8Array }
  | { readonly is: 'any' }
  | { readonly is: 'one' }
  | CharacterClass

/** A glob whose tokens wait for a client. */
export type GlobTemplate = readonly (GlobPart | Token)[]

/** Comparisons of one match at most: some 2 ms. More are only needed by patterns and texts made for the purpose. */
export const GLOB_STEPS_MAX = 1_000_000

/** `*`, `?` for Client Identifiers; classes as well for keys of the state store, in which braces are kept for tokens. */
export function parseGlob(pattern: string, of: 'clientId' | 'key'): GlobTemplate | PatternFault {
  const template: Template | PatternFault = parseTemplate(pattern)
  if (template instanceof PatternFault) return template
  const parts: (GlobPart | Token)[] = []
  for (const part of template) {
    if (typeof part !== 'string') parts.push(part)
    else if (of === 'key' && /[{}]/.test(part))
      return new PatternFault('braces are kept for tokens; a key with braces needs keyType String')
    else parseText(part, of === 'key', parts)
  }
  return parts
}

function parseText(text: string, hasClasses: boolean, parts: (GlobPart | Token)[]): void {
  let literal = ''
  for (let at = 0; at < text.length; at++) {
    const special = specialAt(text, at, hasClasses)
    if (special === null) {
      literal += text[at]!
      continue
    }
    if (literal !== '') parts.push(literalPart(literal))
    literal = ''
    parts.push(special.part)
    at = special.end - 1
  }
  if (literal !== '') parts.push(literalPart(literal))
}

function specialAt(text: string, at: number, hasClasses: boolean): { readonly part: GlobPart; readonly end: number } | null {
  switch (text[at]) {
    case '*':
      return { part: { is: 'any' }, end: at + 1 }
    case '?':
      return { part: { is: 'one' }, end: at + 1 }
    case '[':
      return hasClasses ? classAt(text, at) : null
    default:
      return null
  }
}

/** `[0-9]`, `[abc]`, `[!a-z]`, `[^a-z]`; a bracket without its partner is text. `]` is a member when it comes first, `-` first or last. */
function classAt(text: string, start: number): { readonly part: CharacterClass; readonly end: number } | null {
  const isNegated = text[start + 1] === '!' || text[start + 1] === '^'
  const first = start + (isNegated ? 2 : 1)
  const end = text.indexOf(']', first + 1)
  if (end === -1) return null
  const members = Array.from(text.slice(first, end), member => member.codePointAt(0)!)
  const ranges: (readonly [number, number])[] = []
  for (let at = 0; at < members.length; at++) {
    const isRange = members[at + 1] === HYPHEN && at + 2 < members.length
    ranges.push([members[at]!, isRange ? members[at + 2]! : members[at]!])
    if (isRange) at += 2
  }
  return { part: { is: 'class', isNegated, ranges }, end: end + 1 }
}

const HYPHEN = 0x2d

/** `text` as it is, whatever it holds. */
export function literalPart(text: string): GlobPart {
  return { is: 'literal', bytes: Buffer.from(text, 'utf8') }
}

/** The pattern of this client, or why it has none. What is put in is literal, whatever it holds; no two literals stand side by side. */
export function fillGlob(template: GlobTemplate, subject: Subject): readonly GlobPart[] | PatternFault {
  const parts: GlobPart[] = []
  for (const part of template) {
    if ('is' in part) {
      append(parts, part)
      continue
    }
    const value = valueOf(part, subject)
    if (value === null) return new PatternFault(`the client has no ${tokenText(part)}`)
    append(parts, literalPart(value))
  }
  return parts
}

function append(parts: GlobPart[], part: GlobPart): void {
  const last = parts.at(-1)
  if (last?.is === 'literal' && part.is === 'literal')
    parts[parts.length - 1] = { is: 'literal', bytes: Buffer.concat([last.bytes, part.bytes]) }
  else if (part.is !== 'any' || last?.is !== 'any') parts.push(part)
}

type Element = Exclude<GlobPart, { readonly is: 'any' }>

/**
 * Matches bytes. In bytes that are UTF-8 a character is what Unicode calls so; in others each byte is one, and those from 0x80 on are
 * in no range of a class. No recursion, no backtracking over more than one `*`: what stands between two of them is sought from the left,
 * once, and what stands behind the last is compared at the end.
 */
export class Glob {
  readonly #segments: readonly (readonly Element[])[]

  constructor(parts: readonly GlobPart[]) {
    const segments: Element[][] = [[]]
    for (const part of parts) {
      if (part.is === 'any') segments.push([])
      else segments.at(-1)!.push(part)
    }
    this.#segments = segments
  }

  /** @param ifTooCostly the answer when GLOB_STEPS_MAX do not suffice */
  matches(text: Buffer, ifTooCostly: boolean): boolean {
    const segments = this.#segments
    const first = segments[0]!
    // Most patterns begin with text, and most keys with another one.
    if (first[0]?.is === 'literal' && !holdsAt(text, 0, first[0].bytes)) return false
    const scan = new Scan(text)
    let at = scan.endOf(first, 0)
    if (segments.length === 1) return at === text.length
    if (at === -1) return false
    for (let index = 1; index < segments.length - 1; index++) {
      at = scan.find(segments[index]!, at)
      if (scan.stepsLeft <= 0) return ifTooCostly
      if (at === -1) return false
    }
    return scan.startOf(segments.at(-1)!) >= at
  }
}

/** One match: the text, and how much more may be done for it. */
class Scan {
  stepsLeft = GLOB_STEPS_MAX
  readonly #text: Buffer
  readonly #isUtf8: boolean

  constructor(text: Buffer) {
    this.#text = text
    this.#isUtf8 = isUtf8(text)
  }

  /** Where `segment` ends that begins at `at`, or -1. */
  endOf(segment: readonly Element[], at: number): number {
    const text = this.#text
    for (const element of segment) {
      this.stepsLeft--
      if (element.is === 'literal') {
        this.stepsLeft -= element.bytes.length
        if (!holdsAt(text, at, element.bytes)) return -1
        at += element.bytes.length
      } else {
        if (at >= text.length || (element.is === 'class' && !this.#isIn(element, at))) return -1
        at = this.#next(at)
      }
    }
    return at
  }

  /** The end of the first `segment` from `at` on, or -1. */
  find(segment: readonly Element[], at: number): number {
    const only = segment[0]!
    if (segment.length === 1 && only.is === 'literal') {
      const start = this.#text.indexOf(only.bytes, at)
      return start === -1 ? -1 : start + only.bytes.length
    }
    for (let start = at; start <= this.#text.length && this.stepsLeft > 0; start = this.#next(start)) {
      const end = this.endOf(segment, start)
      if (end !== -1) return end
    }
    return -1
  }

  /** Where `segment` begins that ends with the text, or -1. */
  startOf(segment: readonly Element[]): number {
    let at = this.#text.length
    for (let index = segment.length - 1; index >= 0; index--) {
      const element = segment[index]!
      if (element.is === 'literal') {
        at -= element.bytes.length
        if (at < 0 || !holdsAt(this.#text, at, element.bytes)) return -1
      } else {
        if (at <= 0) return -1
        at = this.#previous(at)
        if (element.is === 'class' && !this.#isIn(element, at)) return -1
      }
    }
    return at
  }

  #next(at: number): number {
    at++
    while (this.#isUtf8 && isContinuation(this.#text[at])) at++
    return at
  }

  #previous(at: number): number {
    at--
    while (this.#isUtf8 && isContinuation(this.#text[at])) at--
    return at
  }

  #isIn({ isNegated, ranges }: CharacterClass, at: number): boolean {
    const code = this.#codeAt(at)
    return ranges.some(([from, to]) => code >= from && code <= to) !== isNegated
  }

  #codeAt(at: number): number {
    const byte = this.#text[at]!
    if (byte < 0x80) return byte
    return this.#isUtf8 ? this.#text.toString('utf8', at, this.#next(at)).codePointAt(0)! : NO_CHARACTER
  }
}

const NO_CHARACTER = -1

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80
}

function holdsAt(text: Buffer, at: number, bytes: Uint8Array): boolean {
  const { length } = bytes
  if (at + length > text.length) return false
  for (let i = 0; i < length; i++) if (text[at + i] !== bytes[i]) return false
  return true
}
