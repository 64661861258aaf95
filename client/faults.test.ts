import { setImmediate as nextTurn } from 'node:timers/promises'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  BrokerRefusedError,
  ClosedError,
  ConnectionLostError,
  RequestTimeoutError,
  ServerClockError,
  TooManyRequestsError,
} from './errors.ts'
import { type Fate, FakeBroker } from './fake-broker.contract.ts'
import { LeasedLock } from './lock.ts'
import { StateStore, type StateStoreOptions } from './state-store.ts'

// Faults that only a broker of ours can be asked for.
let broker: FakeBroker
const stores: StateStore[] = []
beforeEach(async () => {
  broker = await FakeBroker.start()
})
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close()
  await broker[Symbol.asyncDispose]()
})

async function open(options: StateStoreOptions = {}): Promise<StateStore> {
  const store = await StateStore.connect(broker.url, { ...options, mqtt: { clientId: 'c', reconnectPeriod: 10 } })
  stores.push(store)
  return store
}

/** The first request of that verb fares so, later ones are answered. */
function once(verb: string, fate: Exclude<Fate, 'answer'>): void {
  let isDone = false
  broker.fateOf = asked => {
    if (asked !== verb || isDone) return 'answer'
    isDone = true
    return fate
  }
}

describe('a connection that is lost with a request under way', () => {
  test.each(['cut-before', 'cut-after'] as const)('%s: a change is not repeated, and said to be uncertain', async fate => {
    const store = await open()
    once('SET', fate)
    const failure = store.set('k', 'v')
    await expect(failure).rejects.toBeInstanceOf(ConnectionLostError)
    await expect(failure).rejects.toMatchObject({ isUncertain: true })
    expect((await store.get('k'))?.text).toBe(fate === 'cut-after' ? 'v' : undefined)
    expect(broker.executed.filter(each => each.startsWith('SET'))).toHaveLength(fate === 'cut-after' ? 1 : 0)
  })

  test('a read is repeated', async () => {
    const store = await open()
    await store.set('k', 'v')
    once('GET', 'cut-after')
    expect((await store.get('k'))?.text).toBe('v')
    expect(broker.executed.filter(each => each.startsWith('GET'))).toHaveLength(2)
  })

  test('a change that was answered before its PUBACK is not repeated, and nobody waits for the PUBACK', async () => {
    const store = await open()
    once('SET', 'answer-alone')
    await store.set('k', 'v')
    broker.cutAll()
    expect((await store.get('k'))?.text).toBe('v')
    expect(broker.executed.filter(each => each.startsWith('SET'))).toHaveLength(1)
    once('SET', 'answer-alone')
    await store.set('k', 'w')
    await store.close()
  })

  test('what waits for its turn is sent on the next connection, once', async () => {
    const store = await open({ inflightMax: 1 })
    once('SET', 'cut-before')
    const [lost, sent] = await Promise.allSettled([store.set('a', '1'), store.set('b', '2')])
    expect([lost.status, sent.status]).toEqual(['rejected', 'fulfilled'])
    expect(broker.executed).toEqual(['SET c'])
  })
})

describe('time and limits', () => {
  test('no answer: uncertain; the slot is free again', async () => {
    const store = await open({ inflightMax: 1 })
    once('SET', 'silence')
    await expect(store.set('k', 'v', { timeoutMs: 20 })).rejects.toMatchObject({ name: 'RequestTimeoutError', isUncertain: true })
    expect((await store.get('k'))?.text).toBe('v')
  })

  test('never sent: certain', async () => {
    const store = await open({ inflightMax: 1 })
    broker.fateOf = () => 'silence'
    const first = store.get('a', { timeoutMs: 60 })
    const second = store.set('b', '1', { timeoutMs: 20 })
    await expect(second).rejects.toMatchObject({ name: 'RequestTimeoutError', isUncertain: false })
    await expect(first).rejects.toBeInstanceOf(RequestTimeoutError)
    expect(broker.executed).toEqual(['GET c'])
  })

  test('aborted before, and under way', async () => {
    const store = await open()
    const reason = new Error('no longer wanted')
    await expect(store.get('k', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    broker.fateOf = () => {
      controller.abort(reason)
      return 'answer'
    }
    await expect(store.get('k', { signal: controller.signal })).rejects.toBe(reason)
  })

  test('one request more than may wait', async () => {
    const store = await open({ inflightMax: 1, queuedMax: 2 })
    broker.fateOf = () => 'silence'
    const waiting = Promise.allSettled([store.get('1'), store.get('2'), store.get('3')])
    await expect(store.get('4')).rejects.toBeInstanceOf(TooManyRequestsError)
    await store.close()
    expect((await waiting).map(each => each.status === 'rejected' && each.reason instanceof ClosedError)).toEqual([true, true, true])
  })
})

describe('a broker that refuses', () => {
  test('the subscription for answers', async () => {
    broker.forbiddenFilter = 'clients/c/services/statestore/_any_/command/invoke/response'
    const failure = open()
    await expect(failure).rejects.toBeInstanceOf(BrokerRefusedError)
    await expect(failure).rejects.toMatchObject({ reasonCode: 0x87 })
  })

  test('the subscription for answers on a later connection: requests and watches end', async () => {
    const store = await open()
    const watch = await store.watch('k')
    broker.forbiddenFilter = 'clients/c/services/statestore/_any_/command/invoke/response'
    broker.cutAll()
    await expect(watch.next()).rejects.toBeInstanceOf(BrokerRefusedError)
    await expect(store.get('k')).rejects.toBeInstanceOf(BrokerRefusedError)
  })

  test('the request', async () => {
    const store = await open()
    broker.refusal = 0x87
    await expect(store.set('k', 'v')).rejects.toMatchObject({
      message: 'the request was refused with reason code 0x87',
      isUncertain: false,
    })
    // A broker of several processes says so too when the one that it has asked is gone.
    broker.refusal = 0x97
    await expect(store.set('k', 'v')).rejects.toMatchObject({ reasonCode: 0x97, isUncertain: true })
    broker.refusal = null
    expect(await store.get('k')).toBeNull()
  })

  test('the password', async () => {
    await broker[Symbol.asyncDispose]()
    broker = await FakeBroker.start({ username: 'u', password: 'p' })
    await expect(open()).rejects.toThrow('Bad User Name or Password')
  })
})

test('a broker that is away for a while, with nobody listening for errors', async () => {
  const errors: Error[] = []
  const port = Number(new URL(broker.url).port)
  const { promise: failedTwice, resolve } = Promise.withResolvers<void>()
  const store = await open({ onConnectionError: error => errors.push(error) > 1 && resolve() })
  const watch = await store.watch('k')
  const quiet = await StateStore.connect(broker.url, { mqtt: { clientId: 'quiet', reconnectPeriod: 10 } })
  stores.push(quiet)
  await broker[Symbol.asyncDispose]()
  await failedTwice
  broker = await FakeBroker.start({ port })
  await store.set('k', 'back')
  expect((await watch.next())?.is).toBe('gap')
  expect((await quiet.get('k'))?.text).toBe('back')
  expect(errors[0]).toMatchObject({ code: 'ECONNREFUSED' })
})

test('a lock outlives a lost connection', async () => {
  const store = await open()
  const other = await StateStore.connect(broker.url, { mqtt: { clientId: 'other', reconnectPeriod: 10 } })
  stores.push(other)
  const held = await new LeasedLock(store, 'lock', { ttlMs: 20_000, renewMs: 20 }).acquire()
  const watch = await other.watch('lock')
  broker.cutAll()
  for (let event = await watch.next(); event?.is !== 'gap'; ) event = await watch.next()
  expect((await watch.next())?.is).toBe('set')
  expect(held.signal.aborted).toBe(false)
  await held.release()
  expect(await other.get('lock')).toBeNull()
})

test('watches end with the MQTT client', async () => {
  const mqtt = await connectAsync(broker.url, { protocolVersion: 5, clientId: 'm' }, false)
  const store = await StateStore.connect(mqtt)
  const watch = await store.watch('k')
  await mqtt.endAsync()
  await expect(watch.next()).rejects.toThrow('the MQTT client was ended')
  await expect(store.get('k')).rejects.toBeInstanceOf(ClosedError)
})

test('a store that is closed gives back what it watched', async () => {
  const mqtt = await connectAsync(broker.url, { protocolVersion: 5, clientId: 'm' }, false)
  const store = await StateStore.connect(mqtt)
  await store.watch('k')
  await store.close()
  expect(broker.executed.filter(each => each.startsWith('KEYNOTIFY'))).toHaveLength(2)
  await mqtt.endAsync()
})

test('an answer whose clock is over a minute ahead is not believed', async () => {
  await broker[Symbol.asyncDispose]()
  broker = await FakeBroker.start({ now: () => Date.now() + 3_600_000 })
  const store = await open()
  await expect(store.set('k', 'v')).rejects.toBeInstanceOf(ServerClockError)
  const watch = await store.watch('k')
  const events: string[] = []
  void (async () => {
    for await (const event of watch) events.push(event.is)
  })()
  await store.set('k', 'v').catch(() => undefined)
  await nextTurn()
  expect(events).toEqual([])
})

test('events that nobody takes: a gap instead of memory without end', async () => {
  const store = await open()
  const watch = await store.watch('k')
  for (let round = 0; round <= 41; round++) await Promise.all(Array.from({ length: 25 }, () => store.set('k', 'v')))
  await store.set('k', 'last')
  const events: string[] = []
  for (let event = await watch.next(); event !== null; event = await watch.next()) {
    events.push(event.is)
    if (event.is === 'set' && Buffer.from(event.value).toString() === 'last') break
  }
  expect(events[0]).toBe('gap')
  expect(events.filter(is => is === 'gap')).toHaveLength(1)
  // 1 050 events and the last, of which the 1 025th made the gap.
  expect(events).toHaveLength(1 + 1_051 - 1_025)
})
