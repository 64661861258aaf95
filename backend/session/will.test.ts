import { beforeEach, describe, expect, test } from 'vitest'
import {
  BackendRig,
  NEVER,
  type ConnectOptions,
  type MessageOptions,
  rightsTo,
  type RigClient,
  type RigOptions,
} from '../backend-rig.contract.ts'

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

describe('a Will with a guard', () => {
  /** What the judge was asked, as text; it lets through what `allowed` says. */
  let asked: string[]
  let allowed: (guard: string) => boolean

  beforeEach(async () => {
    asked = []
    allowed = () => true
    await open({ willJudge: judge })
  })

  function judge(guard: Uint8Array, topicName: string): boolean {
    const text = Buffer.from(guard).toString()
    asked.push(`${text} ${topicName}`)
    return allowed(text)
  }

  async function open(options: RigOptions): Promise<void> {
    rig = await BackendRig.open(options)
    watcher = await watch(rig)
  }

  const guarded = (guard: string): ConnectOptions => ({ expirySeconds: NEVER, rights: rightsTo(['#'], guard) })

  test('is judged when it is due, by what its rights say, and goes out', async () => {
    const client = await withWill(10, guarded('ada'))
    client.detach()
    await rig.advance(9_000)
    expect(asked).toEqual([])
    await rig.advance(1_200)
    expect([asked, watcher.takePayloads(), rig.engine.counters.willsRefused]).toEqual([['ada will'], ['gone'], 0])
  })

  test('that is refused goes to nobody, is not retained, is counted and logged without its payload, and is gone', async () => {
    allowed = guard => guard !== 'ada'
    const client = await withWill(0, guarded('ada'), { retain: true })
    const before = rig.engine.counters.sessionBytes
    client.detach()
    await rig.settle()
    expect(watcher.takePayloads()).toEqual([])
    expect(rig.engine.counters).toMatchObject({
      willsRefused: 1,
      willMessages: 0,
      willBytes: 0,
      retainedMessages: 0,
      sessionBytes: before - 3,
    })
    expect(rig.log.lines).toEqual([{ level: 'warn', event: 'will_refused', fields: { client: 'mortal', topic: 'will' } }])
    rig = await rig.restart()
    expect(rig.engine.counters.willMessages).toBe(0)
  })

  test.each([0, 1_000])('keeps its guard through a restart, from the log or from a snapshot (%i ms later)', async ms => {
    const client = await withWill(60, guarded('ada'))
    if (ms > 0) {
      rig.store.snapshotDue = rig.engine.shardFor('mortal').number
      await rig.advance(ms)
      expect(rig.engine.counters.snapshots).toBe(1)
    }
    client.detach()
    await rig.settle()
    allowed = () => false
    rig = await rig.restart()
    const again = await watch(rig)
    await rig.advance(60_200)
    expect([asked, again.takePayloads(), rig.engine.counters.willsRefused]).toEqual([['ada will'], [], 1])
  })

  test('of a connection that went with the process is judged too', async () => {
    await withWill(0, { rights: rightsTo(['#'], 'ada') })
    allowed = () => false
    rig = await rig.restart()
    expect([asked, rig.engine.counters.willsRefused, rig.engine.counters.willMessages]).toEqual([['ada will'], 1, 0])
  })

  test('gets the guard of restrict, which is stored', async () => {
    const client = await withWill(60, guarded('before'))
    const ticket = client.restrict(rightsTo(['#'], 'after'))
    await rig.settle()
    expect(client.take()).toEqual([{ is: 'subscribed', ticket, reasons: [] }])
    rig = await rig.restart()
    await rig.advance(60_200)
    expect(asked).toEqual(['after will'])
  })

  test('of a connection without rights goes out unjudged, also after one with', async () => {
    const before = await withWill(60, guarded('ada'))
    before.detach()
    const client = await withWill(0, { expirySeconds: NEVER })
    client.detach()
    await rig.settle()
    expect([asked, watcher.takePayloads()]).toEqual([[], ['gone']])
  })

  test.each([
    ['nobody can judge it', { willJudge: null }, []],
    ['the judge fails', { willJudge: failing }, ['will_not_judged']],
  ])('does not go out when %s', async (_, options, events) => {
    await open(options)
    const client = await withWill(0, guarded('ada'))
    client.detach()
    await rig.settle()
    expect([watcher.takePayloads(), rig.engine.counters.willsRefused]).toEqual([[], 1])
    expect(rig.log.lines.map(({ event }) => event)).toEqual([...events, 'will_refused'])
  })

  test('restrict of a session without a Will needs no guard', async () => {
    const client = await rig.connect('c', guarded('ada'))
    client.restrict(rightsTo(['#'], 'other'))
    await rig.settle()
    expect(client.take()).toMatchObject([{ is: 'subscribed', reasons: [] }])
    client.detach()
    expect(asked).toEqual([])
  })
})

function failing(): boolean {
  throw new Error('no policies')
}
