import { describe, expect, test } from 'vitest'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { ScramExchange } from '../clients/scram.ts'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { PASSWORD, policies, PolicedBroker, resource, users } from './policed-broker.ts'

const ADMINISTRATIVE_ACTION = 0x98
const NOT_AUTHORIZED = 0x87
const NEVER = { sessionExpiryInterval: 0xffff_ffff }

/** `alice` publishes and subscribes; what `bob` may do changes. */
const ALICE = { publish: ['#'], subscribe: ['#'] }
const BOB_BEFORE = { publish: ['bob/#'], subscribe: ['keep/#', 'lose/#'] }
const BOB_AFTER = { publish: ['bob/now'], subscribe: ['keep/#'] }
const before = { alice: ALICE, bob: BOB_BEFORE }
const after = { alice: ALICE, bob: BOB_AFTER }

const both = ['keep/#', 'lose/#'].map(filter => ({ filter, qos: 1 }))

async function payloads(client: RawClient, count: number): Promise<readonly string[]> {
  const found: string[] = []
  while (found.length < count) found.push((await client.receive()).payload.toString())
  await client.expectNothing()
  return found
}

describe('a policy that changes, mode Disconnect', () => {
  test('sends the clients of its port away with 0x98; they come back under the new rules, their subscriptions with them', async () => {
    const policed = await PolicedBroker.start(before, { disconnectWithinSeconds: 0 })
    const bob = await policed.connect('bob', { cleanStart: false, properties: NEVER })
    expect((await bob.subscribe(both)).reasons).toEqual([1, 1])
    const bystander = await policed.broker.connect({ clientId: 'on another port' })
    await policed.change('rules.yaml', policies(after, { disconnectWithinSeconds: 0 }))
    await bob.expectDisconnect(ADMINISTRATIVE_ACTION)
    const alice = await policed.connect('alice')
    await alice.publish({ topic: 'lose/1', payload: 'withdrawn', qos: 1 })
    await alice.publish({ topic: 'keep/1', payload: 'allowed', qos: 1 })
    const back = await policed.connect('bob', { cleanStart: false, properties: NEVER })
    expect(back.connack.sessionPresent).toBe(true)
    expect(await payloads(back, 1)).toEqual(['allowed'])
    expect((await back.subscribe({ filter: 'lose/#', qos: 1 })).reasons).toEqual([NOT_AUTHORIZED])
    expect((await back.publish({ topic: 'bob/then', qos: 1 }))?.reason).toBe(NOT_AUTHORIZED)
    await bystander.expectNothing()
  })

  test('what waits for somebody who is away by a right that is gone is not delivered, the rest is', async () => {
    const policed = await PolicedBroker.start(before)
    const bob = await policed.connect('bob', { cleanStart: false, properties: NEVER })
    await bob.subscribe(both)
    await bob.disconnect()
    const alice = await policed.connect('alice')
    for (const topic of ['keep/1', 'lose/1', 'lose/2', 'keep/2']) await alice.publish({ topic, payload: topic, qos: 1 })
    await policed.change('rules.yaml', policies(after))
    const back = await policed.connect('bob', { cleanStart: false, properties: NEVER })
    expect(await payloads(back, 2)).toEqual(['keep/1', 'keep/2'])
  })

  test('a Will that its client may not publish any more is not published, others are', async () => {
    const policed = await PolicedBroker.start({ ...before, carol: { publish: ['carol/#'] } }, { disconnectWithinSeconds: 0 })
    const watcher = await policed.broker.connect({ clientId: 'watcher' })
    await watcher.subscribe({ filter: '#', qos: 1 })
    const clients = [
      await policed.connect('bob', { will: { topic: 'bob/withdrawn', payload: 'bob', qos: 1 } }),
      await policed.connect('carol', { will: { topic: 'carol/gone', payload: 'carol', qos: 1 } }),
    ]
    await policed.change('rules.yaml', policies({ ...after, carol: { publish: ['carol/#'] } }, { disconnectWithinSeconds: 0 }))
    for (const client of clients) await client.expectDisconnect(ADMINISTRATIVE_ACTION)
    expect((await watcher.receive()).payload.toString()).toBe('carol')
    await watcher.expectNothing()
    const refused = await policed.open()
    refused.sendConnect({ clientId: 'bob', userName: 'bob', password: PASSWORD, will: { topic: 'bob/withdrawn' } })
    await refused.expectRefused(NOT_AUTHORIZED)
  })

  test('a QoS 2 exchange that is half done ends as it began: the message was accepted before', async () => {
    const policed = await PolicedBroker.start(before, { disconnectWithinSeconds: 0 })
    const watcher = await policed.broker.connect({ clientId: 'watcher' })
    await watcher.subscribe({ filter: 'bob/#', qos: 2 })
    const bob = await policed.connect('bob', { cleanStart: false, properties: NEVER })
    bob.send(packets.publish({ topic: 'bob/then', payload: 'once', qos: 2, packetId: 7 }))
    expect((await bob.take('pubrec', 7)).reason).toBe(0)
    await policed.change('rules.yaml', policies(after, { disconnectWithinSeconds: 0 }))
    await bob.expectDisconnect(ADMINISTRATIVE_ACTION)
    const back = await policed.connect('bob', { cleanStart: false, properties: NEVER })
    back.send(packets.ack('pubrel', 7))
    expect((await back.take('pubcomp', 7)).reason).toBe(0)
    expect((await watcher.receive()).payload.toString()).toBe('once')
    await watcher.expectNothing()
    expect((await back.publish({ topic: 'bob/then', qos: 2 }))?.reason).toBe(NOT_AUTHORIZED)
  })
})

describe('a policy that changes, mode Reevaluate', () => {
  const options = { onUpdate: 'Reevaluate', disconnectWithinSeconds: 0 }

  test('disconnects nobody but those who may not be connected, and takes away what is not allowed any more', async () => {
    const policed = await PolicedBroker.start({ ...before, carol: ALICE }, options)
    const [alice, bob, carol] = [await policed.connect('alice'), await policed.connect('bob'), await policed.connect('carol')]
    await bob.subscribe(both)
    await policed.change('rules.yaml', policies(after, options))
    await carol.expectDisconnect(ADMINISTRATIVE_ACTION)
    expect((await bob.publish({ topic: 'bob/then', qos: 1 }))?.reason).toBe(NOT_AUTHORIZED)
    for (const topic of ['lose/1', 'keep/1']) await alice.publish({ topic, payload: topic, qos: 1 })
    expect(await payloads(bob, 1)).toEqual(['keep/1'])
    expect((await bob.publish({ topic: 'bob/now', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  })

  test('where the state store may answer is asked again, for a Response Topic that was allowed before too', async () => {
    const rules = (...subscribe: string[]) => ({ bob: { publish: [REQUEST_TOPIC], subscribe } })
    const policed = await PolicedBroker.start(rules('there', 'here'), options)
    const bob = await policed.connect('bob')
    await bob.subscribe({ filter: 'there', qos: 1 })
    const get = { topic: REQUEST_TOPIC, qos: 1, payload: '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n' }
    const asked = async (): Promise<number> => {
      const properties = { responseTopic: 'there', correlationData: Buffer.from('1') }
      return (await bob.publish({ ...get, properties }))!.reason
    }
    // Twice: the second time the verdict is remembered.
    for (let time = 0; time < 2; time++) {
      expect(await asked()).toBe(0)
      expect((await bob.receive()).payload.toString()).toBe('$-1\r\n')
    }
    await policed.change('rules.yaml', policies(rules('here'), options))
    for (let time = 0; time < 2; time++) expect(await asked()).toBe(NOT_AUTHORIZED)
    await policed.change('rules.yaml', policies(rules('there'), options))
    expect(await asked()).toBe(0)
  })

  test('while a re-authentication runs: it goes on, and the newest rules count at its end', async () => {
    const policed = await PolicedBroker.start(before, options)
    const bob = await policed.open()
    const exchange = new ScramExchange('bob', PASSWORD)
    bob.sendConnect({ clientId: 'bob', properties: exchange.first })
    bob.send(await exchange.challenged(bob))
    const { reason, properties } = await bob.take('connack')
    expect([reason, properties.authenticationData?.toString()]).toEqual([0, expect.stringMatching(/^v=/)])
    bob.send(packets.auth(0x19, exchange.first))
    const answer = await exchange.challenged(bob)
    await policed.change('rules.yaml', policies(after, options))
    bob.send(answer)
    expect((await bob.take('auth')).reason).toBe(0)
    expect((await bob.publish({ topic: 'bob/then', qos: 1 }))?.reason).toBe(NOT_AUTHORIZED)
    expect((await bob.publish({ topic: 'bob/now', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  })
})

test('an update with a fault is refused as a whole: the old rules stay, and /readyz says why until it is mended', async () => {
  const policed = await PolicedBroker.start(before)
  const impaired = async (): Promise<string> => await (await fetch(`${policed.broker.metricsUrl}/readyz`)).text()
  const bob = await policed.connect('bob')
  const broken = policies(after).replace('"Subscribe"', '"Subscrib"')
  await policed.write('listener.yaml', resource('BrokerListener', 'plant', { ports: [] }))
  await policed.write('rules.yaml', broken)
  await expect.poll(impaired, { timeout: 15_000 }).toContain('method')
  expect((await bob.publish({ topic: 'bob/then', qos: 1 }))?.reason).not.toBe(NOT_AUTHORIZED)
  await bob.expectNothing()
  const listener = { ports: [{ port: policed.port, host: '127.0.0.1', authenticationRef: 'who', authorizationRef: 'rules' }] }
  await policed.write('listener.yaml', resource('BrokerListener', 'plant', listener))
  await policed.write('rules.yaml', policies(before))
  await expect.poll(impaired, { timeout: 15_000 }).not.toContain('method')
  await bob.expectNothing()
})

test('a user whose entry goes away is disconnected, others stay', async () => {
  const policed = await PolicedBroker.start(before, { disconnectWithinSeconds: 0 })
  const [alice, bob] = [await policed.connect('alice'), await policed.connect('bob')]
  await policed.change('users.yaml', users(['alice', 'carol']))
  await bob.expectDisconnect(NOT_AUTHORIZED)
  await alice.expectNothing()
  const again = await policed.open()
  again.sendConnect({ clientId: 'bob', userName: 'bob', password: PASSWORD })
  await again.expectRefused(NOT_AUTHORIZED)
})
