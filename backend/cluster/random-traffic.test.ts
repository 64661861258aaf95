import { expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { NO_CONNECTION } from '#shared/rpc/owner-port.ts'
import { Shards } from '#shared/rpc/shards.ts'
import { NEVER, rightsTo } from '../backend-rig.contract.ts'
import { leftovers } from '../state-dump.contract.ts'
import { ClusterRig, type RigBackend, type RigLink } from './cluster-rig.contract.ts'
import type { RigClusterClient, RigFrontend } from './rig-frontend.contract.ts'

const BACKENDS = ['a', 'b', 'c']
const SHARDS = 6
const SEEDS = 40
const STEPS = 250
/** In which everything that waits gets to where it belongs. */
const ROUNDS_MAX = 1_000

interface Part {
  readonly payload: string
  readonly shards: readonly number[]
  readonly link: RigLink
}

/** What a router does for QoS 1: every shard gets each message, and again until it has answered. */
class Qos1Router {
  readonly #rig: ClusterRig
  readonly #frontend: RigFrontend
  readonly #underWay = new Map<number, Part>()
  readonly #left = new Map<string, { readonly topic: string; readonly shards: Set<number> }>()
  #sequence = 1_000_000

  constructor(rig: ClusterRig) {
    this.#rig = rig
    this.#frontend = rig.frontend()
  }

  get isDone(): boolean {
    return this.#underWay.size === 0 && this.#left.size === 0
  }

  publish(topic: string, payload: string): void {
    this.#left.set(payload, { topic, shards: new Set(Array.from({ length: SHARDS }, (_, shard) => shard)) })
  }

  /** Takes answers, and sends what has an owner. */
  run(): void {
    for (const { sequence, moved } of this.#frontend.published.splice(0)) {
      const part = this.#underWay.get(sequence)
      if (part === undefined) continue
      this.#underWay.delete(sequence)
      const left = this.#left.get(part.payload)!
      for (const shard of part.shards) if (moved?.includes(shard) !== true) left.shards.delete(shard)
      if (left.shards.size === 0) this.#left.delete(part.payload)
    }
    for (const [sequence, { link }] of this.#underWay) if (link.pair.a.closed !== null) this.#underWay.delete(sequence)
    for (const [payload, { topic, shards }] of this.#left) this.#send(payload, topic, shards)
  }

  #send(payload: string, topic: string, left: ReadonlySet<number>): void {
    const asked = new Set([...this.#underWay.values()].filter(part => part.payload === payload).flatMap(({ shards }) => shards))
    const byBackend = new Map<string, number[]>()
    for (const shard of left) {
      const owner = this.#frontend.owners.get(shard)
      if (owner === undefined || asked.has(shard)) continue
      byBackend.set(owner.backend, [...(byBackend.get(owner.backend) ?? []), shard])
    }
    for (const [backend, shards] of byBackend) {
      const list = new Shards()
      for (const shard of shards) list.add(shard)
      this.#underWay.set(++this.#sequence, { payload, shards, link: this.#rig.linkOf('f', backend) })
      this.#frontend.owner(backend).publish(this.#sequence, NO_CONNECTION, true, list, this.#rig.message(topic, payload, { qos: 1 }))
    }
  }
}

/** Mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): (limit: number) => number {
  let state = seed
  return limit => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % limit
  }
}

class Traffic {
  readonly rig: ClusterRig
  readonly random: (limit: number) => number
  readonly router: Qos1Router
  readonly publishers: RigClusterClient[] = []
  readonly plain: RigClusterClient[] = []
  readonly members: RigClusterClient[] = []
  /** They may hear nothing but `u` from some moment on. The first member of the group may hear nothing. */
  readonly restricted: RigClusterClient[] = []
  /** Ticket of the restriction; -1 when it was answered. */
  readonly restrictions = new Map<RigClusterClient, number>()
  readonly got = new Map<RigClusterClient, string[]>()
  /** On `t/x`, and on `u`. */
  readonly published: string[] = []
  readonly publishedOnU: string[] = []
  readonly #packetIds = new Map<RigClusterClient, Map<number, number>>()

  constructor(rig: ClusterRig, seed: number) {
    this.rig = rig
    this.random = randomOf(seed)
    this.router = new Qos1Router(rig)
  }

  get clients(): RigClusterClient[] {
    return [...this.publishers, ...this.plain, ...this.members, ...this.restricted]
  }

  async connect(): Promise<void> {
    for (let i = 0; i < 3; i++) this.publishers.push(await this.#connect(`p${i}`, null))
    for (let i = 0; i < 4; i++) this.plain.push(await this.#connect(`s${i}`, i % 2 === 0 ? 't/#' : 't/x'))
    for (let i = 0; i < 4; i++) this.members.push(await this.#connect(`g${i}`, '$share/g/t/#'))
    for (let i = 0; i < 2; i++) this.restricted.push(await this.#connect(`r${i}`, 't/x', 'u'))
    await this.rig.settle()
    this.play()
  }

  async #connect(clientId: string, ...filters: readonly (string | null)[]): Promise<RigClusterClient> {
    const client = await this.rig.frontend().connect(clientId, { expirySeconds: NEVER, receiveMaximum: 1 + this.random(5) })
    for (const filter of filters) if (filter !== null) client.subscribe(filter)
    this.got.set(client, [])
    this.#packetIds.set(client, new Map())
    return client
  }

  publish(): void {
    const qos = 1 + this.random(2)
    const isOnU = this.random(4) === 0
    const topic = isOnU ? 'u' : 't/x'
    const packetId = this.published.length + this.publishedOnU.length + 1
    const payload = `qos${qos}-${packetId} ${topic}`
    ;(isOnU ? this.publishedOnU : this.published).push(payload)
    if (qos === 1) return this.router.publish(topic, payload)
    const publisher = this.publishers[this.random(this.publishers.length)]!
    const ticket = publisher.publish(topic, payload, { qos: 2, packetId })
    this.#packetIds.get(publisher)!.set(ticket, packetId)
  }

  restrict(): void {
    const client = [...this.restricted, this.members[0]!].find(each => !this.restrictions.has(each))
    if (client !== undefined) this.restrictions.set(client, client.restrict(rightsTo(client === this.members[0] ? [] : ['u'])))
  }

  /** Clients and the router answer what has come; how many events that was. */
  play(): number {
    let events = 0
    this.router.run()
    for (const client of this.clients) {
      for (const event of client.take()) {
        events++
        if (event.is === 'released') client.pubcomp(event.packetId)
        else if (event.is === 'acknowledged') this.#onAcknowledged(client, event.ticket, event.reason)
        else if (event.is === 'subscribed' && this.restrictions.get(client) === event.ticket) this.restrictions.set(client, -1)
        else if (event.is === 'publish') {
          if (this.restrictions.get(client) === -1) expect([client.clientId, event.topic]).toEqual([client.clientId, 'u'])
          this.got.get(client)!.push(event.payload)
          if (event.qos === 1) client.puback(event.packetId)
          if (event.qos === 2) client.pubrec(event.packetId)
        }
      }
    }
    return events
  }

  #onAcknowledged(client: RigClusterClient, ticket: number, reason: ReasonCode): void {
    const packetId = this.#packetIds.get(client)!.get(ticket)
    if (packetId === undefined) return
    expect(reason).toBe(ReasonCode.Success)
    this.#packetIds.get(client)!.delete(ticket)
    client.release(packetId)
  }

  /** A few frames, a turn or a commit somewhere: everything else stands still. */
  async progress(): Promise<void> {
    const callers = ['f', ...this.rig.backends.keys()]
    const backend = this.#anyBackend()
    switch (this.random(4)) {
      case 0: {
        const link = this.rig.linkOf(callers[this.random(callers.length)]!, backend.id)
        if (link === undefined) return
        if (this.random(2) === 0) link.pair.a.deliver(1 + this.random(4))
        else link.pair.b.deliver(1 + this.random(4))
        return
      }
      case 1:
        return this.rig.endTurn(backend)
      case 2:
        backend.store.complete(1 + this.random(2))
        return await Promise.resolve()
      default:
        await this.rig.step()
    }
  }

  /** @param isForgetful nothing is stored: then nobody is killed */
  async fault(isForgetful: boolean): Promise<void> {
    const { rig } = this
    const backend = this.#anyBackend()
    switch (this.random(6)) {
      case 0:
        if (rig.backends.size < 2 || isForgetful) return
        rig.kill(backend.id, this.random(4))
        if (this.random(2) === 0) for (let i = this.random(20); i > 0; i--) await this.progress()
        return await rig.takeOrphans(this.#anyBackend().id)
      case 1: {
        const shard = this.random(SHARDS)
        if (rig.ownerOf(shard) !== null && rig.ownerOf(shard) !== backend) await rig.move(shard, backend.id)
        return
      }
      case 2:
        return rig.cut(this.random(2) === 0 ? 'f' : this.#anyBackend().id, backend.id)
      case 3:
        return rig.heal()
      case 4:
        return isForgetful ? undefined : await this.#steal(this.random(SHARDS), backend)
      default:
        for (const id of BACKENDS) if (!rig.backends.has(id)) rig.start(id)
        rig.link()
    }
  }

  /** Claimed from an owner that lives, and finds out by the first commit that is refused, or is told a little later. */
  async #steal(shard: number, to: RigBackend): Promise<void> {
    const from = this.rig.ownerOf(shard)
    if (from === null || from === to) return
    await this.rig.take(shard, to.id)
    for (let i = this.random(20); i > 0; i--) await this.progress()
    if (!from.engine.shards[shard]!.isServing) return
    from.cluster.hosting.drop(shard)
    this.rig.closeLinksTo(from, 'fenced')
  }

  async quiet(): Promise<void> {
    this.rig.heal()
    await this.rig.takeOrphans(this.#anyBackend().id)
    for (let idle = 0, round = 0; idle < 3; round++) {
      expect(round).toBeLessThan(ROUNDS_MAX)
      await this.rig.settle()
      const { isDone } = this.router
      idle = this.play() > 0 || !isDone ? 0 : idle + 1
      if (idle > 0) await this.rig.advance(1_000)
    }
  }

  #anyBackend(): RigBackend {
    const all = [...this.rig.backends.values()]
    return all[this.random(all.length)]!
  }
}

function counted(payloads: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const payload of payloads) counts.set(payload, (counts.get(payload) ?? 0) + 1)
  return counts
}

/** Payloads that came too often or too seldom. */
function wrong(published: readonly string[], got: readonly string[]): string[] {
  const counts = counted(got)
  return published
    .filter(payload => (payload.startsWith('qos2') ? counts.get(payload) !== 1 : (counts.get(payload) ?? 0) < 1))
    .map(payload => `${payload}: ${counts.get(payload) ?? 0}`)
}

async function run(seed: number, level: 'stored' | 'memory'): Promise<void> {
  const rig = await ClusterRig.open({ backends: BACKENDS, shards: SHARDS, level })
  const traffic = new Traffic(rig, seed)
  await traffic.connect()
  for (const { store } of rig.backends.values()) store.isPrompt = false
  for (let step = 0; step < STEPS; step++) {
    if (traffic.random(3) === 0) traffic.publish()
    if (traffic.random(15) === 0) await traffic.fault(level === 'memory')
    if (traffic.random(30) === 0) traffic.restrict()
    await traffic.progress()
    if (traffic.random(3) === 0) traffic.play()
  }
  await traffic.quiet()
  const { published, got } = traffic
  for (const client of traffic.plain)
    expect([seed, client.clientId, wrong(published, got.get(client)!)]).toEqual([seed, client.clientId, []])
  for (const client of traffic.restricted)
    expect([seed, client.clientId, wrong(traffic.publishedOnU, got.get(client)!)]).toEqual([seed, client.clientId, []])
  expect([seed, [...traffic.restrictions.values()]]).toEqual([seed, Array.from(traffic.restrictions, () => -1)])
  const byGroup = traffic.members.flatMap(member => got.get(member)!)
  expect([seed, 'group', wrong(published, byGroup)]).toEqual([seed, 'group', []])
  await expectNothingLeft(traffic, seed)
}

async function expectNothingLeft({ rig, clients }: Traffic, seed: number): Promise<void> {
  for (const client of clients) client.detach({ sessionExpirySeconds: 0 })
  await rig.settle()
  await rig.advance(1_000)
  for (const { id, engine } of rig.backends.values()) {
    const left = Object.entries(leftovers(engine)).filter(([, count]) => count !== 0)
    const { groups } = engine.cluster!
    const pending = engine.shards.reduce((sum, shard) => sum + shard.handOvers.size + shard.sharers.size, 0)
    expect([seed, id, left, pending, groups.index.nodeCount]).toEqual([seed, id, [], 0, 0])
  }
}

test('whatever dies, moves or is cut: QoS 1 at least once, QoS 2 exactly once, to each subscriber and each group; nothing to who may not', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await run(seed, 'stored')
}, 60_000)

test('the same with nothing stored, while nobody dies', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await run(seed, 'memory')
}, 60_000)
