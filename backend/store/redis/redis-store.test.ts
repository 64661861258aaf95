import { afterAll, beforeAll } from 'vitest'
import { type RedisServer, startRedis } from '#shared/testing/redis-server.ts'
import { describeClusterStore } from '../cluster-store.contract.ts'
import { describeShardStore, type StoreUnderTest } from '../shard-store.contract.ts'
import { RedisRig } from './redis-rig.contract.ts'
import type { RedisStore } from './redis-store.ts'

let server: RedisServer
beforeAll(async () => {
  server = await startRedis()
})
afterAll(() => server.dispose())

/** A store that owns all its shards, as the conformance suite takes it. */
function redisUnderTest(): StoreUnderTest {
  const rig = new RedisRig(server.url)
  let store: RedisStore | undefined
  let shardCount = 3
  const open = async (): Promise<RedisStore> => {
    const opened = await rig.openOwner({ shardCount })
    // Whoever claims a shard reads it; logBytes knows of older entries since then.
    await Promise.all(Array.from({ length: shardCount }, (_, shard) => opened.recover(shard, () => {})))
    return (store = opened)
  }
  return {
    open: async given => {
      shardCount = given?.shardCount ?? shardCount
      return await open()
    },
    restart: async () => {
      await store!.close()
      return await open()
    },
    // The store that is left behind has its connections still, as one whose process hangs.
    crash: open,
    dispose: () => rig.dispose(),
  }
}

describeShardStore('redis', redisUnderTest)
describeClusterStore('redis', () => {
  const rig = new RedisRig(server.url)
  return { open: owner => rig.open({ owner }), dispose: () => rig.dispose() }
})
