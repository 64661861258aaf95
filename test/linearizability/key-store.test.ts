import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { StoreChange } from '../../backend/statestore/changes.ts'
import { KeyStore } from '../../backend/statestore/key-store.ts'
import type { KeyStoreLimits } from '../../backend/statestore/store-limits.ts'
import { momentOf } from '../../backend/statestore/moment.ts'
import type { Effects } from '../../backend/statestore/store-request.ts'
import { FakeBroker } from '../../client/fake-broker.contract.ts'
import type { Notify, StoreEngine, StoreRequest, StoreResponse } from '../../client/fake-store.contract.ts'
import { parseHybridTime } from '../../client/hybrid-clock.ts'
import { LeasedLock } from '../../client/lock.ts'
import { StateStore } from '../../client/state-store.ts'
import { systemClock } from '#shared/base/clock.ts'
import { errorAnswer } from '#shared/state-store/answer.ts'
import { parseCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { formatClock, givenClock, type HybridClock } from '#shared/state-store/hybrid-clock.ts'
import { check } from './checker.ts'
import { Workload } from './workload.ts'

const LIMITS: KeyStoreLimits = {
  keysMax: 10_000,
  keysPerClientMax: 10_000,
  bytesMax: 10_000_000,
  answersMax: 1_000,
  keysPerConnectionMax: 100,
  watchersPerKeyMax: 100,
  watchedBytesMax: 1_000_000,
  keepMsMax: 3_600_000,
  pastPerKeyMax: 100,
  pastBytesMax: 1_000_000,
}
const FRONTEND = 'f'
const TOKEN_REFUSALS = [ErrorText.TokenRequired, ErrorText.TokenLower].map(text => errorAnswer(text).toString())
const LOOK_AFTER_MS = 10

/** Wrong on purpose. */
type Fault =
  /** Entries are written without the token of the request. */
  | 'tokens-dropped'
  /** What the token of the entry forbids is done all the same. */
  | 'tokens-ignored'

/** The store of a shard behind the fake broker: without journal, shards and frontends between. */
class KeyStoreEngine implements StoreEngine {
  /** What has to be recorded, in order. */
  readonly changes: StoreChange[] = []
  readonly #store: KeyStore
  readonly #notify: Notify
  readonly #fault: Fault | null
  readonly #connections = new Map<string, number>()
  #connectionsMade = 0

  constructor(notify: Notify, fault: Fault | null = null, recorded: readonly StoreChange[] = []) {
    this.#notify = notify
    this.#fault = fault
    this.#store = new KeyStore(LIMITS, systemClock.monotonicMs())
    for (const change of recorded) this.#store.apply(change, momentOf(systemClock))
  }

  forget(clientId: string): void {
    const connection = this.#connections.get(clientId)
    if (connection !== undefined) this.#store.forget(FRONTEND, connection, momentOf(systemClock))
    this.#connections.delete(clientId)
  }

  execute({ clientId, payload, ts, ft }: StoreRequest): StoreResponse {
    const command = parseCommand(Buffer.from(payload))
    if (typeof command === 'string') return { payload: errorAnswer(command), version: null }
    const connection = this.#connections.get(clientId) ?? ++this.#connectionsMade
    this.#connections.set(clientId, connection)
    const watcher = { frontend: FRONTEND, connection, clientId }
    const fencingToken = givenClock(this.#fault === 'tokens-dropped' ? null : (ft ?? null))
    const request = { command, timestamp: givenClock(ts ?? null), fencingToken, isPersistent: false, watcher, origin: null }
    let done = this.#store.execute(request, momentOf(systemClock))
    if (this.#fault === 'tokens-ignored' && TOKEN_REFUSALS.includes(done.answer.toString())) {
      this.#store.apply({ is: 'deleted', key: command.key, clock: null }, momentOf(systemClock))
      done = this.#store.execute(request, momentOf(systemClock))
    }
    this.#tell(done)
    return { payload: done.answer, version: done.version === null ? null : timeOf(done.version) }
  }

  expire(): number | null {
    this.#tell(this.#store.due(momentOf(systemClock), Infinity))
    return this.#store.keys === 0 ? null : LOOK_AFTER_MS
  }

  #tell({ changes, notifications }: Effects): void {
    this.changes.push(...changes)
    for (const { key, payload, clock, watchers } of notifications)
      for (const { clientId } of watchers) this.#notify(clientId, Buffer.from(key, 'latin1'), payload, timeOf(clock))
  }
}

/**
 * A shard that another owner takes over, from what was recorded, after so many requests. The first one does not know: where nobody keeps it
 * from it, it goes on serving every other client.
 */
class TakenOverEngine implements StoreEngine {
  readonly #notify: Notify
  readonly #isFirstFenced: boolean
  readonly #first: KeyStoreEngine
  #second: KeyStoreEngine | null = null
  #left = 60

  constructor(notify: Notify, isFirstFenced: boolean) {
    this.#notify = notify
    this.#isFirstFenced = isFirstFenced
    this.#first = new KeyStoreEngine(notify)
  }

  forget(clientId: string): void {
    this.#first.forget(clientId)
    this.#second?.forget(clientId)
  }

  execute(request: StoreRequest): StoreResponse {
    if (this.#left-- > 0) return this.#first.execute(request)
    this.#second ??= new KeyStoreEngine(this.#notify, null, this.#first.changes)
    const isOfFirst = !this.#isFirstFenced && Number(/^lin(\d+)/.exec(request.clientId)![1]) % 2 === 0
    return (isOfFirst ? this.#first : this.#second).execute(request)
  }

  expire(): number | null {
    this.#first.expire()
    this.#second?.expire()
    return LOOK_AFTER_MS
  }
}

function timeOf(clock: HybridClock): ReturnType<typeof parseHybridTime> {
  return parseHybridTime(formatClock(clock))
}

const start = (): Promise<FakeBroker> => FakeBroker.start({ engine: notify => new KeyStoreEngine(notify) })

test.each([1, 2, 3, 4])('the store of a shard is linearizable: seed %i', async seed => {
  await using broker = await start()
  await using workload = await Workload.open([broker.url], 8)
  const cuts = seed % 2 === 0 ? 3 : 0
  const history = await workload.run({ seed, operations: 200, keys: 5, disturbances: cuts, disturb: random => workload.cutOne(random) })
  expect(check(history)).toEqual([])
  expect(history.length).toBeGreaterThan(150)
})

describe('what keeps a store right is not superfluous: without it the checker finds the history wrong', () => {
  test.each<[string, (notify: Notify) => StoreEngine]>([
    ['entries without tokens', notify => new KeyStoreEngine(notify, 'tokens-dropped')],
    ['tokens that nobody looks at', notify => new KeyStoreEngine(notify, 'tokens-ignored')],
    ['an owner that goes on after another one has taken its shard', notify => new TakenOverEngine(notify, false)],
  ])('%s', async (_, engine) => {
    await using broker = await FakeBroker.start({ engine })
    await using workload = await Workload.open([broker.url], 8)
    const violations = check(await workload.run({ seed: 1, operations: 200, keys: 5 }))
    expect(violations.map(({ rule }) => rule)).toContain('linearizable')
  })

  test('while an owner that stops when another one takes its shard is right', async () => {
    await using broker = await FakeBroker.start({ engine: notify => new TakenOverEngine(notify, true) })
    await using workload = await Workload.open([broker.url], 8)
    expect(check(await workload.run({ seed: 1, operations: 200, keys: 5 }))).toEqual([])
  })
})

test('watches and locks of the client over it', async () => {
  await using broker = await start()
  await using a = await StateStore.connect(broker.url)
  await using b = await StateStore.connect(broker.url)
  using watch = await a.watch('lock')
  const held = await new LeasedLock(a, 'lock').acquire()
  const waiting = new LeasedLock(b, 'lock').acquire()
  await nextTurn()
  await held.release()
  await (await waiting).release()
  await b.set('lock', 'x', { pxMs: 30 })
  const events: (string | undefined)[] = []
  while (events.length < 6) events.push((await watch.next())?.is)
  expect(events).toEqual(['set', 'deleted', 'set', 'deleted', 'set', 'deleted'])
})
