import { expect, test } from 'vitest'
import { encodeSubscribe } from '#shared/mqtt/client-codec.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Surroundings, type FakeClient } from '../surroundings.contract.ts'
import { firstRefusalText, refusalText } from './refusal-text.ts'

const QOS_1_ON_TOPIC_T = Buffer.from([0x32, 6, 0, 1, 0x74, 0, 9, 0])

/** What the backend refuses a QoS 1 PUBLISH with, as this client sees it. */
async function refused(properties: { requestProblemInformation?: boolean; maximumPacketSize?: number }): Promise<unknown> {
  const world = new Surroundings()
  world.backend.onPublish = ({ connection, ticket }) => world.frontend.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
  const client = (await world.connect(5, { properties })).forget()
  client.send(QOS_1_ON_TOPIC_T)
  await world.settled()
  return client.packets[0]
}

test('a refusing PUBACK says why', async () => {
  expect(await refused({})).toMatchObject({
    cmd: 'puback',
    messageId: 9,
    reasonCode: ReasonCode.QuotaExceeded,
    properties: { reasonString: refusalText(ReasonCode.QuotaExceeded) },
  })
})

test('[MQTT-3.1.2-29] but not to a client that asked for no problem information', async () => {
  expect(await refused({ requestProblemInformation: false })).not.toHaveProperty('properties.reasonString')
})

test('[MQTT-3.4.2-2] nor when the packet would be larger than the client takes', async () => {
  const small = await refused({ maximumPacketSize: 40 })
  expect(small).toMatchObject({ cmd: 'puback', reasonCode: ReasonCode.QuotaExceeded })
  expect(small).not.toHaveProperty('properties.reasonString')
})

async function subscribed(version: ProtocolVersion): Promise<FakeClient> {
  const world = new Surroundings()
  const client = (await world.connect(version)).forget()
  client.send(encodeSubscribe(version, 3, [{ filter: 'a' }, { filter: 'a#' }]))
  const [connection] = world.frontend.connections
  world.frontend.subscribed(connection!.id, 0, [ReasonCode.Success, ReasonCode.TopicFilterInvalid])
  await world.settled()
  return client
}

test('a SUBACK names the first filter that was refused', async () => {
  const text = firstRefusalText([ReasonCode.Success, ReasonCode.TopicFilterInvalid])
  expect(text).toMatch(/^filter 2: /)
  expect((await subscribed(5)).packets[0]).toMatchObject({ cmd: 'suback', properties: { reasonString: text } })
  expect((await subscribed(4)).packets[0]).not.toHaveProperty('properties')
})

test('success has no text, and neither has what is only remarkable', () => {
  for (const reason of [ReasonCode.Success, ReasonCode.NoMatchingSubscribers, ReasonCode.NoSubscriptionExisted])
    expect(refusalText(reason)).toBeNull()
})
