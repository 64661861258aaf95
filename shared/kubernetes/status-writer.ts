import type { Clock } from '../base/clock.ts'
import type { Fractions } from '../base/random.ts'
import type { Timers } from '../base/timers.ts'
import type { Log } from '../telemetry/log.ts'
import { type ApiAnswer, type ApiRequests, refusalText } from './api-requests.ts'
import { Backoff } from './backoff.ts'
import { KubernetesUnavailable } from './kubernetes-access.ts'
import { fieldsOf, type KubernetesObject, readObject } from './kubernetes-object.ts'

/** What a condition says. */
export interface Condition {
  readonly type: string
  readonly isTrue: boolean
  /** CamelCase. */
  readonly reason: string
  readonly message: string
}

export interface StatusWriterParts {
  readonly requests: ApiRequests
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Fractions
  readonly log: Log
  /** The object as it is known by now; null when there is none. */
  find(kind: string, name: string): KubernetesObject | null
  /** Of the kind: `brokerlisteners`. */
  resourceOf(kind: string): string
}

/** Many processes say the same at one moment: each waits for a part of this, and sees meanwhile what others have written. */
const SPREAD_MS = 1_000
/** From one write to the next. */
const GAP_MS = 200
const CONFLICTS_MAX = 5
const MESSAGE_LENGTH_MAX = 1_024
/** What was said last is remembered of so many conditions; forgetting it costs a comparison each. */
const SAID_MAX = 1_000

/**
 * Writes conditions into the status of custom resources, in the background: only where they differ from what stands there, at most five a second,
 * and the newest alone when more is said of one object than can be written. A conflict with another writer is tried again; when the
 * server is away or refuses, everything waits.
 */
export class StatusWriter {
  readonly #parts: StatusWriterParts
  readonly #backoff: Backoff
  /** By `KIND/NAME`: conditions that are still to be written, by type. */
  readonly #wanted = new Map<string, Map<string, Condition>>()
  readonly #said = new Map<string, string>()
  #isRunning = false
  #isStopped = false
  #cancel: (() => void) | null = null
  #lastFault = ''

  constructor(parts: StatusWriterParts) {
    this.#parts = parts
    this.#backoff = new Backoff(parts.timers, parts.random)
  }

  /** Says it of the object as it is known now (`observedGeneration`). */
  report(kind: string, name: string, condition: Condition): void {
    const object = this.#parts.find(kind, name)
    if (object === null || this.#isStopped) return
    const { type, isTrue, reason, message } = condition
    const text = JSON.stringify([object.metadata.uid, object.metadata.generation, isTrue, reason, message])
    const key = `${kind}/${name}`
    if (this.#said.get(`${key}/${type}`) === text) return
    if (this.#said.size >= SAID_MAX) this.#said.clear()
    this.#said.set(`${key}/${type}`, text)
    const wanted = this.#wanted.get(key) ?? new Map<string, Condition>()
    this.#wanted.set(key, wanted.set(type, condition))
    if (!this.#isRunning) void this.#run()
  }

  stop(): void {
    this.#isStopped = true
    this.#cancel?.()
    this.#backoff.stop()
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    await this.#wait(SPREAD_MS * this.#parts.random.fraction())
    for (let next = this.#next(); next !== null && !this.#isStopped; next = this.#next()) {
      const [key, conditions] = next
      this.#wanted.delete(key)
      try {
        if (await this.#write(key, conditions)) await this.#wait(GAP_MS)
        this.#lastFault = ''
        this.#backoff.reset()
      } catch (error) {
        if (!(error instanceof KubernetesUnavailable)) throw error
        this.#onFault(error)
        // What was said meanwhile is newer.
        this.#wanted.set(key, new Map([...conditions, ...(this.#wanted.get(key) ?? [])]))
        await this.#backoff.pause()
      }
    }
    this.#isRunning = false
  }

  #next(): [string, Map<string, Condition>] | null {
    const first = this.#wanted.entries().next()
    return first.done === true ? null : first.value
  }

  /** @returns whether there was something to write. @throws {KubernetesUnavailable} */
  async #write(key: string, conditions: ReadonlyMap<string, Condition>): Promise<boolean> {
    const [kind, name] = key.split('/') as [string, string]
    let object = this.#parts.find(kind, name)
    for (let attempt = 0; object !== null; attempt++) {
      const merged = this.#merge(object, conditions)
      if (merged === null) return false
      const path = pathOf(object, this.#parts.resourceOf(kind))
      const body = { metadata: { resourceVersion: object.metadata.resourceVersion }, status: { conditions: merged } }
      const contentType = 'application/merge-patch+json'
      const answer = await this.#parts.requests.send({ method: 'PATCH', path: `${path}/status`, body, contentType })
      if (answer.status === 200) return true
      if (answer.status === 404) return false
      if (answer.status !== 409 || attempt === CONFLICTS_MAX) throw refused('patch', path, answer)
      const present = await this.#parts.requests.send({ method: 'GET', path })
      if (present.status === 404) return false
      if (present.status !== 200) throw refused('get', path, present)
      object = readObject(present.body, object)
    }
    return false
  }

  /** All conditions of the object with ours among them; null when nothing differs. */
  #merge(object: KubernetesObject, conditions: ReadonlyMap<string, Condition>): readonly object[] | null {
    const present = fieldsOf(object['status'])['conditions']
    const before = Array.isArray(present) ? (present as readonly unknown[]).map(each => fieldsOf(each)) : []
    const now = new Date(this.#parts.clock.wallMs()).toISOString().replace(/\.\d+Z$/, 'Z')
    const others = before.filter(each => !conditions.has(String(each['type'])))
    let isNews = false
    const ours = [...conditions.values()].map(({ type, isTrue, reason, message }) => {
      const known = before.find(each => each['type'] === type)
      const status = isTrue ? 'True' : 'False'
      const lastTransitionTime = known?.['status'] === status ? (known['lastTransitionTime'] ?? now) : now
      const observedGeneration = object.metadata.generation ?? 0
      const said = { type, status, reason, message: message.slice(0, MESSAGE_LENGTH_MAX), lastTransitionTime, observedGeneration }
      isNews ||= Object.entries(said).some(([field, value]) => known?.[field] !== value)
      return said
    })
    return isNews ? [...others, ...ours] : null
  }

  /** Once for each kind of fault, not for each attempt. */
  #onFault(error: KubernetesUnavailable): void {
    if (error.message === this.#lastFault) return
    this.#lastFault = error.message
    this.#parts.log.warn('kubernetes_status_not_written', { fault: error.message })
  }

  async #wait(ms: number): Promise<void> {
    if (this.#isStopped) return
    await new Promise<void>(resolve => {
      const cancel = this.#parts.timers.after(ms, resolve)
      this.#cancel = () => {
        cancel()
        resolve()
      }
    })
    this.#cancel = null
  }
}

function pathOf({ apiVersion, metadata }: KubernetesObject, resource: string): string {
  return `/apis/${apiVersion}/namespaces/${metadata.namespace ?? ''}/${resource}/${metadata.name}`
}

function refused(verb: string, path: string, answer: ApiAnswer): KubernetesUnavailable {
  return new KubernetesUnavailable(`Kubernetes API: cannot ${verb} ${path}: ${refusalText(answer)}`)
}
