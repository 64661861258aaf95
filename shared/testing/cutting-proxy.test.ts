import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CuttingProxy, PASSING } from './cutting-proxy.ts'

let server: Server
let proxy: CuttingProxy
let accepted: Socket[] = []
const clients: Socket[] = []

beforeEach(async () => {
  accepted = []
  server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined)
    accepted.push(socket)
    server.emit('accepted')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  proxy = await CuttingProxy.open({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
})

afterEach(async () => {
  await proxy.close()
  for (const socket of [...clients.splice(0), ...accepted]) socket.destroy()
  await new Promise(resolve => server.close(resolve))
})

/** Both ends of a connection through the proxy. */
async function pair(): Promise<{ client: Socket; far: Socket }> {
  const known = accepted.length
  const client = connect({ host: '127.0.0.1', port: proxy.port, allowHalfOpen: true })
  client.on('error', () => undefined)
  clients.push(client)
  while (accepted.length === known) await once(server, 'accepted')
  return { client, far: accepted[known]! }
}

/** True: by an error. `events.once` would throw that instead. */
function closed(socket: Socket): Promise<boolean> {
  return new Promise(resolve => socket.once('close', resolve))
}

async function received(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for (let count = 0; count < bytes; ) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    chunks.push(chunk)
    count += chunk.length
  }
  return Buffer.concat(chunks)
}

test('passes bytes in both directions, and the end of the stream', async () => {
  const { client, far } = await pair()
  client.write('ping')
  expect(String(await received(far, 4))).toBe('ping')
  far.write('pong')
  expect(String(await received(client, 4))).toBe('pong')
  const big = Buffer.alloc(8 * 1024 * 1024, 'x')
  client.end(big)
  const ended = once(far, 'end')
  expect((await received(far, big.length)).equals(big)).toBe(true)
  await ended
  far.end('bye')
  expect(String(await received(client, 3))).toBe('bye')
})

test('cut: both ends get RST; new connections are accepted', async () => {
  const { client, far } = await pair()
  const errors = Promise.all([client, far].map(closed))
  client.resume()
  far.resume()
  proxy.cut()
  expect(await errors).toEqual([true, true])
  const again = await pair()
  again.client.write('x')
  expect(String(await received(again.far, 1))).toBe('x')
})

test('cut of one connection leaves the others alone', async () => {
  const [one, two] = [await pair(), await pair()]
  one.client.resume()
  proxy.connections[0]!.cut()
  await closed(one.client)
  two.client.write('x')
  expect(String(await received(two.far, 1))).toBe('x')
  expect(proxy.connections).toHaveLength(1)
})

test('half-open in one direction: nothing arrives there, nobody is told; what was held comes in order afterwards', async () => {
  const { client, far } = await pair()
  proxy.flow({ is: 'halfOpen', stopped: ['toServer'] })
  let isArrived = false
  far.once('data', () => (isArrived = true))
  client.write('held ')
  far.write('free')
  expect(String(await received(client, 4))).toBe('free')
  client.end('and ended')
  far.write('more')
  expect(String(await received(client, 4))).toBe('more')
  expect(isArrived).toBe(false)
  const text = received(far, 14)
  proxy.flow(PASSING)
  expect(String(await text)).toBe('held and ended')
})

test('half-open in both directions: a sender that dies is not missed until the way is free', async () => {
  const { client, far } = await pair()
  proxy.flow({ is: 'halfOpen', stopped: ['toServer', 'toClient'] })
  client.resetAndDestroy()
  await closed(client)
  const other = await CuttingProxy.open(proxy.target)
  await other.close()
  expect(far.destroyed).toBe(false)
  far.resume()
  const farClosed = closed(far)
  proxy.flow(PASSING)
  await farClosed
})

test('half-open is bounded: a sender is stopped by the kernel, not by memory of the proxy', async () => {
  const { client } = await pair()
  proxy.flow({ is: 'halfOpen', stopped: ['toServer'] })
  const big = Buffer.alloc(64 * 1024 * 1024)
  client.write(big)
  const before = process.memoryUsage().arrayBuffers
  for (let turn = 0; turn < 100; turn++) await new Promise(resolve => setImmediate(resolve))
  expect(client.writableLength).toBeGreaterThan(0)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024)
})

test('delayed bytes come later, whole and in order', async () => {
  proxy.flow({ is: 'delayed', delayMs: 30 })
  const { client, far } = await pair()
  const startMs = performance.now()
  for (let at = 0; at < 10; at++) client.write(`${at}`)
  expect(String(await received(far, 10))).toBe('0123456789')
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(29)
  const big = Buffer.alloc(4 * 1024 * 1024, 'y')
  client.end(big)
  expect((await received(far, big.length)).equals(big)).toBe(true)
})

test('refuse: the kernel refuses new connections, old ones go on; accept takes them again on the same port', async () => {
  const { client, far } = await pair()
  const { port } = proxy
  await proxy.refuse()
  const refused = connect({ host: '127.0.0.1', port })
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException]
  expect(error.code).toBe('ECONNREFUSED')
  client.write('x')
  expect(String(await received(far, 1))).toBe('x')
  await proxy.accept()
  expect(proxy.port).toBe(port)
  const again = await pair()
  again.client.write('y')
  expect(String(await received(again.far, 1))).toBe('y')
})

test('a server that does not listen: the connection is reset', async () => {
  const nowhere = createServer().listen(0, '127.0.0.1')
  await once(nowhere, 'listening')
  const { port } = nowhere.address() as AddressInfo
  await new Promise(resolve => nowhere.close(resolve))
  proxy.target = { host: '127.0.0.1', port }
  const client = connect({ host: '127.0.0.1', port: proxy.port })
  client.on('error', () => undefined)
  await closed(client)
})
