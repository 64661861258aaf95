import { beforeEach, describe, expect, test } from 'vitest'
import { NEVER, type ConnectOptions } from '../backend-rig.contract.ts'
import { ClusterRig } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

let rig: ClusterRig
let watcher: RigClusterClient

beforeEach(async () => {
  rig = await ClusterRig.open({ backends: ['a', 'b', 'd'], frontends: ['f', 'g'], shards: 6 })
  // In a shard that stays.
  watcher = await rig.frontend('g').connect(rig.keyIn(5, 'w'), { expirySeconds: NEVER })
  watcher.subscribe('will', { qos: 1 })
  await rig.settle()
  watcher.take()
})

async function mortal(delaySeconds: number, options: ConnectOptions = {}): Promise<RigClusterClient> {
  const will = { message: rig.message('will', 'gone', { qos: 1 }), delaySeconds }
  return rig.frontend().connect(rig.keyIn(0, 'm'), { expirySeconds: 100, will, ...options })
}

async function wills(): Promise<string[]> {
  return (await watcher.drain()).map(({ payload }) => payload)
}

function sessionOf(client: RigClusterClient): unknown {
  return rig.ownerOf(client.shard)!.engine.shards[client.shard]!.sessions.get(client.clientId)
}

describe('a frontend that cannot be reached', () => {
  test('keeps its connections when it is back in time', async () => {
    const client = await mortal(0)
    rig.cut('f', 'a')
    await rig.advance(1_000)
    rig.heal()
    await rig.advance(5_000)
    expect(await wills()).toEqual([])
    expect(client.take()).toEqual([])
    expect(client.isBound).toBe(true)
  })

  test('has as much time again each time', async () => {
    const client = await mortal(0)
    for (let times = 0; times < 5; times++) {
      rig.cut('f', 'a')
      await rig.advance(900)
      rig.heal()
      await rig.advance(100)
    }
    await rig.advance(5_000)
    expect(await wills()).toEqual([])
    expect(client.take()).toEqual([])
  })

  test('loses them later: the Will goes out once and the session lives on to its expiry', async () => {
    const client = await mortal(0)
    rig.cut('f', 'a')
    await rig.advance(3_000)
    expect(await wills()).toEqual(['gone'])
    await rig.advance(95_000)
    expect(sessionOf(client)).toBeDefined()
    await rig.advance(8_000)
    expect(sessionOf(client)).toBeUndefined()
    expect(await wills()).toEqual([])
    expect(rig.backend('a').engine.counters.sessionsConnected).toBe(0)
  })

  test('had a connection that a later one replaces: its Will goes out at once, the new one is untouched', async () => {
    const client = await mortal(0)
    rig.cut('f', 'a')
    const other = await rig.frontend('g').connect(client.clientId, { expirySeconds: 100 })
    expect(await wills()).toEqual(['gone'])
    await rig.advance(10_000)
    expect(other.take()).toEqual([])
    expect(rig.backend('a').engine.counters).toMatchObject({ sessionsConnected: 1, willMessages: 0, takeovers: 1 })
  })
})

describe('a shard that was taken over', () => {
  test('a frontend that resumes others has lost what it does not name, soon', async () => {
    const client = await mortal(0)
    rig.frontend().manners.resumes = false
    rig.kill('a')
    await rig.takeOrphans('b')
    await rig.settle()
    rig.frontend().ownerOf(0)!.resume(0, [], true)
    await rig.advance(300)
    expect(await wills()).toEqual([])
    await rig.advance(600)
    expect(await wills()).toEqual(['gone'])
    expect(client.isBound).toBe(false)
  })

  test('a frontend that never comes has lost them after a while, once, through further owners', async () => {
    await mortal(0)
    rig.frontend().manners.resumes = false
    rig.kill('a')
    await rig.takeOrphans('b')
    await rig.advance(3_000)
    await rig.move(0, 'd')
    await rig.advance(4_000)
    expect(await wills()).toEqual([])
    await rig.advance(2_000)
    expect(await wills()).toEqual(['gone'])
    await rig.move(0, 'b')
    await rig.advance(10_000)
    expect(await wills()).toEqual([])
    expect(rig.backend('b').engine.counters).toMatchObject({ sessionsConnected: 0, willMessages: 0 })
  })

  test.each(['kill', 'move'] as const)('Will Delay and expiry go on: %s', async how => {
    const client = await mortal(20)
    client.detach()
    await rig.settle()
    await rig.advance(10_000)
    if (how === 'kill') {
      rig.kill('a')
      await rig.takeOrphans('b')
    } else await rig.move(0, 'b')
    await rig.advance(9_000)
    expect(await wills()).toEqual([])
    await rig.advance(2_000)
    expect(await wills()).toEqual(['gone'])
    if (how === 'move') await rig.move(0, 'd')
    await rig.advance(78_000)
    expect(sessionOf(client)).toBeDefined()
    await rig.advance(3_000)
    expect(sessionOf(client)).toBeUndefined()
    expect(await wills()).toEqual([])
  })

  test('what became due while nobody owned it happens once', async () => {
    const client = await mortal(20)
    client.detach()
    await rig.settle()
    rig.kill('a')
    await rig.advance(200_000)
    await rig.takeOrphans('b')
    await rig.advance(500)
    expect(await wills()).toEqual(['gone'])
    expect(sessionOf(client)).toBeUndefined()
    rig.kill('b')
    await rig.takeOrphans('d')
    await rig.advance(10_000)
    expect(await wills()).toEqual([])
  })

  test('a session that is resumed keeps its Will, and a client that is back in time cancels it', async () => {
    const client = await mortal(5)
    await rig.move(0, 'b')
    await rig.advance(20_000)
    expect(await wills()).toEqual([])
    client.detach()
    await rig.advance(3_000)
    await rig.move(0, 'd')
    const again = await rig.frontend('g').connect(client.clientId, { expirySeconds: 100 })
    expect(again.sessionPresent).toBe(true)
    await rig.advance(20_000)
    expect(await wills()).toEqual([])
  })

  test.each(['before', 'after'] as const)('a Will that became due %s it was stored goes out once', async when => {
    const client = await mortal(0)
    const { store } = rig.backend('a')
    store.isPrompt = false
    client.detach()
    rig.linkOf('f', 'a').pair.deliver()
    rig.endTurn(rig.backend('a'))
    rig.kill('a', when === 'after' ? 1 : 0)
    await rig.takeOrphans('b')
    await rig.advance(10_000)
    expect(await wills()).toEqual(['gone'])
    expect([...rig.frontend().detaches.keys()]).toEqual([])
  })
})

describe('detach', () => {
  test.each(['stored', 'lost'] as const)(
    'repeated to the next owner after it was %s: DISCONNECT discards the Will, and sets the expiry',
    async how => {
      const client = await mortal(0)
      const { store } = rig.backend('a')
      store.isPrompt = false
      client.detach({ discardWill: true, sessionExpirySeconds: 10 })
      rig.linkOf('f', 'a').pair.deliver()
      rig.endTurn(rig.backend('a'))
      rig.kill('a', how === 'stored' ? 1 : 0)
      await rig.takeOrphans('b')
      await rig.settle()
      expect([...rig.frontend().detaches.keys()]).toEqual([])
      await rig.advance(9_000)
      expect(sessionOf(client)).toBeDefined()
      await rig.advance(3_000)
      expect(sessionOf(client)).toBeUndefined()
      expect(await wills()).toEqual([])
    },
  )

  test('repeated, does nothing to a later connection', async () => {
    const client = await mortal(0)
    rig.cut('f', 'a')
    client.detach()
    const other = await rig.frontend('g').connect(client.clientId, { expirySeconds: 100 })
    expect(await wills()).toEqual(['gone'])
    rig.heal()
    await rig.advance(5_000)
    expect(other.take()).toEqual([])
    expect([...rig.frontend().detaches.keys()]).toEqual([])
  })
})
