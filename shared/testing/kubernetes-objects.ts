import { EventEmitter } from 'node:events'
import { isDeepStrictEqual } from 'node:util'
import { type Clock, systemClock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import type { KubernetesObject } from '../kubernetes/kubernetes-object.ts'

/** Kinds that the stand-in serves, by `GROUP/VERSION/PLURAL` as it stands in a path. */
const KINDS: Readonly<Record<string, string>> = {
  'v1/secrets': 'Secret',
  'v1/configmaps': 'ConfigMap',
  'v1/serviceaccounts': 'ServiceAccount',
  'v1/pods': 'Pod',
  'mqttbroker.iotoperations.azure.com/v1/brokers': 'Broker',
  'mqttbroker.iotoperations.azure.com/v1/brokerlisteners': 'BrokerListener',
  'mqttbroker.iotoperations.azure.com/v1/brokerauthentications': 'BrokerAuthentication',
  'mqttbroker.iotoperations.azure.com/v1/brokerauthorizations': 'BrokerAuthorization',
  'cert-manager.io/v1/certificates': 'Certificate',
}

export interface StoredEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly revision: number
  readonly collection: string
  readonly object: KubernetesObject
}

/** An answer of the API that is no success: its HTTP status and the `reason` of the Status object. */
export class ApiRefusal extends Error {
  readonly status: number
  readonly reason: string

  constructor(status: number, reason: string, message: string) {
    super(message)
    this.status = status
    this.reason = reason
  }
}

/** Kind of a collection, null when the stand-in does not serve it. */
export function kindOf(collection: string): string | null {
  return KINDS[collection] ?? null
}

export function collectionOf(kind: string): string {
  const found = Object.entries(KINDS).find(([, each]) => each === kind)
  if (found === undefined) throw new Error(`the stand-in of the Kubernetes API does not know the kind ${kind}`)
  return found[0]
}

/** What the stand-in remembers: objects, one revision for all of them, and the events since the last compaction. */
export class KubernetesObjects {
  readonly #objects = new Map<string, KubernetesObject>()
  readonly #clock: Clock
  readonly events = new EventEmitter<{ event: [StoredEvent] }>()
  #history: StoredEvent[] = []
  #revision = 1_000
  #compacted = 0

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
    this.events.setMaxListeners(0)
  }

  get revision(): number {
    return this.#revision
  }

  /** Events after `revision`; null when they are not remembered any more (410). */
  since(revision: number): readonly StoredEvent[] | null {
    return revision < this.#compacted ? null : this.#history.filter(event => event.revision > revision)
  }

  /** Forgets all events so far, as etcd does every few minutes: who watches from an older revision gets 410. */
  compact(): void {
    this.#history = []
    // Without a step a watcher that has everything could not be told from one that has missed something.
    this.#compacted = ++this.#revision
  }

  list(collection: string, namespace: string | null, name: string | null): readonly KubernetesObject[] {
    const start = namespace === null ? `${collection}|` : `${collection}|${namespace}|`
    return [...this.#objects]
      .filter(([key, object]) => key.startsWith(start) && (name === null || object.metadata.name === name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object)
  }

  get(collection: string, namespace: string, name: string): KubernetesObject | null {
    return this.#objects.get(keyOf(collection, namespace, name)) ?? null
  }

  /** @throws {ApiRefusal} 404 */
  mustGet(collection: string, namespace: string, name: string): KubernetesObject {
    const found = this.get(collection, namespace, name)
    if (found === null) throw new ApiRefusal(404, 'NotFound', `${resourceOf(collection)} "${name}" not found`)
    return found
  }

  /** @throws {ApiRefusal} 409 AlreadyExists */
  create(collection: string, namespace: string, given: KubernetesObject): KubernetesObject {
    const { name } = given.metadata
    if (this.get(collection, namespace, name) !== null) {
      throw new ApiRefusal(409, 'AlreadyExists', `${resourceOf(collection)} "${name}" already exists`)
    }
    const metadata = {
      ...given.metadata,
      namespace,
      uid: systemRandom.uuid(),
      generation: 1,
      creationTimestamp: new Date(this.#clock.wallMs()).toISOString(),
    }
    return this.#store('ADDED', collection, { ...given, metadata })
  }

  /**
   * Replaces the object, or with `part` status its status alone (a subresource: the rest of what is sent is ignored, and the other way round).
   * @throws {ApiRefusal} 404; 409 Conflict when a resourceVersion is sent and is not that of the object
   */
  replace(collection: string, namespace: string, given: KubernetesObject, part: 'object' | 'status'): KubernetesObject {
    const { name, resourceVersion } = given.metadata
    const before = this.mustGet(collection, namespace, name)
    if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
      const what = `Operation cannot be fulfilled on ${resourceOf(collection)} "${name}"`
      throw new ApiRefusal(409, 'Conflict', `${what}: the object has been modified; please apply your changes to the latest version`)
    }
    const { uid, resourceVersion: version, generation, creationTimestamp } = before.metadata
    const kept = { uid, namespace, resourceVersion: version, generation, creationTimestamp }
    const status = given['status']
    const after: KubernetesObject =
      part === 'status'
        ? { ...before, ...(status !== undefined && { status }) }
        : { ...given, ...(before['status'] !== undefined && { status: before['status'] }), metadata: { ...given.metadata, ...kept } }
    if (isDeepStrictEqual(after, before)) return before
    const isNewSpec = !isDeepStrictEqual(after['spec'], before['spec'])
    const metadata = { ...after.metadata, ...(isNewSpec && { generation: (generation ?? 0) + 1 }) }
    return this.#store('MODIFIED', collection, { ...after, metadata })
  }

  /** @throws {ApiRefusal} 404 */
  delete(collection: string, namespace: string, name: string): KubernetesObject {
    const object = this.mustGet(collection, namespace, name)
    this.#objects.delete(keyOf(collection, namespace, name))
    return this.#record('DELETED', collection, object)
  }

  #store(type: StoredEvent['type'], collection: string, object: KubernetesObject): KubernetesObject {
    const stored = this.#record(type, collection, object)
    this.#objects.set(keyOf(collection, stored.metadata.namespace ?? '', stored.metadata.name), stored)
    return stored
  }

  #record(type: StoredEvent['type'], collection: string, given: KubernetesObject): KubernetesObject {
    const revision = ++this.#revision
    const object = structuredClone({ ...given, metadata: { ...given.metadata, resourceVersion: String(revision) } })
    const event = { type, revision, collection, object }
    this.#history.push(event)
    // Listeners see the store as it is after the event.
    queueMicrotask(() => this.events.emit('event', event))
    return object
  }
}

/** JSON Merge Patch (RFC 7386). */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch
  const merged: Record<string, unknown> = isRecord(target) ? { ...target } : {}
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name]
    else merged[name] = mergePatch(merged[name], value)
  }
  return merged
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function keyOf(collection: string, namespace: string, name: string): string {
  return `${collection}|${namespace}|${name}`
}

/** `secrets`, `brokers.mqttbroker.iotoperations.azure.com`: how the API's messages name a collection. */
export function resourceOf(collection: string): string {
  const parts = collection.split('/')
  return parts.length === 2 ? parts[1]! : `${parts[2]!}.${parts[0]!}`
}
