import { beforeEach, describe, expect, test } from 'vitest'
import { keyGlob } from '#shared/authorization/key-pattern.ts'
import { BackendRig, type ConnectOptions, NEVER, type RigClient } from '../backend-rig.contract.ts'
import { ask } from '../handlers/ask-store.contract.ts'
import { retainedOf, stateDump } from '../state-dump.contract.ts'
import type { PersistencePolicy } from './persistence.ts'

let rig: BackendRig
let publisher: RigClient

beforeEach(async () => {
  rig = await BackendRig.open()
  publisher = await rig.connect('p')
})

const NONE: PersistencePolicy = { retain: null, subscriberQueue: null, stateStore: null }
const ASKS = [['aio-persistence', 'true']] as const

function retain(mode: 'All' | 'None' | 'Custom', topics: readonly string[] = [], dynamic = false): PersistencePolicy {
  return { ...NONE, retain: { mode, topics, dynamic } }
}

function queue(mode: 'All' | 'None' | 'Custom', clientIds: readonly string[] = [], dynamic = false): PersistencePolicy {
  return { ...NONE, subscriberQueue: { mode, clientIds, dynamic } }
}

describe('Retained Messages', () => {
  beforeEach(async () => {
    publisher.publish('a/1', 'x', { retain: true })
    publisher.publish('b', 'x', { retain: true, qos: 1 })
    publisher.publish('asked', 'x', { retain: true, qos: 1, userProperties: ASKS })
    publisher.publish('otherwise', 'x', { retain: true, qos: 1, userProperties: [['aio-persistence', 'yes']] })
    await rig.settle()
  })

  test.each<[string, PersistencePolicy, string[]]>([
    ['All', retain('All'), ['a/1', 'asked', 'b', 'otherwise']],
    ['None, whatever was asked for', retain('None', ['#'], true), []],
    ['Custom, by Topic Filter', retain('Custom', ['a/#', 'b']), ['a/1', 'b']],
    ['Custom, by Topic Filter or User Property', retain('Custom', ['b'], true), ['asked', 'b']],
    ['no policy', NONE, ['a/1', 'asked', 'b', 'otherwise']],
  ])('%s', async (_, persistence, left) => {
    const after = await rig.restart({ persistence })
    expect(Object.keys(retainedOf(after.engine))).toEqual(left)
    expect(after.engine.counters).toMatchObject({ notPersisted: 4 - left.length, retainedMessages: left.length })
    expect(after.log.lines.map(({ event }) => event)).toEqual(left.length === 4 ? [] : ['not_persisted'])
    // Another policy does not bring them back.
    expect(Object.keys(retainedOf((await after.restart({ persistence: retain('All') })).engine))).toEqual(left)
  })

  test('are all there until the process stops', async () => {
    const after = await rig.restart({ persistence: retain('None') })
    const again = await after.connect('p')
    again.publish('new', 'x', { retain: true, qos: 1 })
    await after.settle()
    expect(Object.keys(retainedOf(after.engine))).toEqual(['new'])
  })
})

describe('queues', () => {
  async function waiting(clientId: string, options: ConnectOptions = {}): Promise<void> {
    const client = await rig.connect(clientId, { expirySeconds: NEVER, receiveMaximum: 1, ...options })
    client.subscribe(`${clientId}/#`)
    client.subscribe(`$share/g/${clientId}`)
    await rig.settle()
  }

  async function left(persistence: PersistencePolicy): Promise<Record<string, string[]>> {
    const after = await rig.restart({ persistence })
    const found: Record<string, string[]> = {}
    for (const clientId of ['sensor-1', 'sensor-x', 'other']) {
      const client = await after.connect(clientId, { expirySeconds: NEVER })
      expect(client.sessionPresent).toBe(true)
      expect(after.engine.shardFor(clientId).sessions.get(clientId)!.subscriptions?.size).toBe(2)
      found[clientId] = (await client.drain()).map(({ payload }) => payload)
    }
    return found
  }

  beforeEach(async () => {
    await waiting('sensor-1')
    await waiting('sensor-x')
    await waiting('other', { isPersistenceRequested: true })
    for (const clientId of ['sensor-1', 'sensor-x', 'other']) {
      publisher.publish(`${clientId}/x`, 'sent', { qos: 1 })
      publisher.publish(`${clientId}/x`, 'one', { qos: 1 })
      publisher.publish(`${clientId}/x`, 'two', { qos: 2 })
    }
    await rig.settle()
  })

  const ALL = ['sent', 'one', 'two']
  test.each<[string, PersistencePolicy, [string[], string[], string[]]]>([
    ['All', queue('All'), [ALL, ALL, ALL]],
    ['None, whatever was asked for', queue('None', ['*'], true), [['sent'], ['sent'], ['sent']]],
    ['Custom, by Client Identifier', queue('Custom', ['other']), [['sent'], ['sent'], ALL]],
    ['Custom, with any run of characters', queue('Custom', ['sensor-*']), [ALL, ALL, ['sent']]],
    ['Custom, with several of them and nothing between', queue('Custom', ['**or-*1*']), [ALL, ['sent'], ['sent']]],
    ['Custom, where the rest is literal', queue('Custom', ['sensor-?', 'sensor-[1]', '']), [['sent'], ['sent'], ['sent']]],
    ['Custom, or when CONNECT asked', queue('Custom', ['sensor-x'], true), [['sent'], ALL, ALL]],
  ])('%s: the rest loses what waits, and nothing else', async (_, persistence, [sensor1, sensorX, other]) => {
    expect(await left(persistence)).toEqual({ 'sensor-1': sensor1, 'sensor-x': sensorX, other })
  })

  test('the session remembers that it asked, in snapshots too, until it starts clean', async () => {
    const back = await rig.connect('other', { expirySeconds: NEVER })
    rig.store.snapshotDue = rig.engine.shardFor('other').number
    await rig.advance(100)
    expect(rig.engine.counters.snapshots).toBe(1)
    expect(back.sessionPresent).toBe(true)
    const asks = (of: BackendRig): boolean => of.engine.shardFor('other').sessions.get('other')!.isPersistenceRequested
    const after = await rig.restart()
    expect(asks(after)).toBe(true)
    await after.connect('other', { expirySeconds: NEVER, cleanStart: true })
    expect(asks(await after.restart())).toBe(false)
  })

  test('what was dropped is gone from the store', async () => {
    const after = await rig.restart({ persistence: queue('None') })
    expect(after.engine.counters).toMatchObject({ notPersisted: 6, queuedMessages: 0 })
    expect(stateDump((await after.restart({ persistence: queue('All') })).engine)).toEqual(stateDump(after.engine))
  })
})

describe('keys of the state store', () => {
  const KEYS = ['a/1', 'a/2', 'asked', 'later', 'otherwise']
  const ASK = { more: ASKS }

  function stateStore(mode: 'All' | 'None' | 'Custom', patterns: readonly string[] = [], dynamic = false): PersistencePolicy {
    const keys = patterns.map(pattern => keyGlob(pattern, 'Pattern')).filter(glob => Array.isArray(glob))
    return { ...NONE, stateStore: { mode, keys, dynamic } }
  }

  function keysOf(of: BackendRig): string[] {
    const now = { wallMs: 0, monotonicMs: 0 }
    const changes = of.engine.shards.flatMap(({ store }) => (store === null ? [] : [...store.snapshot(() => now)]))
    return changes.flatMap(change => (change.is === 'set' ? [change.key] : [])).toSorted()
  }

  beforeEach(async () => {
    for (const key of KEYS) {
      const more = key === 'asked' ? ASKS : key === 'otherwise' ? ([['aio-persistence', 'yes']] as const) : []
      ask(rig, publisher, ['SET', key, 'v'], 1, { more })
    }
    // Once it was asked for, it stays so.
    ask(rig, publisher, ['SET', 'later', 'v'], 1, ASK)
    ask(rig, publisher, ['SET', 'later', 'w'])
    await rig.settle()
    expect(keysOf(rig)).toEqual(KEYS)
  })

  test.each<[string, PersistencePolicy, string[]]>([
    ['keys: All', stateStore('All'), KEYS],
    ['keys: None, whatever was asked for', stateStore('None', ['*'], true), []],
    ['keys: Custom, by pattern', stateStore('Custom', ['a/*', 'as?ed']), ['a/1', 'a/2', 'asked']],
    ['keys: Custom, by pattern or User Property', stateStore('Custom', ['a/[2-9]'], true), ['a/2', 'asked', 'later']],
    ['keys: no policy', NONE, KEYS],
  ])('%s', async (_, persistence, left) => {
    const before = rig.engine.shards.map(({ store }) => store?.clock)
    const after = await rig.restart({ persistence })
    expect(keysOf(after)).toEqual(left)
    expect(after.engine.counters.keysNotPersisted).toBe(KEYS.length - left.length)
    expect(after.log.lines.map(({ event }) => event)).toEqual(left.length === KEYS.length ? [] : ['keys_not_persisted'])
    // Versions never go back, and another policy brings nothing back.
    expect(after.engine.shards.map(({ store }) => store?.clock)).toEqual(before)
    expect(keysOf(await after.restart({ persistence: stateStore('All') }))).toEqual(left)
  })
})
