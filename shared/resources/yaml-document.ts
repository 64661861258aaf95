import { type Document, isMap, isNode, isScalar, LineCounter, parseAllDocuments } from 'yaml'
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

/** All documents of a file that hold something; syntax errors, with their lines, go to `faults`. */
export function readYaml(file: string, source: string, faults: string[]): readonly YamlDocument[] {
  const lines = new LineCounter()
  const documents: YamlDocument[] = []
  for (const document of parse(file, source, lines, faults)) {
    for (const error of document.errors) faults.push(`${file}:${lines.linePos(error.pos[0]).line}: ${error.message}`)
    if (document.errors.length > 0) continue
    try {
      const found = new YamlDocument(file, document, lines)
      if (found.value !== null) documents.push(found)
    } catch (error) {
      // Too many aliases: a small file that would unfold into a huge value.
      faults.push(`${file}:1: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return documents
}

/** The parser recurses into what is nested: a file of brackets alone ends in a RangeError, which is the file's fault. */
function parse(file: string, source: string, lines: LineCounter, faults: string[]): readonly Document[] {
  try {
    const parsed = parseAllDocuments(source, { lineCounter: lines, prettyErrors: false })
    return Array.isArray(parsed) ? parsed : []
  } catch (error) {
    faults.push(
      `${file}:1: ${error instanceof RangeError ? 'is nested too deeply' : error instanceof Error ? error.message : String(error)}`,
    )
    return []
  }
}
