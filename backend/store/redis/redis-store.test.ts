import { afterAll, beforeAll } from 'vitest'
import { parseRedisUrl } from '#shared/config/redis-url.ts'
import { Refusal } from '#shared/config/setting.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { type RedisServer, startRedis } from '#shared/testing/redis-server.ts'
import { describeShardStore, type StoreUnderTest } from '../shard-store.contract.ts'
import { openRedisStore, type RedisStore, type RedisStoreOptions } from './redis-store.ts'

let server: RedisServer
let names = 0
beforeAll(async () => {
  server = await startRedis()
})
afterAll(() => server.dispose())

function options(url: string): RedisStoreOptions {
  const parsed = parseRedisUrl(url)
  if (parsed instanceof Refusal) throw new Error(parsed.message)
  return {
    url: parsed,
    shardCount: 3,
    clusterName: `test ${++names}`,
    level: 'stored',
    redundancyFactor: 1,
    owner: { id: 'backend-1', instance: `instance ${names}` },
    log: new RecordingLog(),
    closeTimeoutMs: 100,
  }
}

/** A store that owns all its shards, as the conformance suite takes it. */
function redisUnderTest(): StoreUnderTest {
  const opened: RedisStore[] = []
  const common = options(server.url)
  let shardCount = 3
  const open = async (): Promise<RedisStore> => {
    const store = await openRedisStore({ ...common, shardCount, owner: { id: 'backend-1', instance: `instance ${opened.length}` } })
    opened.push(store)
    const shards = Array.from({ length: shardCount }, (_, shard) => shard)
    const claimed = await Promise.all(shards.map(async shard => store.claim(shard, (await store.ownerOf(shard))?.epoch ?? 0)))
    if (claimed.includes(null)) throw new Error('a shard was not claimed')
    // Whoever claims a shard reads it; logBytes knows of entries since then.
    await Promise.all(shards.map(shard => store.recover(shard, () => {})))
    return store
  }
  return {
    open: async given => {
      shardCount = given?.shardCount ?? shardCount
      return await open()
    },
    restart: async () => {
      await opened.at(-1)!.close()
      return await open()
    },
    // The store that is left behind has its connections still, as one whose process hangs.
    crash: open,
    dispose: async () => void (await Promise.all(opened.map(store => store.close()))),
  }
}

describeShardStore('redis', redisUnderTest)
