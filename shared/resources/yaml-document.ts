import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseAllDocuments } from 'yaml'
import { thrownText } from '../base/thrown.ts'
import { type PlainYaml, readPlainYaml } from './plain-yaml.ts'
import { type FieldPath, ResourceDocument } from './resource-document.ts'

/** One document of a YAML file that can say where in the file each of its fields stands. */
export abstract class YamlDocument extends ResourceDocument {
  readonly file: string
  /** Plain value of the whole document. */
  abstract override readonly value: unknown

  constructor(file: string) {
    super()
    this.file = file
  }

  override whereOf(path: FieldPath): string {
    return `${this.file}:${this.lineOf(path)}`
  }

  /** Line of the field, or of the nearest thing around it. */
  abstract lineOf(path: FieldPath): number
}

/** Read without the library, which is asked only where a field deep in it stands: for a fault. */
class PlainDocument extends YamlDocument {
  readonly value: unknown
  readonly #plain: PlainYaml
  readonly #parsed: () => YamlDocument | undefined

  /** @param parsed the same document as the library reads it */
  constructor(file: string, plain: PlainYaml, parsed: () => YamlDocument | undefined) {
    super(file)
    this.value = plain.value
    this.#plain = plain
    this.#parsed = parsed
  }

  override lineOf(path: FieldPath): number {
    const known = path.length === 0 ? this.#plain.line : this.#plain.lines.get(path.join('\0'))
    return known ?? this.#parsed()?.lineOf(path) ?? this.#plain.line
  }
}

class ParsedDocument extends YamlDocument {
  readonly value: unknown
  readonly #document: Document
  readonly #lines: LineCounter

  /** @throws {ReferenceError} aliases that unfold into too much */
  constructor(file: string, document: Document, lines: LineCounter) {
    super(file)
    this.#document = document
    this.#lines = lines
    this.value = document.toJS()
  }

  override lineOf(path: FieldPath): number {
    return this.#lines.linePos(this.#offsetOf(path)).line
  }

  #offsetOf(path: FieldPath): number {
    for (let length = path.length; length > 0; length--) {
      const offset = this.#offsetOfExactly(path.slice(0, length))
      if (offset !== undefined) return offset
    }
    return this.#document.contents?.range?.[0] ?? 0
  }

  #offsetOfExactly(path: FieldPath): number | undefined {
    const key = path.at(-1)
    const parent: unknown = path.length === 1 ? this.#document.contents : this.#document.getIn(path.slice(0, -1), true)
    if (isMap(parent)) {
      for (const { key: name } of parent.items) if (isScalar(name) && name.value === key) return name.range?.[0]
      return undefined
    }
    const node: unknown = this.#document.getIn(path, true)
    return isNode(node) ? node.range?.[0] : undefined
  }
}

/** Faults of syntax that are told of one file; whoever has that many has the wrong file. */
const SYNTAX_FAULTS_MAX = 20

/** Of one file. Whoever has more has the wrong file, and to say so of each of them would take long. */
export const DOCUMENTS_MAX = 20_000

/** From so many characters on it is worth while to try without the library first. */
export const PLAIN_CHARS_MIN = 65_536

/** All documents of a file that hold something; syntax errors, with their lines, go to `faults`. */
export function readYaml(file: string, source: string, faults: string[]): readonly YamlDocument[] {
  if (hasTooManyDocuments(source)) {
    faults.push(`${file}:1: more than ${DOCUMENTS_MAX} documents`)
    return []
  }
  const plain = source.length < PLAIN_CHARS_MIN ? null : readPlainYaml(source)
  if (plain === null) return parseYaml(file, source, faults)
  let parsed: readonly YamlDocument[] | null = null
  return plain.map((one, index) => new PlainDocument(file, one, () => (parsed ??= parseYaml(file, source, []))[index]))
}

function hasTooManyDocuments(source: string): boolean {
  let count = 0
  for (let at = source.startsWith('---') ? 0 : source.indexOf('\n---'); at !== -1; at = source.indexOf('\n---', at + 1)) {
    if (++count > DOCUMENTS_MAX) return true
  }
  return false
}

/** The same, by the library alone. */
export function parseYaml(file: string, source: string, faults: string[]): readonly YamlDocument[] {
  const lines = new LineCounter()
  const documents: YamlDocument[] = []
  const found = new Set<string>()
  for (const document of parse(source, lines, message => found.add(`${file}:1: ${message}`))) {
    for (const error of syntaxErrors(document)) {
      if (found.size < SYNTAX_FAULTS_MAX) found.add(`${file}:${lines.linePos(error.at).line}: ${error.message}`)
    }
    if (found.size > 0) continue
    try {
      const read = new ParsedDocument(file, document, lines)
      if (read.value !== null) documents.push(read)
    } catch (error) {
      // Too many aliases: a small file that would unfold into a huge value.
      found.add(`${file}:1: ${messageOf(error)}`)
    }
  }
  faults.push(...found)
  return documents
}

/** The parser's own check that keys are unique compares each with all before it; ours is `repeatedKeys`. */
function parse(source: string, lines: LineCounter, onFault: (message: string) => void): readonly Document[] {
  try {
    const parsed = parseAllDocuments(source, { lineCounter: lines, prettyErrors: false, uniqueKeys: false })
    return Array.isArray(parsed) ? parsed : []
  } catch (error) {
    onFault(messageOf(error))
    return []
  }
}

interface SyntaxFault {
  /** Offset in the file. */
  readonly at: number
  readonly message: string
}

function syntaxErrors(document: Document): readonly SyntaxFault[] {
  if (document.errors.length === 0) return repeatedKeys(document)
  return document.errors.map(error => ({ at: error.pos[0], message: messageOf(error) }))
}

/** The parser recurses into what is nested; a file of brackets alone exhausts the stack, and that is the file's fault. */
function messageOf(error: unknown): string {
  const message = thrownText(error)
  return message.includes('call stack') ? 'is nested too deeply' : message
}

/** Keys that stand twice in one map: which of the two counts would be a guess. Without recursion. */
function repeatedKeys(document: Document): readonly SyntaxFault[] {
  const faults: SyntaxFault[] = []
  const open: unknown[] = [document.contents]
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (isSeq(node)) for (const item of node.items) open.push(item ?? null)
    if (!isMap(node)) continue
    const seen = new Set<unknown>()
    for (const { key, value } of node.items) {
      open.push(value ?? null)
      if (!isScalar(key)) continue
      if (seen.has(key.value)) faults.push({ at: key.range?.[0] ?? 0, message: 'Map keys must be unique' })
      seen.add(key.value)
    }
  }
  return faults.sort((a, b) => a.at - b.at)
}
