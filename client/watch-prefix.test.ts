import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RefusedError } from './errors.ts'
import { FakeBroker } from './fake-broker.contract.ts'
import { StateStore } from './state-store.ts'
import type { Watch } from './watch.ts'

let broker: FakeBroker
const stores: StateStore[] = []

beforeEach(async () => {
  broker = await FakeBroker.start()
})
afterEach(async () => {
  await Promise.all(stores.splice(0).map(store => store.close()))
  await broker[Symbol.asyncDispose]()
})

async function open(): Promise<StateStore> {
  const store = await StateStore.connect(broker.url, { mqtt: { reconnectPeriod: 1 } })
  stores.push(store)
  return store
}

/** `is key value` */
async function next(watch: Watch): Promise<string> {
  const event = await watch.next()
  if (event === null || event.is === 'gap') return event?.is ?? 'end'
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
  return `${event.is} ${text(event.key)}${event.is === 'set' ? ` ${text(event.value)}` : ''}`
}

const requests = (verb: string): number => broker.executed.filter(each => each.startsWith(verb)).length

test('events of all keys that begin so, in order, whoever changes them; each has the key', async () => {
  const [store, other] = [await open(), await open()]
  using watch = await store.watchPrefix('plant/')
  using all = await store.watchPrefix()
  await other.set('plan', '1')
  await other.set('plant/a', '2')
  await store.set('plant/b', '3')
  await other.delete('plant/a')
  expect([await next(watch), await next(watch), await next(watch)]).toEqual(['set plant/a 2', 'set plant/b 3', 'deleted plant/a'])
  expect([await next(all), await next(all)]).toEqual(['set plan 1', 'set plant/a 2'])
})

test('the store tells once: watches of the key and of its prefixes all get it, until they are closed', async () => {
  const store = await open()
  const watches = [
    await store.watch('plant/a'),
    await store.watchPrefix('plant/'),
    await store.watchPrefix('plant/'),
    await store.watchPrefix('p'),
  ]
  expect([requests('KEYNOTIFY'), requests('WATCH')]).toEqual([1, 2])
  for (const [index, watch] of watches.entries()) {
    await store.set('plant/a', `${index}`)
    for (const open of watches.slice(index)) expect(await next(open)).toBe(`set plant/a ${index}`)
    watch.close()
    expect(await next(watch)).toBe('end')
  }
  await store.get('plant/a')
  expect([requests('KEYNOTIFY'), requests('WATCH')]).toEqual([2, 4])
})

test('after a lost connection it is registered again and says that there may be a gap', async () => {
  const [store, other] = [await open(), await open()]
  using watch = await store.watchPrefix('plant/')
  broker.cutAll()
  expect(await next(watch)).toBe('gap')
  await other.set('plant/a', 'after')
  expect([await next(watch), requests('WATCH')]).toEqual(['set plant/a after', 2])
})

test('more keys than it remembers the newest events of: all come', async () => {
  const store = await open()
  using watch = await store.watchPrefix('many/')
  for (let round = 0; round < 3; round++) {
    for (let first = 0; first < 1_100; first += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, at) => store.set(`many/${first + at}`, `${round}`)))
      for (let at = 0; at < 50; at++) expect(await next(watch)).toMatch(new RegExp(`^set many/\\d+ ${round}$`, 'u'))
    }
  }
})

test('refused: the watch fails, and nothing is left of it', async () => {
  const store = await open()
  await expect(store.watchPrefix('p'.repeat(257))).rejects.toBeInstanceOf(RefusedError)
  using watch = await store.watchPrefix('p')
  await store.set('p', 'v')
  expect([await next(watch), requests('WATCH')]).toEqual(['set p v', 2])
})

test('a store that is closed gives it back', async () => {
  const mqtt = await connectAsync(broker.url, { protocolVersion: 5, clientId: 'm' }, false)
  const store = await StateStore.connect(mqtt)
  await store.watchPrefix('p')
  await store.close()
  expect(requests('WATCH')).toBe(2)
  await mqtt.endAsync()
})
