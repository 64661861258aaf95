import type { Fractions } from '../base/random.ts'
import type { Timers } from '../base/timers.ts'
import { type ApiAnswer, type ApiRequests, refusalText } from './api-requests.ts'
import { Backoff } from './backoff.ts'
import { KubernetesUnavailable } from './kubernetes-access.ts'
import { fieldsOf, type KubernetesObject, type ObjectKind, readObject } from './kubernetes-object.ts'

/** Objects of one kind in one namespace, or the one of them that has a name. */
export interface WatchedCollection extends ObjectKind {
  /** As it stands in a path and in a Role: `secrets`. */
  readonly resource: string
  readonly namespace: string
  /** Null: all. */
  readonly name: string | null
}

/** Why objects cannot be listed or watched at this moment. */
export interface WatchTrouble {
  readonly text: string
  /** The server answers and does not let us (401, 403), or does not know the kind (404): it stays so until somebody mends it. Else null. */
  readonly refusal: 401 | 403 | 404 | null
}

export interface ObjectWatchParts {
  readonly requests: ApiRequests
  readonly timers: Timers
  readonly random: Fractions
  /** How long the server is asked to keep a watch open. It says nothing in between when nothing happens, so this bounds how long a dead one goes unnoticed. */
  readonly watchSeconds: number
  /** Objects, `isListed` or `trouble` are others now. */
  readonly onChange: () => void
}

/** Objects in one answer. */
const PAGE_OBJECTS = 100
/** Objects that are kept; a namespace with more of one kind is beyond what a broker is for. */
const OBJECTS_MAX = 10_000
/** The server accepts a watch at once. */
const OPEN_TIMEOUT_MS = 10_000
/** After the time at which the server should have ended a watch. */
const GRACE_MS = 5_000
/** A watch that ends sooner counts as failed, so that a server that ends each at once is not asked without a pause. */
const SHORT_WATCH_MS = 1_000
/** Watches that failed in a row, after which everything is listed anew: it may be the next event that cannot be read. */
const FAILURES_BEFORE_LIST = 3

class WatchFault extends Error {
  readonly refusal: WatchTrouble['refusal']

  constructor(text: string, refusal: WatchTrouble['refusal']) {
    super(text)
    this.refusal = refusal
  }
}

/**
 * Keeps up with the objects of a collection: lists them, watches from the version of the list, resumes from the version of the last event
 * (bookmarks count) when the watch ends or breaks, and lists anew when the server has forgotten that version (410). While the server is away
 * the objects stay as they were.
 */
export class ObjectWatch {
  readonly collection: WatchedCollection
  readonly #parts: ObjectWatchParts
  readonly #backoff: Backoff
  #objects = new Map<string, KubernetesObject>()
  #isListed = false
  #trouble: WatchTrouble | null = null
  /** Version up to which `objects` has everything; null: to be listed. */
  #version: string | null = null
  #failures = 0
  #isStopped = false
  #cancel: (() => void) | null = null

  constructor(collection: WatchedCollection, parts: ObjectWatchParts) {
    this.collection = collection
    this.#parts = parts
    this.#backoff = new Backoff(parts.timers, parts.random)
  }

  /** By name. */
  get objects(): ReadonlyMap<string, KubernetesObject> {
    return this.#objects
  }

  /** Whether `objects` has ever been complete. */
  get isListed(): boolean {
    return this.#isListed
  }

  get trouble(): WatchTrouble | null {
    return this.#trouble
  }

  start(): void {
    void this.#run()
  }

  stop(): void {
    this.#isStopped = true
    this.#cancel?.()
    this.#backoff.stop()
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      try {
        const version: string = this.#version ?? (await this.#list())
        if (this.#isStopped) return
        const startMs = this.#parts.timers.nowMs()
        const isBroken = (await this.#follow(version)) === 'broken'
        if (isBroken && ++this.#failures >= FAILURES_BEFORE_LIST) this.#version = null
        if (this.#parts.timers.nowMs() - startMs < SHORT_WATCH_MS) await this.#backoff.pause()
        else if (!isBroken) this.#onHealthy()
      } catch (error) {
        if (this.#isStopped) return
        if (!(error instanceof WatchFault || error instanceof KubernetesUnavailable)) throw error
        if (++this.#failures >= FAILURES_BEFORE_LIST) this.#version = null
        this.#setTrouble({ text: error.message, refusal: error instanceof WatchFault ? error.refusal : null })
        await this.#backoff.pause()
      }
    }
  }

  /** @returns the version of what was listed. @throws {WatchFault | KubernetesUnavailable} */
  async #list(): Promise<string> {
    const objects = new Map<string, KubernetesObject>()
    let version: unknown
    let next: unknown = ''
    do {
      const query = { limit: String(PAGE_OBJECTS), ...(next !== '' && { continue: String(next) }) }
      const answer = await this.#parts.requests.send({ method: 'GET', path: this.#path(query) })
      if (answer.status !== 200) throw this.#refusal('list', answer)
      const { metadata, items } = fieldsOf(answer.body)
      for (const item of Array.isArray(items) ? (items as readonly unknown[]) : []) {
        const object = readObject(item, this.collection)
        if (object !== null) objects.set(object.metadata.name, object)
      }
      if (objects.size > OBJECTS_MAX) throw this.#fault('list', `more than ${OBJECTS_MAX} objects`)
      version = fieldsOf(metadata)['resourceVersion']
      next = fieldsOf(metadata)['continue'] ?? ''
    } while (next !== '')
    if (typeof version !== 'string' || version === '') throw this.#fault('list', 'the list has no resourceVersion')
    this.#version = version
    const isNews = !this.#isListed || !sameVersions(objects, this.#objects)
    this.#objects = objects
    this.#isListed = true
    if (isNews && !this.#isStopped) this.#parts.onChange()
    return version
  }

  /**
   * Until the watch is over. Broken: it had been open, which is no trouble yet: the next attempt tells.
   * @throws {WatchFault | KubernetesUnavailable}
   */
  async #follow(version: string): Promise<'ended' | 'broken'> {
    const { requests, timers, watchSeconds } = this.#parts
    const query = { watch: '1', resourceVersion: version, allowWatchBookmarks: 'true', timeoutSeconds: String(watchSeconds) }
    return await new Promise<'ended' | 'broken'>((resolve, reject) => {
      let isOpen = false
      const end = (how: 'ended' | 'broken'): void => settle(() => resolve(how))
      const settle = (act: () => void): void => {
        cancelTimer()
        cancelWatch()
        this.#cancel = null
        act()
      }
      // A server that does not end a watch when it is due has gone, whatever the connection says.
      const onSilence = (): void => end('ended')
      let cancelTimer = timers.after(OPEN_TIMEOUT_MS, () => settle(() => reject(this.#fault('watch', 'the API server does not answer'))))
      const cancelWatch = requests.watch(this.#path(query), {
        onOpen: () => {
          isOpen = true
          cancelTimer()
          cancelTimer = timers.after(watchSeconds * 1_000 + GRACE_MS, onSilence)
          this.#setTrouble(null)
        },
        onLine: line => {
          const fault = this.#onEvent(line)
          if (fault === 'gone') end('ended')
          else if (fault !== null) settle(() => reject(fault))
        },
        onEnd: fault => {
          if (fault === null) return end('ended')
          if (fault instanceof KubernetesUnavailable) return isOpen ? end('broken') : settle(() => reject(fault))
          if (fault.status !== 410) return settle(() => reject(this.#refusal('watch', fault)))
          this.#version = null
          end('ended')
        },
      })
      this.#cancel = () => end('ended')
    })
  }

  #onEvent(line: string): WatchFault | 'gone' | null {
    const { type, object } = parse(line)
    if (type === 'ERROR') {
      const { code, message } = fieldsOf(object)
      // Whatever it is, a list puts it right.
      this.#version = null
      return code === 410 ? 'gone' : this.#fault('watch', refusalText({ status: Number(code), body: { message } }))
    }
    const version = fieldsOf(fieldsOf(object)['metadata'])['resourceVersion']
    if (typeof version !== 'string' || version === '') {
      this.#version = null
      return this.#fault('watch', 'an event without resourceVersion')
    }
    this.#version = version
    this.#onHealthy()
    const found = readObject(object, this.collection)
    if (found !== null && type !== 'BOOKMARK') this.#take(String(type), found)
    return null
  }

  #take(type: string, object: KubernetesObject): void {
    const { name, resourceVersion } = object.metadata
    if (type === 'DELETED') {
      if (!this.#objects.delete(name)) return
    } else {
      // A watch that was resumed may repeat what is known.
      const known = this.#objects.get(name)
      if (known?.metadata.resourceVersion === resourceVersion || (known === undefined && this.#objects.size >= OBJECTS_MAX)) return
      this.#objects.set(name, object)
    }
    this.#parts.onChange()
  }

  #onHealthy(): void {
    this.#failures = 0
    this.#backoff.reset()
  }

  #setTrouble(trouble: WatchTrouble | null): void {
    if (trouble?.text === this.#trouble?.text) return
    this.#trouble = trouble
    this.#parts.onChange()
  }

  #path(query: Readonly<Record<string, string>>): string {
    const { apiVersion, resource, namespace, name } = this.collection
    const selector: Record<string, string> = name === null ? {} : { fieldSelector: `metadata.name=${name}` }
    const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
    return `${base}/namespaces/${namespace}/${resource}?${String(new URLSearchParams({ ...query, ...selector }))}`
  }

  #refusal(verb: string, answer: ApiAnswer): WatchFault {
    const { status } = answer
    return new WatchFault(this.#words(verb, refusalText(answer)), status === 401 || status === 403 || status === 404 ? status : null)
  }

  #fault(verb: string, why: string): WatchFault {
    return new WatchFault(this.#words(verb, why), null)
  }

  #words(verb: string, why: string): string {
    const { resource, namespace, name } = this.collection
    return `Kubernetes API: cannot ${verb} ${resource}${name === null ? '' : ` ${name}`} in namespace ${namespace}: ${why}`
  }
}

function parse(line: string): Readonly<Record<string, unknown>> {
  try {
    return fieldsOf(JSON.parse(line))
  } catch {
    return {}
  }
}

function sameVersions(a: ReadonlyMap<string, KubernetesObject>, b: ReadonlyMap<string, KubernetesObject>): boolean {
  return a.size === b.size && [...a].every(([name, object]) => object.metadata.resourceVersion === b.get(name)?.metadata.resourceVersion)
}
