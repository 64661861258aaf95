import { groupShardOf } from '#shared/cluster/shard.ts'
import type { ParsedFilter } from '#shared/mqtt/topic.ts'
import type { MemberChange, MemberOptions, MemberStanding, Standing } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import type { Session } from '../session/session.ts'
import type { Shard } from '../shard/shard.ts'
import type { ClusterNode } from './cluster-node.ts'
import { standingOf } from './standing.ts'

/** Members named in one call, so that no frame holds up the others of its link. */
const MEMBERS_PER_CALL = 4_096

interface Waiter {
  readonly groupShard: number
  readonly memberShard: number
  request: number
  readonly run: () => void
}

/**
 * Tells the shards that own groups which sessions of ours are members, and how they stand. The session's own Subscription is the truth:
 * when the owner of the group changes, or ours, the whole list is told again.
 */
export class Memberships {
  readonly #engine: Engine
  readonly #node: ClusterNode
  #request = 0
  #waiters: Waiter[] = []
  /** Sessions that may stand otherwise than their groups were told last. */
  readonly #changed = new Set<Session>()
  readonly #told = new WeakMap<Session, Standing>()

  constructor(engine: Engine, node: ClusterNode) {
    this.#engine = engine
    this.#node = node
  }

  /** A session of ours became a member (again), or is none any more (options null). `then` runs when the group's shard has stored it. */
  change(session: Session, filter: ParsedFilter, options: MemberOptions | null, then: (() => void) | null): void {
    const groupName = filter.group!
    const groupShard = groupShardOf(groupName, filter.filter, this.#engine.shards.length)
    const standing = standingOf(this.#engine, session)
    this.#told.set(session, standing)
    const request = this.#tell(groupShard, session.shard, false, [
      { groupName, groupFilter: filter.filter, clientId: session.clientId, options, standing },
    ])
    if (then !== null) this.#waiters.push({ groupShard, memberShard: session.shard, request, run: then })
    this.#answerHere(groupShard, session.shard, request)
  }

  noteStanding(session: Session): void {
    this.#changed.add(session)
    this.#engine.turn.request()
  }

  /** End of a turn: how those stand that have changed. */
  flush(): void {
    if (this.#changed.size === 0) return
    const told = new Map<string, { groupShard: number; memberShard: number; states: MemberStanding[] }>()
    for (const session of this.#changed) {
      if (session.hasEnded) continue
      const standing = standingOf(this.#engine, session)
      if (this.#told.get(session) === standing) continue
      this.#told.set(session, standing)
      for (const groupShard of this.#groupShardsOf(session)) {
        const key = `${groupShard}/${session.shard}`
        let list = told.get(key)
        if (list === undefined) told.set(key, (list = { groupShard, memberShard: session.shard, states: [] }))
        list.states.push({ clientId: session.clientId, standing })
      }
    }
    this.#changed.clear()
    for (const { groupShard, memberShard, states } of told.values()) {
      this.#node.others.freshOwner(groupShard)?.memberStates(groupShard, memberShard, states)
    }
  }

  /** `shard` can be told of members (again): of all that our shards have. */
  onFresh(shard: number): void {
    for (const own of this.#engine.shards) if (own.isServing) this.#tellWhole(shard, own)
  }

  /** A shard of ours has begun to serve: its members are told to all groups. */
  resume(shard: Shard): void {
    for (let groupShard = 0; groupShard < this.#engine.shards.length; groupShard++) this.#tellWhole(groupShard, shard)
  }

  /** CallerPort.membersApplied, and what our own groups answer. */
  onApplied(request: number): void {
    const answered = this.#waiters.find(waiter => waiter.request === request)
    if (answered === undefined) return
    const { groupShard, memberShard } = answered
    const done = this.#waiters.filter(
      waiter => waiter.groupShard === groupShard && waiter.memberShard === memberShard && waiter.request <= request,
    )
    this.#waiters = this.#waiters.filter(waiter => !done.includes(waiter))
    for (const { run } of done) run()
  }

  /** The shard is not ours any more: nobody waits for its members. */
  forget(memberShard: number): void {
    this.#waiters = this.#waiters.filter(waiter => waiter.memberShard !== memberShard)
  }

  #tellWhole(groupShard: number, shard: Shard): void {
    const members: MemberChange[] = []
    for (const session of shard.sharers) {
      for (const { filter, qos, retainAsPublished, identifier } of session.subscriptions!.values()) {
        if (filter.group === null || groupShardOf(filter.group, filter.filter, this.#engine.shards.length) !== groupShard) continue
        const standing = standingOf(this.#engine, session)
        this.#told.set(session, standing)
        const options = { qos, retainAsPublished, identifier }
        members.push({ groupName: filter.group, groupFilter: filter.filter, clientId: session.clientId, options, standing })
      }
    }
    const waiting = this.#waiters.filter(waiter => waiter.groupShard === groupShard && waiter.memberShard === shard.number)
    if (members.length === 0 && waiting.length === 0) return
    let request = 0
    for (let at = 0; at === 0 || at < members.length; at += MEMBERS_PER_CALL) {
      // Only a list that fits into one call may say that there are no others; stale members of a longer one are found when they are chosen.
      const isWhole = members.length <= MEMBERS_PER_CALL
      request = this.#tell(groupShard, shard.number, isWhole, members.slice(at, at + MEMBERS_PER_CALL))
    }
    for (const waiter of waiting) waiter.request = request
    this.#answerHere(groupShard, shard.number, request)
  }

  #tell(groupShard: number, memberShard: number, isWhole: boolean, members: readonly MemberChange[]): number {
    const request = ++this.#request
    const group = this.#engine.shards[groupShard]!
    if (group.isServing) this.#node.groups.change(group, memberShard, isWhole, members)
    else this.#node.others.freshOwner(groupShard)?.members(request, groupShard, memberShard, isWhole, members)
    return request
  }

  /** For a group of ours, what a call over a link would answer. */
  #answerHere(groupShard: number, memberShard: number, request: number): void {
    if (!this.#engine.shards[groupShard]!.isServing) return
    if (!this.#waiters.some(waiter => waiter.groupShard === groupShard && waiter.memberShard === memberShard)) return
    this.#engine.journal.whenStored(() => this.#node.announcements.whenApplied(() => this.onApplied(request)))
  }

  #groupShardsOf(session: Session): Set<number> {
    const shards = new Set<number>()
    for (const { filter } of session.subscriptions?.values() ?? []) {
      if (filter.group !== null) shards.add(groupShardOf(filter.group, filter.filter, this.#engine.shards.length))
    }
    return shards
  }
}
