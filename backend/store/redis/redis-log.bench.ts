import { styleText } from 'node:util'
import { systemTimers } from '#shared/base/timers.ts'
import { openRedisNode } from '#shared/cluster/redis-connection.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { type RedisServer, startRedis } from '#shared/testing/redis-server.ts'
import { parseRedisUrl } from '#shared/config/redis-url.ts'
import { Refusal } from '#shared/config/setting.ts'
import { Connection, type RedisCommand } from './connection.ts'
import { openRedisStore } from './redis-store.ts'

/**
 * What one message costs on its way into the log, by how it is written: `node backend/store/redis/redis-log.bench.ts`.
 * Microseconds of CPU per message of 256 bytes, Node + Redis + replica; four commits under way. docs/adr/0003-redis-log.md has the figures.
 */
const MESSAGE_BYTES = 256
const BATCHES = [1, 14, 100]
const COMMITS_UNDER_WAY = 4
const ROUND_MS = 700
/** Ways take turns in each round; the cheapest counts, since whatever else the machine does only adds. */
const ROUNDS = 5
const KEY = 'bench:{m:0}:log'

const FENCED_BODY = `
if tonumber(redis.call('HGET', KEYS[2], 'epoch')) ~= tonumber(ARGV[1]) then return redis.error_reply('FENCED') end
return redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. ARGV[2], 'e', ARGV[3])`
const LIBRARY = `#!lua name=bench
redis.register_function('append', function(KEYS, ARGV) ${FENCED_BODY} end)`

type Way = (position: number, bytes: Buffer) => RedisCommand

interface Cost {
  readonly node: number
  readonly redis: number
  readonly replica: number
  readonly perSecond: number
}

async function cpuUs(server: RedisServer): Promise<number> {
  const info = String(await server.command('INFO', 'cpu'))
  const seconds = ['used_cpu_sys', 'used_cpu_user'].map(name => Number(new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]))
  return (seconds[0]! + seconds[1]!) * 1e6
}

/** Runs `commit` in so many loops at once for a while. */
async function measure(servers: readonly RedisServer[], messages: number, commit: () => Promise<void>): Promise<Cost> {
  const run = async (ms: number): Promise<number> => {
    const endMs = performance.now() + ms
    let commits = 0
    const loop = async (): Promise<void> => {
      for (; performance.now() < endMs; commits++) await commit()
    }
    await Promise.all(Array.from({ length: COMMITS_UNDER_WAY }, loop))
    return commits
  }
  await run(ROUND_MS / 3)
  const before = await Promise.all(servers.map(cpuUs))
  const startMs = performance.now()
  const used = process.cpuUsage()
  const count = (await run(ROUND_MS)) * messages
  const node = process.cpuUsage(used)
  const seconds = (performance.now() - startMs) / 1000
  const after = await Promise.all(servers.map(cpuUs))
  const [redis = 0, replica = 0] = after.map((us, index) => (us - before[index]!) / count)
  return { node: (node.user + node.system) / count, redis, replica, perSecond: count / seconds }
}

async function measureWay(servers: readonly RedisServer[], way: Way, batch: number, replicas: number): Promise<Cost> {
  const url = parseRedisUrl(servers[0]!.url)
  if (url instanceof Refusal) throw new Error(url.message)
  const redis = openRedisNode(servers[0]!.address, url, { onError: () => {} })
  await redis.connect()
  const connection = new Connection(redis, systemTimers, { onClosed: () => {}, onWaiting: () => {} })
  connection.confirmWith({ replicas, isOnDisk: false })
  await connection.call('flushall')
  await connection.call('hset', 'bench:{m:0}:meta', 'epoch', 1)
  const bytes = Buffer.alloc(batch * MESSAGE_BYTES, 'x')
  let position = 0
  const cost = await measure(servers, batch, async () => {
    const reply = await connection.write(way(++position, bytes))
    if (position % 4096 === 0) await connection.call('xtrim', KEY, 'MINID', '~', `1-${position - 1024}`)
    if (reply instanceof Error) throw reply
  })
  connection.close(new Error('done'))
  return cost
}

async function measureStore(servers: readonly RedisServer[], batch: number, replicas: number): Promise<Cost> {
  const url = parseRedisUrl(servers[0]!.url)
  if (url instanceof Refusal) throw new Error(url.message)
  const store = await openRedisStore({
    url,
    shardCount: 1,
    clusterName: `bench ${batch} ${replicas}`,
    level: replicas > 0 ? 'replicated' : 'stored',
    redundancyFactor: 1 + replicas,
    owner: { id: 'bench', instance: '1' },
    log: new RecordingLog(),
  })
  await store.claim(0, 0)
  const entries = [{ shard: 0, bytes: Buffer.alloc(batch * MESSAGE_BYTES, 'x') }]
  const cost = await measure(servers, batch, () => store.commit(entries))
  await store.close()
  await servers[0]!.command('FLUSHALL')
  return cost
}

function cheapest(costs: readonly Cost[]): Cost {
  const least = (field: keyof Cost): number => Math.min(...costs.map(cost => cost[field]))
  return {
    node: least('node'),
    redis: least('redis'),
    replica: least('replica'),
    perSecond: Math.max(...costs.map(cost => cost.perSecond)),
  }
}

function print(name: string, batch: number, { node, redis, replica, perSecond }: Cost): void {
  const figures = [node, redis, replica].map(us => us.toFixed(2).padStart(7)).join(' ')
  process.stdout.write(
    `${name.padEnd(26)} ${String(batch).padStart(4)} ${figures}  ${Math.round(perSecond).toLocaleString('en').padStart(9)}/s\n`,
  )
}

const primary = await startRedis()
const replica = await startRedis({ replicaOf: primary })
try {
  const sha = String(await primary.command('SCRIPT', 'LOAD', FENCED_BODY))
  await primary.command('FUNCTION', 'LOAD', LIBRARY)
  const ways: readonly (readonly [string, Way])[] = [
    ['XADD', (position, bytes) => ['xadd', KEY, `1-${position}`, 'e', bytes]],
    ['EVALSHA', (position, bytes) => ['evalsha', sha, 2, KEY, 'bench:{m:0}:meta', 1, position, bytes]],
    ['FCALL', (position, bytes) => ['fcall', 'append', 2, KEY, 'bench:{m:0}:meta', 1, position, bytes]],
  ]
  process.stdout.write(styleText('bold', `${'way'.padEnd(26)} batch    Node   Redis replica  messages\n`))
  for (const replicas of [0, 1]) {
    if (replicas === 0) await replica.command('REPLICAOF', 'NO', 'ONE')
    else {
      await replica.command('REPLICAOF', '127.0.0.1', primary.port)
      await primary.replicasInStep(1)
    }
    const servers = replicas === 0 ? [primary] : [primary, replica]
    const suffix = replicas === 0 ? '' : ' + WAIT 1'
    for (const batch of BATCHES) {
      const costs = new Map<string, Cost[]>()
      const add = (name: string, cost: Cost): void => void costs.set(name, [...(costs.get(name) ?? []), cost])
      for (let round = 0; round < ROUNDS; round++) {
        for (const [name, way] of ways) add(name, await measureWay(servers, way, batch, replicas))
        add('the store', await measureStore(servers, batch, replicas))
      }
      for (const [name, measured] of costs) print(name + suffix, batch, cheapest(measured))
    }
  }
} finally {
  await primary.dispose()
  await replica.dispose()
}
