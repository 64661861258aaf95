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
  /** The call whose answer it waits for: the last that told what it asked for. */
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
  /** By the pair of group shard and member shard, oldest first. */
  readonly #waiters = new Map<number, Waiter[]>()
  /** Of the calls that somebody waits for. */
  readonly #pairs = new Map<number, number>()
  /** Sessions that may stand otherwise than their groups were told last. */
  readonly #changed = new Set<Session>()
  readonly #told = new WeakMap<Session, Standing>()
  /** Sessions told to be full: their messages expire without anybody asking for room, when their groups are others'. */
  readonly #full = new Set<Session>()

  constructor(engine: Engine, node: ClusterNode) {
    this.#engine = engine
    this.#node = node
  }

  /** A session of ours became a member (again), or is none any more (options null). `then` runs when the group's shard has stored it. */
  change(session: Session, filter: ParsedFilter, options: MemberOptions | null, then: (() => void) | null): void {
    const groupName = filter.group!
    const groupShard = groupShardOf(groupName, filter.filter, this.#engine.shards.length)
    const request = this.#tell(groupShard, session.shard, false, [
      { groupName, groupFilter: filter.filter, clientId: session.clientId, options, standing: this.#standingToTell(session) },
    ])
    if (then !== null) this.#wait(this.#pair(groupShard, session.shard), { request, run: then })
    this.#answerHere(groupShard, session.shard, request)
  }

  /** Somebody still takes a client of our shard for a member that is none. */
  deny(shard: Shard, clientId: string, groupName: string, groupFilter: string): void {
    const groupShard = groupShardOf(groupName, groupFilter, this.#engine.shards.length)
    // The same way as all changes, so that it cannot overtake a new Subscription of the client.
    this.#tell(groupShard, shard.number, false, [{ groupName, groupFilter, clientId, options: null, standing: 'full' }])
  }

  noteStanding(session: Session): void {
    this.#changed.add(session)
    this.#engine.turn.request()
  }

  /** A few times a second. */
  tick(): void {
    for (const session of this.#full) this.noteStanding(session)
  }

  /** End of a turn: how those stand that have changed. */
  flush(): void {
    if (this.#changed.size === 0) return
    const told = new Map<number, { groupShard: number; memberShard: number; states: MemberStanding[] }>()
    for (const session of this.#changed) {
      const isMember = !session.hasEnded && session.groupCount > 0
      const standing = isMember ? standingOf(this.#engine, session) : null
      if (standing === 'full') this.#full.add(session)
      else this.#full.delete(session)
      if (standing === null || this.#told.get(session) === standing) continue
      this.#told.set(session, standing)
      for (const groupShard of this.#groupShardsOf(session)) {
        const pair = this.#pair(groupShard, session.shard)
        let list = told.get(pair)
        if (list === undefined) told.set(pair, (list = { groupShard, memberShard: session.shard, states: [] }))
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
    const pair = this.#pairs.get(request)
    if (pair === undefined) return
    const waiters = this.#waiters.get(pair)!
    // A link keeps the order: what was told before is applied as well.
    let applied = 0
    while (applied < waiters.length && waiters[applied]!.request <= request) applied++
    const done = waiters.splice(0, applied)
    if (waiters.length === 0) this.#waiters.delete(pair)
    for (const waiter of done) this.#pairs.delete(waiter.request)
    for (const { run } of done) run()
  }

  /** The shard is not ours any more: nobody waits for its members. */
  forget(memberShard: number): void {
    for (const [pair, waiters] of this.#waiters) {
      if (pair % this.#engine.shards.length !== memberShard) continue
      for (const { request } of waiters) this.#pairs.delete(request)
      this.#waiters.delete(pair)
    }
  }

  #tellWhole(groupShard: number, shard: Shard): void {
    const members = this.#membersOf(groupShard, shard)
    const waiters = this.#waiters.get(this.#pair(groupShard, shard.number))
    const isNews = members.length > 0 || waiters !== undefined || this.#node.groups.hasMembers(groupShard, shard.number)
    // One that another backend should forget it finds out when it chooses it: `deny`.
    if (!isNews) return
    let request = 0
    for (let at = 0; at === 0 || at < members.length; at += MEMBERS_PER_CALL) {
      // Only a list that fits into one call may say that there are no others; stale members of a longer one are found when they are chosen.
      const isWhole = members.length <= MEMBERS_PER_CALL
      request = this.#tell(groupShard, shard.number, isWhole, members.slice(at, at + MEMBERS_PER_CALL))
    }
    if (waiters === undefined) return
    for (const waiter of waiters) {
      this.#pairs.delete(waiter.request)
      waiter.request = request
    }
    this.#pairs.set(request, this.#pair(groupShard, shard.number))
    this.#answerHere(groupShard, shard.number, request)
  }

  #membersOf(groupShard: number, shard: Shard): MemberChange[] {
    const members: MemberChange[] = []
    for (const [session, texts] of shard.sharers.get(groupShard) ?? []) {
      const { clientId } = session
      const standing = this.#standingToTell(session)
      for (const text of texts) {
        const { filter, qos, retainAsPublished, identifier } = session.subscriptions!.get(text)!
        members.push({
          groupName: filter.group!,
          groupFilter: filter.filter,
          clientId,
          options: { qos, retainAsPublished, identifier },
          standing,
        })
      }
    }
    return members
  }

  /** One group is told how it stands now; all others of it at the end of the turn, when that is news. */
  #standingToTell(session: Session): Standing {
    const standing = standingOf(this.#engine, session)
    if (this.#told.get(session) !== standing) this.noteStanding(session)
    return standing
  }

  #tell(groupShard: number, memberShard: number, isWhole: boolean, members: readonly MemberChange[]): number {
    const request = ++this.#request
    const group = this.#engine.shards[groupShard]!
    if (group.isServing) this.#node.groups.change(group, memberShard, isWhole, members)
    else this.#node.others.freshOwner(groupShard)?.members(request, groupShard, memberShard, isWhole, members)
    return request
  }

  #wait(pair: number, waiter: Waiter): void {
    const waiters = this.#waiters.get(pair)
    if (waiters === undefined) this.#waiters.set(pair, [waiter])
    else waiters.push(waiter)
    this.#pairs.set(waiter.request, pair)
  }

  /** For a group of ours, what a call over a link would answer. */
  #answerHere(groupShard: number, memberShard: number, request: number): void {
    if (!this.#engine.shards[groupShard]!.isServing || !this.#waiters.has(this.#pair(groupShard, memberShard))) return
    this.#engine.journal.whenStored(() => this.#node.announcements.whenApplied(() => this.onApplied(request)))
  }

  #pair(groupShard: number, memberShard: number): number {
    return groupShard * this.#engine.shards.length + memberShard
  }

  #groupShardsOf(session: Session): Set<number> {
    const shards = new Set<number>()
    for (const { filter } of session.subscriptions?.values() ?? []) {
      if (filter.group !== null) shards.add(groupShardOf(filter.group, filter.filter, this.#engine.shards.length))
    }
    return shards
  }
}
