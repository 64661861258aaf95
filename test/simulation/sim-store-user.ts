import { ByteWriter } from '#shared/base/byte-writer.ts'
import { type Message, propertyValue, userProperty } from '#shared/mqtt/message.ts'
import { writeFieldProperty, writeUserProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { formatHybridTime, HybridClock, parseHybridTime } from '../../client/hybrid-clock.ts'
import { type Answer, encodeParts, parseAnswer } from '../../client/resp.ts'
import { notificationPrefixOf, responseTopicOf } from '../../client/topics.ts'
import type { Result } from '../linearizability/history.ts'
import { randomAction } from '../linearizability/random-action.ts'
import type { History, StoreAction } from './history.ts'
import { KeptKeys } from './sim-kept-keys.ts'
import type { SimClient } from './sim-client.ts'
import type { World } from './world.ts'

/** Few, so that they are written to at the same time. */
const KEYS = ['k0', 'k1', 'k2', 'k3']
/** Of all of them. */
const PREFIX = 'k'
/** Clients that watch all keys by their prefix; the others watch one or the other. */
const UNDER_SHARE = 0.3
/** Of those, clients whose watches are kept. */
const KEEP_SHARE = 0.5
const KEEP_MS = [300, 3_000, 60_000] as const
const PX_MS_MAX = 400
const KEPT_MAX = 12

/** What the answers to all clients of a run told of, the last of it. */
export class StoreKnowledge {
  readonly versions: string[] = []
  readonly values: string[] = []

  add(list: string[], item: string): void {
    list.push(item)
    if (list.length > KEPT_MAX) list.shift()
  }
}

interface Asked {
  readonly action: StoreAction
  answer: string | null
}

/**
 * The part of a client that uses the state store: requests, answers, notifications. It never repeats a request. What was asked on a connection
 * that is lost may be answered on a later one, as its session keeps the answer.
 */
export class StoreUser {
  readonly #world: World
  readonly #history: History
  readonly #client: SimClient
  readonly #known: StoreKnowledge
  readonly #clock: HybridClock
  readonly #answerTopic: string
  readonly #notificationPrefix: string
  readonly #asked = new Map<string, Asked>()
  /** Asked on this connection, neither answered nor refused. */
  readonly #waiting = new Set<string>()
  readonly #watched = new Set<string>()
  readonly #watchesUnder: boolean
  /** Null: its watches end with their connections. */
  readonly #kept: KeptKeys | null
  #values = 0
  /** Answers can come. */
  #isOpen = false

  constructor(world: World, history: History, client: SimClient, known: StoreKnowledge) {
    this.#world = world
    this.#history = history
    this.#client = client
    this.#known = known
    this.#clock = new HybridClock(client.clientId, () => world.wallMs)
    this.#answerTopic = responseTopicOf(client.clientId)
    this.#notificationPrefix = notificationPrefixOf(client.clientId)
    this.#watchesUnder = world.random.chance(UNDER_SHARE)
    this.#kept = !this.#watchesUnder && world.random.chance(KEEP_SHARE) ? new KeptKeys(history, client.clientId) : null
  }

  // ---- its connection

  onOnline(): void {
    this.#watched.clear()
    this.#client.subscribe(this.#answerTopic, 1)
  }

  onOffline(): void {
    this.#isOpen = false
    this.#waiting.clear()
  }

  onSubscribed(filter: string): void {
    if (filter !== this.#answerTopic) return
    this.#isOpen = true
    for (const key of this.#kept?.onOpen() ?? []) this.#keep(key)
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  get waitsFor(): readonly string[] {
    return [...this.#waiting].map(request => `the answer to ${request}`)
  }

  onRefused(request: string, reason: number): void {
    this.#waiting.delete(request)
    this.#kept?.onRefused(request)
    this.#history.add({ is: 'storeRefused', client: this.#client.clientId, request, reason })
  }

  // ---- what it asks for

  /** Something at random. */
  act(): void {
    if (!this.#isOpen) return
    const { random } = this.#world
    if (random.chance(0.25)) return this.#watch(this.#watchesUnder ? PREFIX : random.pick(KEYS))
    for (let count = random.int(1, 3); count > 0; count--) {
      const number = random.int(0, KEYS.length - 1)
      const action = randomAction({
        random,
        key: number,
        name: this.#client.clientId,
        versions: this.#known.versions,
        pxMsMax: PX_MS_MAX,
        freshValue: () => `${this.#client.clientId}-${this.#values++}`,
        seenValue: () => (this.#known.values.length === 0 ? 'none' : random.pick(this.#known.values)),
      })
      this.#ask(KEYS[number]!, action)
    }
  }

  /** Begins to watch, or ends it. */
  #watch(key: string): void {
    if (this.#kept !== null) return this.#keep(key)
    const isStop = this.#watched.has(key) && this.#world.random.chance(0.4)
    if (isStop) this.#watched.delete(key)
    else this.#watched.add(key)
    this.#ask(key, { is: isStop ? 'unwatch' : 'watch', ...(this.#watchesUnder && { under: KEYS }) })
  }

  /** Once more, or ends it: what was known before is of no use then, and the client may try. */
  #keep(key: string): void {
    const kept = this.#kept!
    if (kept.isWaiting(key)) return
    const { random } = this.#world
    const since = random.chance(0.1) ? null : kept.knownOf(key)
    const isStop = since !== null && random.chance(0.1)
    const request = this.#ask(key, isStop ? { is: 'unwatch' } : { is: 'keep', keepMs: random.pick(KEEP_MS), since })
    if (isStop) kept.onStop(key)
    else kept.onAsked(key, request)
  }

  /** Every key, so that a write that was lost is noticed. False: it cannot ask. */
  readAll(): boolean {
    if (!this.#isOpen) return false
    for (const key of KEYS) this.#ask(key, { is: 'get' })
    return true
  }

  #ask(key: string, action: StoreAction): string {
    const request = `${this.#client.clientId}:s${this.#asked.size + 1}`
    this.#asked.set(request, { action, answer: null })
    this.#waiting.add(request)
    if (action.is === 'set') this.#known.add(this.#known.values, action.value)
    const writer = new ByteWriter()
    writeFieldProperty(writer, Property.ResponseTopic, Buffer.from(this.#answerTopic))
    writeFieldProperty(writer, Property.CorrelationData, Buffer.from(request))
    writeUserProperty(writer, '__ts', formatHybridTime(this.#clock.tick()))
    if ('token' in action && action.token !== null) writeUserProperty(writer, '__ft', action.token)
    this.#history.add({ is: 'storeAsked', client: this.#client.clientId, request, key, action })
    this.#client.askStore(request, encodeParts(partsOf(key, action).map(part => Buffer.from(part))), writer.take())
    return request
  }

  // ---- what comes

  /** False: the message is not about the store. */
  takes(message: Message): boolean {
    const { name } = message.topic
    if (name === this.#answerTopic) this.#onAnswer(message)
    else if (name.startsWith(this.#notificationPrefix)) this.#onNotification(name.slice(this.#notificationPrefix.length), message)
    else return false
    return true
  }

  #onAnswer(message: Message): void {
    const request = propertyValue(message, Property.CorrelationData)?.toString() ?? 'nothing'
    const asked = this.#asked.get(request)
    if (asked === undefined) return this.#wrong(`an answer to ${request}, which was not asked`)
    const version = userProperty(message, '__ts') ?? null
    const text = `${JSON.stringify(message.payload.toString())} ${version}`
    if (asked.answer !== null) {
      // Asked again after a failover, it is answered again: a read as it is then, all else as before.
      if (asked.answer !== text && asked.action.is !== 'get') this.#wrong(`${request} is answered by ${asked.answer} and by ${text}`)
      return
    }
    this.#waiting.delete(request)
    asked.answer = text
    if (asked.action.is === 'keep') {
      const answer = parseAnswer(message.payload)
      const isAnswer = answer.is === 'number' ? asked.action.since !== null && version === null : answer.is === 'ok' && version !== null
      if (!isAnswer) return this.#wrong(`${request}, keep, is answered by ${text}`)
      return this.#kept!.onAnswer(request, version, answer.is === 'number' ? answer.number : 0)
    }
    const result = resultOf(asked.action, parseAnswer(message.payload), version)
    if (result === null) return this.#wrong(`${request}, ${asked.action.is}, is answered by ${text}`)
    if (version !== null) {
      this.#clock.merge(parseHybridTime(version))
      this.#known.add(this.#known.versions, version)
    }
    this.#history.add({ is: 'storeAnswered', client: this.#client.clientId, request, result })
  }

  #onNotification(hexKey: string, message: Message): void {
    const key = Buffer.from(hexKey, 'hex').toString()
    const version = userProperty(message, '__ts')
    const answer = parseAnswer(message.payload)
    const [, verb, , told] =
      answer.is === 'list' ? answer.items.map(item => (item.is === 'value' ? Buffer.from(item.value).toString() : '')) : []
    if (version === undefined || (verb !== 'SET' && verb !== 'DELETE')) return this.#wrong('a notification that is none')
    const value = verb === 'SET' ? (told ?? '') : null
    const previous = userProperty(message, '__prev')
    if (this.#kept === null) {
      if (previous !== undefined) return this.#wrong('a notification that says what came before it to who keeps no watch')
      return this.#history.add({ is: 'notified', client: this.#client.clientId, key, version, value })
    }
    if (previous === undefined) return this.#wrong('a notification that does not say what came before it')
    if (!this.#kept.onTold({ key, version, previous, value }) && this.#isOpen) this.#keep(key)
  }

  #wrong(what: string): void {
    this.#history.add({ is: 'wrong', client: this.#client.clientId, what })
  }
}

function partsOf(key: string, action: StoreAction): readonly string[] {
  switch (action.is) {
    case 'set': {
      const { value, condition, pxMs } = action
      return ['SET', key, value, ...(condition === null ? [] : [condition]), ...(pxMs === null ? [] : ['PX', String(pxMs)])]
    }
    case 'get':
      return ['GET', key]
    case 'del':
      return ['DEL', key]
    case 'vdel':
      return ['VDEL', key, action.value]
    case 'keep':
      return ['KEYNOTIFY', key, 'KEEP', String(action.keepMs), ...(action.since === null ? [] : ['SINCE', action.since])]
    case 'watch':
    case 'unwatch':
      return [action.under === undefined ? 'KEYNOTIFY' : 'WATCH', key, ...(action.is === 'unwatch' ? ['STOP'] : [])]
  }
}

/** Null: no answer that the store may give to that. */
function resultOf({ is }: StoreAction, answer: Answer, version: string | null): Result | null {
  switch (answer.is) {
    case 'ok':
      return is === 'set' || is === 'watch' || is === 'unwatch' ? { is: 'done', version } : null
    case 'value':
      return is === 'get' ? { is: 'value', value: Buffer.from(answer.value).toString(), version } : null
    case 'none':
      return is === 'get' ? { is: 'missing' } : null
    case 'number':
      if (answer.number === -1) return is === 'set' || is === 'vdel' ? { is: 'differs', version } : null
      if (answer.number === 0) return is === 'del' || is === 'vdel' || is === 'unwatch' ? { is: 'missing' } : null
      return answer.number === 1 && (is === 'del' || is === 'vdel') ? { is: 'done', version } : null
    case 'error':
      if (answer.text === ErrorText.TokenRequired) return { is: 'tokenRequired' }
      return answer.text === ErrorText.TokenLower ? { is: 'tokenOutdated' } : null
    case 'list':
      return null
  }
}
