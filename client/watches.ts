import { ConnectionLostError, UnexpectedAnswerError } from './errors.ts'
import { compareHybridTimes, type HybridTime } from './hybrid-clock.ts'
import { type Answer, parseAnswer } from './resp.ts'
import { hexOf } from './topics.ts'
import { type KeptKeyEvent, type KeyEvent, Watch } from './watch.ts'

/** What is watched: a key, or all that begin so. */
export interface Watched {
  readonly is: 'key' | 'prefix'
  readonly bytes: Uint8Array
}

/** KEEP: the store keeps the watch for so long without a connection. `since`: the last that the client knows of; null: nothing yet. */
export interface Keeping {
  readonly keepMs: number
  readonly since: HybridTime | null
}

/** What the store says to a registration. */
export interface Registered {
  /** It went on where it was, and so many notifications follow; null: it begins. */
  readonly missed: number | null
  /** Of one that is kept: where it begins. */
  readonly version: HybridTime | null
}

interface Registration {
  readonly watched: Watched
  /** Of the bytes, as topics have it. */
  readonly hex: string
  readonly watches: Set<Watch<KeptKeyEvent>>
  /** Null: it ends with the connection. */
  keepMs: number | null
  /** Of a key that is kept: the last that is known of it. */
  position: HybridTime | null
  /** The newest notification on the present connection. */
  newest: HybridTime | null
  registered: Promise<void>
  /** The store has been asked to go on, and has not answered. */
  isAsking: boolean
  /** The newest event of each key, by its hexadecimal: an older one is a repetition. */
  readonly last: Map<string, { readonly is: KeyEvent['is']; readonly version: HybridTime }>
}

/** Keys of a prefix whose newest events are remembered, those that changed last: an event of another one may come twice after a reconnect. */
const LAST_MAX = 1_024

/** @param isRepeated when the connection is lost before the answer, the client is to ask again on the next one */
type Register = (watched: Watched, isRepeated: boolean, keeping: Keeping | null) => Promise<Registered>

/** What is watched. Several watches of the same share one registration; the store forgets registrations with the connection. */
export class Watches {
  /** By the key's hexadecimal. */
  readonly #keys = new Map<string, Registration>()
  readonly #prefixes = new Map<string, Registration>()
  readonly #register: Register
  readonly #unregister: (watched: Watched) => Promise<unknown>

  constructor(register: Register, unregister: (watched: Watched) => Promise<unknown>) {
    this.#register = register
    this.#unregister = unregister
  }

  /**
   * Resolves when the store has the registration: a change after that comes as an event, or there is a gap.
   * @param keepMs of a key: for so long without a connection; null: no longer than the connection, unless another watch of it is kept
   */
  async add(watched: Watched, keepMs: number | null): Promise<Watch<KeptKeyEvent>> {
    const hex = hexOf(watched.bytes)
    const all = this.#of(watched)
    const known = all.get(hex)
    const entry = known ?? newRegistration(watched, hex)
    const watch: Watch<KeptKeyEvent> = new Watch(() => this.#remove(entry, watch), keepMs !== null)
    entry.watches.add(watch)
    if (known === undefined) all.set(hex, entry)
    const isLonger = known !== undefined && (keepMs ?? 0) > (known.keepMs ?? 0)
    const before = { keepMs: entry.keepMs, registered: entry.registered }
    if (known === undefined || isLonger) {
      entry.keepMs = keepMs
      entry.registered = this.#begin(entry)
    }
    try {
      await entry.registered
      return watch
    } catch (error) {
      if (isLonger) {
        // The others have what they asked for.
        Object.assign(entry, before)
        watch.close(error)
        throw error
      }
      this.#drop(entry, error)
      throw error
    }
  }

  /** On a new connection: asks for everything again and tells of the gap once that is done. */
  registerAgain(): void {
    for (const entry of this.#all()) {
      entry.newest = null
      entry.registered = this.#beginAgain(entry, true)
      entry.registered.catch(error => {
        // The next connection begins with the same.
        if (!(error instanceof ConnectionLostError)) this.#drop(entry, error)
      })
    }
  }

  /**
   * @param hex the key, as the last level of the topic has it
   * @param previous the change before it, which the store says where the watch is kept
   * @throws {UnexpectedAnswerError} it is no notification
   */
  take(hex: string, payload: Uint8Array, version: HybridTime, previous: HybridTime | null): void {
    const event = eventOf(parseAnswer(payload), version, new Uint8Array(Buffer.from(hex, 'hex')))
    const entry = this.#keys.get(hex)
    if (entry !== undefined) {
      if (hasMissed(entry, previous)) this.#askAgain(entry, version)
      else tell(entry, hex, event, version)
    }
    // The store tells once, however many of them there are.
    for (const under of this.#prefixes.values()) if (hex.startsWith(under.hex)) tell(under, hex, event, version)
  }

  /** Ends every watch, with the error when there is one. @returns what the store still has registered, and whether it would keep it */
  close(error: unknown = null): readonly { readonly watched: Watched; readonly isKept: boolean }[] {
    const all = this.#all()
    for (const entry of all) this.#drop(entry, error)
    return all.map(({ watched, keepMs }) => ({ watched, isKept: keepMs !== null }))
  }

  async #begin(entry: Registration): Promise<void> {
    const since = null
    const { version } = await this.#register(entry.watched, true, entry.keepMs === null ? null : { keepMs: entry.keepMs, since })
    begins(entry, version)
  }

  /** The broker has dropped what this client was too slow for: it sends what came since the last that is known, this one included. */
  #askAgain(entry: Registration, version: HybridTime): void {
    entry.newest = version
    if (entry.isAsking) return
    // A connection that is lost begins with the same; without permission, or room for it, there is no watch.
    this.#beginAgain(entry, false).catch(error => {
      if (!(error instanceof ConnectionLostError)) this.#drop(entry, error)
    })
  }

  /** @param isNew on a new connection: the watches are told that it goes on */
  async #beginAgain(entry: Registration, isNew: boolean): Promise<void> {
    entry.isAsking = true
    try {
      const { missed, version } = await this.#register(entry.watched, false, keepingOf(entry))
      if (missed === null) {
        begins(entry, version)
        // A broker that lost its memory may have started anew behind the last version.
        entry.last.clear()
      }
      for (const watch of entry.watches) {
        if (missed === null) watch.push({ is: 'gap' })
        else if (isNew && watch.isKept) watch.push({ is: 'resumed', missed })
      }
    } finally {
      entry.isAsking = false
    }
  }

  #all(): readonly Registration[] {
    return [...this.#keys.values(), ...this.#prefixes.values()]
  }

  #of({ is }: Watched): Map<string, Registration> {
    return is === 'key' ? this.#keys : this.#prefixes
  }

  #remove(entry: Registration, watch: Watch<KeptKeyEvent>): void {
    entry.watches.delete(watch)
    const all = this.#of(entry.watched)
    if (entry.watches.size > 0 || all.get(entry.hex) !== entry) return
    all.delete(entry.hex)
    // Without connection there is nothing to give back; what is not given back costs a notification that is then ignored.
    this.#unregister(entry.watched).catch(() => undefined)
  }

  #drop(entry: Registration, error: unknown): void {
    const all = this.#of(entry.watched)
    if (all.get(entry.hex) === entry) all.delete(entry.hex)
    for (const watch of entry.watches) watch.close(error)
  }
}

function newRegistration(watched: Watched, hex: string): Registration {
  const registered = Promise.resolve()
  return { watched, hex, watches: new Set(), keepMs: null, position: null, newest: null, registered, isAsking: false, last: new Map() }
}

function keepingOf({ keepMs, position }: Registration): Keeping | null {
  return keepMs === null ? null : { keepMs, since: position }
}

/** Everything after `version` comes; what came before the answer did has gone further. */
function begins(entry: Registration, version: HybridTime | null): void {
  const { newest } = entry
  entry.position = newest !== null && version !== null && compareHybridTimes(newest, version) > 0 ? newest : version
}

/** Something came before it that is not known: only of a watch that is kept, whose beginning is. */
function hasMissed({ keepMs, position }: Registration, previous: HybridTime | null): boolean {
  return keepMs !== null && position !== null && previous !== null && compareHybridTimes(previous, position) > 0
}

function tell(entry: Registration, hex: string, event: KeyEvent, version: HybridTime): void {
  const { last, watches } = entry
  entry.newest = version
  const before = last.get(hex)
  const order = before === undefined ? 1 : compareHybridTimes(version, before.version)
  if (order < 0 || (order === 0 && event.is === before?.is)) return
  entry.position = version
  last.delete(hex)
  last.set(hex, { is: event.is, version })
  for (const oldest of last.keys()) {
    if (last.size <= LAST_MAX) break
    last.delete(oldest)
  }
  for (const watch of watches) watch.push(event)
}

function eventOf(answer: Answer, version: HybridTime, key: Uint8Array): KeyEvent {
  const items = answer.is === 'list' ? answer.items.map(item => (item.is === 'value' ? Buffer.from(item.value) : Buffer.alloc(0))) : []
  const [notify, operation, name, value] = items
  if (notify?.toString() === 'NOTIFY') {
    if (items.length === 2 && operation?.toString() === 'DELETE') return { is: 'deleted', key, version }
    if (items.length === 4 && operation?.toString() === 'SET' && name?.toString() === 'VALUE')
      return { is: 'set', key, value: new Uint8Array(value!), version }
  }
  throw new UnexpectedAnswerError('the payload is no notification of the state store')
}
