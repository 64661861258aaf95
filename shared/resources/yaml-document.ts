import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseAllDocuments } from 'yaml'
import { type FieldPath, ResourceDocument } from './resource-document.ts'

/** One document of a YAML file that can say where in the file each of its fields stands. */
export class YamlDocument extends ResourceDocument {
  readonly file: string
  /** Plain value of the whole document. */
  readonly value: unknown
  readonly #document: Document
  readonly #lines: LineCounter

  /** @throws {ReferenceError} aliases that unfold into too much */
  constructor(file: string, document: Document, lines: LineCounter) {
    super()
    this.file = file
    this.#document = document
    this.#lines = lines
    this.value = document.toJS()
  }

  override whereOf(path: FieldPath): string {
    return `${this.file}:${this.#lines.linePos(this.#offsetOf(path)).line}`
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

/** All documents of a file that hold something; syntax errors, with their lines, go to `faults`. */
export function readYaml(file: string, source: string, faults: string[]): readonly YamlDocument[] {
  const lines = new LineCounter()
  const documents: YamlDocument[] = []
  const found = new Set<string>()
  for (const document of parse(source, lines, message => found.add(`${file}:1: ${message}`))) {
    for (const error of syntaxErrors(document)) {
      if (found.size < SYNTAX_FAULTS_MAX) found.add(`${file}:${lines.linePos(error.at).line}: ${error.message}`)
    }
    if (found.size > 0) continue
    try {
      const read = new YamlDocument(file, document, lines)
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
  const message = error instanceof Error ? error.message : String(error)
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
