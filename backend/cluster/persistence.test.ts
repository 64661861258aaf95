import { beforeEach, describe, expect, test } from 'vitest'
import { NEVER } from '../backend-rig.contract.ts'
import { notify } from '../publishing/key-notifications.ts'
import { record } from '../shard/store-upkeep.ts'
import type { PersistencePolicy } from '../shard/persistence.ts'
import { momentOf } from '../statestore/moment.ts'
import type { StoreCommand } from '../statestore/store-request.ts'
import type { ClusterPersistence } from './cluster-node.ts'
import { ClusterRig } from './cluster-rig.contract.ts'

const NOTHING: PersistencePolicy = {
  retain: { mode: 'None', topics: [], dynamic: true },
  subscriberQueue: { mode: 'None', clientIds: [], dynamic: true },
  stateStore: { mode: 'None', keys: [], dynamic: true },
}
/** What is there in all: a Retained Message, a message that waits for a client that is away, a key. */
const ALL = { retained: 1, queued: 2, keys: 1 }
const NONE = { retained: 0, queued: 0, keys: 0 }

/** What every backend of the rig goes by. */
let persistence: ClusterPersistence | null
/** Backend `a` owns shards 0 and 2, `b` 1 and 3. */
let rig: ClusterRig
let topic: string

beforeEach(async () => {
  persistence = { policy: NOTHING, runId: 'one' }
  rig = await ClusterRig.open({ persistence: () => persistence })
  topic = rig.keyIn(0, 't')
})

async function fill(): Promise<void> {
  const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER, receiveMaximum: 1 })
  client.subscribe('#', { qos: 1 })
  await rig.settle()
  client.detach()
  await rig.settle()
  rig.frontend().publish(topic, 'kept', { qos: 1, retain: true })
  rig.frontend().publish('x', 'waits', { qos: 1 })
  execute({ is: 'set', key: 'k', value: 'v', condition: null, lifetimeMs: null }, { clientId: 'c', connection: 1 })
  await rig.settle()
}

/** In shard 0, for a connection of the frontend. */
function execute(command: StoreCommand, { clientId, connection }: { readonly clientId: string; readonly connection: number }): void {
  const { engine, turn } = rig.ownerOf(0)!
  const shard = engine.shards[0]!
  const timestamp = { wall: rig.clock.wallMs(), counter: 0 }
  const watcher = { frontend: 'f/f1', connection, clientId }
  const request = { command, timestamp, fencingToken: null, isPersistent: false, watcher, origin: null }
  const { changes, notifications } = engine.storeOf(shard).execute(request, momentOf(rig.clock))
  record(engine, shard, changes)
  for (const notification of notifications) notify(engine, shard, notification)
  turn.request()
}

function held(): { retained: number; queued: number; keys: number } {
  const shard = rig.ownerOf(0)!.engine.shards[0]!
  const [session] = shard.sessions.values()
  return { retained: shard.retained.size, queued: session!.outbox?.queued.length ?? 0, keys: shard.store?.keys ?? 0 }
}

/** Every backend ends at once, and all start anew. */
async function restart(): Promise<void> {
  for (const id of ['a', 'b']) rig.kill(id, Infinity)
  for (const id of ['a', 'b']) rig.start(id)
  rig.link()
  await rig.takeOrphans('a')
  await rig.settle()
}

describe('what the policy does not choose', () => {
  test('is dropped by whoever takes over a shard of an earlier run, and stays away', async () => {
    await fill()
    expect(held()).toEqual(ALL)
    persistence = { policy: NOTHING, runId: 'two' }
    await restart()
    expect(held()).toEqual(NONE)
    expect(rig.ownerOf(0)!.log.lines).toEqual(
      expect.arrayContaining([expect.objectContaining({ event: 'not_persisted', fields: { messages: 3 } })]),
    )
    persistence = null
    await restart()
    expect(held()).toEqual(NONE)
  })

  test.each([
    ['a failover', async () => (rig.kill('a'), await rig.takeOrphans('b'))],
    ['a move', () => rig.move(0, 'b')],
    [
      'all backends, one after the other',
      async () => (await rig.move(0, 'b'), rig.kill('a'), rig.start('a'), rig.link(), await rig.move(0, 'a')),
    ],
  ])('outlives %s', async (_, change) => {
    await fill()
    await change()
    await rig.settle()
    expect(held()).toEqual(ALL)
  })

  test('outlives a stop that nothing was to be dropped at, and is dropped at the next', async () => {
    persistence = null
    rig = await ClusterRig.open({ persistence: () => persistence })
    await fill()
    persistence = { policy: NOTHING, runId: 'two' }
    await restart()
    expect(held()).toEqual(ALL)
    persistence = { policy: NOTHING, runId: 'three' }
    await restart()
    expect(held()).toEqual(NONE)
  })

  test('is of the present run when the policy comes, or the run is found to be another one, while it is served', async () => {
    await fill()
    const note = (): void => {
      for (const { cluster } of rig.backends.values()) cluster.hosting.noteRun()
    }
    // Without a policy in between no shard says of which run it is.
    persistence = null
    note()
    persistence = { policy: NOTHING, runId: 'two' }
    note()
    await rig.settle()
    await rig.move(0, 'b')
    expect(held()).toEqual(ALL)
    persistence = { policy: NOTHING, runId: 'three' }
    note()
    rig.backend('b').turn.request()
    await rig.settle()
    rig.kill('b', Infinity)
    await rig.takeOrphans('a')
    await rig.settle()
    expect(held()).toEqual(ALL)
  })

  test('a client that was connected all the time is told of changes afterwards, however it watches', async () => {
    const watcher = await rig.frontend().connect(rig.keyIn(1, 'w'), { expirySeconds: NEVER })
    execute({ is: 'keynotify', key: 'k', isStop: false }, watcher)
    execute({ is: 'keep', key: 'l', keepMs: 60_000, since: null }, watcher)
    await rig.settle()
    persistence = { policy: NOTHING, runId: 'two' }
    await restart()
    for (const key of ['k', 'l']) execute({ is: 'set', key, value: 'v', condition: null, lifetimeMs: null }, watcher)
    expect((await watcher.drain()).map(({ topic: of }) => Buffer.from(of.split('/').at(-1)!, 'hex').toString())).toEqual(['k', 'l'])
  })

  test('a snapshot says of which run the shard is', async () => {
    rig = await ClusterRig.open({ persistence: () => persistence, level: 'memory' })
    await fill()
    await rig.move(0, 'b')
    expect(held()).toEqual(ALL)
    persistence = { policy: NOTHING, runId: 'two' }
    await rig.move(0, 'a')
    expect(held()).toEqual(NONE)
  })
})
