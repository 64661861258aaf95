import { beforeAll, expect, test } from 'vitest'
import { freePorts } from '#shared/testing/free-ports.ts'
import { ConfiguredBroker, HOST, resource } from './configured-broker.ts'

const NEVER = 0xffff_ffff
const [port] = (await freePorts(1)) as [number]
let configured: ConfiguredBroker

function broker(changed: object, level: string): readonly object[] {
  const clients = {
    maxSessionExpirySeconds: 1,
    maxMessageExpirySeconds: 600,
    maxPacketSizeBytes: 4_096,
    maxReceiveMaximum: 2,
    maxKeepAliveSeconds: 30,
    ...changed,
  }
  return [resource('Broker', 'default', { memoryProfile: 'Tiny', advanced: { clients }, diagnostics: { logs: { level } } })]
}

beforeAll(async () => {
  const listener = [resource('BrokerListener', 'plant', { ports: [{ port, host: HOST }] })]
  configured = await ConfiguredBroker.start({ broker: broker({}, 'info'), listener }, {}, [])
})

test('ceilings of Broker.advanced.clients are what CONNACK says, and hold', async () => {
  const client = await configured.open(port)
  await client.connect({ clientId: 'told', keepAlive: 600, properties: { sessionExpiryInterval: NEVER, receiveMaximum: 100 } })
  expect(client.connack.properties).toMatchObject({ sessionExpiryInterval: 1, maximumPacketSize: 4_096, serverKeepAlive: 30 })
  await client.subscribe({ filter: 'told', qos: 1 })
  const publisher = await configured.open(port)
  await publisher.connect({ clientId: 'publisher' })
  for (const messageExpiryInterval of [undefined, 5, 86_400])
    await publisher.publish({ topic: 'told', qos: 1, properties: messageExpiryInterval === undefined ? {} : { messageExpiryInterval } })
  const first = await client.take('publish')
  const second = await client.take('publish')
  // Two are in flight: the third waits for an acknowledgement.
  await client.expectNothing()
  for (const packet of [first, second]) await client.acknowledge(packet)
  const third = await client.receive()
  expect([first, second, third].map(({ properties }) => properties.messageExpiryInterval)).toEqual([600, 5, 600])
  await publisher.publish({ topic: 'kept', payload: 'kept', qos: 1, retain: true })
  await client.subscribe({ filter: 'kept' })
  expect((await client.receive()).properties.messageExpiryInterval).toBeGreaterThan(590)
  publisher.send(Buffer.concat([Buffer.from([0x30, 0x81, 0x20]), Buffer.alloc(4_097)]))
  await publisher.expectDisconnect(0x95)
  await client.disconnect()
})

test('a session of MQTT 3.1.1 with Clean Session 0 lives as long as the ceiling says, one with Clean Session 1 not at all', async () => {
  for (const cleanStart of [true, false]) {
    const client = await configured.open(port, 4)
    await client.connect({ clientId: `older-${cleanStart}`, cleanStart })
    await client.disconnect()
  }
  expect(await configured.broker.metric('aio_broker_store_total_sessions')).toBeGreaterThan(0)
  await expect.poll(() => configured.broker.metric('aio_broker_store_total_sessions'), { timeout: 10_000 }).toBe(0)
  const back = await configured.open(port, 4)
  await back.connect({ clientId: 'older-false', cleanStart: false })
  expect(back.connack.sessionPresent).toBe(false)
})

test('ceilings and the level of the log change while it runs; who is connected stays', async () => {
  const stays = await (await configured.open(port)).connect({ clientId: 'stays' })
  expect(configured.broker.err).not.toContain('"event":"connected"')
  await configured.change({ broker: broker({ maxKeepAliveSeconds: 20 }, 'debug') })
  const client = await (await configured.open(port)).connect({ clientId: 'later', keepAlive: 600 })
  expect(client.connack.properties.serverKeepAlive).toBe(20)
  await expect.poll(() => configured.broker.err).toContain('"event":"connected"')
  await stays.expectNothing()
})
