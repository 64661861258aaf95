import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { KeyStore, type KeyStoreLimits } from '../../backend/statestore/key-store.ts'
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
import { formatClock, type HybridClock } from '#shared/state-store/hybrid-clock.ts'
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
}
const FRONTEND = 'f'
const LOOK_AFTER_MS = 10

/** The store of a shard behind the fake broker: without journal, shards and frontends between. */
class KeyStoreEngine implements StoreEngine {
  readonly #store = new KeyStore(LIMITS, systemClock.monotonicMs())
  readonly #notify: Notify
  readonly #connections = new Map<string, number>()
  #connectionsMade = 0

  constructor(notify: Notify) {
    this.#notify = notify
  }

  forget(clientId: string): void {
    const connection = this.#connections.get(clientId)
    if (connection !== undefined) this.#store.forget(FRONTEND, connection)
    this.#connections.delete(clientId)
  }

  execute({ clientId, payload, ts, ft }: StoreRequest): StoreResponse {
    const command = parseCommand(payload)
    if (typeof command === 'string') return { payload: errorAnswer(command), version: null }
    const connection = this.#connections.get(clientId) ?? ++this.#connectionsMade
    this.#connections.set(clientId, connection)
    const watcher = { frontend: FRONTEND, connection, clientId }
    const done = this.#store.execute(
      { command, timestamp: ts ?? null, fencingToken: ft ?? null, isPersistent: false, watcher, origin: null },
      momentOf(systemClock),
    )
    this.#tell(done)
    return { payload: done.answer, version: done.version === null ? null : timeOf(done.version) }
  }

  expire(): number | null {
    this.#tell(this.#store.due(momentOf(systemClock), Infinity))
    return this.#store.keys === 0 ? null : LOOK_AFTER_MS
  }

  #tell({ notifications }: Effects): void {
    for (const { key, payload, clock, watchers } of notifications)
      for (const { clientId } of watchers) this.#notify(clientId, Buffer.from(key, 'latin1'), payload, timeOf(clock))
  }
}

function timeOf(clock: HybridClock): ReturnType<typeof parseHybridTime> {
  return parseHybridTime(formatClock(clock))
}

const start = (): Promise<FakeBroker> => FakeBroker.start({ engine: notify => new KeyStoreEngine(notify) })

test.each([1, 2, 3, 4])('the store of a shard is linearizable: seed %i', async seed => {
  await using broker = await start()
  await using workload = await Workload.open(broker.url, 8)
  const cuts = seed % 2 === 0 ? 3 : 0
  const history = await workload.run({ seed, operations: 200, keys: 5, disturbances: cuts, disturb: random => workload.cutOne(random) })
  expect(check(history)).toEqual([])
  expect(history.length).toBeGreaterThan(150)
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
