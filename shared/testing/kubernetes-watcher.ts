import type { ServerResponse } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { systemTimers } from '../base/timers.ts'
import { kindOf, type KubernetesObjects, type StoredEvent } from './kubernetes-objects.ts'

/** What a watch request asks for. */
export interface WatchQuery {
  readonly collection: string
  readonly namespace: string | null
  readonly name: string | null
  readonly revision: number
  readonly allowsBookmarks: boolean
  readonly timeoutSeconds: number
}

/** One answer to a watch request: a line of JSON per event, until the time is over or somebody ends it. */
export class KubernetesWatcher {
  readonly query: WatchQuery
  /** Cut each line into pieces that are sent one by one. */
  isSplitting = false
  /** The connection stays and nothing comes any more, as behind a balancer that has forgotten it. */
  isFrozen = false
  readonly #response: ServerResponse
  readonly #objects: KubernetesObjects
  readonly #cancelTimeout: () => void
  #lines: Promise<void> = Promise.resolve()
  #sent: number

  constructor(query: WatchQuery, objects: KubernetesObjects, response: ServerResponse) {
    this.query = query
    this.#objects = objects
    this.#response = response
    this.#sent = query.revision
    const onEvent = (event: StoredEvent): void => this.#send(event)
    objects.events.on('event', onEvent)
    this.#cancelTimeout = systemTimers.after(query.timeoutSeconds * 1_000, () => this.#end())
    response.once('close', () => {
      objects.events.off('event', onEvent)
      this.#cancelTimeout()
    })
  }

  start(missed: readonly StoredEvent[]): void {
    this.#response.writeHead(200, { 'content-type': 'application/json', 'transfer-encoding': 'chunked' })
    this.#response.flushHeaders()
    for (const event of missed) this.#send(event)
  }

  bookmark(): void {
    if (!this.query.allowsBookmarks) return
    const { collection } = this.query
    const apiVersion = collection.slice(0, collection.lastIndexOf('/'))
    const metadata = { resourceVersion: String(this.#objects.revision), creationTimestamp: null }
    this.#write({ type: 'BOOKMARK', object: { apiVersion, kind: kindOf(collection), metadata } })
  }

  /** An ERROR event in the stream, after which the server ends it. */
  fail(code: number, reason: string, message: string): void {
    this.#write({ type: 'ERROR', object: { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, reason, code } })
    this.#end()
  }

  /** Any text, as it is: for what a server should never send. */
  writeRaw(text: string): void {
    this.#lines = this.#lines.then(() => void this.#response.write(text))
  }

  drop(): void {
    this.#response.socket?.destroy()
  }

  #send(event: StoredEvent): void {
    const { collection, namespace, name } = this.query
    const { metadata } = event.object
    if (event.collection !== collection || event.revision <= this.#sent) return
    if ((namespace !== null && metadata.namespace !== namespace) || (name !== null && metadata.name !== name)) return
    this.#sent = event.revision
    this.#write({ type: event.type, object: event.object })
  }

  #write(event: object): void {
    if (this.isFrozen) return
    const line = Buffer.from(`${JSON.stringify(event)}\n`)
    const pieces = this.isSplitting ? 5 : 1
    const step = Math.ceil(line.length / pieces)
    this.#lines = this.#lines.then(async () => {
      for (let at = 0; at < line.length; at += step) {
        this.#response.write(line.subarray(at, at + step))
        if (pieces > 1) await nextTurn()
      }
    })
  }

  #end(): void {
    if (this.isFrozen) return
    this.#lines = this.#lines.then(() => void this.#response.end())
  }
}
