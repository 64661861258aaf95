import type { Clock } from '#shared/base/clock.ts'
import { Directory, type Owner } from '#shared/cluster/directory.ts'
import { RouteTable } from '#shared/cluster/route-table.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import type { Peers } from '../ownership/shard-host.ts'
import type { ClusterNode, OtherOwners } from './cluster-node.ts'

/** What this backend does when others speak of shards. */
export interface OtherBackendsListener {
  /** ShardOwnership.onShardReleased, .onOwnedElsewhere */
  onShardReleased(shard: number): void
  onOwnedElsewhere(shard: number, epoch: number): void
}

/** The links of this backend to all others, by which it is their caller. */
export class OtherBackends implements OtherOwners, Peers {
  readonly #directory: Directory<Owner>
  readonly #routes: RouteTable
  readonly #owners = new Map<Link, Owner>()
  readonly #requests = new Map<number, { readonly owner: Owner; readonly resolve: (isReleased: boolean) => void }>()
  #node: ClusterNode | null = null
  #listener: OtherBackendsListener | null = null

  constructor(shardCount: number, clock: Clock) {
    this.#routes = new RouteTable(shardCount)
    this.#directory = new Directory<Owner>({
      shardCount,
      clock,
      routes: this.#routes,
      listener: {
        // No connections of ours are there: it says that what we send from now on is meant for this ownership.
        onOwned: (shard, owner) => owner.calls.resume(shard, [], true),
        onFresh: shard => this.#node?.onFresh(shard),
        onUnfresh: () => undefined,
        onLost: shard => this.#node?.onLost(shard),
      },
    })
  }

  /** Before the first link. */
  bind(node: ClusterNode, listener: OtherBackendsListener): void {
    this.#node = node
    this.#listener = listener
  }

  freshOwner(shard: number): OwnerPort | null {
    return this.#directory.isFresh(shard) ? this.#directory.ownerOf(shard)!.calls : null
  }

  match(topicName: string): readonly number[] {
    return this.#routes.match(topicName).shards
  }

  requestShard(memberId: string, shard: number): Promise<boolean> {
    const owner = [...this.#owners.values()].find(({ link }) => link.peer.id === memberId)
    if (owner === undefined) return Promise.resolve(false)
    this.#requests.get(shard)?.resolve(false)
    return new Promise(resolve => {
      this.#requests.set(shard, { owner, resolve })
      owner.calls.requestShard(shard)
    })
  }

  /** A link to another backend has passed its handshake. Answers what the backend's calls go to. */
  onLinkOpen(link: Link, calls: OwnerPort): CallerPort {
    const owner: Owner = { link, calls }
    this.#owners.set(link, owner)
    this.#directory.opened(owner)
    return this.#handlerOf(owner)
  }

  onLinkClosed(link: Link): void {
    const owner = this.#owners.get(link)
    if (owner === undefined) return
    this.#owners.delete(link)
    for (const [shard, request] of this.#requests) {
      if (request.owner === owner) this.#answer(owner, shard, false)
    }
    this.#directory.closed(owner)
  }

  /** Several times within STALE_MS. */
  tick(): void {
    this.#directory.tick()
  }

  #answer(owner: Owner, shard: number, isReleased: boolean): void {
    const request = this.#requests.get(shard)
    // Another one is asked by now, or nobody.
    if (request?.owner !== owner) return this.#listener?.onShardReleased(shard)
    this.#requests.delete(shard)
    request.resolve(isReleased)
  }

  #handlerOf(owner: Owner): CallerPort {
    const node = this.#node!
    return {
      ...NO_CONNECTIONS,
      owned: (shard, epoch, routes, digest) => {
        this.#directory.owned(owner, shard, epoch, routes, digest)
        this.#listener?.onOwnedElsewhere(shard, epoch)
      },
      lost: shard => this.#directory.lost(owner, shard),
      routes: (shard, barrier, isWhole, added, removed) => this.#directory.routes(owner, shard, barrier, isWhole, added, removed),
      handedOver: (fromShard, sequence, shards, outcome) => node.handOvers.onHandedOver(fromShard, sequence, shards, outcome),
      retained: (query: number, messages: readonly Message[], isDone: boolean) => node.onRetained(query, messages, isDone),
      membersApplied: request => node.memberships.onApplied(request),
      shardReleased: (shard, isReleased) => this.#answer(owner, shard, isReleased),
    }
  }
}

function nothing(): void {
  // A backend has no connections and makes no such request.
}

/** What others say to callers that have connections. */
const NO_CONNECTIONS = {
  deliver: nothing,
  acknowledged: nothing,
  subscribed: nothing,
  released: nothing,
  pressure: nothing,
  disconnect: nothing,
  attached: nothing,
  attachMoved: nothing,
  detached: nothing,
  storeAsked: nothing,
  storeRead: nothing,
  unwatched: nothing,
  published: nothing,
  resumed: nothing,
  allOwned: nothing,
}
