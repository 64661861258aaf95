import { expect, test } from 'vitest'
import { ManualClock } from '#shared/base/clock.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { parseTopicFilter, TopicCache } from '#shared/mqtt/topic.ts'
import type { AttachRequest } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import { RECIPIENT_DUP, RECIPIENT_QOS, RECIPIENT_RETAIN } from '#shared/rpc/recipients.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { Backend } from '../backend.ts'
import { DEFAULT_SETTINGS } from '../backend-rig.contract.ts'
import type { BackendSettings } from '../config.ts'
import type { Session } from '../session/session.ts'
import { openKeepingStore, type KeepingStore } from '../store/memory/memory-store.ts'
import type { ShardStore } from '../store/shard-store.ts'
import { shardOf } from '#shared/cluster/shard.ts'

const SHARDS = 2

const settings: BackendSettings = {
  ...DEFAULT_SETTINGS,
  sessionsMax: 100,
  queueMessagesMax: 1_000,
  queueBytesMax: 1_000_000,
  inflightMax: 100,
  retainedMessagesMax: 100,
  retainedBytesMax: 1_000_000,
  memoryBytesMax: 1_000_000_000,
}

const silent: Log = { debugEnabled: false, debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

/** A store whose commits can be held back, and whose logs can be said to be long. */
class HeldStore implements ShardStore {
  readonly level = 'stored'
  readonly shardCount = SHARDS
  readonly kept: KeepingStore
  isHeld = false
  isLong = false
  #release: (() => void)[] = []

  constructor(kept: KeepingStore) {
    this.kept = kept
  }

  async commit(entries: Parameters<ShardStore['commit']>[0]): Promise<void> {
    if (this.isHeld) await new Promise<void>(resolve => this.#release.push(resolve))
    await this.kept.commit(entries)
  }

  release(): void {
    this.isHeld = false
    for (const resolve of this.#release.splice(0)) resolve()
  }

  recover: ShardStore['recover'] = (shard, visit) => this.kept.recover(shard, visit)
  beginSnapshot: ShardStore['beginSnapshot'] = shard => this.kept.beginSnapshot(shard)
  logBytes = (): number => (this.isLong ? Number.MAX_SAFE_INTEGER : 0)
  close = (): Promise<void> => this.kept.close()
}

/** A backend, with a frontend that only notes what it is told. */
class Rig {
  readonly store: HeldStore
  readonly clock: ManualClock
  readonly notes: string[] = []
  readonly topics = new TopicCache({ topicsMax: 100, levelsMax: 10 })
  backend!: Backend
  #connection = 0
  readonly port: FrontendPort = {
    deliver: (message, { count, flags, packetIds }) => {
      for (let i = 0; i < count; i++) {
        const marks = `${flags[i]! & RECIPIENT_DUP ? ' dup' : ''}${flags[i]! & RECIPIENT_RETAIN ? ' retain' : ''}`
        const expiry = message.expirySeconds < 0 ? '' : ` expires in ${message.expirySeconds}`
        this.notes.push(`${message.payload.toString()} qos ${flags[i]! & RECIPIENT_QOS} id ${packetIds[i]}${marks}${expiry}`)
      }
    },
    acknowledged: (_connection, ticket, reason) => this.notes.push(`ticket ${ticket}: ${reason}`),
    subscribed: (_connection, ticket, reasons) => this.notes.push(`ticket ${ticket}: ${reasons.join()}`),
    released: (_connection, packetId) => this.notes.push(`pubrel ${packetId}`),
    pressure: () => {},
    disconnect: () => {},
  }

  private constructor(store: KeepingStore, clock: ManualClock) {
    this.store = new HeldStore(store)
    this.clock = clock
  }

  static async open(store: KeepingStore = openKeepingStore({ shardCount: SHARDS }), clock = new ManualClock()): Promise<Rig> {
    const rig = new Rig(store, clock)
    const turn = { request: () => void setImmediate(() => rig.backend.endTurn()) }
    rig.backend = await Backend.open({ settings, clock, turn, store: rig.store, topics: rig.topics, log: silent, onFailure: () => {} })
    return rig
  }

  /** What a process would find that starts after this one was killed now. */
  restarted(): Promise<Rig> {
    return Rig.open(this.store.kept.crashCopy(), this.clock)
  }

  /** Lets the turns pass that are needed for everything under way. */
  async turns(): Promise<void> {
    for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
  }

  async attach(
    clientId: string,
    more: Partial<AttachRequest> = {},
  ): Promise<{ session: number; connection: number; sessionPresent: boolean }> {
    const connection = ++this.#connection
    const reply = await this.backend.attach({
      frontend: this.port,
      connection,
      clientId,
      protocolVersion: 5,
      cleanStart: false,
      sessionExpirySeconds: 1_000,
      receiveMaximum: 10,
      will: null,
      rights: null,
      ...more,
    })
    if (reply.is === 'refused') throw new Error(reply.detail)
    this.backend.writable(reply.session, connection, true)
    return { session: reply.session, connection, sessionPresent: reply.sessionPresent }
  }

  async subscribe(client: { session: number; connection: number }, text: string, qos: 0 | 1 | 2 = 2): Promise<void> {
    this.beginSubscribe(client, text, qos)
    await this.turns()
  }

  beginSubscribe({ session, connection }: { session: number; connection: number }, text: string, qos: 0 | 1 | 2 = 2): void {
    const { filter } = parseTopicFilter(text)
    const request = {
      filter: { text, group: null, filter },
      qos,
      noLocal: false,
      retainAsPublished: true,
      retainHandling: 0,
      identifier: 0,
    } as const
    this.backend.subscribe(session, connection, 0, 1, [{ ...request, refused: null }])
  }

  message(topic: string, payload: string, qos: 0 | 1 | 2, packetId = 1, retain = false): Message {
    const message = newMessage(this.topics.fromName(topic), Buffer.from(payload), qos, retain)
    message.packetId = packetId
    return message
  }

  publish({ session, connection }: { session: number; connection: number }, ticket: number, message: Message): void {
    this.backend.publish(session, connection, ticket, message)
  }

  session(clientId: string): Session | undefined {
    return this.backend.engine.shardFor(clientId).sessions.get(clientId)
  }

  /** What was noted since the last call. */
  taken(): string[] {
    return this.notes.splice(0)
  }
}

const NAMES = Array.from({ length: 50 }, (_, at) => `client${at}`)
/** Client Identifiers of the first and of the second shard. */
const [first, second] = [0, 1].map(shard => NAMES.find(name => shardOf(name, SHARDS) === shard)!) as [string, string]

test('a QoS 2 message survives, and what its publisher repeats is not delivered twice [MQTT-4.3.3-10]', async () => {
  const rig = await Rig.open()
  const subscriber = await rig.attach(second)
  await rig.subscribe(subscriber, 'a')
  const publisher = await rig.attach(first)
  rig.publish(publisher, 0, rig.message('a', 'hello', 2, 7))
  await rig.turns()
  const after = await rig.restarted()
  const again = await after.attach(first)
  after.publish(again, 0, after.message('a', 'hello', 2, 7))
  expect((await after.attach(second)).sessionPresent).toBe(true)
  await after.turns()
  expect(after.taken()).toEqual(['ticket 0: 0', 'hello qos 2 id 1 dup'])
})

test('a snapshot holds nothing that is not stored', async () => {
  const rig = await Rig.open()
  const subscriber = await rig.attach(second)
  await rig.subscribe(subscriber, 'a')
  const publisher = await rig.attach(first)
  rig.store.isHeld = true
  rig.publish(publisher, 0, rig.message('a', 'hello', 2, 7))
  rig.store.isLong = true
  rig.backend.tick()
  await rig.turns()
  const after = await rig.restarted()
  const again = await after.attach(first)
  after.publish(again, 0, after.message('a', 'hello', 2, 7))
  await after.attach(second)
  await after.turns()
  expect(after.taken()).toContain('hello qos 2 id 1')
  rig.store.release()
  await rig.turns()
  expect(rig.backend.engine.counters.snapshots).toBeGreaterThan(0)
})

test('Retained Messages are in a snapshot whatever their topics start with, those of the broker are not', async () => {
  const rig = await Rig.open()
  const publisher = await rig.attach(first)
  for (const topic of ['a', '$b/c', '$SYS/d']) rig.publish(publisher, 0, rig.message(topic, topic, 1, 1, true))
  await rig.turns()
  rig.store.isLong = true
  for (let i = 0; i < SHARDS * 4; i++) {
    rig.backend.tick()
    await rig.turns()
  }
  rig.store.isLong = false
  const { engine } = (await rig.restarted()).backend
  expect(['a', '$b/c', '$SYS/d'].map(topic => engine.retained.get(topic)?.payload.toString())).toEqual(['a', '$b/c', undefined])
})

test('a message that many sessions of a shard hold is one message after recovery from a snapshot as well', async () => {
  const rig = await Rig.open()
  const away = NAMES.filter(name => shardOf(name, SHARDS) === 1).slice(0, 5)
  for (const name of away) await rig.subscribe(await rig.attach(name, { receiveMaximum: 1 }), 'a')
  const publisher = await rig.attach(first)
  rig.publish(publisher, 0, rig.message('a', 'shared', 1, 1))
  rig.publish(publisher, 1, rig.message('a', 'queued', 1, 2))
  await rig.turns()
  rig.store.isLong = true
  for (let i = 0; i < SHARDS * 2; i++) {
    rig.backend.tick()
    await rig.turns()
  }
  const after = await rig.restarted()
  const held = away.flatMap(name => {
    const { ids, queued } = after.session(name)!.outbox!
    return [...ids.deliveries(), queued.at(0)!].map(({ message }) => message)
  })
  expect(held.map(({ payload }) => payload.toString())).toEqual(away.flatMap(() => ['shared', 'queued']))
  expect(new Set(held).size).toBe(2)
})

test('a Retained Message that came between SUBSCRIBE and SUBACK is sent once', async () => {
  const rig = await Rig.open()
  const subscriber = await rig.attach(second)
  const publisher = await rig.attach(first)
  rig.store.isHeld = true
  rig.beginSubscribe(subscriber, 'a')
  rig.publish(publisher, 0, rig.message('a', 'kept', 1, 1, true))
  rig.store.release()
  await rig.turns()
  expect(rig.taken().filter(note => note.startsWith('kept'))).toEqual(['kept qos 1 id 1 retain'])
})

test('a session whose expiry has passed meanwhile cannot be resumed', async () => {
  const rig = await Rig.open()
  const client = await rig.attach(first, { sessionExpirySeconds: 10 })
  rig.backend.detach(client.session, client.connection, { discardWill: false, sessionExpirySeconds: null })
  await rig.turns()
  rig.clock.advance(9_000)
  expect((await (await rig.restarted()).attach(first)).sessionPresent).toBe(true)
  rig.clock.advance(1_000)
  expect((await (await rig.restarted()).attach(first)).sessionPresent).toBe(false)
})

test('a session that lost its connection with the process expires however often the process restarts', async () => {
  let rig = await Rig.open()
  await rig.attach(first, { sessionExpirySeconds: 10 })
  rig = await rig.restarted()
  for (let i = 0; i < 3; i++) {
    rig.clock.advance(4_000)
    rig = await rig.restarted()
  }
  expect(rig.session(first)).toBeUndefined()
})

test('a Will keeps its Message Expiry Interval, which counts from its publication (§3.1.3.2.4)', async () => {
  const rig = await Rig.open()
  await rig.subscribe(await rig.attach(second), 'will')
  const message = rig.message('will', 'gone', 1)
  message.expirySeconds = 30
  await rig.attach(first, { will: { message, delaySeconds: 5 } })
  const after = await rig.restarted()
  await after.attach(second)
  after.clock.advance(6_000)
  after.backend.tick()
  await after.turns()
  expect(after.taken()).toEqual(['gone qos 1 id 1 expires in 30'])
})

test('a message acknowledged on a new connection before it was sent there again is not sent', async () => {
  const rig = await Rig.open()
  const subscriber = await rig.attach(second)
  await rig.subscribe(subscriber, 'a', 1)
  const publisher = await rig.attach(first)
  for (const packetId of [1, 2]) rig.publish(publisher, packetId, rig.message('a', `m${packetId}`, 1, packetId))
  await rig.turns()
  rig.taken()
  const { session, connection } = await rig.attach(second, { receiveMaximum: 1 })
  expect(rig.taken()).toEqual(['m1 qos 1 id 1 dup'])
  rig.backend.puback(session, connection, 2)
  rig.backend.puback(session, connection, 1)
  await rig.turns()
  expect(rig.taken()).toEqual([])
  expect(rig.session(second)!.outbox).toMatchObject({ inWindow: 0 })
  expect((await rig.restarted()).session(second)!.outbox).toBeNull()
})

test('a Retained Message that is replaced leaves no timer behind', async () => {
  const rig = await Rig.open()
  const publisher = await rig.attach(first)
  for (let i = 0; i < 5; i++) {
    const message = rig.message('a', `${i}`, 1, 1, true)
    message.expirySeconds = 60
    rig.publish(publisher, i, message)
  }
  expect(rig.backend.engine.retainedTimers.size).toBe(1)
  rig.clock.advance(61_000)
  rig.backend.tick()
  expect(rig.backend.engine.retainedTimers.size).toBe(0)
  expect(rig.backend.engine.retained.count).toBe(0)
})
