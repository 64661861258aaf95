import type { HybridTime } from './hybrid-clock.ts'

/** What happened to a watched key, or to one that begins with a watched prefix. */
export type KeyEvent =
  | { readonly is: 'set'; readonly key: Uint8Array; readonly value: Uint8Array; readonly version: HybridTime }
  /** Deleted, or its time was over. */
  | { readonly is: 'deleted'; readonly key: Uint8Array; readonly version: HybridTime }
  /** Changes may have been missed, as the connection was lost or the events were not taken in time: read the key, or the keys, again. */
  | { readonly is: 'gap' }

/** What a watch that is kept over reconnects tells. */
export type KeptKeyEvent =
  | KeyEvent
  /** The connection was lost, and nothing was missed: so many changes that came meanwhile are told like any other, before or after it. */
  | { readonly is: 'resumed'; readonly missed: number }

/** So many events wait for the reader; when one more comes all are dropped and one `gap` stands for them. */
const EVENTS_MAX = 1_024

/** The changes of one key, or of those with one prefix, as they come, until it is closed. Read by one loop. */
export class Watch<Event extends KeptKeyEvent = KeyEvent> implements AsyncIterable<KeyEvent | Event> {
  readonly #onClose: () => void
  /** It says `resumed`. */
  readonly isKept: boolean
  #events: (KeyEvent | Event)[] = []
  #wake: () => void = () => undefined
  #isClosed = false
  #error: unknown = null

  constructor(onClose: () => void, isKept: boolean) {
    this.#onClose = onClose
    this.isKept = isKept
  }

  push(event: KeyEvent | Event): void {
    if (this.#isClosed) return
    if (event.is === 'gap' || this.#events.length >= EVENTS_MAX) this.#events = [{ is: 'gap' }]
    else this.#events.push(event)
    this.#wake()
  }

  /** Ends the loop of the reader, with the error when there is one. Safe to repeat. */
  close(error: unknown = null): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#error = error
    this.#onClose()
    this.#wake()
  }

  /** Resolves with the next event; null when the watch is closed or the signal aborted. @throws why the watch ended, when it was not asked to */
  async next(signal?: AbortSignal): Promise<KeyEvent | Event | null> {
    while (this.#events.length === 0 && !this.#isClosed && signal?.aborted !== true) {
      await new Promise<void>(resolve => {
        const wake = (): void => {
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        this.#wake = wake
        signal?.addEventListener('abort', wake, { once: true })
      })
    }
    if (signal?.aborted === true) return null
    const event = this.#events.shift()
    if (event === undefined && this.#error !== null) throw this.#error
    return event ?? null
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<KeyEvent | Event, void, void> {
    try {
      for (let event = await this.next(); event !== null; event = await this.next()) yield event
    } finally {
      this.close()
    }
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
