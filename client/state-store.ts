import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { Channel, type Reply, userPropertyOf } from './channel.ts'
import { ClosedError, refusalOf, StateStoreError, UnexpectedAnswerError } from './errors.ts'
import { formatHybridTime, HybridClock, type HybridTime, parseHybridTime } from './hybrid-clock.ts'
import { type Answer, encodeParts, parseAnswer } from './resp.ts'
import { notificationPrefixOf, responseTopicOf } from './topics.ts'
import type { KeptKeyEvent, Watch } from './watch.ts'
import { type Keeping, type Registered, type Watched, Watches } from './watches.ts'

/** A text stands for its bytes in UTF-8. */
export type Bytes = Uint8Array | string

export interface StateStoreOptions {
  /** For mqtt.js when it has to connect: user name, certificates, Client Identifier. */
  readonly mqtt?: IClientOptions
  /** Of a request, unless it says otherwise. Default 10 000. */
  readonly timeoutMs?: number
  /** Requests sent and not answered. Default 64; the broker's Receive Maximum must be no smaller. */
  readonly inflightMax?: number
  /** Requests that wait to be sent; one more fails with TooManyRequestsError. Default 1 024. */
  readonly queuedMax?: number
  /** Where answers come; the client must be allowed to subscribe to it. */
  readonly responseTopic?: string
  /** Milliseconds since 1970. */
  readonly now?: () => number
  /** Told of what mqtt.js says when a reconnect fails, if it was connected by URL; it goes on trying. */
  readonly onConnectionError?: (error: Error) => void
}

export interface RequestOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface FencedOptions extends RequestOptions {
  /** The version that a lock was taken with: refused when a later lock has written the entry. */
  readonly fencingToken?: HybridTime
}

export interface SetOptions extends FencedOptions {
  /** NX: only when there is no entry. NEX: only when there is none, or one with the same value. */
  readonly condition?: 'NX' | 'NEX'
  /** Lifetime in milliseconds; without it the entry stays. */
  readonly pxMs?: number
  /** Asks the broker to keep the entry on disk, when its configuration leaves that to clients. */
  readonly persist?: boolean
}

export interface Entry {
  readonly value: Uint8Array
  readonly version: HybridTime
  /** The value read as UTF-8. */
  readonly text: string
}

/** `version`: of the new entry, or of the one that was in the way. */
export interface SetResult {
  readonly isSet: boolean
  readonly version: HybridTime
}

/** `version`: of the entry that was deleted, or that has another value. */
export type DeleteResult =
  | { readonly is: 'deleted'; readonly version: HybridTime | null }
  | { readonly is: 'different'; readonly version: HybridTime | null }
  | { readonly is: 'missing' }

interface Answered {
  readonly answer: Answer
  readonly version: HybridTime | null
}

const TIMEOUT_MS = 10_000
const INFLIGHT_MAX = 64
const QUEUED_MAX = 1_024
/** Keys of one page. */
const SCAN_PAGE_MAX = 100
/** Keys of one MGET. */
const MGET_KEYS_MAX = 256
/** A timer cannot wait for longer. */
const TIMEOUT_MAX_MS = 2_147_483_647
const PROTOCOL_VERSION = '1.0'
const SINCE = 'SINCE'

/** MQTT clients that a store sits on: two would take each other's watches away. */
const taken = new WeakSet<MqttClient>()

/** The key-value store of the broker, seen by one MQTT client. Every method may throw a StateStoreError. */
export class StateStore implements AsyncDisposable {
  readonly clientId: string
  readonly #mqtt: MqttClient
  readonly #ownsMqtt: boolean
  readonly #channel: Channel
  readonly #watches: Watches
  readonly #clock: HybridClock
  readonly #responseTopic: string
  readonly #notificationPrefix: string
  readonly #timeoutMs: number
  #isClosed = false

  private constructor(mqtt: MqttClient, ownsMqtt: boolean, options: StateStoreOptions) {
    this.#mqtt = mqtt
    this.#ownsMqtt = ownsMqtt
    this.clientId = mqtt.options.clientId ?? ''
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS
    this.#responseTopic = options.responseTopic ?? responseTopicOf(this.clientId)
    this.#notificationPrefix = notificationPrefixOf(this.clientId)
    this.#clock = new HybridClock(this.clientId, options.now ?? Date.now)
    this.#watches = new Watches(
      (watched, isRepeated, keeping) => this.#register(watched, isRepeated, keeping === null ? [] : wordsOf(keeping)),
      watched => this.#unregister(watched),
    )
    this.#channel = new Channel(mqtt, {
      responseTopic: this.#responseTopic,
      inflightMax: options.inflightMax ?? INFLIGHT_MAX,
      queuedMax: options.queuedMax ?? QUEUED_MAX,
    })
    mqtt.on('message', this.#onMessage)
  }

  /**
   * Resolves when the broker has granted the subscription for answers. A client that is handed in stays the caller's: `close` leaves it
   * connected.
   * @param target `mqtt://host:port` or another URL of mqtt.js; or a client of its own, with MQTT 5, a Client Identifier and no other store
   * @throws {StateStoreError} the client cannot be used, or the broker refuses; errors of mqtt.js when it cannot connect
   */
  static async connect(target: string | MqttClient, options: StateStoreOptions = {}): Promise<StateStore> {
    // Not by its class: a caller may have another copy of mqtt.js.
    const isOwn = typeof target === 'string'
    const mqtt = isOwn ? await connectAsync(target, { ...options.mqtt, protocolVersion: 5 }, false) : target
    const fault = faultOf(mqtt)
    if (fault !== null) {
      if (isOwn) await mqtt.endAsync(true)
      throw new StateStoreError(fault)
    }
    taken.add(mqtt)
    // An error that nobody listens to would end the process.
    if (isOwn) mqtt.on('error', options.onConnectionError ?? (() => undefined))
    const store = new StateStore(mqtt, isOwn, options)
    try {
      await store.#open()
    } catch (error) {
      await store.close()
      throw error
    }
    return store
  }

  async get(key: Bytes, options: RequestOptions = {}): Promise<Entry | null> {
    const { answer, version } = await this.#ask([encode('GET'), keyOf(key)], options, { isRepeatable: true })
    if (answer.is === 'none') return null
    if (answer.is !== 'value' || version === null) throw unexpected('GET', answer)
    const { value } = answer
    return {
      value,
      version,
      get text() {
        return Buffer.from(value).toString('utf8')
      },
    }
  }

  /**
   * Extension of Millrace: values in the order of the keys, null for one that is not there, in one request for every 256. Each is what its
   * key had at some moment during the call; there is no moment for all.
   * @throws {RefusedError} `unknown command`: the broker has no extensions; `not authorized`: one of them may not be read; `the quota has
   * been exceeded`: the values of one request have over 1 MiB
   */
  async mget(keys: readonly Bytes[], options: RequestOptions = {}): Promise<(Uint8Array | null)[]> {
    const values: (Uint8Array | null)[] = []
    for (let from = 0; from < keys.length; from += MGET_KEYS_MAX) {
      const part = keys.slice(from, from + MGET_KEYS_MAX).map(keyOf)
      const { answer } = await this.#ask([encode('MGET'), ...part], options, { isRepeatable: true })
      if (answer.is !== 'list' || answer.items.length !== part.length) throw unexpected('MGET', answer)
      for (const item of answer.items) {
        if (item.is !== 'value' && item.is !== 'none') throw unexpected('MGET', item)
        values.push(item.is === 'value' ? item.value : null)
      }
    }
    return values
  }

  async set(key: Bytes, value: Bytes, options: SetOptions = {}): Promise<SetResult> {
    const { condition, pxMs, persist } = options
    if (pxMs !== undefined && !(Number.isSafeInteger(pxMs) && pxMs >= 1))
      throw new StateStoreError('pxMs: expected a whole number, 1 or more')
    const parts = [encode('SET'), keyOf(key), bytesOf(value)]
    if (condition !== undefined) parts.push(encode(condition))
    if (pxMs !== undefined) parts.push(encode('PX'), encode(String(pxMs)))
    const { answer, version } = await this.#ask(parts, options, persist === true ? { properties: { 'aio-persistence': 'true' } } : {})
    const isSet = answer.is === 'ok'
    const isRefused = answer.is === 'number' && answer.number === -1 && condition !== undefined
    if ((!isSet && !isRefused) || version === null) throw unexpected('SET', answer)
    return { isSet, version }
  }

  async delete(key: Bytes, options: FencedOptions = {}): Promise<DeleteResult> {
    const answered = await this.#ask([encode('DEL'), keyOf(key)], options, {})
    return deleteResultOf('DEL', answered)
  }

  /** Deletes the entry if it has exactly that value. */
  async compareAndDelete(key: Bytes, value: Bytes, options: FencedOptions = {}): Promise<DeleteResult> {
    const answered = await this.#ask([encode('VDEL'), keyOf(key), bytesOf(value)], options, {})
    return deleteResultOf('VDEL', answered)
  }

  /** Resolves when the store has it: every change from then on comes, or a `gap` says that some may have been missed. */
  watch(key: Bytes): Promise<Watch>
  /**
   * Extension of Millrace: a watch that is kept over reconnects. After one within `keepMs` milliseconds, or what the broker makes of them, nothing is
   * missed: it says `resumed`, and the changes come that it would have had. Else, and when there were too many, it says `gap`.
   * @throws {RefusedError} `wrong number of arguments`: the broker has no extensions
   */
  watch(key: Bytes, options: { readonly keepMs: number }): Promise<Watch<KeptKeyEvent>>
  async watch(key: Bytes, { keepMs }: { readonly keepMs?: number } = {}): Promise<Watch | Watch<KeptKeyEvent>> {
    if (this.#isClosed) throw closed()
    if (keepMs !== undefined && !(Number.isSafeInteger(keepMs) && keepMs >= 1))
      throw new StateStoreError('keepMs: expected a whole number, 1 or more')
    return this.#watches.add({ is: 'key', bytes: keyOf(key) }, keepMs ?? null)
  }

  /**
   * Extension of Millrace: `watch` of all keys that begin so. Events of one key come in order; which keys there are, `scan` says.
   * @throws {RefusedError} `unknown command`: the broker has no extensions; `not authorized`: not all keys that begin so may be read
   */
  async watchPrefix(prefix: Bytes = ''): Promise<Watch> {
    if (this.#isClosed) throw closed()
    return this.#watches.add({ is: 'prefix', bytes: bytesOf(prefix) }, null) as Promise<Watch>
  }

  /**
   * Extension of Millrace: every key that begins so, page by page, in no promised order. Keys that come or go meanwhile may be missing or
   * there; those that stay are there.
   * @throws {RefusedError} `unknown command`: the broker has no extensions; `not authorized`: not all keys that begin so may be read
   */
  async *scan(
    prefix: Bytes = '',
    { pageMax = SCAN_PAGE_MAX, ...options }: RequestOptions & { readonly pageMax?: number } = {},
  ): AsyncGenerator<Uint8Array, void, void> {
    let cursor: Uint8Array = new Uint8Array()
    do {
      const parts = [encode('SCAN'), bytesOf(prefix), cursor, encode('COUNT'), encode(String(pageMax))]
      const { answer } = await this.#ask(parts, options, { isRepeatable: true })
      const [next, page] = answer.is === 'list' ? answer.items : []
      if (next?.is !== 'value' || page?.is !== 'list') throw unexpected('SCAN', answer)
      for (const key of page.items) if (key.is === 'value') yield key.value
      cursor = next.value
    } while (cursor.length > 0)
  }

  /** Requests under way fail with ClosedError, watches end. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#mqtt.off('message', this.#onMessage)
    const watched = this.#watches.close()
    // The connection lives on, and would get their notifications for ever; and what is kept lives on without one.
    const left = watched.filter(({ isKept }) => isKept || !this.#ownsMqtt)
    if (this.#mqtt.connected) await Promise.allSettled(left.map(each => this.#unregister(each.watched)))
    this.#channel.close(closed())
    taken.delete(this.#mqtt)
    if (this.#ownsMqtt) await this.#mqtt.endAsync()
    else if (this.#mqtt.connected) await this.#mqtt.unsubscribeAsync(this.#responseTopic)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #open(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const late = (): void => reject(new StateStoreError(`the subscription for answers was not granted within ${this.#timeoutMs} ms`))
    const timer = setTimeout(late, this.#timeoutMs)
    this.#channel.onOpen = () => {
      clearTimeout(timer)
      this.#watches.registerAgain()
      resolve()
    }
    this.#channel.onClosed = error => {
      clearTimeout(timer)
      reject(error)
      this.#watches.close(error)
    }
    return promise
  }

  async #register({ is, bytes }: Watched, isRepeatable: boolean, words: readonly string[]): Promise<Registered> {
    const verb = is === 'key' ? 'KEYNOTIFY' : 'WATCH'
    const { answer, version } = await this.#ask([encode(verb), bytes, ...words.map(encode)], {}, { isRepeatable })
    if (answer.is === 'number' && words.includes(SINCE)) return { missed: answer.number, version }
    if (answer.is !== 'ok' && !(answer.is === 'number' && answer.number === 0)) throw unexpected(verb, answer)
    return { missed: null, version }
  }

  #unregister(watched: Watched): Promise<Registered> {
    return this.#register(watched, false, ['STOP'])
  }

  async #ask(
    parts: readonly Uint8Array[],
    { timeoutMs, signal, fencingToken }: FencedOptions,
    { isRepeatable = false, properties }: { readonly isRepeatable?: boolean; readonly properties?: Readonly<Record<string, string>> },
  ): Promise<Answered> {
    const reply = await this.#channel.request({
      payload: encodeParts(parts),
      // Made when it is sent: a request that had to wait is not older than an answer that came meanwhile.
      userProperties: () => ({
        __protVer: PROTOCOL_VERSION,
        __ts: formatHybridTime(this.#clock.tick()),
        ...(fencingToken !== undefined && { __ft: formatHybridTime(fencingToken) }),
        ...properties,
      }),
      timeoutMs: Math.min(timeoutMs ?? this.#timeoutMs, TIMEOUT_MAX_MS),
      signal,
      isRepeatable,
    })
    return this.#read(reply)
  }

  #read({ payload, version: text }: Reply): Answered {
    const version = text === undefined ? null : parseHybridTime(text)
    if (version !== null) this.#clock.merge(version)
    const answer = parseAnswer(payload)
    if (answer.is === 'error') throw refusalOf(answer.text)
    return { answer, version }
  }

  readonly #onMessage = (topic: string, payload: Buffer, packet: IPublishPacket): void => {
    if (!topic.startsWith(this.#notificationPrefix)) return
    const text = userPropertyOf(packet, '__ts')
    if (text === undefined) return
    try {
      const version = parseHybridTime(text)
      this.#clock.merge(version)
      const before = userPropertyOf(packet, '__prev')
      const previous = before === undefined ? null : parseHybridTime(before)
      this.#watches.take(topic.slice(this.#notificationPrefix.length), payload, version, previous)
    } catch (error) {
      // Nobody waits for this message in particular: one that cannot be read or believed is as good as none.
      if (!(error instanceof StateStoreError)) throw error
    }
  }
}

function wordsOf({ keepMs, since }: Keeping): readonly string[] {
  return ['KEEP', String(keepMs), ...(since === null ? [] : [SINCE, formatHybridTime(since)])]
}

function deleteResultOf(verb: string, { answer, version }: Answered): DeleteResult {
  if (answer.is === 'number' && answer.number === 1) return { is: 'deleted', version }
  if (answer.is === 'number' && answer.number === 0) return { is: 'missing' }
  if (answer.is === 'number' && answer.number === -1 && verb === 'VDEL') return { is: 'different', version }
  throw unexpected(verb, answer)
}

function unexpected(verb: string, answer: Answer): UnexpectedAnswerError {
  return new UnexpectedAnswerError(`an answer to ${verb} that it cannot have: ${answer.is}`)
}

function closed(): ClosedError {
  return new ClosedError('the state store was closed')
}

function faultOf(mqtt: MqttClient): string | null {
  if (mqtt.options.protocolVersion !== 5) return 'the state store needs MQTT 5: protocolVersion 5'
  if ((mqtt.options.clientId ?? '') === '') return 'the state store needs a Client Identifier, as its topics hold it'
  return taken.has(mqtt) ? 'the MQTT client has a state store already' : null
}

function encode(text: string): Uint8Array {
  return Buffer.from(text, 'utf8')
}

function bytesOf(value: Bytes): Uint8Array {
  return typeof value === 'string' ? encode(value) : value
}

/** @throws {StateStoreError} empty */
function keyOf(key: Bytes): Uint8Array {
  const bytes = bytesOf(key)
  if (bytes.length === 0) throw new StateStoreError('the key length is zero')
  return bytes
}
