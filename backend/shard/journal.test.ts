import { beforeEach, describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import { ManualTurn, nextTurn, RecordingFrontend } from '../backend-rig.contract.ts'
import { LateStore } from '../store/late-store.contract.ts'
import { Journal } from './journal.ts'

let store: LateStore
let turn: ManualTurn
let journal: Journal
let frontend: RecordingFrontend
let failures: string[]
let done: string[]

/** A frontend that only the test's own method is asked of. */
const frontendBase: FrontendPort = {
  deliver: () => {},
  acknowledged: () => {},
  subscribed: () => {},
  released: () => {},
  pressure: () => {},
  disconnect: () => {},
}

beforeEach(() => {
  store = LateStore.empty(3)
  turn = new ManualTurn()
  frontend = new RecordingFrontend()
  failures = []
  done = []
  journal = new Journal(store, turn, error => failures.push(error.message))
})

function record(shard: number, text: string): void {
  journal.writer(shard).text(text)
}

function note(text: string): void {
  journal.whenStored(() => done.push(text))
}

/** A turn in which one record is made and waited for. */
function turnWith(text: string): void {
  record(0, text)
  note(text)
  journal.flush()
}

async function complete(count: number): Promise<void> {
  store.complete(count)
  await nextTurn()
  // The end of the turn in which the store answered.
  if (!turn.isRequested) return
  turn.isRequested = false
  journal.flush()
}

describe('group commit', () => {
  test('the records of one turn, of all shards, are one commit, and what waits for them runs when it is stored', async () => {
    record(0, 'a')
    record(2, 'b')
    record(0, 'c')
    note('stored')
    journal.acknowledgeWhenStored(frontend, 7, 3, ReasonCode.Success)
    expect(turn.isRequested).toBe(true)
    journal.flush()
    expect([store.waiting, done, frontend.of(7)]).toEqual([1, [], []])
    await complete(1)
    expect([done, frontend.of(7)]).toEqual([['stored'], [{ is: 'acknowledged', ticket: 3, reason: ReasonCode.Success }]])
    expect([journal.commits, journal.pendingBytes]).toEqual([1, 0])
    const found: number[] = []
    for (const shard of [0, 1, 2]) await store.recover(shard, () => found.push(shard))
    expect(found).toEqual([0, 2])
  })

  test('without anything to store or to wait for, a turn costs no commit', async () => {
    journal.flush()
    expect([store.waiting, journal.commits]).toEqual([0, 0])
    await journal.settled()
  })

  test('what waits for nothing runs at once; an acknowledgement waits for the end of its turn', () => {
    note('at once')
    expect(done).toEqual(['at once'])
    journal.acknowledgeWhenStored(frontend, 1, 0, ReasonCode.Success)
    note('behind it')
    expect([done, frontend.of(1)]).toEqual([['at once'], []])
    journal.flush()
    expect([done.length, frontend.of(1).length, journal.commits]).toEqual([2, 1, 0])
  })

  test('commits complete in the order made, and those without records wait for those before them', async () => {
    turnWith('1')
    note('without records')
    journal.flush()
    turnWith('2')
    await complete(1)
    expect(done).toEqual(['1', 'without records'])
    await complete(1)
    expect(done).toEqual(['1', 'without records', '2'])
    expect(journal.committed).toBe(journal.open - 1)
  })

  test('at most four commits are under way; what comes meanwhile gathers into the next one and counts as pending', async () => {
    for (let i = 1; i <= 10; i++) turnWith(`${i}`)
    expect(store.waiting).toBe(4)
    const before = journal.pendingBytes
    record(1, 'x'.repeat(10_000))
    journal.flush()
    expect(journal.pendingBytes - before).toBeGreaterThan(10_000)
    await complete(1)
    expect(done).toEqual(['1'])
    expect(store.waiting, 'the gathered ones took the free place').toBe(4)
    await complete(3)
    expect(done).toEqual(['1', '2', '3', '4'])
    await complete(1)
    expect(done).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10'])
    expect([journal.commits, journal.pendingBytes]).toEqual([5, 0])
  })

  test('a chain of requests, each made when the one before completes, does not nest', async () => {
    const depths: number[] = []
    let depth = 0
    let left = 1_000
    const ask = (): void => {
      depths.push(++depth)
      if (left-- > 0) journal.acknowledgeWhenStored({ ...frontendBase, acknowledged: ask }, 1, left, ReasonCode.Success)
      journal.flush()
      depth--
    }
    journal.acknowledgeWhenStored({ ...frontendBase, acknowledged: ask }, 1, 0, ReasonCode.Success)
    for (let turns = 0; turns < 2_000; turns++) journal.flush()
    expect([depths.length, Math.max(...depths)]).toEqual([1_001, 1])
    await nextTurn()
  })

  test('what an action records belongs to a later commit', async () => {
    record(0, 'first')
    journal.whenStored(() => {
      record(0, 'second')
      note('second')
    })
    journal.flush()
    await complete(1)
    expect(done).toEqual([])
    await complete(1)
    expect(done).toEqual(['second'])
  })

  test('`settled` waits for everything, `stored` for what there is now', async () => {
    turnWith('1')
    const events: string[] = []
    void journal.stored().then(isStored => events.push(`stored ${isStored}`))
    journal.flush()
    turnWith('2')
    void journal.settled().then(() => events.push('settled'))
    await complete(1)
    expect(events).toEqual(['stored true'])
    await complete(1)
    expect(events).toEqual(['stored true', 'settled'])
    expect(await journal.stored()).toBe(true)
  })
})

describe('a store that fails', () => {
  test('nothing that waits is ever told that it was stored, now or later; the failure is reported once', async () => {
    turnWith('lost')
    turnWith('lost too')
    journal.acknowledgeWhenStored(frontend, 1, 0, ReasonCode.Success)
    const waits = [journal.settled(), journal.stored()]
    store.fail()
    expect(await Promise.all(waits)).toEqual([undefined, false])
    turnWith('later')
    journal.acknowledgeWhenStored(frontend, 1, 1, ReasonCode.Success)
    journal.flush()
    await nextTurn()
    await journal.settled()
    expect([done, frontend.of(1), failures]).toEqual([[], [], ['the disk is gone']])
    expect(await journal.stored()).toBe(false)
  })

  test('what was stored before is told', async () => {
    turnWith('stored')
    turnWith('lost')
    store.complete(1)
    store.fail()
    await nextTurn()
    expect([done, failures.length]).toEqual([['stored'], 1])
  })

  test('records made afterwards pile up nowhere', async () => {
    turnWith('lost')
    store.fail()
    await nextTurn()
    for (let i = 0; i < 100; i++) record(0, 'x'.repeat(1_000))
    expect(journal.pendingBytes).toBeLessThan(1_000)
  })
})

test('records of a shard that is not ours any more are dropped, as far as the store has not got them', async () => {
  for (const text of ['a', 'b', 'c', 'd']) turnWith(text)
  record(0, 'theirs')
  record(1, 'ours')
  note('both')
  journal.flush()
  journal.discard(0)
  journal.discard(2)
  record(0, 'new')
  await complete(Infinity)
  await complete(Infinity)
  const stored: string[] = []
  for (const shard of [0, 1]) await store.recover(shard, (_, bytes) => stored.push(bytes.toString()))
  expect(stored.map(text => text.replace(/[^a-z]/g, ''))).toEqual(['a', 'b', 'c', 'd', 'new', 'ours'])
  expect(done).toEqual(['a', 'b', 'c', 'd', 'both'])
  expect(journal.pendingBytes).toBe(0)
})
