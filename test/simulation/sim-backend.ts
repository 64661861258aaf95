import { Backend, type ClusterBackend } from '../../backend/backend.ts'
import { Caller, callerKey } from '../../backend/cluster/caller.ts'
import { OtherBackends } from '../../backend/cluster/other-backends.ts'
import { ShardOwnership } from '../../backend/ownership/shard-ownership.ts'
import { Membership, type MembershipListener } from '#shared/cluster/membership.ts'
import { TOPIC_LEVELS_MAX, TopicCache } from '#shared/mqtt/topic.ts'
import { CallerCalls } from '#shared/rpc/caller-calls.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { DispatchParts } from '#shared/rpc/dispatch.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerDispatch } from '#shared/rpc/owner-dispatch.ts'
import { BackendDialers } from '#shared/cluster/backend-dialers.ts'
import { simDialers } from './sim-dialer.ts'
import type { Station } from './sim-network.ts'
import { SimRegistry } from './sim-registry.ts'
import { SimStore } from './sim-store.ts'
import { LIMITS, SILENT_LOG, type Surroundings } from './surroundings.ts'
import type { SimProcess } from './world.ts'

const TICK_MS = 100

/** One run of a backend process: the real engine as one of several, and the real ownership, on simulated network and store. */
export class SimBackend {
  readonly process: SimProcess
  readonly membership: Membership
  readonly ownership: ShardOwnership
  readonly #surroundings: Surroundings
  readonly #station: Station
  readonly #cluster: ClusterBackend
  readonly #parts: DispatchParts

  constructor(surroundings: Surroundings, process: SimProcess, id: string) {
    const { shardCount, network, redis, level, mutation } = surroundings
    this.#surroundings = surroundings
    this.process = process
    this.#station = { process, role: 'backend', id }
    const { clock, timers } = process
    const log = SILENT_LOG
    const steps: (() => void)[] = []
    const turn = process.turn(steps)
    const topics = new TopicCache({ topicsMax: 1_000, levelsMax: TOPIC_LEVELS_MAX })
    this.#parts = { topics, shardCount, levelsMax: TOPIC_LEVELS_MAX, isPeerNewer: false }
    const store = new SimStore(redis, process, { level, memberId: id, ...mutation.store })
    const self = { role: 'backend', id, instance: process.instance, address: addressOf(id) } as const
    this.membership = new Membership({ self, registry: new SimRegistry(redis, process), timers, log })
    const others = new OtherBackends(shardCount, clock)
    const registeredCallers = (): string[] =>
      this.membership.members.filter(member => member.role !== 'authsvc' && member.id !== id).map(callerKey)
    this.#cluster = Backend.join(
      {
        settings: LIMITS,
        clock,
        turn,
        store,
        topics,
        log,
        onFailure: error => surroundings.world.failures.push({ process: process.instance, error }),
        cluster: { store, others, registeredCallers },
      },
      shard => this.ownership.mayServe(shard),
    )
    const { backend, node, hosting } = this.#cluster
    this.ownership = new ShardOwnership({
      membership: mutation.isLeaseIgnored === true ? neverLapsing(this.membership) : this.membership,
      store,
      host: hosting,
      peers: others,
      timers,
      log,
      closeLinks: reason => {
        for (const caller of node.callers) caller.close(reason)
      },
    })
    others.bind(node, this.ownership)
    steps.push(backend.endTurn)
    process.every(TICK_MS, () => {
      others.tick()
      backend.tick()
    })
    network.listen(this.#station, addressOf(id), link => this.#accept(link))
    new BackendDialers({
      membership: this.membership,
      dialerTo: simDialers(network, this.#station),
      topics,
      topicLevelsMax: TOPIC_LEVELS_MAX,
      shardCount,
      caller: others,
      log,
    })
    this.ownership.start()
    this.membership.start()
  }

  /** A caller has linked to us. */
  #accept(link: Link): LinkHandler {
    const { backend, node } = this.#cluster
    const caller = new Caller(backend.engine, node, {
      peer: link.peer,
      calls: this.#recording(new CallerCalls(link)),
      heardMs: () => link.heardMs,
      isCongested: () => link.isCongested,
      onRequestShard: (memberId, shard) => this.ownership.onRequestShard(memberId, shard),
      close: reason => link.close(reason),
    })
    const dispatch = new OwnerDispatch(caller, this.#parts)
    caller.open()
    return {
      onFrame: (method, body) => {
        // After standing still nothing may be answered for shards that others may have by now.
        if (!this.#checkLease() || !caller.isOpen) return
        if (this.#surroundings.mutation.areHandOversForgotten === true) for (const { seen } of backend.engine.shards) seen.clear()
        dispatch.dispatch(method, body)
      },
      onCongestion: isCongested => caller.onCongestion(isCongested),
      onClosed: () => caller.closed(),
    }
  }

  #checkLease(): boolean {
    return this.#surroundings.mutation.isLeaseIgnored === true || this.membership.checkLease()
  }

  /** Notes what is announced. */
  #recording(calls: CallerCalls): CallerPort {
    const { history } = this.#surroundings
    const { instance } = this.process
    const owned = calls.owned.bind(calls)
    calls.owned = (shard, epoch, routes, digest) => {
      history.add({ is: 'owned', process: instance, shard, epoch })
      owned(shard, epoch, routes, digest)
    }
    return calls
  }

  get figures(): [string, number][] {
    const { moves, failovers, fenced, lapses } = this.ownership.counters
    return [
      ['shards moved', moves],
      ['shards failed over', failovers],
      ['shards fenced', fenced],
      ['leases lapsed', lapses],
    ]
  }

  /** Gives away its shards, leaves, and is gone. */
  async drain(boundMs: number): Promise<void> {
    await this.ownership.drain(boundMs)
    await this.membership.leave()
    this.ownership.stop()
    this.process.kill()
  }
}

function addressOf(id: string): string {
  return `${id}:4000`
}

function neverLapsing(membership: Membership): Membership {
  return new Proxy(membership, {
    get: (target, name) => {
      if (name === 'isAlive') return true
      if (name === 'checkLease') return () => true
      if (name === 'listen')
        return (listener: MembershipListener) => target.listen({ onMembers: () => listener.onMembers(), onLapsed: () => {} })
      const value = Reflect.get(target, name, target) as unknown
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value
    },
  })
}
