import type { Directory } from '#shared/cluster/directory.ts'
import type { RouteTable } from '#shared/cluster/route-table.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import { HeldPublishes } from './held.ts'
import type { RouterLimits } from './limits.ts'
import type { OwnerLink } from './owner-link.ts'
import { type Plan, Plans } from './plan.ts'
import type { Pressure } from './pressure.ts'
import { includes, NO_TICKET, PART_SPAN_MAX, PendingPublish, PendingPublishes } from './publishes.ts'
import { RefusedLate } from './refused-late.ts'
import type { RouterCounters } from './router-counters.ts'
import { isRefusable, type SessionRoute } from './session-routes.ts'
import { ShardDoors } from './shard-doors.ts'

export interface PublishingParts {
  readonly shardCount: number
  readonly routes: RouteTable
  readonly directory: Directory<OwnerLink>
  readonly limits: RouterLimits
  readonly counters: RouterCounters
  readonly pressure: Pressure
  readonly isConnected: (connection: ConnectionId) => boolean
  /** Asks for `endTurn`. */
  readonly requestTurn: () => void
}

/**
 * QoS 0 and 1 publishes to all shards that they concern. A QoS 1 publish is addressed to every shard: those that are open get it if they
 * have a route, the others when they open. It is acknowledged when none is left.
 */
export class Publishing {
  readonly #parts: PublishingParts
  readonly #doors: ShardDoors
  readonly #plans: Plans
  readonly #pending = new PendingPublishes()
  readonly #held: HeldPublishes
  readonly #refusedLate = new RefusedLate()
  #number = 0
  #frontend: FrontendPort | null = null
  #congestedLinks = 0
  /** Monotonic, of this turn. */
  nowMs = 0

  constructor(parts: PublishingParts) {
    this.#parts = parts
    this.#doors = new ShardDoors(parts.shardCount, parts.directory)
    this.#plans = new Plans({ routes: parts.routes, shardCount: parts.shardCount, open: this.#doors })
    this.#held = new HeldPublishes({
      doors: this.#doors,
      pending: this.#pending,
      plans: this.#plans,
      limits: parts.limits,
      counters: parts.counters,
      refusedLate: this.#refusedLate,
      send: (owner, publish, shards) => this.#sendPart(owner, publish, shards, publish.publisher),
      finish: publish => this.#finish(publish),
    })
  }

  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
  }

  /** BackendPort.publish for QoS 0 and 1. */
  publish(connection: ConnectionId, ticket: number, route: SessionRoute | null, message: Message): void {
    const plan = this.#plans.of(message)
    if (message.qos !== 0) return this.#publishQos1(plan, connection, ticket, route, message)
    const { owners, shards } = plan
    for (let at = 0; at < owners.length; at++) {
      const owner = owners[at]!
      if (owner.isCongested && !this.#fits(owner, message)) this.#parts.counters.qos0DroppedCongested++
      else owner.calls.publish(0, connection, isRefusable(route), shards[at]!, message)
    }
    if (plan.closed.length > 0) this.#holdQos0(plan, connection, route, message)
  }

  /** BackendPort.detach. */
  detached(connection: ConnectionId): void {
    this.#refusedLate.end(connection)
  }

  /** CallerPort.published. */
  published(owner: OwnerLink, sequence: number, reason: ReasonCode, moved: readonly number[] | null): void {
    const publish = owner.parts.take(sequence)
    if (publish === null) return
    const shards = owner.parts.takenShards!
    let movedCount = 0
    if (moved !== null) {
      for (const shard of moved) {
        if (!includes(shards, shard)) continue
        movedCount++
        this.#moved(owner, publish, shard)
      }
    }
    if (owner.gates > 0 && this.#doors.answered(owner, shards)) this.#parts.requestTurn()
    if (publish.message === null) return
    if (movedCount < shards.count) publish.join(reason)
    if (--publish.missing === 0) this.#finish(publish)
  }

  onFresh(shard: number): void {
    this.#doors.consider(shard)
    this.#parts.requestTurn()
  }

  onUnfresh(shard: number): void {
    this.#held.interrupt(shard)
    this.#doors.close(shard, this.#number + 1)
  }

  /** Whatever it has not answered goes again to whoever owns the shards by then. The directory knows already. */
  onLinkClosed(owner: OwnerLink): void {
    for (const publish of owner.parts.drain()) {
      if (publish.message === null) continue
      const { count, numbers } = owner.parts.takenShards!
      publish.missing += count - 1
      for (let at = 0; at < count; at++) publish.owe(numbers[at]!)
    }
    this.onCongestion(owner, false)
    this.#doors.linkClosed(owner)
    this.#parts.requestTurn()
  }

  onCongestion(owner: OwnerLink, isCongested: boolean): void {
    if (owner.isCongested === isCongested) return
    owner.isCongested = isCongested
    owner.congestedBytes = 0
    this.#congestedLinks += isCongested ? 1 : -1
    this.#parts.pressure.addOther(isCongested ? 1 : -1)
    if (!isCongested) this.#parts.requestTurn()
  }

  /** Shards that have become fresh get what is held for them. */
  endTurn(): void {
    if (this.#held.run(this.nowMs)) this.#parts.requestTurn()
  }

  /** What has waited for too long: the oldest come first. */
  tick(): void {
    const sinceMs = this.nowMs - this.#parts.limits.publishWaitMs
    for (let publish = this.#pending.first; publish !== null && publish.sinceMs <= sinceMs; publish = this.#pending.first) {
      if (publish.ticket === NO_TICKET) this.#parts.counters.qos0DroppedNotFresh++
      else {
        this.#parts.counters.publishesRefusedLate++
        publish.reason = ReasonCode.QuotaExceeded
        this.#refusedLate.add(publish.connection, this.#parts.isConnected(publish.connection))
      }
      this.#finish(publish)
    }
  }

  #publishQos1(plan: Plan, connection: ConnectionId, ticket: number, route: SessionRoute | null, message: Message): void {
    const { pressure, counters } = this.#parts
    const closed = this.#doors.closedCount
    const { owners, shards } = plan
    const missing = owners.length + closed
    if (missing === 0) return this.#frontend!.acknowledged(connection, ticket, ReasonCode.NoMatchingSubscribers)
    if (pressure.refuses(isRefusable(route)) || (this.#congestedLinks > 0 && !this.#fitsAll(plan, message))) {
      counters.publishesRefusedFull++
      return this.#frontend!.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
    }
    const publish = new PendingPublish(++this.#number, connection, ticket, route, message.keep(), missing, this.nowMs)
    this.#pending.add(publish)
    pressure.add(publish.bytes)
    if (closed > 0) counters.publishesHeld++
    for (let at = 0; at < owners.length; at++) this.#sendPart(owners[at]!, publish, shards[at]!, '')
  }

  #sendPart(owner: OwnerLink, publish: PendingPublish, shards: Shards, publisher: string): void {
    const { message, connection } = publish
    if (message === null) return
    if (publish.ticket === NO_TICKET) return owner.calls.publish(0, connection, publish.isRefusable, shards, message, publisher)
    const sequence = owner.parts.add(publish, shards)
    owner.calls.publish(sequence, connection, publish.isRefusable, shards, message, publisher)
    if (owner.parts.span > PART_SPAN_MAX) owner.link.close('a publish was not answered')
  }

  /** QoS 0 for shards that are known to have subscribers. */
  #holdQos0(plan: Plan, connection: ConnectionId, route: SessionRoute | null, message: Message): void {
    const { pressure, counters } = this.#parts
    if (pressure.isFull) {
      counters.qos0DroppedNotFresh++
      return
    }
    counters.publishesHeld++
    const publish = new PendingPublish(++this.#number, connection, NO_TICKET, route, message.keep(), plan.closed.length, this.nowMs)
    for (const shard of plan.closed) publish.owe(shard)
    this.#pending.add(publish)
    pressure.add(publish.bytes)
  }

  /** The shard was not there. Not so if that was before it opened at this link (again): then it is known. */
  #moved(owner: OwnerLink, publish: PendingPublish, shard: number): void {
    const { directory, counters } = this.#parts
    counters.publishesMoved++
    if (publish.message !== null) {
      publish.owe(shard)
      publish.missing++
    }
    const door = this.#doors.at(shard)
    if (door.owner === owner && directory.termOf(shard) === door.term) directory.lost(owner, shard)
  }

  #finish(publish: PendingPublish): void {
    this.#pending.remove(publish)
    if (this.#pending.first === null) this.#refusedLate.clear()
    publish.message = null
    this.#parts.pressure.remove(publish.bytes)
    if (publish.ticket !== NO_TICKET) this.#frontend!.acknowledged(publish.connection, publish.ticket, publish.reason)
  }

  #fitsAll(plan: Plan, message: Message): boolean {
    for (const owner of plan.owners) if (owner.isCongested && !this.#fits(owner, message)) return false
    return true
  }

  #fits(owner: OwnerLink, message: Message): boolean {
    if (owner.congestedBytes >= this.#parts.limits.congestedBytesMax) return false
    owner.congestedBytes += message.storedBytes
    return true
  }
}
