import { groupShardOf } from '#shared/cluster/shard.ts'
import { userProperty, type Message } from '#shared/mqtt/message.ts'
import type { MemberChange, MemberOptions, MemberStanding, HandOverTarget, Standing } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { offer, offerQos0 } from '../publishing/offer.ts'
import type { Session } from '../session/session.ts'
import { type MemberRecord, writeMember } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import type { Recipient } from '../subscription/recipient.ts'
import type { SharedGroup } from '../subscription/shared-group.ts'
import { SubscriptionIndex } from '../subscription/subscription-index.ts'
import type { ClusterNode } from './cluster-node.ts'
import { standingOf } from './standing.ts'

/** Topics whose groups are kept; most messages are for none. */
const CACHED_TOPICS_MAX = 16_384

export type Group = SharedGroup<GroupMember>

const NO_GROUPS: readonly Group[] = []

/** A client as one of our shards knows it that owns groups; its session may be another backend's. */
export class GroupMember {
  readonly clientId: string
  /** Of its session. */
  readonly shard: number
  standing: Standing = 'away'
  /** Groups of the shard that it is a member of, by name and filter, with its options. */
  readonly groups = new Map<string, { readonly name: string; readonly filter: string; readonly options: MemberOptions }>()

  constructor(clientId: string, shard: number) {
    this.clientId = clientId
    this.shard = shard
  }
}

/** Members by the shard of their sessions, then by Client Identifier. */
type MembersByShard = Map<number, Map<string, GroupMember>>

/**
 * The Shared Subscriptions whose groups belong to our shards (§4.8.2): who is in them, and who gets the next message. A member's session is
 * in the shard of its Client Identifier: in the same, in another of ours, or in another backend's.
 */
export class Groups {
  readonly index = new SubscriptionIndex<GroupMember>({ cachedTopicsMax: CACHED_TOPICS_MAX })
  readonly #engine: Engine
  readonly #node: ClusterNode
  /** By the shard that owns the groups: each comes and goes alone. */
  readonly #members = new Map<number, MembersByShard>()

  constructor(engine: Engine, node: ClusterNode) {
    this.#engine = engine
    this.#node = node
  }

  /** OwnerPort.members, for a shard that serves; the caller answers when the journal and the announcements have it. */
  change(groupShard: Shard, memberShard: number, isWhole: boolean, changes: readonly MemberChange[]): void {
    if (isWhole) this.#forgetOthers(groupShard, memberShard, changes)
    for (const { groupName, groupFilter, clientId, options, standing } of changes) {
      // Lists are told again whenever a link was silent for a moment: what was known is not written again.
      if (this.put(groupShard.number, memberShard, clientId, groupName, groupFilter, options)) {
        this.#record(groupShard, { shard: memberShard, clientId, groupName, groupFilter, options })
      }
      const member = this.#members.get(groupShard.number)?.get(memberShard)?.get(clientId)
      if (member !== undefined) member.standing = standing
    }
  }

  /** OwnerPort.memberStates. */
  stand(memberShard: number, states: readonly MemberStanding[]): void {
    for (const ofGroups of this.#members.values()) {
      const members = ofGroups.get(memberShard)
      if (members === undefined) continue
      for (const { clientId, standing } of states) {
        const member = members.get(clientId)
        if (member !== undefined) member.standing = standing
      }
    }
  }

  /** Into the index, or out of it; also what recovery does. False when it was so already. */
  put(groupShard: number, memberShard: number, clientId: string, name: string, filter: string, options: MemberOptions | null): boolean {
    const ofGroups = this.#members.get(groupShard)
    const member = ofGroups?.get(memberShard)?.get(clientId)
    const known = member?.groups.get(`${name}/${filter}`)
    if (options === null) {
      if (known === undefined) return false
      this.#remove(groupShard, member!, name, filter)
      return true
    }
    if (known !== undefined && isSame(known.options, options)) return false
    this.#add(groupShard, member ?? this.#newMember(groupShard, memberShard, clientId), name, filter, options)
    return true
  }

  /** The shard is not ours any more. */
  forget(groupShard: number): void {
    for (const member of this.#of(groupShard)) {
      for (const { name, filter } of member.groups.values()) this.#remove(groupShard, member, name, filter)
    }
    this.#members.delete(groupShard)
  }

  /** What a snapshot of the shard holds. */
  *membersOf(groupShard: number): Iterable<MemberRecord & { readonly options: MemberOptions }> {
    for (const { shard, clientId, groups } of this.#of(groupShard)) {
      for (const { name, filter, options } of groups.values()) yield { shard, clientId, groupName: name, groupFilter: filter, options }
    }
  }

  /** Whether any member of the shard's groups has its session in `memberShard`. */
  hasMembers(groupShard: number, memberShard: number): boolean {
    return (this.#members.get(groupShard)?.get(memberShard)?.size ?? 0) > 0
  }

  /** Groups of our shards that match; those of shards that are only being prepared among them. */
  matching(message: Message): readonly Group[] {
    return this.index.sharedSubscriptionCount === 0 ? NO_GROUPS : this.index.match(message.topic.name).groups
  }

  /** Whether a QoS 1 message would find no member of one of these groups that takes or queues it, though some could if they had room. */
  lackRoom(groups: readonly Group[]): boolean {
    for (const group of groups) if (this.#isAddressed(group) && this.#lacksRoom(group)) return true
    return false
  }

  /** Gives the publication that is under way to one member of each addressed group. Answers how many there were. */
  offer(groups: readonly Group[], message: Message): number {
    let receivers = 0
    for (const group of groups) {
      if (!this.#isAddressed(group)) continue
      if (this.#give(this.#shardOf(group), group, message)) receivers++
      // One that was handed over: publishers were refused before.
      else if (message.qos > 0 && canHold(group)) this.#engine.counters.queueDropped++
    }
    return receivers
  }

  /** Gives the publication that is under way to one member of this group. */
  choose(groupShard: Shard, name: string, filter: string, message: Message): void {
    const group = this.index.sharedGroup(name, filter)
    if (group === undefined || !this.#give(groupShard, group, message)) this.#engine.counters.queueDropped++
  }

  #shardOf({ name, filter }: Group): Shard {
    return this.#engine.shards[groupShardOf(name, filter, this.#engine.shards.length)]!
  }

  #isAddressed(group: Group): boolean {
    return this.#engine.isAddressed(this.#shardOf(group).number)
  }

  #lacksRoom(group: Group): boolean {
    let canHold = false
    for (const { subscriber, qos } of group.members) {
      const standing = this.#standing(subscriber)
      if (standing === 'able' || (qos > 0 && standing !== 'full')) return false
      canHold ||= qos > 0
    }
    return canHold
  }

  #give(groupShard: Shard, group: Group, message: Message): boolean {
    const member = this.#choose(group, message)
    if (member === null) return false
    const { subscriber, retainAsPublished, identifiers } = member
    const qos = Math.min(message.qos, member.qos)
    const retain = message.retain && retainAsPublished
    const session = this.#sessionOf(subscriber)
    if (qos === 0) {
      if (session !== undefined) offerQos0(this.#engine, session, retain, identifiers)
      else this.#node.others.freshOwner(subscriber.shard)?.handOver(groupShard.number, 0, targetOf(group, subscriber), message)
      return true
    }
    // QoS 2 must be stored together with what says that the group has had it: in the group's own shard.
    const isDirect = session !== undefined && (message.qos === 1 || subscriber.shard === groupShard.number)
    if (isDirect) offer(this.#engine, session, qos as 1 | 2, retain, identifiers, group)
    else this.#node.handOvers.add(groupShard, targetOf(group, subscriber), this.#engine.publication.kept(this.#engine))
    return true
  }

  /** Decision 31 of docs/mqtt.md: one that takes messages now; else one whose turn comes soon; else one that may be away for days. */
  #choose(group: Group, message: Message): Recipient<GroupMember> | null {
    const partition = message.propertiesLength > 0 ? userProperty(message, '$partition') : undefined
    const { name } = message.topic
    const able = group.pick(name, partition, this.#isAble)
    if (able !== null || message.qos === 0) return able
    const queues = (standing: Standing) => (member: GroupMember) => group.member(member)!.qos > 0 && this.#standing(member) === standing
    const queue = group.pick(name, partition, queues('busy'), queues('away'))
    if (queue !== null || !this.#engine.publication.isAdmitted) return queue
    // There was room for it until another copy of this very publication took it (see Publication): in a session of ours.
    return group.pick(name, partition, member => {
      const session = this.#sessionOf(member)
      return session !== undefined && group.member(member)!.qos > 0 && (session.isConnected || session.isPersistent)
    })
  }

  readonly #isAble = (member: GroupMember): boolean => this.#standing(member) === 'able'

  #sessionOf({ shard: number, clientId }: GroupMember): Session | undefined {
    const shard = this.#engine.shards[number]!
    return shard.isServing ? shard.sessions.get(clientId) : undefined
  }

  /** As we see it, or as we were told; one whose owner cannot be reached gets no message before another that can. */
  #standing(member: GroupMember): Standing {
    const shard = this.#engine.shards[member.shard]!
    if (!shard.isServing) {
      return member.standing === 'full' || this.#node.others.freshOwner(member.shard) !== null ? member.standing : 'away'
    }
    const session = shard.sessions.get(member.clientId)
    return session === undefined ? 'full' : standingOf(this.#engine, session)
  }

  #newMember(groupShard: number, memberShard: number, clientId: string): GroupMember {
    let ofGroups = this.#members.get(groupShard)
    if (ofGroups === undefined) this.#members.set(groupShard, (ofGroups = new Map()))
    let ofShard = ofGroups.get(memberShard)
    if (ofShard === undefined) ofGroups.set(memberShard, (ofShard = new Map()))
    const member = new GroupMember(clientId, memberShard)
    ofShard.set(clientId, member)
    return member
  }

  #add(groupShard: number, member: GroupMember, name: string, filter: string, options: MemberOptions): void {
    const key = `${name}/${filter}`
    if (!member.groups.has(key)) {
      this.#node.announcements.add(groupShard, filter)
      this.#engine.turn.request()
    }
    member.groups.set(key, { name, filter, options })
    this.index.subscribeShared(member, name, filter, { ...options, noLocal: false })
  }

  #remove(groupShard: number, member: GroupMember, name: string, filter: string): void {
    member.groups.delete(`${name}/${filter}`)
    this.index.unsubscribeShared(member, name, filter)
    this.#node.announcements.remove(groupShard, filter)
    this.#engine.turn.request()
    if (member.groups.size > 0) return
    const ofGroups = this.#members.get(groupShard)!
    const ofShard = ofGroups.get(member.shard)!
    ofShard.delete(member.clientId)
    if (ofShard.size === 0) ofGroups.delete(member.shard)
  }

  #forgetOthers(groupShard: Shard, memberShard: number, present: readonly MemberChange[]): void {
    const members = this.#members.get(groupShard.number)?.get(memberShard)
    if (members === undefined) return
    const names = new Set(present.map(({ clientId, groupName, groupFilter }) => `${clientId}\0${groupName}/${groupFilter}`))
    for (const member of members.values()) {
      for (const [key, { name, filter }] of member.groups) {
        if (names.has(`${member.clientId}\0${key}`)) continue
        this.#remove(groupShard.number, member, name, filter)
        this.#record(groupShard, { shard: memberShard, clientId: member.clientId, groupName: name, groupFilter: filter, options: null })
      }
    }
  }

  #record(groupShard: Shard, member: MemberRecord): void {
    if (this.#engine.journal.isDurable) writeMember(this.#engine.journal.writer(groupShard.number), member)
  }

  *#of(groupShard: number): Iterable<GroupMember> {
    for (const members of this.#members.get(groupShard)?.values() ?? []) yield* members.values()
  }
}

function targetOf({ name: groupName, filter: groupFilter }: Group, { shard, clientId }: GroupMember): HandOverTarget {
  return { is: 'member', shard, clientId, groupName, groupFilter }
}

/** Whether any member's Subscription is of a QoS that queues. */
function canHold(group: Group): boolean {
  return group.members.some(({ qos }) => qos > 0)
}

function isSame(a: MemberOptions, b: MemberOptions): boolean {
  return a.qos === b.qos && a.retainAsPublished === b.retainAsPublished && a.identifier === b.identifier
}
