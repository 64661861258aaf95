import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BrokerRefusedError } from './errors.ts'
import { type Fate, FakeBroker } from './fake-broker.contract.ts'
import { StateStore } from './state-store.ts'
import type { KeptKeyEvent, Watch } from './watch.ts'

let broker: FakeBroker
let nowMs: number
const stores: StateStore[] = []
beforeEach(async () => {
  nowMs = Date.now()
  broker = await FakeBroker.start({ now: () => nowMs })
})
afterEach(async () => {
  broker.fateOf = () => 'answer'
  for (const store of stores.splice(0)) await store.close()
  await broker[Symbol.asyncDispose]()
})

async function open(clientId: string): Promise<StateStore> {
  const store = await StateStore.connect(broker.url, { mqtt: { clientId, reconnectPeriod: 10 } })
  stores.push(store)
  return store
}

/** As long as they last: the value, or what else the event is. */
async function next(watch: Watch<KeptKeyEvent>, count: number): Promise<unknown[]> {
  const seen: unknown[] = []
  while (seen.length < count) {
    const event = await watch.next()
    if (event === null) throw new Error(`the watch ended after ${JSON.stringify(seen)}`)
    seen.push(event.is === 'set' ? Buffer.from(event.value).toString() : event.is === 'resumed' ? event.missed : event.is)
  }
  return seen
}

/** Events come in some order: what was missed may stand before the answer that says how much. */
async function nextSorted(watch: Watch<KeptKeyEvent>, count: number): Promise<unknown[]> {
  const seen = await next(watch, count)
  return [...seen.filter(each => typeof each === 'number'), ...seen.filter(each => typeof each !== 'number')]
}

/** What a client is asked for; the watcher has no connection meanwhile. */
async function whileAway(watcher: StateStore, run: () => Promise<unknown>): Promise<void> {
  broker.turnedAway = watcher.clientId
  await broker.cut(watcher.clientId)
  await run()
  broker.turnedAway = null
}

describe('a watch that is kept', () => {
  test('goes on after a reconnect, with what was missed, once and in order', async () => {
    const [watcher, other] = [await open('watcher'), await open('other')]
    const watch = await watcher.watch('k', { keepMs: 60_000 })
    await other.set('k', '1')
    expect(await next(watch, 1)).toEqual(['1'])
    await whileAway(watcher, async () => {
      await other.set('k', '2')
      await other.delete('k')
      await other.set('k', '3')
    })
    expect(await nextSorted(watch, 4)).toEqual([3, '2', 'deleted', '3'])
    await broker.cut('watcher')
    expect(await next(watch, 1)).toEqual([0])
    await other.set('k', '4')
    expect(await next(watch, 1)).toEqual(['4'])
  })

  test('says that there is a gap when its time was over, and goes on from there', async () => {
    const [watcher, other] = [await open('watcher'), await open('other')]
    const watch = await watcher.watch('k', { keepMs: 1_000 })
    await whileAway(watcher, async () => {
      await other.set('k', '1')
      nowMs += 1_000
    })
    expect(await next(watch, 1)).toEqual(['gap'])
    await other.set('k', '2')
    expect(await next(watch, 1)).toEqual(['2'])
    await whileAway(watcher, () => other.set('k', '3'))
    expect(await nextSorted(watch, 2)).toEqual([1, '3'])
  })

  test.each(['cut-before', 'cut-after'] as const)(
    'the connection that resumes it is lost, too, %s: nothing is missed or told twice',
    async fate => {
      const [watcher, other] = [await open('watcher'), await open('other')]
      const watch = await watcher.watch('k', { keepMs: 60_000 })
      await whileAway(watcher, async () => {
        await other.set('k', '1')
        let isFirst = true
        broker.fateOf = (verb, clientId): Fate => {
          if (verb !== 'KEYNOTIFY' || clientId !== 'watcher' || !isFirst) return 'answer'
          isFirst = false
          return fate
        }
      })
      const seen = await next(watch, 2)
      expect(seen).toContain('1')
      expect(seen.filter(each => typeof each === 'number')).toHaveLength(1)
      await other.set('k', '2')
      expect(await next(watch, 1)).toEqual(['2'])
    },
  )

  test('what the broker has dropped, as its client was too slow, comes after all, once and in order', async () => {
    const [watcher, other] = [await open('watcher'), await open('other')]
    const watch = await watcher.watch('k', { keepMs: 60_000 })
    await other.set('k', '1')
    broker.slow = 'watcher'
    await other.set('k', '2')
    await other.delete('k')
    broker.slow = null
    await other.set('k', '3')
    await other.set('k', '4')
    expect(await next(watch, 5)).toEqual(['1', '2', 'deleted', '3', '4'])
    await other.set('k', '5')
    expect(await next(watch, 1)).toEqual(['5'])
  })

  test('a watch of the same key that is not kept: both hear of all, only the one that asked is told that it goes on', async () => {
    const [watcher, other] = [await open('watcher'), await open('other')]
    const plain = await watcher.watch('k')
    const kept = await watcher.watch('k', { keepMs: 60_000 })
    await whileAway(watcher, () => other.set('k', '1'))
    expect(await nextSorted(kept, 2)).toEqual([1, '1'])
    expect(await next(plain, 1)).toEqual(['1'])
    kept.close()
    await other.set('k', '2')
    expect(await next(plain, 1)).toEqual(['2'])
    expect(broker.executed.filter(each => each === 'KEYNOTIFY watcher')).toHaveLength(3)
  })

  test('is refused by a store without extensions; a watch of the same key goes on', async () => {
    const [watcher, other] = [await open('watcher'), await open('other')]
    const plain = await watcher.watch('k')
    broker.refusal = 0x83
    await expect(watcher.watch('k', { keepMs: 1 })).rejects.toBeInstanceOf(BrokerRefusedError)
    broker.refusal = null
    await other.set('k', '1')
    expect(await next(plain, 1)).toEqual(['1'])
    await watcher.watch('k')
  })

  test('is given back when it is closed, and with the store, which would keep it else', async () => {
    const watcher = await open('watcher')
    const one = await watcher.watch('a', { keepMs: 60_000 })
    await watcher.watch('b', { keepMs: 60_000 })
    one.close()
    await watcher.close()
    expect(broker.executed).toEqual(Array.from({ length: 4 }, () => 'KEYNOTIFY watcher'))
  })

  test.each([0, 1.5, -1, Number.NaN, 2 ** 53])('keepMs %d never leaves', async keepMs => {
    const watcher = await open('watcher')
    await expect(watcher.watch('k', { keepMs })).rejects.toThrow('keepMs')
    expect(broker.executed).toEqual([])
  })
})
