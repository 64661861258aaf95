import { Backend, type ClusterBackend } from '../../backend/backend.ts'
import { Caller, callerKey } from '../../backend/cluster/caller.ts'
import { ShardOwnership } from '../../backend/ownership/shard-ownership.ts'
import { Directory, type Owner } from '#shared/cluster/directory.ts'
import { Membership, type MembershipListener } from '#shared/cluster/membership.ts'
import { RouteTable } from '#shared/cluster/route-table.ts'
import { TOPIC_LEVELS_MAX, TopicCache } from '#shared/mqtt/topic.ts'
import { CallerCalls } from '#shared/rpc/caller-calls.ts'
import { CallerDispatch } from '#shared/rpc/caller-dispatch.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { DispatchParts } from '#shared/rpc/dispatch.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import { OwnerDispatch } from '#shared/rpc/owner-dispatch.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import { Neighbours } from './neighbours.ts'
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
  readonly #directory: Directory<Owner>
  readonly #neighbours: Neighbours
  readonly #parts: DispatchParts
  readonly #callerLinks = new Set<Link>()
  readonly #requested = new Map<string, { readonly resolve: (isReleased: boolean) => void; readonly reject: (error: Error) => void }>()

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
    const routes = new RouteTable(shardCount)
    const registeredCallers = (): string[] =>
      this.membership.members.filter(member => member.role !== 'authsvc' && member.id !== id).map(callerKey)
    const others = {
      freshOwner: (shard: number): OwnerPort | null =>
        this.#directory.isFresh(shard) ? (this.#directory.ownerOf(shard)?.calls ?? null) : null,
      match: (topicName: string): readonly number[] => routes.match(topicName).shards,
    }
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
    const listener = {
      onOwned: (): void => {},
      onFresh: (shard: number): void => node.onFresh(shard),
      onUnfresh: (shard: number): void => node.onLost(shard),
      onLost: (shard: number): void => node.onLost(shard),
    }
    this.#directory = new Directory<Owner>({ shardCount, clock, routes, listener })
    this.ownership = new ShardOwnership({
      membership: mutation.isLeaseIgnored === true ? neverLapsing(this.membership) : this.membership,
      store,
      host: hosting,
      peers: { requestShard: (memberId, shard) => this.#requestShard(memberId, shard) },
      timers,
      log,
      closeLinks: reason => {
        for (const link of this.#callerLinks) link.close(reason)
      },
    })
    steps.push(backend.endTurn)
    process.every(TICK_MS, () => {
      backend.tick()
      this.#directory.tick()
    })
    network.listen(this.#station, addressOf(id), link => this.#accept(link))
    this.#neighbours = new Neighbours(network, this.#station, this.membership, link => this.#onLink(link))
    this.ownership.start()
    this.membership.start()
  }

  /** A caller has linked to us. */
  #accept(link: Link): LinkHandler {
    this.#callerLinks.add(link)
    const { backend, node } = this.#cluster
    const caller = new Caller(backend.engine, node, {
      peer: link.peer,
      calls: this.#recording(new CallerCalls(link)),
      onRequestShard: (memberId, shard) => this.ownership.onRequestShard(memberId, shard),
      close: reason => link.close(reason),
    })
    const dispatch = new OwnerDispatch(caller, this.#parts)
    caller.open()
    return {
      onFrame: (method, body) => {
        // After standing still nothing may be answered for shards that others may have by now.
        if (this.#checkLease() && caller.isOpen) dispatch.dispatch(method, body)
      },
      onCongestion: isCongested => caller.onCongestion(isCongested),
      onClosed: () => {
        this.#callerLinks.delete(link)
        caller.closed()
      },
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

  /** We have linked to another backend. */
  #onLink(link: Link): LinkHandler {
    const owner: Owner = { link, calls: new OwnerCalls(link) }
    this.#directory.opened(owner)
    const dispatch = new CallerDispatch(this.#portOf(owner), this.#parts)
    return {
      onFrame: (method, body) => dispatch.dispatch(method, body),
      onCongestion: () => {},
      onClosed: () => {
        this.#directory.closed(owner)
        for (const [key, { reject }] of this.#requested) {
          if (!key.startsWith(`${link.peer.id} `)) continue
          this.#requested.delete(key)
          reject(new Error('the link is closed'))
        }
      },
    }
  }

  #portOf(owner: Owner): CallerPort {
    const { node } = this.#cluster
    const ignored = (): void => {}
    return {
      deliver: ignored,
      acknowledged: ignored,
      subscribed: ignored,
      released: ignored,
      pressure: ignored,
      disconnect: ignored,
      attached: ignored,
      attachMoved: ignored,
      detached: ignored,
      published: ignored,
      resumed: ignored,
      allOwned: ignored,
      owned: (shard, epoch, routes, digest) => {
        this.ownership.onOwnedElsewhere(shard, epoch)
        this.#directory.owned(owner, shard, epoch, routes, digest)
      },
      lost: shard => this.#directory.lost(owner, shard),
      routes: (shard, barrier, isWhole, added, removed) => this.#directory.routes(owner, shard, barrier, isWhole, added, removed),
      handedOver: (fromShard, sequence, shards, outcome) => node.handOvers.onHandedOver(fromShard, sequence, shards, outcome),
      retained: (query, messages, isDone) => node.onRetained(query, messages, isDone),
      membersApplied: request => node.memberships.onApplied(request),
      shardReleased: (shard, isReleased) => {
        const key = `${owner.link.peer.id} ${shard}`
        const waiting = this.#requested.get(key)
        this.#requested.delete(key)
        if (waiting === undefined) this.ownership.onShardReleased(shard)
        else waiting.resolve(isReleased)
      },
    }
  }

  #requestShard(memberId: string, shard: number): Promise<boolean> {
    const link = this.#neighbours.linkTo(memberId)
    if (link === null) return Promise.reject(new Error(`no link to ${memberId}`))
    return new Promise((resolve, reject) => {
      this.#requested.set(`${memberId} ${shard}`, { resolve, reject })
      new OwnerCalls(link).requestShard(shard)
    })
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
