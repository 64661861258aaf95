import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ShardEntry, type ShardStore, StoreError } from './shard-store.ts'

/** How a test gets at one engine. */
export interface StoreUnderTest {
  /** Opens the store of this test; after `restart`, with what it kept. Three shards unless told otherwise. */
  open(options?: { shardCount?: number }): Promise<ShardStore>
  /** Ends the store that is open, as a shutdown does. The next `open` finds what it kept. */
  restart(): Promise<ShardStore>
  /** Ends the store that is open without its help, as a crash does. */
  crash(): Promise<ShardStore>
  /** Closes what is open and removes what it kept. */
  dispose(): Promise<void>
}

/** What every engine that keeps anything does; registers the tests. */
export function describeShardStore(engine: string, create: () => StoreUnderTest): void {
  let subject: StoreUnderTest
  beforeEach(() => {
    subject = create()
  })
  afterEach(() => subject.dispose())

  describe(`${engine}: recovery`, () => describeRecovery(() => subject))
  describe(`${engine}: commits`, () => describeCommits(() => subject))
  describe(`${engine}: snapshots`, () => describeSnapshots(() => subject))
  describe(`${engine}: snapshots that end otherwise, or meet`, () => describeSnapshotEnds(() => subject))
  describe(`${engine}: ending`, () => describeEnding(() => subject))
}

export const entry = (shard: number, text: string): ShardEntry => ({ shard, bytes: Buffer.from(text) })

/** What `recover` visits, as text: `snapshot:…` and `log:…`. */
export async function recovered(store: ShardStore, shard: number): Promise<string[]> {
  const found: string[] = []
  await store.recover(shard, (kind, bytes) => found.push(`${kind}:${Buffer.from(bytes).toString()}`))
  return found
}

export const faultOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'none',
    (error: unknown) => (error instanceof StoreError ? error.fault : `not a StoreError: ${String(error)}`),
  )

function describeRecovery(subject: () => StoreUnderTest): void {
  test('an empty store recovers nothing', async () => {
    const store = await subject().open()
    expect(await recovered(store, 0)).toEqual([])
    expect([0, 1, 2].map(shard => store.logBytes(shard))).toEqual([0, 0, 0])
    expect(await recovered(await subject().restart(), 2)).toEqual([])
  })

  test('entries come back by shard, in the order committed', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a'), entry(1, 'b'), entry(0, 'c')])
    await store.commit([entry(2, 'd')])
    await store.commit([entry(0, 'e'), entry(2, 'f')])
    for (const reopen of [() => subject().restart(), () => subject().crash()]) {
      store = await reopen()
      expect(await recovered(store, 0)).toEqual(['log:a', 'log:c', 'log:e'])
      expect(await recovered(store, 1)).toEqual(['log:b'])
      expect(await recovered(store, 2)).toEqual(['log:d', 'log:f'])
    }
  })

  test('all shards can be recovered together, one twice', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a'), entry(1, 'b'), entry(2, 'c')])
    store = await subject().restart()
    const found = await Promise.all([0, 1, 2, 1].map(shard => recovered(store, shard)))
    expect(found).toEqual([['log:a'], ['log:b'], ['log:c'], ['log:b']])
  })

  test('what a visitor throws ends its own recovery', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a'), entry(1, 'b')])
    store = await subject().restart()
    const failing = store.recover(0, () => {
      throw new Error('visitor')
    })
    const [first, second] = await Promise.allSettled([failing, recovered(store, 1)])
    expect(first).toMatchObject({ status: 'rejected', reason: { message: 'visitor' } })
    expect(second).toMatchObject({ status: 'fulfilled', value: ['log:b'] })
  })
}

function describeCommits(subject: () => StoreUnderTest): void {
  test('several commits may be under way, and take effect in the order made', async () => {
    let store = await subject().open()
    const texts = Array.from({ length: 300 }, (_, index) => `entry ${index}`)
    const settled: number[] = []
    await Promise.all(texts.map((text, index) => store.commit([entry(index % 2, text)]).then(() => settled.push(index))))
    expect(settled).toEqual(texts.map((_, index) => index))
    store = await subject().crash()
    for (const shard of [0, 1])
      expect(await recovered(store, shard)).toEqual(texts.filter((_, index) => index % 2 === shard).map(text => `log:${text}`))
  })

  test('entries go on after a restart', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a')])
    store = await subject().restart()
    await store.commit([entry(0, 'b')])
    store = await subject().restart()
    await store.commit([entry(0, 'c')])
    expect(await recovered(store, 0)).toEqual(['log:a', 'log:b', 'log:c'])
  })

  test('a commit of nothing resolves, and an empty entry is an entry', async () => {
    let store = await subject().open()
    await store.commit([])
    await store.commit([entry(0, '')])
    store = await subject().restart()
    expect(await recovered(store, 0)).toEqual(['log:'])
  })

  test('an entry of 10 MB, among small ones', async () => {
    let store = await subject().open()
    const large = Buffer.alloc(10_000_000, 'millrace')
    await store.commit([entry(0, 'before'), { shard: 0, bytes: large }, entry(1, 'other')])
    await store.commit([entry(0, 'after')])
    store = await subject().restart()
    const found: Buffer[] = []
    await store.recover(0, (_, bytes) => found.push(Buffer.from(bytes)))
    expect(found.map(bytes => bytes.length)).toEqual([6, large.length, 5])
    expect(found[1]!.equals(large)).toBe(true)
    expect(store.logBytes(0)).toBe(large.length + 11)
  })

  test('many shards', async () => {
    let store = await subject().open({ shardCount: 1024 })
    expect(store.shardCount).toBe(1024)
    await store.commit(Array.from({ length: 1024 }, (_, shard) => entry(shard, `of ${shard}`)))
    store = await subject().restart()
    const found = await Promise.all(Array.from({ length: 1024 }, (_, shard) => recovered(store, shard)))
    expect(found).toEqual(Array.from({ length: 1024 }, (_, shard) => [`log:of ${shard}`]))
  })
}

function describeSnapshots(subject: () => StoreUnderTest): void {
  test('a snapshot replaces what was committed before it began, and only of its shard', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'old'), entry(1, 'other')])
    const snapshot = store.beginSnapshot(0)
    await snapshot.write(Buffer.from('one'))
    await snapshot.write(Buffer.from('two'))
    await snapshot.finish()
    for (const reopen of [async () => store, () => subject().crash(), () => subject().restart()]) {
      store = await reopen()
      expect(await recovered(store, 0)).toEqual(['snapshot:one', 'snapshot:two'])
      expect(await recovered(store, 1)).toEqual(['log:other'])
    }
  })

  test('entries committed between begin and finish stay in the log', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'covered')])
    const notAwaited = store.commit([entry(0, 'covered too')])
    const snapshot = store.beginSnapshot(0)
    const during = [store.commit([entry(0, 'during 1'), entry(1, 'x')])]
    await snapshot.write(Buffer.from('chunk'))
    during.push(store.commit([entry(0, 'during 2')]))
    const finished = snapshot.finish()
    during.push(store.commit([entry(0, 'during 3')]))
    await Promise.all([notAwaited, finished, ...during])
    store = await subject().crash()
    expect(await recovered(store, 0)).toEqual(['snapshot:chunk', 'log:during 1', 'log:during 2', 'log:during 3'])
  })

  test('an empty snapshot covers too', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'gone')])
    await store.beginSnapshot(0).finish()
    store = await subject().restart()
    expect(await recovered(store, 0)).toEqual([])
    await store.commit([entry(0, 'new')])
    expect(await recovered(store, 0)).toEqual(['log:new'])
  })

  test('a later snapshot replaces the former', async () => {
    let store = await subject().open()
    for (const round of [1, 2, 3]) {
      await store.commit([entry(0, `entry ${round}`)])
      const snapshot = store.beginSnapshot(0)
      for (let chunk = 0; chunk < 4 - round; chunk++) await snapshot.write(Buffer.from(`${round}.${chunk}`))
      await snapshot.finish()
    }
    expect(await recovered(store, 0)).toEqual(['snapshot:3.0'])
    store = await subject().restart()
    expect(await recovered(store, 0)).toEqual(['snapshot:3.0'])
  })
}

function describeSnapshotEnds(subject: () => StoreUnderTest): void {
  test('an abandoned snapshot leaves the former and the log, and another can follow', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a')])
    const abandoned = store.beginSnapshot(0)
    await abandoned.write(Buffer.from('dropped'))
    await abandoned.abandon()
    expect(await recovered(store, 0)).toEqual(['log:a'])
    const next = store.beginSnapshot(0)
    await next.write(Buffer.from('kept'))
    await next.finish()
    store = await subject().restart()
    expect(await recovered(store, 0)).toEqual(['snapshot:kept'])
  })

  test('an unfinished snapshot is forgotten', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a')])
    const first = store.beginSnapshot(0)
    await first.write(Buffer.from('finished'))
    await first.finish()
    await store.commit([entry(0, 'b')])
    await store.beginSnapshot(0).write(Buffer.from('unfinished'))
    store = await subject().crash()
    expect(await recovered(store, 0)).toEqual(['snapshot:finished', 'log:b'])
    const next = store.beginSnapshot(0)
    await next.write(Buffer.from('next'))
    await next.finish()
    expect(await recovered(await subject().crash(), 0)).toEqual(['snapshot:next'])
  })

  test('two shards may be in a snapshot at once', async () => {
    let store = await subject().open()
    await store.commit([entry(0, 'a'), entry(1, 'b')])
    const [first, second] = [store.beginSnapshot(0), store.beginSnapshot(1)]
    await Promise.all([first.write(Buffer.from('of 0')), second.write(Buffer.from('of 1'))])
    await Promise.all([second.finish(), first.finish()])
    store = await subject().restart()
    expect(await recovered(store, 0)).toEqual(['snapshot:of 0'])
    expect(await recovered(store, 1)).toEqual(['snapshot:of 1'])
  })

  test('a snapshot of one shard at a time', async () => {
    const store = await subject().open()
    const snapshot = store.beginSnapshot(0)
    expect(() => store.beginSnapshot(0)).toThrow(/one snapshot at a time/)
    await snapshot.abandon()
    await store.beginSnapshot(0).finish()
  })

  test('logBytes counts entries that no finished snapshot covers', async () => {
    let store = await subject().open()
    await store.commit([entry(0, '12345'), entry(1, '12'), entry(0, '123')])
    expect([store.logBytes(0), store.logBytes(1)]).toEqual([8, 2])
    const snapshot = store.beginSnapshot(0)
    await store.commit([entry(0, '1234')])
    expect(store.logBytes(0)).toBe(12)
    await snapshot.finish()
    expect(store.logBytes(0)).toBe(4)
    store = await subject().restart()
    expect([store.logBytes(0), store.logBytes(1)]).toEqual([4, 2])
  })
}

function describeEnding(subject: () => StoreUnderTest): void {
  test('close waits for commits under way', async () => {
    let store = await subject().open()
    const commits = [store.commit([entry(0, 'a')]), store.commit([entry(0, 'b')])]
    await store.close()
    await Promise.all(commits)
    store = await subject().restart()
    expect(await recovered(store, 0)).toEqual(['log:a', 'log:b'])
  })

  test('everything is refused after close, which may be called again', async () => {
    const store = await subject().open()
    const snapshot = store.beginSnapshot(1)
    await Promise.all([store.close(), store.close()])
    expect(await faultOf(store.commit([entry(0, 'a')]))).toBe('closed')
    expect(await faultOf(store.commit([]))).toBe('closed')
    expect(await faultOf(store.recover(0, () => {}))).toBe('closed')
    expect(await faultOf(snapshot.write(Buffer.from('a')))).toBe('closed')
    expect(await faultOf(snapshot.finish())).toBe('closed')
    expect(() => store.beginSnapshot(0)).toThrow(StoreError)
  })
}
