import { describe, expect, test } from 'vitest'
import { NEVER } from '../backend-rig.contract.ts'
import { record } from '../shard/store-upkeep.ts'
import { leftovers, stateDump } from '../state-dump.contract.ts'
import { momentOf } from '../statestore/moment.ts'
import { StoreError } from '../store/shard-store.ts'
import { ClusterRig, type RigBackend } from './cluster-rig.contract.ts'

describe('at level memory', () => {
  test('shards move one after the other with all that they hold', async () => {
    const rig = await ClusterRig.open({ level: 'memory', shards: 6 })
    const frontend = rig.frontend()
    const clients = await Promise.all(
      [0, 2, 4].map(async shard => {
        const client = await frontend.connect(rig.keyIn(shard, 'c'), { expirySeconds: NEVER })
        client.subscribe('x', { qos: 1 })
        return client
      }),
    )
    await rig.settle()
    for (const client of clients) client.detach()
    await rig.settle()
    frontend.publish('x', 'kept', { qos: 1 })
    await rig.settle()
    for (const shard of [0, 2, 4]) await rig.move(shard, 'b')
    expect(rig.backend('b').owned).toEqual([0, 1, 2, 3, 4, 5])
    for (const shard of [0, 2, 4]) {
      const again = await frontend.connect(rig.keyIn(shard, 'c'), { expirySeconds: NEVER })
      expect(again.sessionPresent).toBe(true)
      expect((await again.drain()).map(({ payload }) => payload)).toEqual(['kept'])
    }
  })

  test('what was counted of the state store stays with the process; what there is goes with the shard', async () => {
    const rig = await ClusterRig.open({ level: 'memory' })
    const [from, to] = [rig.backend('a').engine, rig.backend('b').engine]
    const set = { is: 'set', key: 'k', value: 'v', condition: null, lifetimeMs: null } as const
    const watcher = { frontend: 'f', connection: 1, clientId: 'c' }
    const request = { command: set, timestamp: { wall: 1, counter: 0 }, fencingToken: null, isPersistent: false, watcher, origin: null }
    const ask = (engine: typeof from): void => {
      const { changes } = engine.storeOf(engine.shards[0]!).execute(request, momentOf(rig.clock))
      record(engine, engine.shards[0]!, changes)
    }
    ask(from)
    await rig.move(0, 'b')
    ask(to)
    await rig.move(0, 'a')
    ask(from)
    await rig.settle()
    expect([from, to].map(({ storeCounters: { insertions, modifications } }) => [insertions, modifications])).toEqual([
      [1, 1],
      [0, 1],
    ])
    // Who let it go may keep what it held for a while; it is not its own any more, and no metric counts it.
    expect([from, to].map(({ shards }) => (shards[0]!.isServing ? shards[0]!.store?.keys : 'not ours'))).toEqual([1, 'not ours'])
  })

  test('several move at once', async () => {
    const rig = await ClusterRig.open({ level: 'memory', shards: 6 })
    const client = await rig.frontend().connect(rig.keyIn(2, 'c'), { expirySeconds: NEVER })
    await Promise.all([rig.move(0, 'b'), rig.move(2, 'b'), rig.move(4, 'b')])
    await rig.settle()
    expect(rig.backend('b').owned).toEqual([0, 1, 2, 3, 4, 5])
    expect(client.isBound).toBe(true)
  })

  test('what was moved is not journalled by its new owner either', async () => {
    const rig = await ClusterRig.open({ level: 'memory' })
    await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    await rig.move(0, 'b')
    await rig.settle()
    const { journal } = rig.backend('b').engine
    const before = journal.records
    const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    client.subscribe('x', { qos: 2 })
    await rig.settle()
    rig.frontend().publish('x', 'one', { qos: 1 })
    await client.drain()
    expect(journal.records).toBe(before)
  })
})

test('what a former ownership recorded and did not store is not written by the next one', async () => {
  const rig = await ClusterRig.open()
  const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
  client.subscribe('x', { qos: 1 })
  await rig.settle()
  client.detach()
  await rig.settle()
  const a = rig.backend('a')
  rig.frontend().publish('x', 'unanswered', { qos: 1 })
  rig.linkOf('f', 'a').pair.deliver()
  expect(a.turn.isRequested).toBe(true)
  a.cluster.hosting.drop(0)
  rig.closeLinksTo(a, 'lapsed')
  await rig.take(0, 'a')
  await rig.settle()
  // The log shows what was written.
  rig.kill('a')
  await rig.takeOrphans('b')
  await rig.settle()
  const again = await rig.frontend().connect(client.clientId, { expirySeconds: NEVER })
  expect(await again.drain()).toEqual([])
})

describe('entries that the store has lost', () => {
  test('are written again while commits wait for it, and what waited goes on', async () => {
    const rig = await ClusterRig.open()
    const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    client.subscribe('x', { qos: 1 })
    await rig.settle()
    client.take()
    const { store, engine } = rig.backend('a')
    store.isPrompt = false
    rig.frontend().publish('x', 'under way', { qos: 1 })
    for (let round = 0; round < 3; round++) {
      rig.linkOf('f', 'a').pair.deliver()
      rig.endTurn(rig.backend('a'))
    }
    store.loseEntries(0, 2)
    await rig.settle()
    expect(store.waiting).toBe(0)
    expect(engine.journal.pendingBytes).toBe(0)
    expect(rig.frontend().published.map(({ reason }) => reason)).toContain(0)
    rig.kill('a')
    await rig.takeOrphans('b')
    await rig.settle()
    expect(client.isBound).toBe(true)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['under way'])
  })

  test('are written again though a snapshot waits for the commits that wait for it', async () => {
    const rig = await ClusterRig.open()
    const clients = await Promise.all([0, 2].map(shard => rig.frontend().connect(rig.keyIn(shard, 'c'), { expirySeconds: NEVER })))
    for (const shard of [0, 2]) {
      const { store, engine, cluster } = rig.backend('a')
      store.isPrompt = false
      for (const client of clients) client.subscribe('x')
      rig.linkOf('f', 'a').pair.deliver()
      rig.endTurn(rig.backend('a'))
      store.snapshotDue = shard
      cluster.backend.tick()
      store.loseEntries(0, 1)
      await rig.settle()
      expect(engine.journal.pendingBytes).toBe(0)
      expect(store.waiting).toBe(0)
    }
    // The interrupted one is not lost for ever.
    const { store, engine } = rig.backend('a')
    const { snapshots } = engine.counters
    store.snapshotDue = 0
    await rig.advance(100)
    expect(engine.counters.snapshots).toBe(snapshots + 1)
  })

  test('are written again when that fails at first', async () => {
    const rig = await ClusterRig.open()
    const { store, engine } = rig.backend('a')
    const begin = store.beginSnapshot.bind(store)
    let refusals = 2
    store.beginSnapshot = shard => {
      const writer = begin(shard)
      return { ...writer, write: chunk => (refusals-- > 0 ? Promise.reject(new StoreError('full', 'out of memory')) : writer.write(chunk)) }
    }
    store.loseEntries(0, 0)
    rig.frontend().client(rig.keyIn(0, 'c')).attach({ expirySeconds: NEVER })
    await rig.settle()
    expect(engine.journal.pendingBytes).toBeGreaterThan(0)
    await rig.advance(3_500)
    expect(engine.journal.pendingBytes).toBe(0)
  })

  test('are written again of a shard that is being let go', async () => {
    const rig = await ClusterRig.open()
    const { store } = rig.backend('a')
    rig.frontend().client(rig.keyIn(0, 'c')).attach({ expirySeconds: NEVER })
    store.isPrompt = false
    rig.linkOf('f', 'a').pair.deliver()
    const released = rig.release(0)
    store.loseEntries(0, 0)
    await released
    await rig.take(0, 'b')
    expect(rig.backend('b').engine.shards[0]!.sessions.size).toBe(1)
  })

  test('of a shard that is just being taken over are written again once it is served', async () => {
    const rig = await ClusterRig.open()
    await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    await rig.release(0)
    const { store, engine } = rig.backend('b')
    const read = store.read.bind(store)
    store.read = shard => {
      const reading = read(shard)
      return {
        readOn: async visit => {
          const isWhole = await reading.readOn(visit)
          // Read from a primary that another one has replaced.
          store.loseEntries(shard, Infinity)
          return isWhole
        },
      }
    }
    await rig.take(0, 'b')
    await rig.advance(100)
    await rig.frontend().connect(rig.keyIn(0, 'd'), { expirySeconds: NEVER })
    expect(engine.journal.pendingBytes).toBe(0)
    rig.kill('b')
    await rig.takeOrphans('a')
    expect(rig.backend('a').engine.shards[0]!.sessions.size).toBe(2)
  })

  test.each(['before', 'after'] as const)('%s the shard was dropped keep no other shard waiting', async when => {
    const rig = await ClusterRig.open()
    const { store, engine, cluster } = rig.backend('a')
    const begin = store.beginSnapshot.bind(store)
    store.beginSnapshot = shard => {
      // Not finished before the shard goes.
      return { ...begin(shard), write: () => Promise.reject(new StoreError('full', 'out of memory')) }
    }
    store.isPrompt = false
    for (const shard of [0, 2]) rig.frontend().client(rig.keyIn(shard, 'c')).attach({ expirySeconds: NEVER })
    rig.linkOf('f', 'a').pair.deliver()
    rig.endTurn(rig.backend('a'))
    expect(engine.journal.pendingBytes).toBeGreaterThan(0)
    if (when === 'before') store.loseEntries(0, 0)
    cluster.hosting.drop(0)
    if (when === 'after') store.loseEntries(0, 0)
    rig.closeLinksTo(rig.backend('a'), 'lapsed')
    await rig.settle()
    expect(engine.journal.pendingBytes).toBe(0)
    store.beginSnapshot = begin
    await rig.take(0, 'a')
    await rig.advance(100)
    expect(rig.backend('a').owned).toEqual([0, 2])
    expect(engine.journal.pendingBytes).toBe(0)
  })
})

describe('a shard that goes', () => {
  /** Sessions in every state in all shards of 'a'. */
  async function busy(): Promise<ClusterRig> {
    const rig = await ClusterRig.open()
    const frontend = rig.frontend()
    for (const shard of [0, 2]) {
      const will = { message: rig.message('will', 'gone', { qos: 1 }), delaySeconds: 60 }
      const online = await frontend.connect(rig.keyIn(shard, 'on'), { expirySeconds: NEVER, receiveMaximum: 2, will })
      online.subscribe('x/#', { qos: 2 })
      online.subscribe('$share/g/s/#', { qos: 1 })
      const offline = await frontend.connect(rig.keyIn(shard, 'off'), { expirySeconds: 100, will })
      offline.subscribe('x/+', { qos: 1 })
      await rig.settle()
      offline.detach()
    }
    frontend.publish('x/1', 'one', { qos: 1 })
    frontend.publish('x/2', 'two', { qos: 1, retain: true, expirySeconds: 500 })
    frontend.publish('s/2', 'three', { qos: 1, retain: true })
    frontend.publish('x/3', 'four', { qos: 1 })
    await rig.settle()
    return rig
  }

  test.each(['released', 'fenced'] as const)('leaves nothing in memory: %s', async how => {
    const rig = await busy()
    const untouched = await ClusterRig.open({ isUnowned: true })
    for (const shard of [0, 2]) {
      if (how === 'released') await rig.move(shard, 'b')
      else await rig.take(shard, 'b')
    }
    if (how === 'fenced') for (const shard of [0, 2]) rig.backend('a').cluster.hosting.drop(shard)
    await rig.advance(10_000)
    const { engine } = rig.backend('a')
    expect(leftovers(engine)).toEqual(leftovers(untouched.backend('a').engine))
    expect(rig.backend('a').cluster.node.groups.index.nodeCount).toBe(0)
    await rig.move(0, 'a')
    await rig.move(2, 'a')
    await rig.advance(500)
    expect(leftovers(rig.backend('b').engine)).toMatchObject({ sessionsTotal: 0, sessionBytes: 0, willMessages: 0, crowdedQueues: 0 })
  })

  test('comes back before it was forgotten', async () => {
    const rig = await busy()
    const before = stateDump(rig.backend('a').engine)
    await rig.move(0, 'b')
    await rig.move(0, 'a')
    await rig.settle()
    await rig.advance(500)
    expect(undisturbed(stateDump(rig.backend('a').engine))).toEqual(undisturbed(before))
  })

  test('comes back as it was', async () => {
    const rig = await busy()
    const before = stateDump(rig.backend('a').engine)
    const there = async (to: string): Promise<Record<string, number>> => {
      for (const shard of [0, 2]) await rig.move(shard, to)
      await rig.settle()
      return leftovers(rig.backend(to).engine)
    }
    // Before the first move, messages for several shards and retained ones are in memory once.
    const counted = [await there('b'), await there('a'), await there('b'), await there('a')]
    expect(undisturbed(stateDump(rig.backend('a').engine))).toEqual(undisturbed(before))
    expect(counted[2]).toEqual(counted[0])
    expect(counted[3]).toEqual(counted[1])
  })

  test.each(['log', 'snapshot', 'snapshot and log'] as const)('comes back from %s after its owner died', async from => {
    const rig = await busy()
    const { store, engine } = rig.backend('a')
    const frontend = rig.frontend()
    const publisher = await frontend.connect(rig.keyIn(0, 'p'), { expirySeconds: NEVER })
    const snapshots = async (): Promise<void> => {
      for (const shard of [0, 2]) {
        store.snapshotDue = shard
        await rig.advance(100)
      }
    }
    if (from === 'snapshot and log') await snapshots()
    // What is for the shards of 'b' has to wait: a hand-over that is not finished.
    rig.cut('a', 'b')
    await rig.advance(600)
    publisher.publish('x/5', 'five', { qos: 2 })
    const other = await frontend.connect(rig.keyIn(2, 'o'), { expirySeconds: NEVER })
    other.subscribe('x/5')
    other.unsubscribe('x/5')
    other.subscribe('y')
    await rig.settle()
    if (from === 'snapshot') await snapshots()
    expect(engine.counters.snapshots).toBe(from === 'log' ? 0 : 2)
    expect(engine.shards[0]!.handOvers.size).toBe(1)
    const before = clusterState(rig.backend('a'))
    const dump = undisturbed(stateDump(engine))
    frontend.manners.resumes = false
    rig.kill('a')
    const taker = rig.start('d')
    await rig.take(0, 'd')
    await rig.take(2, 'd')
    expect(clusterState(taker)).toEqual(before)
    expect(undisturbed(stateDump(taker.engine))).toEqual(dump)
  })

  test('in the middle of commits, a snapshot and timers: nothing happens for it afterwards', async () => {
    const rig = await busy()
    const { store, engine, cluster, log } = rig.backend('a')
    store.isPrompt = false
    store.snapshotDue = 0
    cluster.backend.tick()
    rig.frontend().publish('x/4', 'five', { qos: 1 })
    rig.linkOf('f', 'a').pair.deliver()
    rig.endTurn(rig.backend('a'))
    await rig.take(0, 'b')
    await rig.take(2, 'b')
    await rig.settle()
    expect(leftovers(engine)).toMatchObject({ sessionsTotal: 0, messageBytes: 0, sessionsConnected: 0, pendingBytes: 0 })
    await rig.advance(200_000)
    expect(leftovers(engine)).toMatchObject({ sessionsTotal: 0, messageBytes: 0, sessionsConnected: 0, willMessages: 0 })
    expect(log.lines.filter(({ level }) => level === 'error')).toEqual([])
  })
})

/** Without what may differ: numbers that only grow, and DUP, which says that a message may have been sent. */
function undisturbed(dump: unknown): unknown {
  return JSON.parse(JSON.stringify(dump, (key, value: unknown) => (key === 'nextSequence' || key === 'sent' ? null : value)))
}

function clusterState({ engine, cluster }: RigBackend): unknown {
  return engine.shards.map(({ number, handOvers, seen, nextSession }) => ({
    handOvers: [...handOvers.values()].map(({ sequence, target, message }) => [sequence, target, message.payload.toString()]),
    seen: [...seen],
    nextSession,
    members: Array.from(cluster.node.groups.membersOf(number), ({ clientId, groupName, options: { qos } }) => [clientId, groupName, qos]),
  }))
}

describe('taking a shard', () => {
  test('that may not be served after all leaves nothing, and may be tried again', async () => {
    const rig = await ClusterRig.open()
    await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    await rig.release(0)
    rig.backend('b').mayServe = () => false
    await expect(rig.take(0, 'b')).rejects.toThrow('another backend')
    expect(rig.backend('b').engine.counters.sessionsTotal).toBe(0)
    expect(rig.backend('b').engine.shards[0]!.phase).toBe('absent')
    rig.backend('b').mayServe = () => true
    await rig.take(0, 'b')
    expect(rig.backend('b').engine.counters.sessionsTotal).toBe(1)
  })

  test('prepared, abandoned, prepared and taken holds everything once', async () => {
    const rig = await ClusterRig.open()
    const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    client.subscribe('x', { qos: 1 })
    client.writable(false)
    rig.frontend().publish('x', 'one', { qos: 1, retain: true })
    await rig.settle()
    const { hosting } = rig.backend('b').cluster
    await hosting.prepare(0)
    hosting.abandon(0)
    expect(leftovers(rig.backend('b').engine)).toMatchObject({ sessionsTotal: 0, sessionBytes: 0, messageBytes: 0, indexNodes: 0 })
    const preparing = hosting.prepare(0)
    hosting.abandon(0)
    await expect(preparing).rejects.toThrow('not needed')
    await hosting.prepare(0)
    rig.frontend().publish('x', 'two', { qos: 1 })
    await rig.settle()
    await rig.move(0, 'b')
    expect((stateDump(rig.backend('b').engine) as { sessions: unknown }).sessions).toMatchObject([{ queued: [2, expect.anything()] }])
  })

  test('a preparation that fails is not built upon', async () => {
    const rig = await ClusterRig.open()
    for (let i = 0; i < 10; i++) {
      await rig.frontend().connect(rig.keyIn(0, `c${i}-`), { expirySeconds: NEVER })
    }
    const { store, cluster, engine } = rig.backend('b')
    const read = store.read.bind(store)
    store.read = shard => {
      const reading = read(shard)
      return {
        readOn: visit =>
          reading.readOn((kind, bytes) => {
            visit(kind, bytes)
            throw new StoreError('failed', 'the connection is lost')
          }),
      }
    }
    await expect(cluster.hosting.prepare(0)).rejects.toThrow('connection is lost')
    store.read = read
    expect(engine.counters.sessionsTotal).toBe(0)
    await rig.release(0)
    await rig.take(0, 'b')
    expect(engine.shards[0]!.sessions.size).toBe(10)
  })

  test('dropped while it is read, and begun again before that is known, holds everything once', async () => {
    const rig = await ClusterRig.open()
    for (let i = 0; i < 10; i++) await rig.frontend().connect(rig.keyIn(0, `c${i}-`), { expirySeconds: NEVER })
    const { hosting } = rig.backend('b').cluster
    await rig.release(0)
    const { store, engine } = rig.backend('b')
    const epoch = await store.claim(0, 1)
    const first = hosting.take(0, epoch!)
    hosting.drop(0)
    const second = hosting.take(0, epoch!)
    await expect(first).rejects.toThrow('not needed')
    await second
    expect(engine.shards[0]!.sessions.size).toBe(10)
    expect(engine.shards[0]!.isServing).toBe(true)
  })

  test('overtakes a preparation that is under way', async () => {
    const rig = await ClusterRig.open()
    for (let i = 0; i < 10; i++) await rig.frontend().connect(rig.keyIn(0, `c${i}-`), { expirySeconds: NEVER })
    await rig.release(0)
    const preparing = rig.backend('b').cluster.hosting.prepare(0)
    await Promise.all([expect(preparing).rejects.toThrow('not needed'), rig.take(0, 'b')])
    expect(rig.backend('b').engine.shards[0]!.sessions.size).toBe(10)
  })

  test('reads a snapshot that replaces what it has read', async () => {
    const rig = await ClusterRig.open()
    await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER })
    await rig.backend('b').cluster.hosting.prepare(0)
    await rig.frontend().connect(rig.keyIn(0, 'd'), { expirySeconds: NEVER })
    rig.backend('a').store.snapshotDue = 0
    await rig.advance(100)
    expect(rig.backend('a').engine.counters.snapshots).toBe(1)
    await rig.release(0)
    await rig.take(0, 'b')
    expect(rig.backend('b').engine.shards[0]!.sessions.size).toBe(2)
    expect(rig.backend('b').engine.counters.sessionsTotal).toBe(2)
  })
})
