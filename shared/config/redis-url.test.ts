import { expect, test } from 'vitest'
import { parseRedisUrl, type RedisUrl, redisUrlText } from './redis-url.ts'
import { Refusal } from './setting.ts'

const parsed = (given: string): RedisUrl => {
  const url = parseRedisUrl(given)
  if (url instanceof Refusal) throw new Error(url.message)
  return url
}
const refusal = (given: string): string => {
  const url = parseRedisUrl(given)
  return url instanceof Refusal ? url.message.split(';')[0]! : 'accepted'
}

test('one server, with everything and with nothing', () => {
  expect(parsed('redis://localhost')).toEqual({
    kind: 'standalone',
    addresses: [{ host: 'localhost', port: 6379 }],
    isTls: false,
    username: '',
    password: '',
    database: 0,
    masterName: '',
    sentinelUsername: '',
    sentinelPassword: '',
  })
  expect(parsed('rediss://milla:p%40ss:w@rd@[::1]:7000/3')).toMatchObject({
    addresses: [{ host: '::1', port: 7000 }],
    isTls: true,
    username: 'milla',
    password: 'p@ss:w@rd',
    database: 3,
  })
  expect(parsed('redis://:secret@redis.example')).toMatchObject({ username: '', password: 'secret' })
})

test('Sentinels and nodes of a cluster', () => {
  expect(parsed('redis+sentinel://:a@one,two:5000/mymaster/2?sentinelPassword=b%26c')).toMatchObject({
    kind: 'sentinel',
    addresses: [
      { host: 'one', port: 26_379 },
      { host: 'two', port: 5000 },
    ],
    masterName: 'mymaster',
    database: 2,
    password: 'a',
    sentinelPassword: 'b&c',
  })
  expect(parsed('rediss+cluster://10.0.0.1,10.0.0.2:7001')).toMatchObject({ kind: 'cluster', isTls: true, database: 0 })
})

test.each([
  ['http://host', 'does not start with redis:// or rediss://'],
  ['redis://', '"" is not host or host:port'],
  ['redis://host:99999', '"host:99999" is not host or host:port'],
  ['redis://one,two', 'more than one host, which redis+sentinel:// and redis+cluster:// take'],
  ['redis://host/x', '"/x" is not a database number'],
  ['redis://user@host', 'a user without a password'],
  ['redis://:%zz@host', 'the user or password has a % that is not followed by two hex digits'],
  ['redis+sentinel://host', 'the name of the primary is missing: redis+sentinel://host1,host2/master-name'],
  ['redis+cluster://host/1', 'Redis Cluster has database 0 only'],
  ['redis://host?tls=1', 'unknown parameter "tls"'],
  ['redis://host?sentinelPassword=x', 'sentinelUsername and sentinelPassword go with redis+sentinel://'],
])('%s is refused: %s', (given, why) => {
  expect(refusal(given)).toBe(why)
})

test('what is printed holds no secret', () => {
  expect(redisUrlText(parsed('rediss+sentinel://u:secret@one,two/primary/2?sentinelPassword=hidden'))).toBe(
    'rediss+sentinel://one:26379,two:26379/primary/2',
  )
  expect(redisUrlText(parsed('redis://u:secret@[::1]:1/4'))).toBe('redis://[::1]:1/4')
})
