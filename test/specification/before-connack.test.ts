import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { makeScramKey } from '../../authsvc/credentials/scram-key.ts'
import { CertificateLab } from '#shared/testing/certificates.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { ScramExchange } from '../clients/scram.ts'
import { auth, connect, disconnect, publish } from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { configMap, ConfiguredBroker, HOST, resource, secret, serverCertificate } from './configured-broker.ts'

const PASSWORD = 'open sesame'
const PROTOCOL_ERROR = 0x82
const NOT_AUTHORIZED = 0x87
const BAD_METHOD = 0x8c

const lab = new CertificateLab()
const authority = lab.authority('/CN=site CA')
const [scramPort, customPort, openPort] = (await freePorts(3)) as [number, number, number]
let configured: ConfiguredBroker
let custom: CustomServer
/** Sees everything that is published. */
let watcher: RawClient

beforeAll(async () => {
  const server = serverCertificate(lab, authority)
  custom = await CustomServer.start({ tls: { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) } })
  const listener = {
    ports: [
      { port: scramPort, host: HOST, authenticationRef: 'scram' },
      { port: customPort, host: HOST, authenticationRef: 'server' },
      { port: openPort, host: HOST },
    ],
  }
  const users = JSON.stringify([{ name: 'alice', scram: [makeScramKey('SCRAM-SHA-256', PASSWORD)] }])
  const byServer = { method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'server-ca' } }
  configured = await ConfiguredBroker.start({
    listener: [resource('BrokerListener', 'plant', listener)],
    who: [
      resource('BrokerAuthentication', 'scram', { authenticationMethods: [{ method: 'Scram', scramSettings: { secretRef: 'users' } }] }),
      resource('BrokerAuthentication', 'server', { authenticationMethods: [byServer] }),
      secret('users', { list: users }),
      configMap('server-ca', { any: authority.certificate }),
    ],
  })
  watcher = await configured.broker.connect({ clientId: 'watcher' })
  await watcher.subscribe({ filter: '#' })
})

beforeEach(() => {
  custom.requests.length = 0
})

afterAll(async () => {
  await custom.close()
  lab.close()
})

/** A client that has sent the first message of its exchange and has got a challenge. */
async function challenged(): Promise<{ client: RawClient; final: Buffer }> {
  const exchange = new ScramExchange('alice', PASSWORD)
  const client = await configured.open(scramPort)
  client.sendConnect({ clientId: 'alice', properties: exchange.first })
  return { client, final: await exchange.challenged(client) }
}

describe('while the custom server is asked', () => {
  test('PUBLISH behind CONNECT waits for CONNACK, and is lost with a refusal', async () => {
    for (const version of [5, 4] as const) {
      custom.behave = () => ({ is: 'hold' })
      const accepted = await configured.open(customPort, version)
      accepted.sendConnect({ clientId: 'early' })
      accepted.send(publish({ topic: 'early', payload: 'accepted', qos: 1, packetId: 1 }, version))
      await custom.received(1)
      custom.release()
      expect((await accepted.expect('connack')).reason).toBe(0)
      await accepted.expect('puback')
      expect((await watcher.receive()).payload.toString()).toBe('accepted')
      custom.behave = () => ({ is: 'answer', status: 403, body: { reason: NOT_AUTHORIZED } })
      const refused = await configured.open(customPort, version)
      refused.send(connect({ clientId: 'early', version }), publish({ topic: 'early', payload: 'refused', qos: 1, packetId: 1 }, version))
      await refused.expectRefused(version === 5 ? NOT_AUTHORIZED : 5)
      await watcher.expectNothing()
      custom.requests.length = 0
    }
  })

  test('a client that leaves is not connected by the answer that comes then', async () => {
    custom.behave = () => ({ is: 'hold' })
    const client = await configured.open(customPort)
    client.sendConnect({ clientId: 'impatient', will: { topic: 'will', payload: 'no' } })
    await custom.received(1)
    const before = await configured.broker.metric('millrace_connections')
    client.drop()
    await expect.poll(() => configured.broker.metric('millrace_connections')).toBeLessThan(before)
    custom.release()
    custom.behave = () => ({ is: 'answer', status: 200, body: {} })
    const back = await (await configured.open(customPort)).connect({ clientId: 'impatient', cleanStart: false })
    expect(back.connack.sessionPresent).toBe(false)
    await watcher.expectNothing()
  })
})

describe('reasons of a custom server', () => {
  test.each([
    [0, NOT_AUTHORIZED, 5],
    [5, NOT_AUTHORIZED, 5],
    [0x84, 0x84, 1],
    [0x85, 0x85, 2],
    [0x86, 0x86, 4],
    [0x88, 0x88, 3],
    [0x89, 0x89, 3],
    [0x8a, 0x8a, 5],
    [0x91, NOT_AUTHORIZED, 5],
  ])('%i: CONNACK %i, before MQTT 5 %i', async (reason, code, code311) => {
    custom.behave = () => ({ is: 'answer', status: 403, body: { reason, message: 'for the log' } })
    for (const [version, expected] of [
      [5, code],
      [4, code311],
    ] as const) {
      const client = await configured.open(customPort, version)
      client.sendConnect({ clientId: 'refused' })
      expect(JSON.stringify((await client.expectRefused(expected)).properties)).not.toContain('for the log')
    }
    expect(configured.broker.err).toContain('for the log')
  })
})

describe('AUTH out of turn', () => {
  const method = 'SCRAM-SHA-256'

  test('instead of CONNECT: the end, without an answer', async () => {
    const client = await configured.open(scramPort)
    client.send(auth(0x18, { authenticationMethod: method }))
    await client.expectClosed()
  })

  test('PUBLISH in place of the answer to a challenge: CONNACK 0x82, and nothing is published', async () => {
    const { client } = await challenged()
    client.send(publish({ topic: 'early', payload: 'never' }))
    await client.expectRefused(PROTOCOL_ERROR)
    await watcher.expectNothing()
  })

  test('AUTH 0x19 or 0x00 in place of the answer: CONNACK 0x82', async () => {
    for (const reason of [0x19, 0x00]) {
      const { client } = await challenged()
      client.send(auth(reason, { authenticationMethod: method }))
      await client.expectRefused(PROTOCOL_ERROR)
    }
  })

  test('an answer with another method: CONNACK 0x8C or 0x82', async () => {
    const { client } = await challenged()
    client.send(auth(0x18, { authenticationMethod: 'OTHER' }))
    await client.expectRefused(BAD_METHOD, PROTOCOL_ERROR)
  })

  test('DISCONNECT in place of the answer: the end', async () => {
    const { client } = await challenged()
    client.send(disconnect(0))
    await client.expectClosed()
  })

  test('the exchange to its end: CONNACK with the last words of the server and the method; then a second one with AUTH 0x19', async () => {
    const { client, final } = await challenged()
    client.send(final)
    const { reason, properties } = await client.expect('connack')
    expect([reason, properties.authenticationMethod]).toEqual([0, method])
    expect(properties.authenticationData?.toString()).toMatch(/^v=/)
    const again = new ScramExchange('alice', PASSWORD)
    client.send(auth(0x19, again.first))
    client.send(await again.challenged(client))
    const done = await client.take('auth')
    expect([done.reason, done.properties.authenticationData?.toString().slice(0, 2)]).toEqual([0, 'v='])
    client.send(auth(0x18, { authenticationMethod: method }))
    await client.expectDisconnect(PROTOCOL_ERROR)
  })

  test('re-authentication with another method: DISCONNECT 0x82', async () => {
    const { client, final } = await challenged()
    client.send(final)
    await client.expect('connack')
    client.send(auth(0x19, { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from('token') }))
    await client.expectDisconnect(PROTOCOL_ERROR)
  })

  test('data without a method in CONNECT: 0x82', async () => {
    const client = await configured.open(scramPort)
    client.sendConnect({ clientId: 'alice', properties: { authenticationData: Buffer.from('data') } })
    await client.expectRefused(PROTOCOL_ERROR)
  })
})

describe('a port without authenticationRef', () => {
  test('lets everybody in, whatever it shows', async () => {
    for (const version of [5, 4] as const) {
      const client = await configured.open(openPort, version)
      await client.connect({ clientId: 'anybody', userName: 'alice', password: 'guess' })
      expect((await client.publish({ topic: 'open', qos: 1 }))!.reason).toBe(0)
      await watcher.receive()
    }
  })

  test('passes over K8S-SAT, and refuses any other Authentication Method with 0x8C', async () => {
    const properties = { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from('no token') }
    await (await configured.open(openPort)).connect({ clientId: 'sdk', properties })
    const client = await configured.open(openPort)
    client.sendConnect({ clientId: 'other', properties: { authenticationMethod: 'SCRAM-SHA-256' } })
    await client.expectRefused(BAD_METHOD)
  })
})
