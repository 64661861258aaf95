import { ManualTimers, type Timers } from '#shared/base/timers.ts'
import type { Member, Registry } from '#shared/cluster/member.ts'
import { Membership } from '#shared/cluster/membership.ts'
import { MemoryRegistry } from '#shared/cluster/memory-registry.contract.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'
import type { ClusterStore, ShardOwner } from '../store/shard-store.ts'
import type { Peers, ShardHost } from './shard-host.ts'
import { ShardOwnership } from './shard-ownership.ts'

/** Milliseconds that answers take, at most. */
export interface SimSpeed {
  readonly registryMs: number
  readonly storeMs: number
  readonly hostMs: number
}

interface Record {
  owner: ShardOwner
}

/** The last two happen where somebody with a lease is evicted; there the store refuses the older one's appends. */
export type Violation = 'sameEpoch' | 'notDrained' | 'hostMisled' | 'servedTwice' | 'olderEpoch'

/** A backend of the simulation: the process, which may be paused or killed, with its parts. */
export class SimBackend implements ShardHost {
  readonly id: string
  readonly instance: string
  readonly log = new RecordingLog()
  readonly membership: Membership
  readonly ownership: ShardOwnership
  readonly #sim: ClusterSim
  state: 'running' | 'paused' | 'dead' = 'running'
  #held: (() => void)[] = []
  /** What the host answers for, by shard. */
  readonly serving = new Map<number, number>()
  /** take calls under way that must not serve any more when their token is gone. */
  readonly #taking = new Map<number, object>()
  readonly prepared = new Set<number>()
  readonly calls: string[] = []
  /** take or prepare of these fail. */
  readonly unreadable = new Set<number>()
  readonly linksClosed: string[] = []

  constructor(sim: ClusterSim, id: string, instance: string) {
    this.#sim = sim
    this.id = id
    this.instance = instance
    const timers = this.#timers()
    const self = { role: 'backend', id, instance, address: `${id}:1` } as const
    this.membership = new Membership({ self, registry: this.#registry(), timers, log: this.log })
    const membership = sim.isLeaseIgnored ? ignoringLease(this.membership) : this.membership
    this.ownership = new ShardOwnership({
      membership,
      store: this.#store(),
      host: this,
      peers: this.#peers(),
      timers,
      log: this.log,
      closeLinks: reason => this.linksClosed.push(reason),
    })
  }

  start(): void {
    this.ownership.start()
    this.membership.start()
  }

  /** Runs now, when the process goes on, or never. */
  run(act: () => void): void {
    if (this.state === 'running') act()
    else if (this.state === 'paused') this.#held.push(act)
  }

  pause(): void {
    if (this.state === 'running') this.state = 'paused'
  }

  /** What came meanwhile is met in any order, as with timers and sockets of a real process. */
  resume(): void {
    if (this.state !== 'paused') return
    this.state = 'running'
    const held = this.#held.splice(0)
    // Sometimes a request is the first to be met.
    if (this.#sim.random.chance(0.5)) this.#sim.check()
    while (held.length > 0) held.splice(this.#sim.random.int(0, held.length - 1), 1)[0]!()
  }

  kill(): void {
    this.state = 'dead'
    this.#held = []
    this.serving.clear()
  }

  /** Would answer a request for the shard that reached it now. */
  answersFor(shard: number): boolean {
    return this.state === 'running' && this.serving.has(shard) && this.ownership.mayServe(shard)
  }

  async prepare(shard: number): Promise<void> {
    this.calls.push(`prepare ${shard}`)
    this.#expect(!this.prepared.has(shard) && !this.serving.has(shard), `prepare ${shard}`)
    this.prepared.add(shard)
    await this.delay(this.#sim.speed.hostMs)
    if (this.unreadable.has(shard)) throw new Error('unreadable')
  }

  async take(shard: number, epoch: number): Promise<void> {
    this.calls.push(`take ${shard} ${epoch}`)
    this.#expect(!this.#taking.has(shard) && !this.serving.has(shard), `take ${shard}`)
    this.prepared.delete(shard)
    const token = {}
    this.#taking.set(shard, token)
    await this.delay(this.#sim.speed.hostMs)
    if (this.#taking.get(shard) !== token) return
    this.#taking.delete(shard)
    if (this.unreadable.has(shard)) throw new Error('unreadable')
    if (this.ownership.mayServe(shard)) {
      this.serving.set(shard, epoch)
      this.#sim.onServing(this, shard, epoch)
    }
  }

  async stop(shard: number): Promise<void> {
    this.calls.push(`stop ${shard}`)
    this.#expect(this.serving.has(shard), `stop ${shard}`)
    this.serving.delete(shard)
    await this.delay(this.#sim.speed.hostMs)
  }

  released(shard: number): void {
    this.calls.push(`released ${shard}`)
  }

  drop(shard: number): void {
    this.calls.push(`drop ${shard}`)
    this.serving.delete(shard)
    this.#taking.delete(shard)
  }

  abandon(shard: number): void {
    this.calls.push(`abandon ${shard}`)
    this.prepared.delete(shard)
  }

  #expect(isSo: boolean, what: string): void {
    if (!isSo) this.#sim.violate('hostMisled', `${this.instance}: ${what}`)
  }

  /** So long at most, and until the process runs; never when it is dead. */
  delay(maxMs: number): Promise<void> {
    return new Promise(resolve => {
      this.#sim.timers.after(this.#sim.random.int(0, maxMs), () => this.run(resolve))
    })
  }

  #timers(): Timers {
    const { timers } = this.#sim
    return { nowMs: () => timers.nowMs(), after: (ms, run) => timers.after(ms, () => this.run(run)) }
  }

  #registry(): Registry {
    const { registry, cutOff } = this.#sim
    const call = async <T>(act: () => Promise<T>): Promise<T> => {
      await this.delay(this.#sim.speed.registryMs)
      if (cutOff.has(this.id) || cutOff.has('*')) throw new Error('out of reach')
      const answer = await act()
      await this.delay(this.#sim.speed.registryMs)
      return answer
    }
    return {
      heartbeat: self => call<readonly Member[]>(() => registry.heartbeat(self)),
      evict: (id, instance) => call(() => registry.evict(id, instance)),
      leave: self => call(() => registry.leave(self)),
    }
  }

  #store(): Pick<ClusterStore, 'shardCount' | 'ownerOf' | 'claim' | 'release' | 'onFenced'> {
    const { shards } = this.#sim
    const call = async <T>(act: () => T): Promise<T> => {
      await this.delay(this.#sim.speed.storeMs)
      await this.#sim.storeReachable()
      const answer = act()
      await this.delay(this.#sim.speed.storeMs)
      return answer
    }
    return {
      shardCount: this.#sim.shardCount,
      onFenced: null,
      ownerOf: shard => call(() => shards.get(shard)?.owner ?? null),
      claim: (shard, after) =>
        call(() => {
          if ((shards.get(shard)?.owner.epoch ?? 0) !== after) return null
          shards.set(shard, { owner: { epoch: after + 1, id: this.id, instance: this.instance, isReleased: false } })
          return after + 1
        }),
      release: shard =>
        call(() => {
          const record = shards.get(shard)
          if (record?.owner.instance === this.instance) record.owner = { ...record.owner, isReleased: true }
        }),
    }
  }

  #peers(): Peers {
    return {
      requestShard: async (memberId, shard) => {
        await this.delay(this.#sim.speed.registryMs)
        const peer = this.#sim.backends.find(each => each.id === memberId && each.state !== 'dead')
        if (peer === undefined) throw new Error('no link')
        const answer = await new Promise<boolean>(resolve => {
          peer.run(() => void peer.ownership.onRequestShard(this.id, shard).then(resolve))
        })
        await this.delay(this.#sim.speed.registryMs)
        return answer
      },
    }
  }
}

/** Backends with one registry and one store, in one process and a time of their own. Checks, at every step, that no shard is served twice. */
export class ClusterSim {
  readonly timers = new ManualTimers()
  readonly random: SeededRandom
  readonly shardCount: number
  readonly registry = new MemoryRegistry({ wallMs: () => this.timers.nowMs(), monotonicMs: () => this.timers.nowMs() })
  readonly shards = new Map<number, Record>()
  /** Ids of backends for which the registry is out of reach; '*' for all. */
  readonly cutOff = new Set<string>()
  readonly backends: SimBackend[] = []
  readonly violations: { readonly kind: Violation; readonly text: string }[] = []
  speed: SimSpeed = { registryMs: 5, storeMs: 5, hostMs: 20 }
  /** Breaks the backends on purpose, to see that the checks notice. */
  isLeaseIgnored = false
  #storeWaiting: (() => void)[] | null = null
  readonly #lastEpoch = new Map<number, number>()
  readonly #servedEpochs = new Set<string>()
  #instances = 0

  constructor(random: SeededRandom, shardCount: number) {
    this.random = random
    this.shardCount = shardCount
  }

  add(id: string): SimBackend {
    const backend = new SimBackend(this, id, `${id}-${++this.#instances}`)
    this.backends.push(backend)
    backend.start()
    return backend
  }

  remove(backend: SimBackend): void {
    backend.kill()
    this.backends.splice(this.backends.indexOf(backend), 1)
  }

  /** Redis is gone: calls of the store wait. */
  stopStore(): void {
    this.#storeWaiting ??= []
  }

  startStore(): void {
    const waiting = this.#storeWaiting ?? []
    this.#storeWaiting = null
    for (const go of waiting) go()
  }

  storeReachable(): Promise<void> {
    const waiting = this.#storeWaiting
    return waiting === null ? Promise.resolve() : new Promise(resolve => waiting.push(resolve))
  }

  onServing(backend: SimBackend, shard: number, epoch: number): void {
    const last = this.#lastEpoch.get(shard) ?? 0
    const what = `${backend.instance} serves shard ${shard} with epoch ${epoch}`
    if (this.#servedEpochs.has(`${shard}/${epoch}`)) this.violate('sameEpoch', `${what}, not the first`)
    if (epoch < last) this.violate('olderEpoch', `${what} after ${last}`)
    this.#servedEpochs.add(`${shard}/${epoch}`)
    this.#lastEpoch.set(shard, Math.max(last, epoch))
  }

  violate(kind: Violation, text: string): void {
    this.violations.push({ kind, text: `${this.timers.nowMs()} ms: ${text}` })
  }

  /** Lets time pass in steps, everything that follows from one step before the next. */
  async run(ms: number, stepMs = 5): Promise<void> {
    const endMs = this.timers.nowMs() + ms
    while (this.timers.nowMs() < endMs) {
      this.timers.advance(stepMs)
      await new Promise(resolve => setImmediate(resolve))
      this.check()
    }
  }

  check(): void {
    for (let shard = 0; shard < this.shardCount; shard++) {
      const answering = this.backends.filter(backend => backend.answersFor(shard))
      if (answering.length > 1) {
        this.violate(
          'servedTwice',
          `shard ${shard} at ${answering.map(each => `${each.instance}/${each.serving.get(shard)}`).join(' and ')}`,
        )
      }
    }
  }

  /** Id of the backend that serves each shard, '' for none. */
  owners(): string[] {
    return Array.from({ length: this.shardCount }, (_, shard) => this.backends.find(each => each.answersFor(shard))?.id ?? '')
  }
}

function ignoringLease(membership: Membership): Membership {
  return new Proxy(membership, {
    get: (target, name) => {
      if (name === 'isAlive') return true
      if (name === 'checkLease') return () => true
      if (name === 'listen') {
        return (listener: Parameters<Membership['listen']>[0]) =>
          target.listen({ onMembers: () => listener.onMembers(), onLapsed: () => undefined })
      }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}
