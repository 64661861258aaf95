import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import { parseRedisUrl, type RedisUrl } from '#shared/config/redis-url.ts'
import { Refusal } from '#shared/config/setting.ts'
import { type RedisServer, startRedis, until } from '#shared/testing/redis-server.ts'
import { ClusterSecret, secretOfKey } from './cluster-secret.ts'

let redis: RedisServer
let nextCluster = 0

beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.dispose())

function urlOf(text: string): RedisUrl {
  const url = parseRedisUrl(text)
  if (url instanceof Refusal) throw new Error(url.message)
  return url
}

function cluster(): string {
  return `c${nextCluster++}`
}

interface Opened {
  readonly secret: ClusterSecret
  /** All that it had, in hexadecimal. */
  readonly had: readonly string[]
}

async function open(clusterName: string, timers = new ManualTimers()): Promise<Opened> {
  const had: string[] = []
  const secret = new ClusterSecret({
    url: urlOf(redis.url),
    clusterName,
    timers,
    onSecret: found => had.push(Buffer.from(found).toString('hex')),
  })
  onTestFinished(() => secret.close())
  secret.start()
  await until(() => had.length > 0, 'there is a secret')
  return { secret, had }
}

test('all processes of a cluster have one and the same, those of another cluster another', async () => {
  const [one, other] = [cluster(), cluster()]
  const all = await Promise.all([open(one), open(one), open(one), open(other)])
  const [a, b, c, d] = all.map(({ had }) => had)
  expect([b, c]).toEqual([a, a])
  expect(a![0]).toMatch(/^[0-9a-f]{64}$/)
  expect(d).not.toEqual(a)
  expect(all.map(({ secret }) => secret.waitingFor)).toEqual([null, null, null, null])
})

test('a Redis that forgot it is given it back; another one that is there meanwhile is taken', async () => {
  const name = cluster()
  const key = `millrace:${name}:{secret}`
  const timers = new ManualTimers()
  const { had } = await open(name, timers)
  await redis.command('DEL', key)
  timers.advance(30_000)
  await until(async () => (await redis.command('GET', key)) === had[0], 'it is there again')
  const another = 'ab'.repeat(32)
  await redis.command('SET', key, another)
  await until(() => {
    timers.advance(30_000)
    return had.length > 1
  }, 'the other one is taken')
  expect(had.slice(1)).toEqual([another])
})

test('what is no secret is not taken for one', async () => {
  const name = cluster()
  const key = `millrace:${name}:{secret}`
  await redis.command('SET', key, 'something else')
  const timers = new ManualTimers()
  const had: Uint8Array[] = []
  const secret = new ClusterSecret({ url: urlOf(redis.url), clusterName: name, timers, onSecret: found => had.push(found) })
  onTestFinished(() => secret.close())
  secret.start()
  await until(() => timers.pendingCount > 0 && secret.waitingFor === 'asking Redis', 'it was refused')
  expect(had).toEqual([])
  await redis.command('DEL', key)
  await until(() => {
    timers.advance(1_000)
    return had.length > 0
  }, 'there is a secret')
})

test('without Redis it says so, asks again, and has one as soon as Redis answers', async () => {
  const later = await startRedis()
  onTestFinished(() => later.dispose())
  await later.kill()
  const timers = new ManualTimers()
  const had: Uint8Array[] = []
  const secret = new ClusterSecret({ url: urlOf(later.url), clusterName: cluster(), timers, onSecret: found => had.push(found) })
  onTestFinished(() => secret.close())
  secret.start()
  await until(() => secret.waitingFor?.includes(String(later.port)) === true, 'it says that Redis is away')
  await later.start()
  await until(() => {
    timers.advance(1_000)
    return had.length > 0
  }, 'there is a secret')
  expect(secret.waitingFor).toBeNull()
})

test('with a cluster key it follows from that and the name of the cluster', () => {
  const key = 'k'.repeat(32)
  expect(secretOfKey(key, 'one')).toEqual(secretOfKey(key, 'one'))
  expect(secretOfKey(key, 'two')).not.toEqual(secretOfKey(key, 'one'))
  expect(secretOfKey('x'.repeat(32), 'one')).not.toEqual(secretOfKey(key, 'one'))
  expect(secretOfKey(key, 'one')).toHaveLength(32)
})
