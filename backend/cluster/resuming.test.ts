import { beforeEach, describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { NEVER, type ConnectOptions } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'
import { ClusterRig } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

let rig: ClusterRig

beforeEach(async () => {
  rig = await ClusterRig.open({ frontends: ['f', 'g'] })
})

async function subscriber(qos: 1 | 2, options: ConnectOptions = {}): Promise<RigClusterClient> {
  const client = await rig.frontend().connect(rig.keyIn(0, 'c'), { expirySeconds: NEVER, ...options })
  client.subscribe('x', { qos })
  await rig.settle()
  client.take()
  return client
}

function publish(payload: string, qos: 1 | 2 = 1): void {
  rig.frontend('g').publish('x', payload, { qos })
}

/** Turns end and frames go, but the store answers nothing. */
async function settleUnstored(id: string): Promise<void> {
  const backend = rig.backend(id)
  backend.store.isPrompt = false
  for (let round = 0; round < 5; round++) {
    for (const caller of ['f', 'g']) rig.linkOf(caller, id).pair.deliver()
    if (backend.turn.isRequested) rig.endTurn(backend)
    await Promise.resolve()
  }
}

/** 'a' dies and 'b' takes its shards; what the frontends are told meanwhile is delivered. */
async function failOver(): Promise<void> {
  rig.kill('a')
  await rig.takeOrphans('b')
  await rig.settle()
}

/** Nothing of the messages is left with the owner once the client has had all. */
function expectEmpty(id: string): void {
  const { engine } = rig.backend(id)
  for (const session of engine.shards[0]!.sessions.values()) {
    expect([session.outbox?.ids.inUse ?? 0, session.outbox?.inWindow ?? 0, session.outbox?.queued.length ?? 0]).toEqual([0, 0, 0])
  }
  expect(leftovers(engine)).toMatchObject({ messageBytes: 0, queuedMessages: 0 })
}

describe.each(['kill', 'move', 'cut'] as const)('after %s', how => {
  const disturb = async (): Promise<string> => {
    if (how === 'kill') await failOver()
    else if (how === 'move') await rig.move(0, 'b')
    else {
      rig.cut('f', 'a')
      await rig.advance(300)
      rig.heal()
    }
    await rig.settle()
    return how === 'cut' ? 'a' : 'b'
  }

  test('[MQTT-4.4.0-1] QoS 1: what was acknowledged, sent, queued and new comes once, in order', async () => {
    const client = await subscriber(1, { receiveMaximum: 3 })
    for (const payload of ['one', 'two', 'three', 'four', 'five']) publish(payload)
    await rig.settle()
    const [one, two] = client.takeSent()
    client.puback(one!.packetId)
    await rig.settle()
    const owner = await disturb()
    expect(client.takePayloads()).toEqual(['four'])
    client.puback(two!.packetId)
    await rig.settle()
    publish('six')
    for (const { packetId } of client.outstanding.values()) client.puback(packetId)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['five', 'six'])
    expectEmpty(owner)
  })

  test('an acknowledgement that was lost on the way counts', async () => {
    const client = await subscriber(1)
    publish('one')
    await rig.settle()
    // Without a link it only changes what the frontend knows.
    const { packetId } = client.takeSent()[0]!
    rig.cut('f', 'a')
    client.puback(packetId)
    rig.heal()
    await rig.settle()
    const owner = await disturb()
    expect(await client.drain()).toEqual([])
    expectEmpty(owner)
  })

  test('[MQTT-4.3.3] QoS 2: each phase goes on where it was', async () => {
    const client = await subscriber(2)
    for (const payload of ['sent', 'received', 'released', 'done']) {
      publish(payload)
      await rig.settle()
    }
    // Granted QoS 2, published with QoS 1: so 1; the rest is published with QoS 2.
    for (const { packetId } of client.takeSent()) client.puback(packetId)
    const publisher = await rig.frontend('g').connect(rig.keyIn(2, 'p'))
    for (const payload of ['sent', 'received', 'released', 'done']) publisher.publish('x', payload, { qos: 2 })
    await rig.settle()
    const [, received, released, done] = client.takeSent()
    for (const { packetId } of [released!, done!]) client.pubrec(packetId)
    await rig.settle()
    client.pubcomp(done!.packetId)
    await rig.settle()
    client.take()
    // PUBREC has come to the frontend and gets no further.
    rig.cut('f', 'a')
    client.pubrec(received!.packetId)
    rig.heal()
    await rig.settle()
    const owner = await disturb()
    expect([...client.outstanding.values()].map(({ phase }) => phase)).toEqual(['sent', 'released', 'released'])
    expect(client.take()).toEqual([{ is: 'released', packetId: received!.packetId, reason: ReasonCode.Success }])
    client.pubcomp(received!.packetId)
    client.pubcomp(released!.packetId)
    for (const { packetId, phase } of client.outstanding.values()) if (phase === 'sent') client.pubrec(packetId)
    expect(await client.drain()).toEqual([])
    expectEmpty(owner)
  })
})

describe('what the last owner sent and nobody stored', () => {
  test('a message given to the next owner before it knows is not taken for it', async () => {
    const client = await subscriber(1)
    publish('never stored')
    await settleUnstored('a')
    expect(client.takePayloads()).toEqual(['never stored'])
    rig.frontend('f').manners.resumes = false
    rig.kill('a')
    await rig.takeOrphans('b')
    await rig.settle()
    publish('another')
    await rig.settle()
    rig.frontend('f').resume(0)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['another'])
    for (const { packetId } of client.outstanding.values()) client.puback(packetId)
    await rig.settle()
    expectEmpty('b')
  })

  test('nor when two owners die one after the other', async () => {
    rig.start('d')
    await rig.settle()
    const client = await subscriber(1)
    publish('of a')
    await settleUnstored('a')
    await failOver()
    publish('of b')
    await settleUnstored('b')
    expect(client.takePayloads()).toEqual(['of a', 'of b'])
    rig.frontend('f').manners.resumes = false
    rig.kill('b')
    await rig.takeOrphans('d')
    await rig.settle()
    publish('of d')
    await rig.settle()
    rig.frontend('f').resume(0)
    expect((await client.drain()).map(({ payload }) => payload)).toEqual(['of d'])
  })

  test('its identifiers are in use until the client has finished with them, whatever its QoS and whoever owns the session', async () => {
    const client = await subscriber(1)
    for (const payload of ['one', 'two', 'three', 'four']) publish(payload)
    await settleUnstored('a')
    const [one, two, three, four] = client.takeSent().map(({ packetId }) => packetId)
    rig.cut('f', 'a')
    // As if they had been of QoS 2.
    client.outstanding.set(two!, { ...client.outstanding.get(two!)!, phase: 'received' })
    await failOver()
    expect(client.take()).toEqual([{ is: 'released', packetId: two, reason: ReasonCode.Success }])
    client.puback(one!)
    client.pubrec(three!)
    await rig.settle()
    expect(client.take()).toEqual([{ is: 'released', packetId: three, reason: ReasonCode.Success }])
    // Finished while there is no link: forgotten at the next resume.
    rig.cut('f', 'b')
    client.pubcomp(two!)
    client.puback(four!)
    rig.heal()
    await rig.settle()
    const session = rig.backend('b').engine.shards[0]!.sessions.get(client.clientId)!
    expect([session.outbox!.ids.inUse, session.outbox!.inWindow]).toEqual([1, 1])
    client.pubcomp(three!)
    await rig.settle()
    expectEmpty('b')
  })

  test('its identifiers are nobody’s on the next connection', async () => {
    const client = await subscriber(1)
    publish('one')
    await settleUnstored('a')
    await failOver()
    const { packetId } = client.takeSent()[0]!
    client.detach()
    const again = await rig.frontend('g').connect(client.clientId, { expirySeconds: NEVER })
    again.puback(packetId)
    await rig.settle()
    publish('two')
    expect((await again.drain()).map(({ payload }) => payload)).toEqual(['two'])
    expectEmpty('b')
  })
})

describe('PUBRELs of messages that came on an earlier connection', () => {
  test.each([0, 1])('are sent once on this connection, and finished by PUBCOMP; %i messages behind them', async messages => {
    const publisher = await rig.frontend('g').connect(rig.keyIn(2, 'p'))
    const first = await subscriber(2)
    for (const payload of ['one', 'two', 'three']) publisher.publish('x', payload, { qos: 2 })
    await rig.settle()
    const ids = first.takeSent().map(({ packetId }) => packetId)
    for (const id of ids) first.pubrec(id)
    await rig.settle()
    first.detach()
    for (let i = 0; i < messages; i++) publish('behind')
    await rig.settle()
    const client = await rig.frontend().connect(first.clientId, { expirySeconds: NEVER })
    expect(client.take().filter(({ is }) => is === 'released')).toHaveLength(3)
    for (const to of ['b', 'a']) await rig.move(0, to)
    await rig.settle()
    expect(client.take()).toEqual([])
    const session = rig.backend('a').engine.shards[0]!.sessions.get(client.clientId)!
    expect(session.outbox!.inWindow).toBe(3 + messages)
    for (const id of ids) client.pubcomp(id)
    for (const { packetId } of client.outstanding.values()) client.puback(packetId)
    await rig.settle()
    expectEmpty('a')
    await rig.move(0, 'b')
    expectEmpty('b')
  })
})

test('resumed twice on one link, what was sent in between is not sent again, and the connection goes on', async () => {
  const client = await subscriber(1, { receiveMaximum: 2 })
  for (const payload of ['one', 'two', 'three', 'four']) publish(payload)
  await rig.settle()
  const [one] = client.takeSent()
  rig.cut('f', 'a')
  client.puback(one!.packetId)
  rig.frontend().manners.resumes = false
  rig.heal()
  await rig.settle()
  // What the router does when `owned`, `lost` and `owned` come together.
  rig.frontend().resume(0)
  rig.frontend().resume(0)
  await rig.settle()
  expect(client.takePayloads()).toEqual(['three'])
  expect(client.outstanding.size).toBe(2)
  for (const { packetId } of client.outstanding.values()) client.puback(packetId)
  expect((await client.drain()).map(({ payload }) => payload)).toEqual(['four'])
  expect(client.sequences).toEqual([1, 2, 3, 4])
  expectEmpty('a')
})

describe('who may resume', () => {
  test('not a connection that another one has replaced meanwhile', async () => {
    const old = await subscriber(1)
    rig.cut('f', 'a')
    await rig.settle()
    const other = await rig.frontend('g').connect(old.clientId, { expirySeconds: NEVER })
    rig.heal()
    await rig.settle()
    expect(old.take()).toEqual([{ is: 'disconnect', reason: ReasonCode.SessionTakenOver }])
    publish('one')
    expect((await other.drain()).map(({ payload }) => payload)).toEqual(['one'])
  })

  test('not one that was given up', async () => {
    const client = await subscriber(1)
    rig.cut('f', 'a')
    await rig.advance(3_000)
    rig.heal()
    await rig.settle()
    expect(client.take()).toEqual([{ is: 'disconnect', reason: ReasonCode.ServerBusy }])
  })

  test('not the same number of another frontend, or of another run of it', async () => {
    const client = await subscriber(1)
    rig.cut('f', 'a')
    rig.frontend().instance = 'f2'
    rig.heal()
    await rig.settle()
    expect(client.take()).toMatchObject([{ is: 'disconnect' }])
  })
})

test('requests that were not answered are answered by the next owner, once', async () => {
  const client = await subscriber(1)
  client.subscribe('y', { qos: 1 })
  client.unsubscribe('x')
  client.publish('z', 'two', { qos: 2 })
  await settleUnstored('a')
  expect(client.take()).toEqual([])
  await failOver()
  const answers = client.take().filter(event => 'ticket' in event)
  expect(answers.sort((one, other) => one.ticket - other.ticket)).toEqual([
    { is: 'subscribed', ticket: 1, reasons: [1] },
    { is: 'subscribed', ticket: 2, reasons: [0] },
    { is: 'acknowledged', ticket: 3, reason: 0 },
  ])
})
