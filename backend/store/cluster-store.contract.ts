import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ClusterStore, ShardReading } from './shard-store.ts'
import { entry, faultOf } from './shard-store.contract.ts'

/** How a test gets at one engine that several backends share. */
export interface ClusterStoreUnderTest {
  /** Opens the store as another backend; all see the same three shards. */
  open(owner: { readonly id: string; readonly instance: string }): Promise<ClusterStore>
  /** Closes what is open and removes what was kept. */
  dispose(): Promise<void>
}

/** What `readOn` visits, as text; the answer last. */
export async function readOn(reading: ShardReading): Promise<(string | boolean)[]> {
  const found: (string | boolean)[] = []
  const isWhole = await reading.readOn((kind, bytes) => found.push(`${kind}:${Buffer.from(bytes).toString()}`))
  return [...found, isWhole]
}

const A = { id: 'a', instance: 'a1' }
const B = { id: 'b', instance: 'b1' }

/** What every engine that backends share does; registers the tests. */
export function describeClusterStore(engine: string, create: () => ClusterStoreUnderTest): void {
  let subject: ClusterStoreUnderTest
  beforeEach(() => {
    subject = create()
  })
  afterEach(() => subject.dispose())

  describe(`${engine}: ownership`, () => describeOwnership(() => subject))
  describe(`${engine}: a former owner`, () => describeFencing(() => subject))
  describe(`${engine}: reading on`, () => describeReading(() => subject))
}

function describeOwnership(subject: () => ClusterStoreUnderTest): void {
  test('a shard has no owner until it is claimed, and an epoch that grows with each claim', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    expect(await a.ownerOf(0)).toBeNull()
    expect(await a.claim(0, 0)).toBe(1)
    expect(await b.ownerOf(0)).toEqual({ epoch: 1, ...A, isReleased: false })
    expect(await b.ownerOf(1)).toBeNull()
    expect(await b.claim(0, 1)).toBe(2)
    expect(await a.ownerOf(0)).toEqual({ epoch: 2, ...B, isReleased: false })
  })

  test('of claims after the same epoch one wins', async () => {
    const stores = await Promise.all([A, B, { id: 'c', instance: 'c1' }, { id: 'd', instance: 'd1' }].map(owner => subject().open(owner)))
    for (const after of [0, 1]) {
      const epochs = await Promise.all(stores.map(store => store.claim(2, after)))
      expect(epochs.filter(epoch => epoch !== null)).toEqual([after + 1])
      await stores[epochs.findIndex(epoch => epoch !== null)]!.release(2)
    }
  })

  test('a claim after an epoch that is not the last is refused', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await a.release(0)
    await a.claim(0, 1)
    expect(await b.claim(0, 1)).toBeNull()
    expect(await b.claim(0, 3)).toBeNull()
  })

  test('a shard that is let go keeps its entries for the next owner', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await a.commit([entry(0, 'one')])
    await a.release(0)
    expect(await b.ownerOf(0)).toEqual({ epoch: 1, ...A, isReleased: true })
    await b.claim(0, 1)
    expect(await b.ownerOf(0)).toMatchObject({ epoch: 2, isReleased: false })
    await b.commit([entry(0, 'two')])
    expect(await readOn(b.read(0))).toEqual(['log:one', 'log:two', true])
  })
}

function describeFencing(subject: () => ClusterStoreUnderTest): void {
  test('is refused in the middle of its commits, and hears of it before they end', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await a.claim(1, 0)
    const events: string[] = []
    a.onFenced = shard => events.push(`fenced ${shard}`)
    await a.commit([entry(0, 'before')])
    const claimed = b.claim(0, 1)
    // Some of these may still be stored before the claim; none after it.
    const commits = Array.from({ length: 50 }, (_, index) => a.commit([entry(0, `during ${index}`), entry(1, `other ${index}`)]))
    await claimed
    await Promise.all(commits)
    await a.commit([entry(0, 'after'), entry(1, 'last')]).then(() => events.push('after'))
    await b.commit([entry(0, 'of the new owner')])
    expect(events).toEqual(['fenced 0', 'after'])
    const found = await readOn(b.read(0))
    const stored = found.filter(text => String(text).startsWith('log:during'))
    expect(found).toEqual(['log:before', ...stored, 'log:of the new owner', true])
    expect(stored).toEqual(stored.map((_, index) => `log:during ${index}`))
    // The other shard went on.
    expect((await readOn(b.read(1))).slice(-2)).toEqual(['log:last', true])
  })

  test('cannot put its snapshot in place', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await a.commit([entry(0, 'one')])
    const [early, fenced] = [a.beginSnapshot(0), [] as number[]]
    a.onFenced = shard => fenced.push(shard)
    await early.write(Buffer.from('stale'))
    await b.claim(0, 1)
    await b.commit([entry(0, 'two')])
    expect(await faultOf(early.finish())).toBe('failed')
    expect(fenced).toEqual([0])
    expect(await readOn(b.read(0))).toEqual(['log:one', 'log:two', true])
  })

  test('may claim the shard again, and is its owner then', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await b.claim(0, 1)
    await a.commit([entry(0, 'refused')])
    expect(await a.claim(0, 2)).toBe(3)
    await a.commit([entry(0, 'taken')])
    expect(await readOn(b.read(0))).toEqual(['log:taken', true])
  })
}

function describeReading(subject: () => ClusterStoreUnderTest): void {
  test('goes on where it stopped, across a change of owner', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await a.commit([entry(0, 'covered')])
    const snapshot = a.beginSnapshot(0)
    await snapshot.write(Buffer.from('chunk'))
    await snapshot.finish()
    await a.commit([entry(0, 'one')])
    const reading = b.read(0)
    expect(await readOn(reading)).toEqual(['snapshot:chunk', 'log:one', true])
    expect(await readOn(reading)).toEqual([true])
    await a.commit([entry(0, 'two'), entry(0, 'three')])
    await a.release(0)
    await b.claim(0, 1)
    expect(await readOn(reading)).toEqual(['log:two', 'log:three', true])
    await b.commit([entry(0, 'four')])
    expect(await readOn(reading)).toEqual(['log:four', true])
    expect(b.logBytes(0)).toBe('onetwothreefour'.length)
  })

  test('says that its place is gone when a snapshot has covered what it did not read', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    await a.commit([entry(0, 'one')])
    const [behind, upToDate] = [b.read(0), b.read(0)]
    expect(await readOn(behind)).toEqual(['log:one', true])
    await a.commit([entry(0, 'two')])
    expect(await readOn(upToDate)).toEqual(['log:one', 'log:two', true])
    await a.beginSnapshot(0).finish()
    await a.commit([entry(0, 'three')])
    expect((await readOn(behind)).at(-1)).toBe(false)
    expect(await readOn(upToDate)).toEqual(['log:three', true])
    expect(await readOn(b.read(0))).toEqual(['log:three', true])
  })

  test('reads every entry once while the owner commits and takes snapshots, or has to begin again', async () => {
    const [a, b] = [await subject().open(A), await subject().open(B)]
    await a.claim(0, 0)
    let isWriting = true
    const writing = (async () => {
      for (let round = 0; round < 40; round++) {
        await Promise.all(Array.from({ length: 50 }, (_, index) => a.commit([entry(0, String(round * 50 + index))])))
        const snapshot = a.beginSnapshot(0)
        await snapshot.write(Buffer.from(String(round * 50 + 49)))
        await snapshot.finish()
      }
      isWriting = false
    })()
    let reading = b.read(0)
    let last = -1
    const check = (kind: string, bytes: Uint8Array): void => {
      const number = Number(Buffer.from(bytes).toString())
      if (kind === 'log') expect(number).toBe(last + 1)
      last = number
    }
    for (let isDone = false; !isDone; ) {
      isDone = !isWriting
      if (await reading.readOn(check)) continue
      reading = b.read(0)
      last = -1
      isDone = false
    }
    await writing
    expect(last).toBe(1999)
  })
}
