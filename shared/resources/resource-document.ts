import { z } from 'zod'
import { suggestion } from '../config/nearest.ts'

/** Names and indices from the document's root to a field. */
export type FieldPath = readonly PropertyKey[]

/** Faults, and warnings, of one document that are told; whoever has that many has the wrong file. Each is sought in it, so that all of them could take long. */
export const FINDINGS_MAX = 100

/** A resource as somebody wrote it: its plain value, and the words for where each field of it stands. */
export abstract class ResourceDocument {
  /** Untrusted. */
  abstract readonly value: unknown

  /** `file:line` of the field, or of the nearest thing around it when it is absent; `Kind namespace/name` for an object of Kubernetes. */
  abstract whereOf(path: FieldPath): string

  /** `where: field: message` */
  fault(path: FieldPath, message: string): string {
    const field = fieldText(path)
    return `${this.whereOf(path)}: ${field === '' ? '' : `${field}: `}${message}`
  }

  /** Whether the value has the field, whatever is in it. */
  has(path: FieldPath): boolean {
    let at = this.value
    for (const part of path) {
      if (typeof at !== 'object' || at === null || !Object.hasOwn(at, part)) return false
      at = (at as Record<PropertyKey, unknown>)[part]
    }
    return true
  }

  /** The value as `schema` reads it, or null with a fault for everything that is wrong. */
  check<T>(schema: z.ZodType<T>, faults: string[]): T | null {
    const result = schema.safeParse(this.value)
    if (result.success) return result.data
    const found: string[] = []
    for (const issue of result.error.issues) {
      if (found.length >= FINDINGS_MAX) break
      found.push(...this.#issueFaults(schema, issue))
    }
    faults.push(...found)
    return null
  }

  #issueFaults(schema: z.ZodType, issue: z.core.$ZodIssue): readonly string[] {
    if (issue.code !== 'unrecognized_keys') return [this.fault(issue.path, messageOf(issue))]
    const names = fieldsAt(schema, issue.path)
    return issue.keys.slice(0, FINDINGS_MAX).map(key => {
      const hint = suggestion(key, names)
      return this.fault([...issue.path, key], `there is no such field${hint === '' ? `; allowed: ${names.join(', ')}` : hint}`)
    })
  }
}

/** An object that came as JSON: no file, no lines. */
export class JsonDocument extends ResourceDocument {
  readonly value: unknown
  readonly #where: string

  /** @param where `Kind namespace/name` */
  constructor(value: unknown, where: string) {
    super()
    this.value = value
    this.#where = where
  }

  override whereOf(): string {
    return this.#where
  }
}

function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'too_small') return 'needs at least one entry'
  if (issue.code !== 'invalid_type') return issue.message
  const wanted = { object: 'fields', array: 'a list', string: 'text', record: 'fields' }[issue.expected as string] ?? issue.expected
  return issue.input === undefined && issue.message.endsWith('undefined') ? `is missing: expected ${wanted}` : `expected ${wanted}`
}

/** `spec.ports[0].tls` */
function fieldText(path: FieldPath): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`)).join('')
}

/** Names that the object at `path` may have. */
function fieldsAt(schema: z.ZodType, path: FieldPath): readonly string[] {
  let at: unknown = schema
  for (const part of path) {
    at = bare(at)
    if (at instanceof z.ZodObject) at = (at.shape as Record<PropertyKey, unknown>)[part]
    else if (at instanceof z.ZodArray) at = at.element
    else if (at instanceof z.ZodRecord) at = at.valueType
    else return []
  }
  at = bare(at)
  return at instanceof z.ZodObject ? Object.keys(at.shape as object) : []
}

function bare(schema: unknown): unknown {
  return schema instanceof z.ZodOptional ? bare(schema.unwrap()) : schema
}
