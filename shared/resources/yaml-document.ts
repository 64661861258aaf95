import { type Document, isMap, isNode, isScalar, LineCounter, parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { suggestion } from '../config/nearest.ts'

type Path = readonly PropertyKey[]

/** One document of a YAML file that can say where in the file each of its fields stands. */
export class YamlDocument {
  readonly file: string
  /** Plain value of the whole document. */
  readonly value: unknown
  readonly #document: Document
  readonly #lines: LineCounter

  constructor(file: string, document: Document, lines: LineCounter) {
    this.file = file
    this.#document = document
    this.#lines = lines
    this.value = document.toJS()
  }

  /** `file:line: field: message` */
  fault(path: Path, message: string): string {
    const field = fieldText(path)
    return `${this.file}:${this.lineOf(path)}: ${field === '' ? '' : `${field}: `}${message}`
  }

  /** Line of the field, or of the nearest thing around it when it is absent. */
  lineOf(path: Path): number {
    return this.#lines.linePos(this.#offsetOf(path)).line
  }

  /** The value as `schema` reads it, or null with a fault for everything that is wrong. */
  check<T>(schema: z.ZodType<T>, faults: string[]): T | null {
    const result = schema.safeParse(this.value)
    if (result.success) return result.data
    for (const issue of result.error.issues) faults.push(...this.#issueFaults(schema, issue))
    return null
  }

  #issueFaults(schema: z.ZodType, issue: z.core.$ZodIssue): readonly string[] {
    if (issue.code !== 'unrecognized_keys') return [this.fault(issue.path, messageOf(issue))]
    const names = fieldsAt(schema, issue.path)
    return issue.keys.map(key => {
      const hint = suggestion(key, names)
      return this.fault([...issue.path, key], `there is no such field${hint === '' ? `; allowed: ${names.join(', ')}` : hint}`)
    })
  }

  #offsetOf(path: Path): number {
    for (let length = path.length; length > 0; length--) {
      const offset = this.#offsetOfExactly(path.slice(0, length))
      if (offset !== undefined) return offset
    }
    return this.#document.contents?.range?.[0] ?? 0
  }

  #offsetOfExactly(path: Path): number | undefined {
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
  const parsed = parseAllDocuments(source, { lineCounter: lines, prettyErrors: false })
  if (!Array.isArray(parsed)) return []
  for (const document of parsed) {
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

function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_type') return issue.message
  const wanted = { object: 'fields', array: 'a list', string: 'text', record: 'fields' }[issue.expected as string] ?? issue.expected
  return issue.input === undefined && issue.message.endsWith('undefined') ? `is missing: expected ${wanted}` : `expected ${wanted}`
}

/** `spec.ports[0].tls` */
function fieldText(path: Path): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`)).join('')
}

/** Names that the object at `path` may have. */
function fieldsAt(schema: z.ZodType, path: Path): readonly string[] {
  let at: unknown = schema
  for (const part of path) {
    at = bare(at)
    if (at instanceof z.ZodObject) at = (at.shape as Record<PropertyKey, unknown>)[part]
    else if (at instanceof z.ZodArray) at = at.element
    else return []
  }
  at = bare(at)
  return at instanceof z.ZodObject ? Object.keys(at.shape as object) : []
}

function bare(schema: unknown): unknown {
  return schema instanceof z.ZodOptional ? bare(schema.unwrap()) : schema
}
