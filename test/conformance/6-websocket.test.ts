import { request } from 'node:http'
import { describe, expect, test } from 'vitest'
import WebSocket, { createWebSocketStream } from 'ws'
import { hasWebSocket, unique, useBroker } from './broker.ts'
import { u8 } from './bytes.ts'
import { connect, PINGREQ, publish } from './packets.ts'
import { RawClient } from './raw-client.ts'
import { payloads } from './scenes.ts'

const broker = useBroker()

async function openSocket(protocols: string[] = ['mqtt'], path = '/mqtt'): Promise<WebSocket> {
  const socket = new WebSocket(`ws://${broker.host}:${broker.wsPort}${path}`, protocols)
  await new Promise<void>((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return socket
}

async function openClient(): Promise<{ socket: WebSocket; client: RawClient }> {
  const socket = await openSocket()
  return { socket, client: broker.adopt(new RawClient(createWebSocketStream(socket))) }
}

function closed(socket: WebSocket): Promise<void> {
  return new Promise(resolve => socket.once('close', () => resolve()))
}

describe.skipIf(!hasWebSocket)('6 WebSocket', () => {
  test('[MQTT-6.0.0-1] the broker sends binary frames, and a text frame ends the connection', async () => {
    const { socket, client } = await openClient()
    const kinds = new Set<boolean>()
    socket.on('message', (_, isBinary) => kinds.add(isBinary))
    await client.connect({ clientId: unique('w') })
    await client.ping()
    expect([...kinds]).toEqual([true])
    const end = closed(socket)
    socket.send(PINGREQ.toString('latin1'), { binary: false })
    await end
  })

  test('[MQTT-6.0.0-1] a text frame before CONNECT ends the connection', async () => {
    const socket = await openSocket()
    const end = closed(socket)
    socket.send('hello')
    await end
  })

  test('[MQTT-6.0.0-2] a packet may span frames and a frame hold several packets', async () => {
    const { socket, client } = await openClient()
    for (const byte of connect({ clientId: unique('w') })) socket.send(u8(byte))
    expect((await client.expect('connack')).reason).toBe(0)
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 1 })
    const bytes = Buffer.concat([1, 2, 3].map(packetId => publish({ topic, payload: `${packetId}`, qos: 1, packetId })))
    socket.send(bytes.subarray(0, 20))
    socket.send(Buffer.alloc(0))
    socket.send(bytes.subarray(20))
    expect(await payloads(client, 3)).toEqual(['1', '2', '3'])
  })

  test('[MQTT-6.0.0-2] a fragmented WebSocket message is put together', async () => {
    const { socket, client } = await openClient()
    await client.connect({ clientId: unique('w') })
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 1 })
    const bytes = publish({ topic, payload: 'in three frames', qos: 1, packetId: 1 })
    socket.send(bytes.subarray(0, 3), { fin: false })
    socket.send(bytes.subarray(3, 9), { fin: false })
    socket.send(bytes.subarray(9), { fin: true })
    expect(await payloads(client, 1)).toEqual(['in three frames'])
  })

  test('[MQTT-6.0.0-3] without a sub-protocol of MQTT the upgrade is refused', async () => {
    for (const protocols of [[], ['chat'], ['MQTT']]) await expect(openSocket(protocols)).rejects.toThrow()
  })

  test('[MQTT-6.0.0-4] the broker selects the sub-protocol mqtt', async () => {
    expect((await openSocket(['mqtt'])).protocol).toBe('mqtt')
    expect((await openSocket(['chat', 'mqtt'])).protocol).toBe('mqtt')
  })

  test('§6 the path does not matter and mqttv3.1 is known', async () => {
    for (const path of ['/', '/mqtt', '/any/where?x=1']) (await openSocket(['mqtt'], path)).close()
    expect((await openSocket(['mqttv3.1'])).protocol).toBe('mqttv3.1')
  })

  test('§6 WebSocket pings are answered and a large message arrives whole', async () => {
    const { socket, client } = await openClient()
    await client.connect({ clientId: unique('w') })
    const pong = new Promise(resolve => socket.once('pong', resolve))
    socket.ping()
    await pong
    const topic = unique('t')
    await client.subscribe({ filter: topic, qos: 2 })
    const payload = Buffer.alloc(300_000, 'abc')
    await client.publish({ topic, payload, qos: 2 })
    expect((await client.receive()).payload.equals(payload)).toBe(true)
  })

  test('§6 a client over TCP and one over WebSocket exchange messages', async () => {
    const { client } = await openClient()
    await client.connect({ clientId: unique('w') })
    const tcp = await broker.connect()
    const topic = unique('t')
    await Promise.all([client.subscribe({ filter: `${topic}/tcp`, qos: 1 }), tcp.subscribe({ filter: `${topic}/ws`, qos: 1 })])
    await client.publish({ topic: `${topic}/ws`, payload: 'from ws', qos: 1 })
    await tcp.publish({ topic: `${topic}/tcp`, payload: 'from tcp', qos: 1 })
    expect([...(await payloads(tcp, 1)), ...(await payloads(client, 1))]).toEqual(['from ws', 'from tcp'])
  })

  test('§6 closing the WebSocket publishes the Will; plain HTTP is answered without harm', async () => {
    const { socket, client } = await openClient()
    const watcher = await broker.connect()
    const topic = unique('t')
    await watcher.subscribe({ filter: topic, qos: 1 })
    await client.connect({ clientId: unique('w'), will: { topic, payload: 'gone', qos: 1 } })
    socket.close()
    expect(await payloads(watcher, 1)).toEqual(['gone'])
    const status = await new Promise<number | undefined>((resolve, reject) => {
      request({ host: broker.host, port: broker.wsPort, path: '/' }, response => resolve(response.resume().statusCode))
        .once('error', reject)
        .end()
    })
    expect(status).toBeGreaterThanOrEqual(400)
    await broker.stillServes()
  })
})
