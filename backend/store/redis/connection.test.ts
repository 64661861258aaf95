import { createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { systemTimers } from '#shared/base/timers.ts'
import { openRedisNode } from '#shared/cluster/redis-connection.ts'
import { Connection, type Confirmation } from './connection.ts'
import { urlOf } from './redis-rig.contract.ts'

const ending: (() => void)[] = []
afterEach(() => {
  for (const end of ending.splice(0)) end()
})

/** A server that knows names only: it answers each command with what `answers` has next for its name. */
async function scripted(
  answers: Readonly<Record<string, string[]>>,
  confirmation: Confirmation,
): Promise<{ connection: Connection; seen: string[] }> {
  const seen: string[] = []
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', data => {
      for (const [name] of data.toString().matchAll(/hello|xadd|waitaof|wait|get/g)) {
        seen.push(name)
        socket.write(answers[name]?.shift() ?? '+OK\r\n')
      }
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const redis = openRedisNode({ host: '127.0.0.1', port }, urlOf(`redis://127.0.0.1:${port}`), { onError: () => {} })
  await redis.connect()
  const connection = new Connection(redis, systemTimers, { onClosed: () => {}, onWaiting: isWaiting => seen.push(`waiting ${isWaiting}`) })
  connection.confirmWith(confirmation)
  ending.push(
    () => connection.close(new Error('done')),
    () => server.close(),
  )
  return { connection, seen }
}

test('WAIT is repeated until enough replicas have the write; other commands get their turn between', async () => {
  const { connection, seen } = await scripted({ wait: [':0\r\n', ':1\r\n', ':2\r\n'] }, { replicas: 2, isOnDisk: false })
  const written = connection.write(['xadd', 'key'])
  await connection.call('get', 'a')
  expect(String(await written)).toBe('OK')
  expect(seen.filter(name => name !== 'get')).toEqual(['hello', 'xadd', 'wait', 'waiting true', 'wait', 'wait', 'waiting false'])
})

test('WAITAOF wants this server and the replicas', async () => {
  const { connection, seen } = await scripted(
    { waitaof: ['*2\r\n:0\r\n:1\r\n', '*2\r\n:1\r\n:0\r\n', '*2\r\n:1\r\n:1\r\n'] },
    { replicas: 1, isOnDisk: true },
  )
  await connection.write(['xadd', 'key'])
  expect(seen).toEqual(['hello', 'xadd', 'waitaof', 'waiting true', 'waitaof', 'waitaof', 'waiting false'])
})

test('writes that come while two rounds are under way share the next WAIT', async () => {
  const { connection, seen } = await scripted({ wait: Array.from({ length: 9 }, () => ':1\r\n') }, { replicas: 1, isOnDisk: false })
  await Promise.all(Array.from({ length: 5 }, () => connection.write(['xadd', 'key'])))
  expect(seen.slice(1)).toEqual(['xadd', 'wait', 'xadd', 'wait', 'xadd', 'xadd', 'xadd', 'wait'])
})

test('a server that cannot confirm any more is left; what it was sent has an unknown outcome', async () => {
  const { connection } = await scripted(
    { wait: ['-UNBLOCKED force unblock from blocking operation, instance state changed\r\n'] },
    { replicas: 1, isOnDisk: false },
  )
  await expect(connection.write(['xadd', 'key'])).rejects.toThrow('closed')
  expect(connection.isClosed).toBe(true)
})

test('an error does not carry the command, which may hold a password or a payload', async () => {
  const { connection } = await scripted({ xadd: ['-OOM full\r\n'] }, { replicas: 0, isOnDisk: false })
  const error: unknown = await connection.write(['xadd', 'secret']).catch((refused: unknown) => refused)
  expect(error).toMatchObject({ message: 'OOM full' })
  expect(Object.keys(error as Error)).not.toContain('command')
})
