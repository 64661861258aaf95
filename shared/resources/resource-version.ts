import { createHash } from 'node:crypto'
import type { ResourceVersion } from './resource-snapshot.ts'

const DIGITS = 16

/** Version of a spec as its schema reads it: no matter how it was spelt, in which order its fields stood and where it came from. */
export function resourceVersion(spec: unknown): ResourceVersion {
  return createHash('sha256').update(canonicalJson(spec)).digest('hex').slice(0, DIGITS)
}

/** JSON with the names of every object in order, and without fields that are undefined. Schemas bound how deep a spec is. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(item => canonicalJson(item)).join()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const fields = Object.entries(value).filter(([, field]) => field !== undefined)
  fields.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonicalJson(field)}`).join()}}`
}

/** Version of what a Secret or ConfigMap holds, in whichever order its keys stand; null: there is none. */
export function contentVersion(keys: ReadonlyMap<string, string | Uint8Array> | null): ResourceVersion | null {
  if (keys === null) return null
  const hash = createHash('sha256')
  for (const [key, content] of [...keys].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const bytes = Buffer.from(content)
    hash.update(JSON.stringify([key, bytes.length])).update(bytes)
  }
  return hash.digest('hex').slice(0, DIGITS)
}
