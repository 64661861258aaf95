import { ByteReader } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { ManualClock } from '#shared/base/clock.ts'
import { parseExtendedCommand } from '#shared/state-store/command.ts'
import { errorAnswer } from '#shared/state-store/answer.ts'
import { formatClock, givenClock } from '#shared/state-store/hybrid-clock.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import { readStoreChange, type StoreChange, writeStoreChange } from './changes.ts'
import { KeyStore } from './key-store.ts'
import type { KeyStoreLimits } from './store-limits.ts'
import { type Moment, momentOf } from './moment.ts'
import type { Effects, Executed, RequestOrigin, WatcherId } from './store-request.ts'

export const START_MS = 1_696_374_425_000

export const NO_LIMITS: KeyStoreLimits = {
  keysMax: Infinity,
  keysPerClientMax: Infinity,
  bytesMax: Infinity,
  answersMax: 1_000,
  keysPerConnectionMax: Infinity,
  watchersPerKeyMax: Infinity,
  watchedBytesMax: Infinity,
  keepMsMax: Infinity,
  pastPerKeyMax: Infinity,
  pastBytesMax: Infinity,
}

export interface AskOptions {
  readonly ts?: string | null
  readonly ft?: string | null
  readonly isPersistent?: boolean
  readonly client?: string
  readonly frontend?: string
  readonly connection?: number
  readonly origin?: RequestOrigin
  /** Which of how many shards the store is, for SCAN. */
  readonly shard?: number
  readonly shardCount?: number
}

/** As a text: what the client would see. */
export interface Seen {
  readonly is: Executed['is']
  readonly answer: string
  readonly version: string | null
}

export interface SeenNotification {
  readonly to: string
  readonly topic: string
  readonly payload: string
  readonly ts: string
  /** Of those that are kept. */
  readonly previous: string | null
}

/** One KeyStore with a clock that stands still, what it told watchers, and what it recorded, as bytes. */
export class KeyStoreRig {
  readonly clock = new ManualClock(START_MS)
  readonly limits: KeyStoreLimits
  store: KeyStore
  /** In order, one for each watcher. */
  readonly told: SeenNotification[] = []
  log: Buffer[] = []

  constructor(limits: Partial<KeyStoreLimits> = {}) {
    this.limits = { ...NO_LIMITS, ...limits }
    this.store = this.#empty()
  }

  get now(): Moment {
    return momentOf(this.clock)
  }

  /** A request of its bytes; `ts` is the present unless given. */
  askBytes(payload: Buffer, options: AskOptions = {}): Seen {
    const { ts = `${this.now.wallMs}:0:Client1`, ft = null, isPersistent = false, origin = null, shard = 0, shardCount = 1 } = options
    const parsed = parseExtendedCommand(payload)
    if (typeof parsed === 'string') return { is: 'executed', answer: text(errorAnswer(parsed)), version: null }
    if (parsed.is === 'mget') throw new Error('values of several keys: KeyStore.read')
    const command = parsed.is === 'scan' ? { ...parsed, shard, shardCount } : parsed
    const watcher = watcherOf(options)
    const done = this.store.execute(
      { command, timestamp: givenClock(ts), fencingToken: givenClock(ft), isPersistent, watcher, origin },
      this.now,
    )
    this.take(done)
    return { is: done.is, answer: text(done.answer), version: done.version === null ? null : formatClock(done.version) }
  }

  ask(request: string, options: AskOptions = {}): Seen {
    return this.askBytes(payloadOf(request.split(' ')), options)
  }

  /** `ask` for those that look at the answer alone. */
  answer(request: string, options: AskOptions = {}): string {
    return this.ask(request, options).answer
  }

  /** Answers how much was due, at most `budget`. */
  due(budget = Infinity): number {
    const effects = this.store.due(this.now, budget)
    this.take(effects)
    return effects.changes.length
  }

  /** Records and tells. */
  take({ changes, notifications }: Effects): void {
    for (const change of changes) this.log.push(bytesOf(change))
    for (const { key, payload, clock, previous, watchers } of notifications) {
      for (const { clientId } of watchers) {
        const topic = notifyTopic(clientId, Buffer.from(key, 'latin1'))!
        this.told.push({
          to: clientId,
          topic,
          payload: text(payload),
          ts: formatClock(clock),
          previous: previous === null ? null : formatClock(previous),
        })
      }
    }
  }

  record(changes: readonly StoreChange[]): void {
    this.take({ changes, notifications: [] })
  }

  takeTold(): SeenNotification[] {
    return this.told.splice(0)
  }

  /** Another process goes on with what was recorded. */
  replay(): void {
    this.store = this.#empty()
    for (const bytes of this.log) this.store.apply(readStoreChange(new ByteReader(bytes)), this.now)
  }

  /** The log is replaced by a snapshot. */
  compact(): void {
    this.log = [...this.store.snapshot(() => this.now)].map(bytesOf)
  }

  /** All that the store has, by its records. */
  state(): readonly string[] {
    return [...this.store.snapshot(() => this.now)].map(change => bytesOf(change).toString('latin1')).sort()
  }

  #empty(): KeyStore {
    return new KeyStore(this.limits, this.clock.monotonicMs())
  }
}

/** An array of blobs; texts have a character for each byte. */
export function payloadOf(elements: readonly string[]): Buffer {
  const blobs = elements.map(element => `$${element.length}\r\n${element}\r\n`)
  return Buffer.from(`*${elements.length}\r\n${blobs.join('')}`, 'latin1')
}

export function bytesOf(change: StoreChange): Buffer {
  const writer = new ByteWriter()
  writeStoreChange(writer, change)
  return writer.take()
}

function watcherOf({ client = 'Client1', frontend = 'f', connection = 1 }: AskOptions): WatcherId {
  return { frontend, connection, clientId: client }
}

function text(bytes: Buffer): string {
  return bytes.toString('latin1')
}
