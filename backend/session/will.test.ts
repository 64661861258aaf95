import { beforeEach, describe, expect, test } from 'vitest'
import { BackendRig, NEVER, type ConnectOptions, type MessageOptions, type RigClient } from '../backend-rig.contract.ts'

let rig: BackendRig
let watcher: RigClient

beforeEach(async () => {
  rig = await BackendRig.open()
  watcher = await watch(rig)
})

async function watch(on: BackendRig): Promise<RigClient> {
  const client = await on.connect('watcher', { expirySeconds: NEVER })
  client.subscribe('will')
  await on.settle()
  client.take()
  return client
}

async function withWill(delaySeconds: number, options: ConnectOptions = {}, message: MessageOptions = {}): Promise<RigClient> {
  return rig.connect('mortal', { ...options, will: { message: rig.message('will', 'gone', { qos: 1, ...message }), delaySeconds } })
}

describe('a Will', () => {
  test('[MQTT-3.1.2-8] goes out when the connection ends without DISCONNECT, once', async () => {
    const client = await withWill(0, { expirySeconds: NEVER })
    expect(rig.engine.counters.willMessages).toBe(1)
    client.detach()
    client.detach()
    await rig.settle()
    expect(watcher.takePayloads()).toEqual(['gone'])
    expect(rig.engine.counters).toMatchObject({ willMessages: 0, willBytes: 0 })
  })

  test('[MQTT-3.1.2-10] does not after a normal DISCONNECT', async () => {
    const client = await withWill(0, { expirySeconds: NEVER })
    client.detach({ discardWill: true })
    await rig.advance(1_000)
    expect(watcher.takePayloads()).toEqual([])
    expect((await rig.restart()).engine.counters.willMessages).toBe(0)
  })

  test('goes out when the session is taken over', async () => {
    await withWill(0)
    await rig.connect('mortal')
    expect(watcher.takePayloads()).toEqual(['gone'])
  })

  test('[MQTT-3.1.3-9] with a delay waits for it, and does not go out when the session goes on before', async () => {
    const client = await withWill(10, { expirySeconds: NEVER })
    client.detach()
    await rig.advance(9_000)
    const back = await rig.connect('mortal', { expirySeconds: NEVER })
    await rig.advance(60_000)
    expect(watcher.takePayloads()).toEqual([])
    back.detach()
    const again = await withWill(10, { expirySeconds: NEVER })
    again.detach()
    await rig.advance(10_200)
    expect(watcher.takePayloads()).toEqual(['gone'])
  })

  test('goes out when the session ends before its delay has passed: by expiry, by Clean Start, with the connection', async () => {
    const expires = await withWill(100, { expirySeconds: 10 })
    expires.detach()
    await rig.advance(10_200)
    expect(watcher.takePayloads()).toEqual(['gone'])
    const cleaned = await withWill(100, { expirySeconds: NEVER })
    cleaned.detach()
    await rig.connect('mortal', { cleanStart: true })
    expect(watcher.takePayloads()).toEqual(['gone'])
    const transient = await withWill(100)
    transient.detach()
    expect(watcher.takePayloads()).toEqual(['gone'])
  })

  test('is retained when it says so, and then survives a restart', async () => {
    const client = await withWill(0, {}, { retain: true })
    client.detach()
    await rig.settle()
    const after = await rig.restart()
    expect(after.engine.retained.get('will')?.payload.toString()).toBe('gone')
  })

  test('its Message Expiry Interval counts from its publication', async () => {
    watcher.detach()
    const client = await withWill(10, { expirySeconds: NEVER }, { expirySeconds: 5 })
    await rig.advance(60_000)
    client.detach()
    await rig.advance(10_200)
    const back = await rig.connect('watcher', { expirySeconds: NEVER })
    expect(back.takeSent()).toMatchObject([{ payload: 'gone', expirySeconds: 5 }])
    client.detach()
  })

  test.each([0, NEVER])('of a client that was connected goes out after a crash, its session of expiry %i', async expirySeconds => {
    await withWill(0, { expirySeconds })
    const after = await rig.restart()
    expect((await after.connect('watcher', { expirySeconds: NEVER })).takePayloads()).toEqual(['gone'])
    const once = await after.restart()
    expect(once.engine.counters.willMessages).toBe(0)
  })

  test('keeps what is left of its delay over a restart', async () => {
    const client = await withWill(10, { expirySeconds: NEVER })
    client.detach()
    await rig.advance(6_000)
    const after = await rig.restart()
    const back = await after.connect('watcher', { expirySeconds: NEVER })
    await after.advance(3_500)
    expect(back.takePayloads()).toEqual([])
    await after.advance(700)
    expect(back.takePayloads()).toEqual(['gone'])
  })

  test.each([0, 1] as const)('QoS %s: is under the ceiling of maxMessageExpirySeconds', async qos => {
    rig = await BackendRig.open({ settings: { maxMessageExpirySeconds: 30 } })
    watcher = await watch(rig)
    for (const expirySeconds of [-1, 60, 20]) (await withWill(0, {}, { qos, expirySeconds })).detach()
    await rig.settle()
    expect(watcher.takeSent().map(sent => sent.expirySeconds)).toEqual([30, 30, 20])
  })

  test('reaches the persistent sessions that are away, and is dropped and counted where the queue is full', async () => {
    const full = await BackendRig.open({ settings: { queueMessagesMax: 1 } })
    const away = await watch(full)
    away.detach()
    for (const name of ['1', '2']) {
      const mortal = await full.connect(name, { will: { message: full.message('will', name, { qos: 1 }), delaySeconds: 0 } })
      mortal.detach()
    }
    expect(full.engine.counters).toMatchObject({ queuedMessages: 1, queueDropped: 1 })
    expect((await full.connect('watcher', { expirySeconds: NEVER })).takePayloads()).toEqual(['1'])
  })
})
