import { expect } from 'vitest'
import { ByteReader } from '#shared/base/byte-reader.ts'
import { parseExtendedCommand } from '#shared/state-store/command.ts'
import { compareClocks, formatClock, givenClock, type HybridClock } from '#shared/state-store/hybrid-clock.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { readStoreChange } from './changes.ts'
import { KeyStore } from './key-store.ts'
import type { KeyStoreLimits } from './store-limits.ts'
import { bytesOf, NO_LIMITS, payloadOf, START_MS } from './key-store-rig.contract.ts'
import type { Moment } from './moment.ts'
import { type Asked, type ModelNotification, NaiveStore, nameOf } from './naive-store.contract.ts'
import type { Effects, RequestOrigin } from './store-request.ts'

const KEYS = ['a', 'b', 'c', 'long'.repeat(300), '\x00\xff\r\n', 'é']
const PREFIXES = ['', 'a', 'l', 'long', 'longlong', '\x00', '\xff']
const VALUES = ['', '1', '2', '$1\r\n', 'v'.repeat(1_024), 'w'.repeat(1_025)]
const CLIENTS = ['one', 'two', 'three']
const FRONTENDS = ['f', 'g']

/** What happened, so that a run that tests nothing does not pass. */
export interface ModelFigures {
  done: number
  refused: number
  told: number
  expired: number
  repeated: number
  restarts: number
  snapshots: number
  resumed: number
  gaps: number
  /** Watches whose time without connection was over. */
  ended: number
}

/**
 * Random requests, times, connections that go, failovers and snapshots that are taken while all that goes on: the KeyStore must answer, tell
 * and remember what the plainest store would that could be written (naive-store.contract.ts).
 */
export class KeyStoreModel {
  readonly figures: ModelFigures = {
    done: 0,
    refused: 0,
    told: 0,
    expired: 0,
    repeated: 0,
    restarts: 0,
    snapshots: 0,
    resumed: 0,
    gaps: 0,
    ended: 0,
  }
  readonly #random: SeededRandom
  readonly #limits: KeyStoreLimits
  readonly #naive: NaiveStore
  #store: KeyStore
  #wallMs = START_MS
  #monotonicMs = 1_000
  #log: Buffer[] = []
  /** A snapshot under way: what it has so far, and where the log was when it began. */
  #snapshot: { readonly steps: Iterator<unknown>; readonly chunks: Buffer[]; readonly logFrom: number } | null = null
  /** By client and key: versions that the client was told of, or that a watch of its began with. */
  readonly #positions = new Map<string, string[]>()
  /** By frontend: what has no settled answer yet. */
  readonly #open = new Map<string, { next: number; readonly asked: Map<number, Asked> }>()

  constructor(seed: number) {
    this.#random = new SeededRandom(seed)
    this.#limits = {
      ...NO_LIMITS,
      keysMax: this.#random.int(2, 7),
      keysPerClientMax: this.#random.chance(0.5) ? Infinity : this.#random.int(1, 3),
      keysPerConnectionMax: this.#random.int(1, 4),
      watchersPerKeyMax: this.#random.int(1, 4),
      pastPerKeyMax: this.#random.chance(0.5) ? Infinity : this.#random.int(0, 3),
    }
    this.#naive = new NaiveStore(this.#limits)
    this.#store = new KeyStore(this.#limits, this.#monotonicMs)
  }

  static run(seed: number, steps: number): ModelFigures {
    const model = new KeyStoreModel(seed)
    for (let step = 0; step < steps; step++) model.#step()
    return model.figures
  }

  get #now(): Moment {
    return { wallMs: this.#wallMs, monotonicMs: this.#monotonicMs }
  }

  #step(): void {
    const random = this.#random
    const dice = random.next()
    if (dice < 0.1) this.#pass(random.int(0, 30))
    else if (dice < 0.18) this.#due()
    else if (dice < 0.22) this.#forget()
    else if (dice < 0.24) this.#restart()
    else if (dice < 0.3) this.#snapshotStep()
    else if (dice < 0.36) this.#repeat()
    else this.#ask(this.#anyRequest())
  }

  #pass(ms: number): void {
    this.#wallMs += ms
    this.#monotonicMs += ms
  }

  #due(): void {
    const budget = this.#random.chance(0.5) ? Infinity : this.#random.int(0, 3)
    const effects = this.#store.due(this.#now, budget)
    this.#take(effects, null)
    for (const change of effects.changes) {
      if (change.is !== 'unkept') continue
      this.figures.ended++
      this.#naive.expectEnded(change.key, change.clientId, this.#wallMs)
    }
    if (effects.changes.length < budget) expect(this.#store.keys).toBe(this.#naive.keys)
    else expect(effects.changes).toHaveLength(budget)
  }

  #forget(): void {
    const frontend = this.#random.pick(FRONTENDS)
    if (this.#random.chance(0.1)) {
      this.#record(this.#store.forgetFrontend(frontend, this.#now))
      this.#naive.forgetFrontend(frontend, this.#wallMs)
      // A later run of it has another name; here its numbers go on.
      this.#open.get(frontend)?.asked.clear()
      return
    }
    const connection = this.#random.int(1, 4)
    this.#record(this.#store.forget(frontend, connection, this.#now))
    this.#naive.forget(frontend, connection, this.#wallMs)
  }

  /** Another owner, with another idea of the time. */
  #restart(): void {
    this.figures.restarts++
    this.#snapshot = null
    this.#wallMs += this.#random.int(-20, 40)
    this.#monotonicMs = this.#random.int(0, 1_000_000)
    this.#store = new KeyStore(this.#limits, this.#monotonicMs)
    for (const bytes of this.#log) this.#store.apply(readStoreChange(new ByteReader(bytes)), this.#now)
    expect(this.#store.clock).toEqual(this.#naive.clock)
    expect([this.#store.watches, this.#store.watchesAway]).toEqual([this.#naive.watches, this.#naive.watchesAway])
    this.#naive.expectAbsentAgain(this.#wallMs, this.#store.keys)
  }

  /** A few steps of a snapshot; at its end it and what was recorded since it began are all that is left. */
  #snapshotStep(): void {
    this.#snapshot ??= { steps: this.#store.snapshot(() => this.#now)[Symbol.iterator](), chunks: [], logFrom: this.#log.length }
    const { steps, chunks, logFrom } = this.#snapshot
    for (let left = this.#random.int(1, 8); left > 0; left--) {
      const { done, value } = steps.next() as IteratorResult<Parameters<typeof bytesOf>[0], undefined>
      if (done !== true) {
        chunks.push(bytesOf(value))
        continue
      }
      this.#log = [...chunks, ...this.#log.slice(logFrom)]
      this.#snapshot = null
      this.figures.snapshots++
      return
    }
  }

  #anyRequest(): Asked {
    const random = this.#random
    const key = random.pick(KEYS)
    const value = random.pick(VALUES)
    const node = random.pick(['a', 'z'])
    const clock = (): string | null => {
      const dice = random.next()
      if (dice < 0.03) return 'malformed'
      if (dice < 0.06) return `${this.#wallMs + 60_001}:0:${node}`
      return `${this.#wallMs + (dice < 0.1 ? 60_000 : random.int(-50, 5))}:${random.int(0, 3)}:${node}`
    }
    const condition = random.pick([[], [], ['NX'], ['NEX']])
    const lifetime = random.chance(0.4) ? ['PX', String(random.int(1, 50))] : []
    const frontend = random.pick(FRONTENDS)
    const connection = random.int(1, 4)
    const clientId = CLIENTS[connection % CLIENTS.length]!
    const elements = random.pick([
      ['SET', key, value, ...condition, ...lifetime],
      ['SET', key, value, ...lifetime],
      ['GET', key],
      ['DEL', key],
      ['VDEL', key, value],
      ['KEYNOTIFY', key],
      ['KEYNOTIFY', key, ...(random.chance(0.5) ? ['STOP'] : [])],
      ['WATCH', random.pick(PREFIXES), ...(random.chance(0.3) ? ['STOP'] : [])],
      ['KEYNOTIFY', key, 'KEEP', String(random.int(1, 60)), ...this.#since(clientId, key)],
      ['KEYNOTIFY', key, 'KEEP', '1000', ...this.#since(clientId, key)],
    ])
    return {
      elements,
      ts: random.chance(0.05) ? null : clock(),
      ft: random.chance(0.25) ? clock() : null,
      isPersistent: random.chance(0.3),
      watcher: { frontend, connection, clientId },
      origin: random.chance(0.5) ? this.#nextOrigin(frontend) : null,
    }
  }

  /** Mostly what the client knows of, seldom what nobody said. */
  #since(clientId: string, key: string): readonly string[] {
    const known = this.#positions.get(`${clientId} ${key}`) ?? []
    if (this.#random.chance(0.2)) return []
    if (this.#random.chance(0.1) || known.length === 0) return ['SINCE', `${this.#wallMs - this.#random.int(0, 20)}:0:StateStore`]
    return ['SINCE', known.at(-1 - Math.min(this.#random.int(0, 3), known.length - 1))!]
  }

  #knows(clientId: string, key: string, clock: HybridClock): void {
    const name = `${clientId} ${key}`
    const known = this.#positions.get(name) ?? []
    this.#positions.set(name, [...known.slice(-5), formatClock(clock)])
  }

  #nextOrigin(frontend: string): RequestOrigin {
    let open = this.#open.get(frontend)
    if (open === undefined) this.#open.set(frontend, (open = { next: 0, asked: new Map() }))
    for (const sequence of open.asked.keys()) if (open.asked.size > 10 || this.#random.chance(0.2)) open.asked.delete(sequence)
    const sequence = open.next++
    return { frontend, sequence, settledBefore: Math.min(sequence, ...open.asked.keys()) }
  }

  #repeat(): void {
    const asked = [...this.#open.values()].flatMap(open => [...open.asked.values()])
    if (asked.length > 0) this.#ask(this.#random.pick(asked))
  }

  #ask(asked: Asked): void {
    const command = parseExtendedCommand(payloadOf(asked.elements))
    if (typeof command === 'string' || command.is === 'scan' || command.is === 'mget') throw new Error(asked.elements.join(' '))
    const { ts, ft, isPersistent, watcher, origin } = asked
    const done = this.#store.execute(
      { command, timestamp: givenClock(ts), fencingToken: givenClock(ft), isPersistent, watcher, origin },
      this.#now,
    )
    expect(done.is, 'it is not settled').not.toBe('stale')
    const expected = this.#take(done, asked)!
    expect(done.version).toEqual(expected.version)
    expect(done.is).toBe(expected.isRepeat ? 'repeated' : 'executed')
    if (command.is === 'keep' && done.is === 'executed') {
      if (expected.answer.startsWith(':')) this.figures.resumed++
      else if (command.since !== null && expected.version !== null) this.figures.gaps++
      if (expected.version !== null) this.#knows(watcher.clientId, command.key, expected.version)
    }
    if (origin !== null) this.#open.get(origin.frontend)?.asked.set(origin.sequence, asked)
    if (expected.isRepeat) this.figures.repeated++
    else if (expected.answer.startsWith('-ERR')) this.figures.refused++
    else this.figures.done++
  }

  /** The naive store does the same: what expired on the way, in the order in which it did, and then the request. */
  #take(effects: Effects & { readonly answer?: Buffer }, asked: Asked | null): ReturnType<NaiveStore['ask']> | null {
    const told: ModelNotification[] = []
    const deleted = effects.changes.filter(change => change.is === 'deleted').map(({ key }) => key)
    const isAnswered = effects.changes.some(change => change.is === 'answered')
    for (const key of deleted) {
      if (!this.#naive.isPast(key, this.#wallMs)) continue
      this.figures.expired++
      told.push(...this.#naive.expire(key, this.#wallMs))
    }
    const answer = asked === null ? null : this.#naive.ask(asked, this.#wallMs)
    if (answer !== null) {
      expect(effects.answer?.toString('latin1'), asked!.elements.join(' ')).toBe(answer.answer)
      told.push(...answer.notifications)
      expect(isAnswered, 'recorded as answered').toBe(answer.isRemembered)
    }
    expect(this.#actual(effects)).toEqual(told)
    this.figures.told += told.length
    for (const { key, clock, watchers } of effects.notifications) for (const { clientId } of watchers) this.#knows(clientId, key, clock)
    this.#record(effects.changes)
    return answer
  }

  /** Of one change, those whose watches are kept are told apart: what came before it, too. */
  #actual({ notifications }: Effects): ModelNotification[] {
    const actual: { key: string; payload: string; clock: ModelNotification['clock']; to: string[] }[] = []
    for (const { key, payload, clock, previous, watchers } of notifications) {
      if (previous !== null) this.#naive.expectNext(key, previous, clock)
      const last = actual.at(-1)
      const to = watchers.map(nameOf)
      if (last?.key === key && compareClocks(last.clock, clock) === 0) last.to.push(...to)
      else actual.push({ key, payload: payload.toString('latin1'), clock, to })
    }
    return actual.map(each => ({ ...each, to: each.to.sort() }))
  }

  #record(changes: Effects['changes']): void {
    for (const change of changes) this.#log.push(bytesOf(change))
  }
}
