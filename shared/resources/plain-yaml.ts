/*
 * The YAML that policies are written in, without the rest of YAML: maps and lists in block style, lists of scalars in brackets, scalars of one
 * line, comments on lines of their own. 10,000 rules take 0.1 s here and 1.5 s in the library, all of it on the thread that serves clients.
 * Whatever is not plainly of this kind is left to the library, faults as well; what is read here is what the library would have read, which
 * the tests hold both to.
 */

/** A document that was read here, and where in the file its upper fields stand. */
export interface PlainYaml {
  readonly value: object
  /** Of the first field. */
  readonly line: number
  /** Names of the first two levels (`kind`, `metadata.name` as `metadata\0name`) → line. */
  readonly lines: ReadonlyMap<string, number>
}

/** Printable ASCII and line feeds. */
const READABLE = /^[\n\x20-\x7e]*$/
/** No quotes, no tags, no numbers; a colon and nothing but blanks, or blanks and a value, behind it. */
const FIELD = /^([A-Za-z_][\w./-]{0,199}):(?: +([^ ].*))?$/
/** What needs no quotes and is neither a number nor anything else than text. */
const PLAIN = /^[A-Za-z_/$](?:[\w./+*@=$~<>()-]|:(?=[\w./+*@=$~<>()-])| (?=[\w./+*@=$~<>()-]))*$/
const PLAIN_IN_BRACKETS = /^[A-Za-z_/$][\w./+*@=$~-]*$/
const WORDS_OF_YAML = /^(?:null|true|false)$/i
const WHOLE_NUMBER = /^(?:0|[1-9]\d{0,14})$/
const SINGLE_QUOTED = /^'((?:[^']|'')*)'$/
const DOUBLE_QUOTED = /^"([^"\\]*)"$/
/** One entry of a list in brackets, and what ends it. */
const ENTRY = / *('(?:[^']|'')*'|"[^"\\]*"|[^ ,'"[\]{}]+) *([,\]])/y

/** Deeper than any resource is. */
const DEPTH_MAX = 32

/** All documents of a file; null when the library has to say what is in it. Linear in the length of `source`. */
export function readPlainYaml(source: string): readonly PlainYaml[] | null {
  if (!READABLE.test(source)) return null
  const documents: PlainYaml[] = []
  let lines: Line[] = []
  const end = (): boolean => {
    if (lines.length === 0) return true
    const document = new BlockReader(lines).document()
    lines = []
    if (document !== null) documents.push(document)
    return document !== null
  }
  for (const [index, raw] of source.split('\n').entries()) {
    const text = raw.trimStart()
    if (text === '' || text.startsWith('#')) continue
    if (text.endsWith(' ')) return null
    if (raw !== '---') lines.push({ number: index + 1, indent: raw.length - text.length, text })
    else if (!end()) return null
  }
  return end() ? documents : null
}

interface Line {
  readonly number: number
  indent: number
  text: string
}

/** It is not plain. Thrown and caught in this file alone. */
class NotPlain extends Error {}

class BlockReader {
  readonly #lines: readonly Line[]
  readonly #found = new Map<string, number>()
  #at = 0
  #depth = 0

  constructor(lines: readonly Line[]) {
    this.#lines = lines
  }

  document(): PlainYaml | null {
    const { number } = this.#lines[0]!
    try {
      const value = this.#node()
      if (typeof value !== 'object' || Array.isArray(value) || this.#at < this.#lines.length) return null
      return { value, line: number, lines: this.#found }
    } catch (error) {
      if (error instanceof NotPlain) return null
      throw error
    }
  }

  /** What begins at this line. */
  #node(path: readonly string[] = []): string | number | object {
    const line = this.#lines[this.#at]!
    if (++this.#depth > DEPTH_MAX) throw new NotPlain()
    const value = isItem(line) ? this.#list(line.indent) : FIELD.test(line.text) ? this.#map(line.indent, path) : this.#alone(line)
    this.#depth--
    return value
  }

  #alone({ text }: Line): string | number | object {
    this.#at++
    return valueOf(text)
  }

  #map(indent: number, path: readonly string[]): object {
    const map: Record<string, unknown> = {}
    for (let line = this.#lineAt(indent); line !== null && !isItem(line); line = this.#lineAt(indent)) {
      const [, name, text] = FIELD.exec(line.text) ?? []
      if (name === undefined || name === '__proto__' || WORDS_OF_YAML.test(name) || Object.hasOwn(map, name)) throw new NotPlain()
      const own = [...path, name]
      if (own.length <= 2 && this.#depth <= 2) this.#found.set(own.join('\0'), line.number)
      this.#at++
      map[name] = text === undefined ? this.#below(indent, own) : valueOf(text)
    }
    return map
  }

  /** The value of a field that has none on its line: deeper, or a list that begins where the field does. */
  #below(indent: number, path: readonly string[]): string | number | object {
    const line = this.#lines[this.#at]
    if (line === undefined || line.indent < indent || (line.indent === indent && !isItem(line))) throw new NotPlain()
    return this.#node(path)
  }

  #list(indent: number): unknown[] {
    const list: unknown[] = []
    for (let line = this.#lineAt(indent); line !== null && isItem(line); line = this.#lineAt(indent)) {
      const text = line.text.slice(1).trimStart()
      if (text === '') throw new NotPlain()
      // What an item begins with stands as deep as its text does.
      line.indent += line.text.length - text.length
      line.text = text
      list.push(this.#node(['']))
    }
    return list
  }

  /** The present line when it belongs to what stands at `indent`; null when that has ended. */
  #lineAt(indent: number): Line | null {
    const line = this.#lines[this.#at]
    if (line === undefined || line.indent < indent) return null
    if (line.indent > indent) throw new NotPlain()
    return line
  }
}

function isItem({ text }: Line): boolean {
  return text.startsWith('- ') || text === '-'
}

/** @throws {NotPlain} */
function valueOf(text: string): string | number | object {
  return text.startsWith('[') ? bracketed(text) : scalar(text, PLAIN)
}

function scalar(text: string, plain: RegExp): string | number {
  const single = SINGLE_QUOTED.exec(text)
  if (single !== null) return single[1]!.replaceAll("''", "'")
  const double = DOUBLE_QUOTED.exec(text)
  if (double !== null) return double[1]!
  if (WHOLE_NUMBER.test(text)) return Number(text)
  if (!plain.test(text) || WORDS_OF_YAML.test(text)) throw new NotPlain()
  return text
}

function bracketed(text: string): readonly (string | number)[] {
  const entries: (string | number)[] = []
  for (ENTRY.lastIndex = 1; ; ) {
    const found = ENTRY.exec(text)
    if (found === null) throw new NotPlain()
    entries.push(scalar(found[1]!, PLAIN_IN_BRACKETS))
    if (found[2] === ',') continue
    if (ENTRY.lastIndex !== text.length) throw new NotPlain()
    return entries
  }
}
