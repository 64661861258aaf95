export interface KubernetesMetadata {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  /** Grows with each change of `spec`. */
  readonly generation?: number
  /** RFC 3339, so that texts sort as times do. */
  readonly creationTimestamp?: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly [field: string]: unknown
}

/** An object of the Kubernetes API. */
export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: KubernetesMetadata
  readonly [field: string]: unknown
}

/** What kind of objects: items of a list of the core group come without it. */
export interface ObjectKind {
  readonly apiVersion: string
  readonly kind: string
}

/**
 * What an API server sent, as an object with name and version; null when it is none. Who wrote which field is left out: nobody reads it, and of a large
 * object it is half.
 */
export function readObject(value: unknown, { apiVersion, kind }: ObjectKind): KubernetesObject | null {
  const metadata = fieldsOf(fieldsOf(value)['metadata'])
  const { name, resourceVersion, managedFields: _fields, ...others } = metadata
  if (typeof name !== 'string' || typeof resourceVersion !== 'string') return null
  return { ...fieldsOf(value), apiVersion, kind, metadata: { ...others, name, resourceVersion } }
}

/** Fields of what came from outside; none when it is no object. */
export function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}
