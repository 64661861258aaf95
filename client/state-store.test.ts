import { EventEmitter } from 'node:events'
import { connectAsync, MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  ClockAheadError,
  ClosedError,
  FencingTokenOutdatedError,
  FencingTokenRequiredError,
  RefusedError,
  StateStoreError,
} from './errors.ts'
import { compareHybridTimes, type HybridTime } from './hybrid-clock.ts'
import { StateStore, type StateStoreOptions } from './state-store.ts'
import { freshName, openStoreUnderTest, type StoreUnderTest } from './store-under-test.contract.ts'

let subject: StoreUnderTest
beforeAll(async () => {
  subject = await openStoreUnderTest()
})
afterAll(async () => {
  await subject[Symbol.asyncDispose]()
})

const opened: { readonly mqtt: MqttClient; readonly store: StateStore }[] = []
afterEach(async () => {
  for (const { mqtt, store } of opened.splice(0)) {
    await store.close()
    await mqtt.endAsync(true)
  }
})

async function open(options: StateStoreOptions = {}): Promise<{ readonly mqtt: MqttClient; readonly store: StateStore }> {
  const mqtt = await connectAsync(subject.url, { protocolVersion: 5, clientId: freshName('store-test'), reconnectPeriod: 20 }, false)
  const pair = { mqtt, store: await StateStore.connect(mqtt, options) }
  opened.push(pair)
  return pair
}

const isAfter = (a: HybridTime, b: HybridTime): boolean => compareHybridTimes(a, b) > 0

describe('entries', () => {
  test('what is set is got, with the very version; a later set has a later version', async () => {
    const { store } = await open()
    const key = freshName('key')
    expect(await store.get(key)).toBeNull()
    const first = await store.set(key, 'one')
    expect(first.isSet).toBe(true)
    expect(await store.get(key)).toMatchObject({ text: 'one', version: first.version })
    const second = await store.set(key, 'two')
    expect(isAfter(second.version, first.version)).toBe(true)
    expect(await store.delete(key)).toEqual({ is: 'deleted', version: second.version })
    expect(await store.delete(key)).toEqual({ is: 'missing' })
    expect(isAfter((await store.set(key, 'three')).version, second.version)).toBe(true)
  })

  test.each([0, 1, 2, 65_000])('keys and values of any bytes: a value of %i bytes', async bytes => {
    const { store } = await open()
    const key = Buffer.concat([Buffer.from([0, 13, 10, 255, 36, 42]), Buffer.from(freshName(''))])
    const value = Buffer.alloc(bytes, '\r\n')
    await store.set(key, value)
    const entry = await store.get(key)
    expect(Buffer.compare(entry!.value, value)).toBe(0)
    expect((await store.compareAndDelete(key, value)).is).toBe('deleted')
  })

  test('NX, NEX and compare-and-delete tell what was in the way', async () => {
    const { store } = await open()
    const key = freshName('key')
    const { version } = await store.set(key, 'mine', { condition: 'NX' })
    expect(await store.set(key, 'mine', { condition: 'NX' })).toEqual({ isSet: false, version })
    expect(await store.set(key, 'other', { condition: 'NEX' })).toEqual({ isSet: false, version })
    expect(await store.compareAndDelete(key, 'other')).toEqual({ is: 'different', version })
    const renewed = await store.set(key, 'mine', { condition: 'NEX', pxMs: 60_000 })
    expect(renewed.isSet && isAfter(renewed.version, version)).toBe(true)
    expect(await store.compareAndDelete(key, 'mine')).toEqual({ is: 'deleted', version: renewed.version })
    expect(await store.compareAndDelete(key, 'mine')).toEqual({ is: 'missing' })
  })

  test('a fencing token closes the entry to whoever has none, or an older one', async () => {
    const { store } = await open()
    const [lock, key] = [freshName('lock'), freshName('key')]
    const older = (await store.set(lock, 'a')).version
    const newer = (await store.set(lock, 'b')).version
    expect((await store.set(key, '1', { fencingToken: newer })).isSet).toBe(true)
    await expect(store.set(key, '2')).rejects.toThrow(new FencingTokenRequiredError('a fencing token is required for this request'))
    const outdated = 'the request fencing token is a lower version than the fencing token protecting the resource'
    await expect(store.delete(key, { fencingToken: older })).rejects.toThrow(new FencingTokenOutdatedError(outdated))
    expect((await store.get(key))?.text).toBe('1')
    expect((await store.delete(key, { fencingToken: newer })).is).toBe('deleted')
  })

  test('the clock of a client that runs ahead is refused by its text', async () => {
    const { store } = await open({ now: () => Date.now() + 3_600_000 })
    const failure = store.set(freshName('key'), 'x')
    await expect(failure).rejects.toBeInstanceOf(ClockAheadError)
    await expect(failure).rejects.toThrow(
      'the request timestamp is too far in the future; ensure that the client and broker system clocks are synchronized',
    )
  })

  test('arguments that the store would refuse never leave', async () => {
    const { store } = await open()
    await expect(store.get('')).rejects.toThrow('the key length is zero')
    await expect(store.set('k', 'v', { pxMs: 0 })).rejects.toThrow('pxMs: expected a whole number, 1 or more')
    await expect(store.set('k', 'v', { pxMs: 1.5 })).rejects.not.toBeInstanceOf(RefusedError)
  })

  test('hundreds of requests at once, each with its own answer', async () => {
    const { store } = await open({ inflightMax: 8 })
    const keys = Array.from({ length: 300 }, (_, index) => freshName(`many${index}`))
    await Promise.all(keys.map(key => store.set(key, key)))
    const entries = await Promise.all(keys.map(key => store.get(key)))
    expect(entries.map(entry => entry?.text)).toEqual(keys)
    await Promise.all(keys.map(key => store.delete(key)))
  })
})

describe('watching', () => {
  test('every change comes in order: of others, of oneself, by expiry', async () => {
    const [{ store }, { store: other }] = [await open(), await open()]
    const key = freshName('key')
    using watch = await store.watch(key)
    await other.set(freshName('another'), 'x')
    const first = await other.set(key, '1')
    const second = await store.set(key, '2')
    await store.set(key, '3', { condition: 'NX' })
    await other.delete(key)
    const third = await other.set(key, '4', { pxMs: 20 })
    const events = [await watch.next(), await watch.next(), await watch.next(), await watch.next(), await watch.next()]
    expect(events).toMatchObject([
      { is: 'set', value: new Uint8Array(Buffer.from('1')), version: first.version },
      { is: 'set', version: second.version },
      { is: 'deleted' },
      { is: 'set', value: new Uint8Array(Buffer.from('4')), version: third.version },
      { is: 'deleted' },
    ])
  })

  test('after a lost connection it is registered again and says that there may be a gap', async () => {
    const [{ mqtt, store }, { store: other }] = [await open(), await open()]
    const key = freshName('key')
    using watch = await store.watch(key)
    mqtt.stream.destroy()
    expect(await watch.next()).toEqual({ is: 'gap' })
    const { version } = await other.set(key, 'after')
    expect(await watch.next()).toMatchObject({ is: 'set', version })
    await other.delete(key)
  })

  test('two watches of a key share a registration; what is closed gets nothing more', async () => {
    const { store } = await open()
    const key = freshName('key')
    const [one, two] = await Promise.all([store.watch(key), store.watch(key)])
    await store.set(key, '1')
    expect([(await one.next())?.is, (await two.next())?.is]).toEqual(['set', 'set'])
    one.close()
    await store.delete(key)
    expect(await one.next()).toBeNull()
    expect((await two.next())?.is).toBe('deleted')
    two.close()
    const again = await store.watch(key)
    await store.set(key, '2')
    expect((await again.next())?.is).toBe('set')
    again.close()
    await store.delete(key)
  })

  test('a loop over a watch ends when the store is closed', async () => {
    const { store } = await open()
    const watch = await store.watch(freshName('key'))
    const seen: string[] = []
    const loop = (async () => {
      for await (const event of watch) seen.push(event.is)
    })()
    await store.close()
    await loop
    expect(seen).toEqual([])
  })
})

describe('the MQTT client', () => {
  test('gets its listeners back, can have one store at a time, and stays connected', async () => {
    const mqtt = await connectAsync(subject.url, { protocolVersion: 5, clientId: freshName('store-test') }, false)
    const count = (): number[] => mqtt.eventNames().map(event => mqtt.listenerCount(event))
    const before = count()
    for (let round = 0; round < 3; round++) {
      const store = await StateStore.connect(mqtt)
      await expect(StateStore.connect(mqtt)).rejects.toThrow('the MQTT client has a state store already')
      using watch = await store.watch(freshName('key'))
      await store.close()
      await expect(store.get('x')).rejects.toBeInstanceOf(ClosedError)
      await expect(store.watch('x')).rejects.toBeInstanceOf(ClosedError)
      expect(await watch.next()).toBeNull()
    }
    expect(count()).toEqual(before)
    expect(mqtt.connected).toBe(true)
    await mqtt.endAsync()
  })

  test('may be of another copy of mqtt.js', async () => {
    const mqtt = await connectAsync(subject.url, { protocolVersion: 5, clientId: freshName('store-test') }, false)
    const foreign = new Proxy(mqtt, { getPrototypeOf: () => EventEmitter.prototype })
    expect(foreign).not.toBeInstanceOf(MqttClient)
    const store = await StateStore.connect(foreign)
    opened.push({ mqtt, store })
    await expect(StateStore.connect(foreign), 'it is this very client that is used').rejects.toThrow('has a state store already')
    await store.close()
    expect(mqtt.connected).toBe(true)
  })

  test('must speak MQTT 5 and have a name', async () => {
    const old = await connectAsync(subject.url, { protocolVersion: 5, clientId: freshName('store-test') }, false)
    Object.assign(old.options, { protocolVersion: 4 })
    await expect(StateStore.connect(old)).rejects.toThrow(StateStoreError)
    Object.assign(old.options, { protocolVersion: 5, clientId: '' })
    await expect(StateStore.connect(old)).rejects.toThrow('needs a Client Identifier')
    await old.endAsync(true)
  })

  test('a client of its own is ended with the store', async () => {
    const store = await StateStore.connect(subject.url, { mqtt: { clientId: freshName('own+/#') } })
    const key = freshName('key')
    await store.set(key, 'x')
    await store.delete(key)
    await store.close()
    await store.close()
    await expect(store.delete(key)).rejects.toThrow('the state store was closed')
  })
})
