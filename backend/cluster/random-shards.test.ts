import { expect, test } from 'vitest'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { NEVER } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'
import { ClusterRig, type RigBackend } from './cluster-rig.contract.ts'
import type { RigClusterClient, RigFrontend } from './rig-frontend.contract.ts'

const SHARDS = 5
const STEPS = 400
/** SHARDS_SEED=7 repeats a run, SHARDS_SEED=1-500 looks for one. */
const [first = 1, last = first] = (process.env['SHARDS_SEED'] ?? '1-20').split('-').map(Number)
const SEEDS = Array.from({ length: last - first + 1 }, (_, index) => first + index)

/** A client over all of its connections: what MQTT says it must remember, and what it has got. */
class Subscriber {
  readonly clientId: string
  readonly qos: 1 | 2
  client: RigClusterClient | null = null
  /** QoS 2 messages received and not released, by Packet Identifier. */
  readonly #received = new Map<number, string>()
  /** How often it got each message. */
  readonly got = new Map<string, number>()

  constructor(clientId: string, qos: 1 | 2) {
    this.clientId = clientId
    this.qos = qos
  }

  /** Acts upon the oldest `count` events. */
  handle(count: number): void {
    const { client } = this
    if (client === null) return
    for (const event of client.events.splice(0, count)) {
      if (event.is === 'disconnect') this.client = null
      if (event.is === 'released') {
        this.#received.delete(event.packetId)
        client.pubcomp(event.packetId)
      }
      if (event.is !== 'publish') continue
      if (event.qos === 2) {
        const before = this.#received.get(event.packetId)
        if (before === undefined) this.#take(event.payload)
        else expect(before).toBe(event.payload)
        this.#received.set(event.packetId, event.payload)
        client.pubrec(event.packetId)
      } else {
        this.#take(event.payload)
        client.puback(event.packetId)
      }
    }
  }

  /** [MQTT-4.4.0-1], [MQTT-4.6.0-1]: on one connection each message comes once, and in order. */
  check(client: RigClusterClient): void {
    for (let i = 1; i < client.sequences.length; i++) expect(client.sequences[i]).toBeGreaterThan(client.sequences[i - 1]!)
  }

  #take(payload: string): void {
    this.got.set(payload, (this.got.get(payload) ?? 0) + 1)
  }
}

/** QoS 1 as a frontend passes it on: to each shard, again to its next owner until it is answered, in order. */
class Sender {
  readonly #frontend: RigFrontend
  readonly #pending = Array.from({ length: SHARDS }, () => new Map<string, number>())
  readonly #terms = Array.from({ length: SHARDS }, () => 0)
  readonly #answered = new Set<number>()
  /** How often each message went to each shard. */
  readonly sent = new Map<string, number>()
  readonly done: string[] = []

  constructor(frontend: RigFrontend) {
    this.#frontend = frontend
  }

  publish(payload: string): void {
    for (let shard = 0; shard < SHARDS; shard++) this.#send(shard, payload)
  }

  check(): void {
    for (const { sequence, reason, moved } of this.#frontend.published.splice(0)) {
      if (moved !== null) continue
      expect([0, 0x10]).toContain(reason)
      this.#answered.add(sequence)
    }
    for (let shard = 0; shard < SHARDS; shard++) {
      const pending = this.#pending[shard]!
      for (const [payload, sequence] of pending) if (this.#answered.has(sequence)) pending.delete(payload)
      const term = this.#frontend.terms.get(shard) ?? 0
      if (term === this.#terms[shard] || this.#frontend.ownerOf(shard) === undefined) continue
      this.#terms[shard] = term
      for (const payload of pending.keys()) this.#send(shard, payload)
    }
  }

  get isDone(): boolean {
    return this.#pending.every(({ size }) => size === 0)
  }

  #send(shard: number, payload: string): void {
    const sequence = this.#frontend.publishTo(shard, this.#frontend.rig.message('t/1', payload, { qos: 1 }))
    if (sequence !== 0) this.sent.set(`${shard} ${payload}`, (this.sent.get(`${shard} ${payload}`) ?? 0) + 1)
    this.#pending[shard]!.set(payload, sequence)
  }
}

/** QoS 2 by a client that stays connected as long as it can. */
class Publisher {
  readonly clientId: string
  client: RigClusterClient | null = null
  /** By ticket: what waits for PUBREC or PUBCOMP. */
  readonly #waiting = new Map<number, { readonly payload: string; readonly packetId: number; readonly is: 'publish' | 'release' }>()
  #nextPacketId = 0
  readonly published: string[] = []

  constructor(clientId: string) {
    this.clientId = clientId
  }

  publish(payload: string): void {
    if (this.client === null) return
    const packetId = ++this.#nextPacketId
    this.#waiting.set(this.client.publish('t/2', payload, { qos: 2, packetId }), { payload, packetId, is: 'publish' })
  }

  handle(): void {
    const { client } = this
    if (client === null) return
    for (const event of client.take()) {
      if (event.is === 'disconnect') this.client = null
      if (event.is !== 'acknowledged') continue
      const { payload, packetId, is } = this.#waiting.get(event.ticket)!
      this.#waiting.delete(event.ticket)
      // Of one that was released on an earlier connection nobody knows any more.
      expect(is === 'publish' ? [0] : [0, 0x92]).toContain(event.reason)
      if (is === 'publish') {
        this.published.push(payload)
        this.#waiting.set(client.release(packetId), { payload, packetId, is: 'release' })
      }
    }
  }

  /** What it has no PUBREC for goes again on its next connection, with the same Packet Identifier; PUBRELs as well. */
  onConnected(client: RigClusterClient): void {
    this.client = client
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { payload, packetId, is } of waiting) {
      const ticket = is === 'publish' ? client.publish('t/2', payload, { qos: 2, packetId }) : client.release(packetId)
      this.#waiting.set(ticket, { payload, packetId, is })
    }
  }

  get isDone(): boolean {
    return this.#waiting.size === 0
  }
}

class Run {
  readonly random: SeededRandom
  readonly rig: ClusterRig
  readonly subscribers: Subscriber[] = []
  readonly publishers: Publisher[] = []
  readonly senders: Sender[]
  readonly connections: RigClusterClient[] = []
  #last = 0

  constructor(random: SeededRandom, rig: ClusterRig) {
    this.random = random
    this.rig = rig
    this.senders = [...rig.frontends.values()].map(frontend => new Sender(frontend))
  }

  async start(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      const subscriber = new Subscriber(`s${i}`, i % 2 === 0 ? 1 : 2)
      this.subscribers.push(subscriber)
      const client = await this.connect(subscriber.clientId)
      expect(client!.sessionPresent).toBe(false)
      client!.subscribe('t/#', { qos: subscriber.qos })
      subscriber.client = client
    }
    for (let i = 0; i < 2; i++) {
      const publisher = new Publisher(`p${i}`)
      this.publishers.push(publisher)
      publisher.onConnected((await this.connect(publisher.clientId))!)
    }
    await this.rig.settle()
  }

  /** Null when no owner can be asked. */
  async connect(clientId: string): Promise<RigClusterClient | null> {
    const client = this.random.pick([...this.rig.frontends.values()]).client(clientId)
    this.connections.push(client)
    client.attach({ expirySeconds: NEVER, receiveMaximum: this.random.pick([1, 3, 1_000]) })
    await this.rig.settle()
    if (client.reply?.is === 'attached') return client
    client.detach()
    return null
  }

  async reconnect(who: Subscriber | Publisher): Promise<void> {
    if (who.client !== null) {
      who.handle(Infinity)
      who.client?.detach()
      who.client = null
    }
    const client = await this.connect(who.clientId)
    if (client === null) return
    expect(client.sessionPresent).toBe(true)
    if (who instanceof Publisher) who.onConnected(client)
    else who.client = client
  }

  get backends(): RigBackend[] {
    return [...this.rig.backends.values()]
  }

  async step(): Promise<void> {
    const { random, rig } = this
    const dice = random.int(0, 99)
    if (dice < 20) random.pick(this.senders).publish(`one ${++this.#last}`)
    else if (dice < 28) random.pick(this.publishers).publish(`two ${++this.#last}`)
    else if (dice < 50) random.pick(this.subscribers).handle(random.int(1, 4))
    else if (dice < 55) for (const publisher of this.publishers) publisher.handle()
    else if (dice < 70) this.#some()
    else if (dice < 75) await rig.settle()
    else if (dice < 80) await rig.advance(100)
    else if (dice < 83) await this.reconnect(random.pick([...this.subscribers, ...this.publishers]))
    else if (dice < 86) random.pick(this.subscribers).client?.writable(random.chance(0.5))
    else if (dice < 88) random.pick(this.backends).store.snapshotDue = random.int(0, SHARDS - 1)
    else if (dice < 91) random.pick(this.backends).store.isPrompt = random.chance(0.5)
    else await this.#disturb()
    for (const sender of this.senders) sender.check()
  }

  /** Something goes on somewhere, and nothing else does. */
  #some(): void {
    const { random, rig } = this
    const backend = random.pick(this.backends)
    const link = rig.linkOf(random.pick(['f', 'g', 'a', 'b', 'd']), backend.id)
    if (link !== undefined) {
      if (random.chance(0.5)) link.pair.a.deliver(random.int(1, 5))
      else link.pair.b.deliver(random.int(1, 5))
    }
    if (backend.turn.isRequested && random.chance(0.5)) rig.endTurn(backend)
    backend.store.complete(random.int(0, 2))
  }

  async #disturb(): Promise<void> {
    const { random, rig } = this
    const dice = random.int(0, 9)
    const shard = random.int(0, SHARDS - 1)
    const owner = rig.ownerOf(shard)
    const to = random.pick(this.backends.filter(({ engine }) => !engine.shards[shard]!.isServing))
    if (dice < 4) {
      if (owner !== null && to !== undefined) await rig.move(shard, to.id)
    } else if (dice < 5) {
      // An owner that others take for dead.
      if (to !== undefined && owner?.store.level !== 'memory') await this.#replace(shard, to.id)
    } else if (dice < 7) {
      const dying = random.pick(this.backends)
      if (dying.store.level === 'memory') return
      rig.kill(dying.id, random.int(0, 3))
      if (rig.backends.size === 0 || random.chance(0.7)) rig.start(dying.id)
      rig.link()
      if (random.chance(0.5)) this.#some()
      await rig.takeOrphans(random.pick(this.backends).id)
    } else if (dice < 9) rig.cut(random.pick(['f', 'g', 'a', 'b']), random.pick(this.backends).id)
    else rig.heal()
  }

  async #replace(shard: number, to: string): Promise<void> {
    const owner = this.rig.ownerOf(shard)
    await this.rig.take(shard, to)
    if (owner === null || this.random.chance(0.5)) return
    owner.cluster.hosting.drop(shard)
    this.rig.closeLinksTo(owner, 'lapsed')
  }

  /** Everything goes well from now on, until all have everything. */
  async finish(): Promise<void> {
    const { rig } = this
    rig.heal()
    for (const backend of this.backends) backend.store.isPrompt = true
    await rig.settle()
    for (let shard = 0; shard < SHARDS; shard++) await this.#settleOwner(shard)
    await rig.settle()
    for (const who of [...this.subscribers, ...this.publishers]) if (who.client === null || who.client.isGone) await this.reconnect(who)
    for (const { client } of this.subscribers) client?.writable(true)
    // With a Receive Maximum of 1 it takes a few rounds for each message.
    for (let round = 0; round < 500; round++) {
      if (round % 50 === 0) await rig.advance(1_000)
      else await rig.settle()
      for (const sender of this.senders) sender.check()
      for (const publisher of this.publishers) publisher.handle()
      for (const subscriber of this.subscribers) subscriber.handle(Infinity)
      for (const who of [...this.subscribers, ...this.publishers]) if (who.client === null) await this.reconnect(who)
    }
  }

  /** Who was replaced and does not know it yet goes; where nobody is left, another one takes over. */
  async #settleOwner(shard: number): Promise<void> {
    const { owner } = this.rig.shared.shards[shard]!
    for (const backend of this.backends) {
      if (backend.instance === owner?.instance || !backend.engine.shards[shard]!.isServing) continue
      backend.cluster.hosting.drop(shard)
      this.rig.closeLinksTo(backend, 'lapsed')
    }
    if (this.rig.ownerOf(shard) === null) await this.rig.take(shard, this.backends[0]!.id)
  }
}

test.each([...SEEDS.map(seed => [seed, 'stored'] as const), ...SEEDS.slice(0, 8).map(seed => [seed, 'memory'] as const)])(
  'clients notice nothing of shards that move and owners that die: seed %i, level %s',
  async (seed, level) => {
    const rig = await ClusterRig.open({ backends: ['a', 'b', 'd'], frontends: ['f', 'g'], shards: SHARDS, level })
    const run = new Run(new SeededRandom(seed), rig)
    await run.start()
    for (let step = 0; step < STEPS; step++) await run.step()
    await run.finish()

    expect(run.senders.map(({ isDone }) => isDone)).toEqual([true, true])
    expect(run.publishers.map(({ isDone }) => isDone)).toEqual([true, true])
    const once = run.publishers.flatMap(({ published }) => published)
    for (const { clientId, qos, got } of run.subscribers) {
      const shard = rig.shardOf(clientId)
      for (const sender of run.senders) {
        for (const [key, times] of sender.sent) {
          const [to, ...words] = key.split(' ')
          if (Number(to) === shard) expect([clientId, words.join(' '), got.get(words.join(' ')) ?? 0]).toSatisfy(isWithin(1, times + 10))
        }
      }
      for (const payload of once) expect([clientId, payload, got.get(payload) ?? 0]).toSatisfy(isWithin(1, qos === 2 ? 1 : Infinity))
    }
    for (const subscriber of run.subscribers) for (const client of run.connections) subscriber.check(client)

    for (const backend of run.backends) {
      expect(backend.failures).toEqual([])
      expect(backend.log.lines.filter(({ level: at }) => at === 'error')).toEqual([])
      expect(leftovers(backend.engine)).toMatchObject({ queuedMessages: 0, messageBytes: 0, pendingBytes: 0, crowdedQueues: 0 })
      for (const shard of backend.engine.shards) {
        expect([shard.handOvers.size, shard.isServing || shard.sessions.size === 0]).toEqual([0, true])
        for (const { outbox } of shard.sessions.values()) expect([outbox?.ids.inUse ?? 0, outbox?.inWindow ?? 0]).toEqual([0, 0])
      }
    }
    const sum = (of: (backend: RigBackend) => number): number => run.backends.reduce((total, backend) => total + of(backend), 0)
    expect(sum(({ engine }) => engine.counters.sessionsTotal)).toBe(7)
    expect(sum(({ engine }) => engine.counters.sessionsConnected)).toBe(7)
    expect(sum(({ engine }) => engine.index.subscriptionCount)).toBe(5)
  },
  60_000,
)

function isWithin(least: number, most: number) {
  return ([, , times]: readonly [string, string, number]): boolean => times >= least && times <= most
}
