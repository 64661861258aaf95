import { ConnectionLostError, UnexpectedAnswerError } from './errors.ts'
import { compareHybridTimes, type HybridTime } from './hybrid-clock.ts'
import { type Answer, parseAnswer } from './resp.ts'
import { hexOf } from './topics.ts'
import { type KeyEvent, Watch } from './watch.ts'

interface WatchedKey {
  readonly key: Uint8Array
  readonly watches: Set<Watch>
  registered: Promise<void>
  /** The newest event: an older one is a repetition. */
  last: { readonly is: KeyEvent['is']; readonly version: HybridTime } | null
}

/** @param isRepeated when the connection is lost before the answer, the client is to ask again on the next one */
type Register = (key: Uint8Array, isRepeated: boolean) => Promise<void>

/** Which keys are watched. Several watches of a key share one registration; the store forgets registrations with the connection. */
export class Watches {
  readonly #keys = new Map<string, WatchedKey>()
  readonly #register: Register
  readonly #unregister: (key: Uint8Array) => Promise<void>

  constructor(register: Register, unregister: (key: Uint8Array) => Promise<void>) {
    this.#register = register
    this.#unregister = unregister
  }

  /** Resolves when the store has the registration: a change after that comes as an event, or there is a gap. */
  async add(key: Uint8Array): Promise<Watch> {
    const hex = hexOf(key)
    const known = this.#keys.get(hex)
    const entry = known ?? { key, watches: new Set<Watch>(), registered: Promise.resolve(), last: null }
    const watch = new Watch(closed => this.#remove(hex, entry, closed))
    entry.watches.add(watch)
    if (known === undefined) {
      this.#keys.set(hex, entry)
      entry.registered = this.#register(key, true)
    }
    try {
      await entry.registered
      return watch
    } catch (error) {
      this.#drop(hex, entry, error)
      throw error
    }
  }

  /** On a new connection: asks for every key again and tells of the gap once that is done. */
  registerAgain(): void {
    for (const [hex, entry] of this.#keys) {
      entry.registered = this.#register(entry.key, false)
      entry.registered.then(
        () => {
          // A broker that lost its memory may have started anew behind the last version.
          entry.last = null
          for (const watch of entry.watches) watch.push({ is: 'gap' })
        },
        error => {
          // The next connection begins with the same.
          if (!(error instanceof ConnectionLostError)) this.#drop(hex, entry, error)
        },
      )
    }
  }

  /** @param hex the key, as the last level of the topic has it @throws {UnexpectedAnswerError} it is no notification */
  take(hex: string, payload: Uint8Array, version: HybridTime): void {
    const entry = this.#keys.get(hex)
    const event = eventOf(parseAnswer(payload), version)
    if (entry === undefined) return
    const { last } = entry
    const order = last === null ? 1 : compareHybridTimes(version, last.version)
    if (order < 0 || (order === 0 && event.is === last?.is)) return
    entry.last = { is: event.is, version }
    for (const watch of entry.watches) watch.push(event)
  }

  /** Ends every watch, with the error when there is one. @returns the keys that the store still has registered */
  close(error: unknown = null): readonly Uint8Array[] {
    const keys = [...this.#keys.values()].map(({ key }) => key)
    for (const [hex, entry] of this.#keys) this.#drop(hex, entry, error)
    return keys
  }

  #remove(hex: string, entry: WatchedKey, watch: Watch): void {
    entry.watches.delete(watch)
    if (entry.watches.size > 0 || this.#keys.get(hex) !== entry) return
    this.#keys.delete(hex)
    // Without connection there is nothing to give back; what is not given back costs a notification that is then ignored.
    this.#unregister(entry.key).catch(() => undefined)
  }

  #drop(hex: string, entry: WatchedKey, error: unknown): void {
    if (this.#keys.get(hex) === entry) this.#keys.delete(hex)
    for (const watch of entry.watches) watch.close(error)
  }
}

function eventOf(answer: Answer, version: HybridTime): KeyEvent {
  const items = answer.is === 'list' ? answer.items.map(item => (item.is === 'value' ? Buffer.from(item.value) : Buffer.alloc(0))) : []
  const [notify, operation, name, value] = items
  if (notify?.toString() === 'NOTIFY') {
    if (items.length === 2 && operation?.toString() === 'DELETE') return { is: 'deleted', version }
    if (items.length === 4 && operation?.toString() === 'SET' && name?.toString() === 'VALUE')
      return { is: 'set', value: new Uint8Array(value!), version }
  }
  throw new UnexpectedAnswerError('the payload is no notification of the state store')
}
