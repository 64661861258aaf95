import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { auth, connect } from './packets.ts'
import { expectConnectRefused } from './scenes.ts'

const broker = useBroker()

/** The one Authentication Method that a port without authentication lets pass. */
const IGNORED_METHOD = { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from('token') }

describe('4.12 enhanced authentication on a port without authentication', () => {
  test('[MQTT-4.12.0-1] an Authentication Method that is not supported gets 0x8C or 0x87 and the end of the connection', async () => {
    for (const authenticationMethod of ['SCRAM-SHA-1', 'GS2-KRB5', '', 'x'.repeat(1_000)]) {
      await expectConnectRefused(broker, connect({ clientId: unique('c'), properties: { authenticationMethod } }), 0x8c, 0x87)
    }
  })

  test('[MQTT-4.12.0-2] no AUTH but one of 0x18 comes before CONNACK', async () => {
    for (const authenticationMethod of ['SCRAM-SHA-256', 'K8S-SAT']) {
      const client = await broker.open()
      client.send(connect({ clientId: unique('c'), properties: { authenticationMethod } }))
      for (let packet = await client.next(); packet !== 'closed' && packet.type !== 'connack'; packet = await client.next()) {
        expect(packet).toMatchObject({ type: 'auth', reason: 0x18 })
      }
    }
  })

  test('[MQTT-4.12.0-4] [MQTT-4.13.2-1] a refused authentication ends with CONNACK of 0x80 or more and the end of the connection', async () => {
    const client = await broker.open()
    client.send(
      connect({ clientId: unique('c'), properties: { authenticationMethod: 'NO-SUCH-METHOD', authenticationData: Buffer.from('x') } }),
    )
    expect((await client.expectRefused(0x8c, 0x87)).reason).toBeGreaterThanOrEqual(0x80)
  })

  test.skipIf(external)('[MQTT-4.12.0-5] a successful CONNACK names the Authentication Method of CONNECT', async () => {
    const client = await broker.connect({ properties: IGNORED_METHOD })
    expect(client.connack.properties.authenticationMethod).toBe('K8S-SAT')
  })

  test('[MQTT-4.12.0-6] without Authentication Method in CONNECT there is none in CONNACK and no AUTH', async () => {
    const client = await broker.connect({ userName: 'user', password: 'password' })
    expect(client.connack.properties.authenticationMethod).toBeUndefined()
    expect(client.connack.properties.authenticationData).toBeUndefined()
    await client.expectNothing()
  })

  test('[MQTT-4.12.0-7] AUTH from a client without Authentication Method is a Protocol Error', async () => {
    const client = await broker.connect()
    client.send(auth(0x19, IGNORED_METHOD))
    await client.expectDisconnect(0x82)
  })

  test.skipIf(external)('[MQTT-4.12.1-1] re-authentication with another Authentication Method ends the connection', async () => {
    const client = await broker.connect({ properties: IGNORED_METHOD })
    client.send(auth(0x19, { authenticationMethod: 'OTHER' }))
    await client.expectDisconnect(0x82, 0x87, 0x8c)
  })

  test.skipIf(external)('[MQTT-4.12.1-2] a re-authentication succeeds, or ends with DISCONNECT and the end of the connection', async () => {
    const client = await broker.connect({ properties: IGNORED_METHOD })
    client.send(auth(0x19, IGNORED_METHOD))
    const answer = await client.next()
    if (answer === 'closed') throw new Error('closed without DISCONNECT')
    if (answer.type === 'auth') expect(answer).toMatchObject({ reason: 0, properties: { authenticationMethod: 'K8S-SAT' } })
    else {
      expect(answer.type === 'disconnect' && answer.reason).toBeGreaterThanOrEqual(0x80)
      await client.expectClosed()
    }
  })
})
