import { once } from 'node:events'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { FencingTokenOutdatedError } from './errors.ts'
import { compareHybridTimes } from './hybrid-clock.ts'
import { LeaderElection } from './leader-election.ts'
import { Lease } from './lease.ts'
import { LeasedLock, LockLostError } from './lock.ts'
import { StateStore } from './state-store.ts'
import { freshName, openStoreUnderTest, type StoreUnderTest } from './store-under-test.contract.ts'

let subject: StoreUnderTest
beforeAll(async () => {
  subject = await openStoreUnderTest()
})
afterAll(async () => {
  await subject[Symbol.asyncDispose]()
})

const stores: StateStore[] = []
afterEach(async () => {
  await Promise.all(stores.splice(0).map(store => store.close()))
})

async function open(): Promise<StateStore> {
  const store = await StateStore.connect(subject.url, { mqtt: { clientId: freshName('lock-test'), reconnectPeriod: 20 } })
  stores.push(store)
  return store
}

describe('a lease', () => {
  test('is one holder’s; the next one has a greater token', async () => {
    const [a, b] = [await open(), await open()]
    const key = freshName('lease')
    const [mine, theirs] = [new Lease(a, key), new Lease(b, key)]
    const first = await mine.acquire()
    expect(await theirs.acquire()).toBeNull()
    expect(theirs.token).toBeNull()
    const renewed = await mine.acquire()
    expect(compareHybridTimes(renewed!, first!)).toBeGreaterThan(0)
    expect(mine.token).toEqual(renewed)
    expect(mine.leftMs).toBeLessThanOrEqual(10_000)
    expect(await theirs.release()).toBe(false)
    expect(await mine.release()).toBe(true)
    expect(mine.token).toBeNull()
    expect(compareHybridTimes((await theirs.acquire())!, renewed!)).toBeGreaterThan(0)
    await theirs.release()
  })

  test('ends by itself', async () => {
    const [a, b] = [await open(), await open()]
    const key = freshName('lease')
    using watch = await b.watch(key)
    const mine = new Lease(a, key, { ttlMs: 30 })
    await mine.acquire()
    expect([(await watch.next())?.is, (await watch.next())?.is]).toEqual(['set', 'deleted'])
    expect(mine.token).toBeNull()
    const theirs = new Lease(b, key)
    expect(await theirs.acquire()).not.toBeNull()
    await theirs.release()
  })
})

describe('a lock', () => {
  test('one holder at a time; what was under an earlier lock is refused later', async () => {
    const all = await Promise.all([open(), open(), open()])
    const [key, counter] = [freshName('lock'), freshName('counter')]
    let inside = 0
    let insideMax = 0
    const tokens = await Promise.all(
      all.flatMap(store =>
        [1, 2, 3].map(() =>
          new LeasedLock(store, key).use(async held => {
            insideMax = Math.max(insideMax, ++inside)
            const value = Number((await store.get(counter))?.text ?? 0)
            await store.set(counter, String(value + 1), { fencingToken: held.token })
            inside--
            return held.token
          }),
        ),
      ),
    )
    expect(insideMax).toBe(1)
    const [store] = all
    expect((await store!.get(counter))?.text).toBe('9')
    const sorted = tokens.toSorted(compareHybridTimes)
    await expect(store!.set(counter, 'late', { fencingToken: sorted[0]! })).rejects.toBeInstanceOf(FencingTokenOutdatedError)
    expect(await store!.get(key)).toBeNull()
    await store!.delete(counter, { fencingToken: sorted.at(-1)! })
  })

  test('renews itself for longer than its time', async () => {
    const [a, b] = [await open(), await open()]
    const key = freshName('lock')
    using watch = await b.watch(key)
    const held = await new LeasedLock(a, key, { ttlMs: 5_000, renewMs: 10 }).acquire()
    for (let renewals = 0; renewals < 4; renewals++) expect((await watch.next())?.is).toBe('set')
    expect(await new LeasedLock(b, key).tryAcquire()).toBeNull()
    await held.release()
    await held.release()
    expect(held.signal.aborted).toBe(false)
    expect(() => held.token).toThrow(LockLostError)
    expect(await a.get(key)).toBeNull()
  })

  test('that somebody took away is lost, and says so', async () => {
    const [a, b] = [await open(), await open()]
    const key = freshName('lock')
    const held = await new LeasedLock(a, key, { ttlMs: 5_000, renewMs: 10 }).acquire()
    const lost = once(held.signal, 'abort')
    await b.set(key, 'mine now')
    await lost
    expect(held.signal.reason).toBeInstanceOf(LockLostError)
    expect(() => held.token).toThrow('the lock is not held')
    await held.release()
    expect((await a.get(key))?.text).toBe('mine now')
    await b.delete(key)
  })

  test('who waits can give up, and a lock that ran out is taken', async () => {
    const [a, b] = [await open(), await open()]
    const key = freshName('lock')
    await a.set(key, 'somebody who is gone', { pxMs: 60_000 })
    const controller = new AbortController()
    const waiting = new LeasedLock(b, key).acquire({ signal: controller.signal })
    const reason = new Error('no longer')
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    const patient = new LeasedLock(b, key).acquire()
    await a.set(key, 'somebody who is gone', { pxMs: 20 })
    await (await patient).release()
  })
})

test('a leader, and the next one when it goes', async () => {
  const [a, b, c] = [await open(), await open(), await open()]
  const key = freshName('election')
  const first = new LeaderElection(a, key, { candidate: 'first' })
  const second = new LeaderElection(b, key, { candidate: 'second' })
  const observer = new LeaderElection(c, key, { candidate: 'observer', termMs: 1_000 })
  const controller = new AbortController()
  const leaders = observer.leaders(controller.signal)
  expect((await leaders.next()).value).toBeNull()
  const term = await first.campaign()
  expect(Buffer.from((await leaders.next()).value as Uint8Array).toString()).toBe('first')
  const next = second.campaign()
  expect(Buffer.from((await second.leader())!).toString()).toBe('first')
  await term.release()
  const secondTerm = await next
  expect(compareHybridTimes(secondTerm.token, (await b.get(key))!.version)).toBe(0)
  const told = [(await leaders.next()).value, (await leaders.next()).value].map(value => value && Buffer.from(value).toString())
  expect(told).toEqual([null, 'second'])
  controller.abort()
  expect((await leaders.next()).done).toBe(true)
  await secondTerm.release()
  expect(await observer.leader()).toBeNull()
})
