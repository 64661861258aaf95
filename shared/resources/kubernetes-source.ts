import { createHash } from 'node:crypto'
import { assert } from '../base/assert.ts'
import { type Clock, systemClock } from '../base/clock.ts'
import { type Fractions, systemRandom } from '../base/random.ts'
import { systemTimers, type Timers } from '../base/timers.ts'
import { SettingsError } from '../config/settings-error.ts'
import { fieldsOf, type KubernetesObject } from '../kubernetes/kubernetes-object.ts'
import { ObjectWatch, type ObjectWatchParts } from '../kubernetes/object-watch.ts'
import type { KubernetesConnection } from '../kubernetes/open-kubernetes.ts'
import { StatusWriter } from '../kubernetes/status-writer.ts'
import type { Log } from '../telemetry/log.ts'
import { API_VERSION } from './api-group.ts'
import type { ResourceListener, ResourceSnapshot, ResourceSource, ResourceStatus } from './resource-snapshot.ts'
import { contentVersion } from './resource-version.ts'
import { SourceListeners } from './source-listeners.ts'
import { type References, referencesOf } from './source-references.ts'
import { type MountedObjects, ValidObjects } from './source-valid-objects.ts'

const RESOURCES: ReadonlyMap<string, string> = new Map([
  ['Broker', 'brokers'],
  ['BrokerListener', 'brokerlisteners'],
  ['BrokerAuthentication', 'brokerauthentications'],
  ['BrokerAuthorization', 'brokerauthorizations'],
])

/** How long `start` tries to reach an API server that is away. */
const START_TIMEOUT_MS = 60_000
/** Changes that come within this time make one snapshot. */
const COALESCE_MS = 100
const WATCH_SECONDS = 120
const NOT_INSTALLED = 'are the custom resource definitions installed?'
/** Secrets and ConfigMaps that are watched. The names come from custom resources; each costs the server a watch. */
const REFERENCES_MAX = 256

export interface KubernetesSourceOptions {
  readonly connection: KubernetesConnection
  readonly log: Log
  readonly clock?: Clock
  readonly timers?: Timers
  readonly random?: Fractions
  readonly watchSeconds?: number
}

type Start = { readonly resolve: () => void; readonly reject: (error: SettingsError) => void }

/**
 * Resources from the Kubernetes API: the four kinds of one namespace, and of its Secrets and ConfigMaps those that they refer to, each by its name.
 * An object with a fault stays in force as it was before, and its status says so; while the API server is away everything stays.
 * A snapshot is made when everything that its resources refer to has been asked for, so that a Secret that is there is not taken for
 * absent.
 */
export class KubernetesSource implements ResourceSource {
  readonly #namespace: string
  readonly #timers: Timers
  readonly #log: Log
  readonly #watchParts: ObjectWatchParts
  readonly #status: StatusWriter
  readonly #listeners = new SourceListeners()
  readonly #valid = new ValidObjects()
  readonly #kinds: readonly ObjectWatch[]
  /** By `secrets/NAME` and `configmaps/NAME`. */
  readonly #referred = new Map<string, ObjectWatch>()
  #current: ResourceSnapshot | null = null
  #digest = ''
  #refused: readonly string[] = []
  #start: Start | null = null
  #cancelUpdate: (() => void) | null = null
  #isStopped = false

  constructor(options: KubernetesSourceOptions) {
    const { connection, log, clock = systemClock, timers = systemTimers, random = systemRandom } = options
    const { requests, namespace } = connection
    this.#namespace = namespace
    this.#timers = timers
    this.#log = log
    this.#watchParts = {
      requests,
      timers,
      random,
      watchSeconds: options.watchSeconds ?? WATCH_SECONDS,
      onChange: () => this.#onChange(),
    }
    this.#kinds = [...RESOURCES].map(([kind, resource]) => this.#watch(API_VERSION, kind, resource, null))
    this.#status = new StatusWriter({
      requests,
      clock,
      timers,
      random,
      log,
      find: (kind, name) => this.#kinds.find(watch => watch.collection.kind === kind)?.objects.get(name) ?? null,
      resourceOf: kind => RESOURCES.get(kind)!,
    })
  }

  get current(): ResourceSnapshot {
    assert(this.#current !== null, 'a source is asked before it was started')
    return this.#current
  }

  async start(): Promise<void> {
    let cancelTimeout = (): void => undefined
    try {
      await new Promise<void>((resolve, reject) => {
        this.#start = { resolve, reject }
        cancelTimeout = this.#timers.after(START_TIMEOUT_MS, () => {
          const troubles = this.#troubles()
          reject(new SettingsError(troubles.length > 0 ? troubles : ['Kubernetes API: does not answer']))
        })
        for (const watch of this.#kinds) watch.start()
      })
    } catch (error) {
      await this.stop()
      throw error
    } finally {
      cancelTimeout()
      this.#start = null
    }
  }

  listen(listener: ResourceListener): () => void {
    return this.#listeners.add(listener)
  }

  report({ kind, name, ...condition }: ResourceStatus): void {
    this.#status.report(kind, name, condition)
  }

  impaired(): readonly string[] {
    return [...this.#troubles(), ...this.#refused]
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelUpdate?.()
    for (const watch of this.#watches()) watch.stop()
    this.#status.stop()
    return await Promise.resolve()
  }

  #watch(apiVersion: string, kind: string, resource: string, name: string | null): ObjectWatch {
    return new ObjectWatch({ apiVersion, kind, resource, name, namespace: this.#namespace }, this.#watchParts)
  }

  #watches(): readonly ObjectWatch[] {
    return [...this.#kinds, ...this.#referred.values()]
  }

  #troubles(): readonly string[] {
    return [...new Set(this.#watches().flatMap(({ trouble }) => (trouble === null ? [] : [trouble.text])))]
  }

  #onChange(): void {
    if (this.#isStopped) return
    const refusals = this.#start === null ? [] : this.#watches().flatMap(({ trouble }) => (trouble === null ? [] : [trouble]))
    const texts = refusals.flatMap(({ refusal, text }) => (refusal === null ? [] : [refusal === 404 ? `${text} (${NOT_INSTALLED})` : text]))
    if (texts.length > 0) return this.#start?.reject(new SettingsError(texts))
    if (this.#cancelUpdate !== null) return
    // Nobody waits for the rest of a burst at the start: everything has been listed then.
    this.#cancelUpdate = this.#timers.after(this.#current === null ? 0 : COALESCE_MS, () => {
      this.#cancelUpdate = null
      this.#update()
    })
  }

  #update(): void {
    if (!this.#kinds.every(watch => watch.isListed)) return
    const objects = this.#kinds.flatMap(watch => [...watch.objects.values()])
    const mounted = this.#mounted()
    const snapshot = this.#valid.read(objects, mounted, this.#current)
    // What was in force is still asked for its Secrets until the next snapshot takes its place.
    const references = referencesOf(snapshot)
    if (!this.#follow(references)) return
    for (const [key, watch] of this.#referred) {
      if (isReferred(references, watch)) continue
      watch.stop()
      this.#referred.delete(key)
    }
    this.#take(snapshot, digestOf(snapshot, references))
    this.#reportAccepted(objects, snapshot)
  }

  /** Watches what is referred to. @returns whether all of it has been asked for: an object that we may not read counts as absent */
  #follow(references: References): boolean {
    const wanted = [
      ...[...references.secrets].map(name => ['secrets', 'Secret', name] as const),
      ...[...references.configMaps].map(name => ['configmaps', 'ConfigMap', name] as const),
    ]
    if (wanted.length > REFERENCES_MAX)
      this.#log.warn('kubernetes_references_over_limit', { references: wanted.length, max: REFERENCES_MAX })
    for (const [resource, kind, name] of wanted.slice(0, REFERENCES_MAX)) {
      const key = `${resource}/${name}`
      if (this.#referred.has(key)) continue
      const watch = this.#watch('v1', kind, resource, name)
      this.#referred.set(key, watch)
      watch.start()
    }
    return [...this.#referred.values()].every(watch => watch.isListed || watch.trouble !== null)
  }

  #mounted(): MountedObjects {
    const secrets = new Map<string, ReadonlyMap<string, Uint8Array>>()
    const configMaps = new Map<string, ReadonlyMap<string, string>>()
    for (const { objects } of this.#referred.values()) {
      for (const object of objects.values()) {
        if (object.kind === 'Secret') secrets.set(object.metadata.name, bytesOf(object))
        else configMaps.set(object.metadata.name, textsOf(object))
      }
    }
    return { secrets, configMaps }
  }

  #take(snapshot: ResourceSnapshot, digest: string): void {
    const refused = snapshot.faults.flatMap(({ faults }) => faults)
    const isNewRefusal = refused.length > 0 && refused.join('\n') !== this.#refused.join('\n')
    const isFirst = this.#current === null
    const isNews = digest !== this.#digest
    this.#refused = refused
    this.#current = snapshot
    this.#digest = digest
    this.#start?.resolve()
    if (isNewRefusal) this.#listeners.onRefused(refused)
    if (isNews && !isFirst) this.#listeners.onSnapshot(snapshot)
  }

  #reportAccepted(objects: readonly KubernetesObject[], { faults }: ResourceSnapshot): void {
    for (const { kind, metadata } of objects) {
      const fault = faults.find(each => each.kind === kind && each.name === metadata.name)
      const condition =
        fault === undefined
          ? { isTrue: true, reason: 'Valid', message: '' }
          : { isTrue: false, reason: 'Invalid', message: fault.faults.join('\n') }
      this.#status.report(kind, metadata.name, { type: 'Accepted', ...condition })
    }
  }
}

function isReferred(references: References, { collection: { kind, name } }: ObjectWatch): boolean {
  return (kind === 'Secret' ? references.secrets : references.configMaps).has(name ?? '')
}

/** Says what a snapshot holds, whatever else changed about its objects: their status, for one, is what we write ourselves. */
function digestOf(snapshot: ResourceSnapshot, { secrets, configMaps }: References): string {
  const versions = [snapshot.listeners, snapshot.authentications, snapshot.authorizations].map(resources =>
    [...resources.values()].map(({ name, version }) => [name, version]).sort(),
  )
  const hash = createHash('sha256').update(JSON.stringify([snapshot.broker?.version ?? null, versions]))
  for (const name of [...secrets].sort()) hash.update(JSON.stringify(['Secret', name, contentVersion(snapshot.secret(name))]))
  for (const name of [...configMaps].sort()) hash.update(JSON.stringify(['ConfigMap', name, contentVersion(snapshot.configMap(name))]))
  return hash.digest('hex')
}

function bytesOf(object: KubernetesObject): ReadonlyMap<string, Uint8Array> {
  return new Map(entriesOf(object['data']).map(([key, value]) => [key, Buffer.from(value, 'base64')]))
}

/** Keys that hold no UTF-8 come as the base64 in which the API has them. */
function textsOf(object: KubernetesObject): ReadonlyMap<string, string> {
  return new Map([...entriesOf(object['binaryData']), ...entriesOf(object['data'])])
}

function entriesOf(value: unknown): readonly (readonly [string, string])[] {
  return Object.entries(fieldsOf(value)).flatMap(([key, text]) => (typeof text === 'string' ? [[key, text] as const] : []))
}
