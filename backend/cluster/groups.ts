import { groupShardOf } from '#shared/cluster/shard.ts'
import { userProperty, type Message } from '#shared/mqtt/message.ts'
import type { MemberChange, MemberOptions, MemberStanding, HandOverTarget, Standing } from '#shared/rpc/owner-port.ts'
import type { Engine } from '../engine.ts'
import { offer, offerQos0 } from '../publishing/offer.ts'
import { writeMember } from '../shard/records.ts'
import type { Shard } from '../shard/shard.ts'
import type { Recipient } from '../subscription/recipient.ts'
import type { SharedGroup } from '../subscription/shared-group.ts'
import { SubscriptionIndex } from '../subscription/subscription-index.ts'
import type { ClusterNode } from './cluster-node.ts'
import { standingOf } from './standing.ts'

/** Topics whose groups are kept; most messages are for none. */
const CACHED_TOPICS_MAX = 16_384

/** A client as the groups of our shards know it; its session may be another backend's. */
export class GroupMember {
  readonly clientId: string
  /** Of its session. */
  readonly shard: number
  standing: Standing = 'away'
  /** Groups of ours that it is a member of, by shard and group, with its options. */
  readonly groups = new Map<
    string,
    { readonly groupShard: number; readonly name: string; readonly filter: string; options: MemberOptions }
  >()

  constructor(clientId: string, shard: number) {
    this.clientId = clientId
    this.shard = shard
  }
}

/**
 * The Shared Subscriptions whose groups belong to our shards (§4.8.2): who is in them, and who gets the next message. A member's session is
 * in the shard of its Client Identifier: in the same, in another of ours, or in another backend's.
 */
export class Groups {
  readonly index = new SubscriptionIndex<GroupMember>({ cachedTopicsMax: CACHED_TOPICS_MAX })
  readonly #engine: Engine
  readonly #node: ClusterNode
  /** By the shard of their sessions. */
  readonly #members = new Map<number, Map<string, GroupMember>>()

  constructor(engine: Engine, node: ClusterNode) {
    this.#engine = engine
    this.#node = node
  }

  /** OwnerPort.members, for a shard that serves; the caller answers when the journal and the announcements have it. */
  change(groupShard: Shard, memberShard: number, isWhole: boolean, changes: readonly MemberChange[]): void {
    if (isWhole) this.#forgetOthers(groupShard, memberShard, changes)
    for (const { groupName, groupFilter, clientId, options, standing } of changes) {
      this.put(groupShard.number, memberShard, clientId, groupName, groupFilter, options)
      const member = this.#members.get(memberShard)?.get(clientId)
      if (member !== undefined) member.standing = standing
      this.#record(groupShard, { shard: memberShard, clientId, groupName, groupFilter, options })
    }
  }

  /** OwnerPort.memberStates. */
  stand(memberShard: number, states: readonly MemberStanding[]): void {
    const members = this.#members.get(memberShard)
    for (const { clientId, standing } of states) {
      const member = members?.get(clientId)
      if (member !== undefined) member.standing = standing
    }
  }

  /** Into the index, or out of it; also what recovery does. */
  put(groupShard: number, memberShard: number, clientId: string, name: string, filter: string, options: MemberOptions | null): void {
    const key = `${name}/${filter}`
    let ofShard = this.#members.get(memberShard)
    let member = ofShard?.get(clientId)
    if (options === null) {
      if (member?.groups.delete(key) !== true) return
      this.index.unsubscribeShared(member, name, filter)
      this.#node.announcements.remove(groupShard, filter)
      if (member.groups.size === 0) ofShard!.delete(clientId)
      return
    }
    if (ofShard === undefined) this.#members.set(memberShard, (ofShard = new Map()))
    if (member === undefined) ofShard.set(clientId, (member = new GroupMember(clientId, memberShard)))
    if (!member.groups.has(key)) this.#node.announcements.add(groupShard, filter)
    member.groups.set(key, { groupShard, name, filter, options })
    this.index.subscribeShared(member, name, filter, { ...options, noLocal: false })
  }

  /** The shard is not ours any more. */
  forget(groupShard: number): void {
    for (const member of this.#all()) {
      for (const { groupShard: shard, name, filter } of [...member.groups.values()]) {
        if (shard === groupShard) this.put(groupShard, member.shard, member.clientId, name, filter, null)
      }
    }
  }

  /** What a snapshot of the shard holds. */
  *membersOf(
    groupShard: number,
  ): Iterable<{ shard: number; clientId: string; groupName: string; groupFilter: string; options: MemberOptions }> {
    for (const { shard, clientId, groups } of this.#all()) {
      for (const group of groups.values()) {
        if (group.groupShard === groupShard) {
          yield { shard, clientId, groupName: group.name, groupFilter: group.filter, options: group.options }
        }
      }
    }
  }

  /** Gives the publication that is under way to one member of each addressed group that matches. Answers how many, or 'full'. */
  offer(message: Message): number | 'full' {
    if (this.index.sharedSubscriptionCount === 0) return 0
    const { groups } = this.index.match(message.topic.name)
    let receivers = 0
    let isFull = false
    for (const group of groups) {
      const shard = groupShardOf(group.name, group.filter, this.#engine.shards.length)
      if (!this.#engine.isAddressed(shard)) continue
      if (this.#give(this.#engine.shards[shard]!, group, message)) receivers++
      else isFull ||= message.qos > 0 && group.members.some(({ qos }) => qos > 0)
    }
    if (!isFull) return receivers
    this.#engine.counters.queueDropped++
    return 'full'
  }

  /** The member that was chosen is none (any more): another one gets the message, which is in charge of `groupShard` (HandOvers). */
  giveToAnother(groupShard: Shard, gone: HandOverTarget & { readonly is: 'member' }, message: Message): void {
    this.put(groupShard.number, gone.shard, gone.clientId, gone.groupName, gone.groupFilter, null)
    this.#record(groupShard, { ...gone, options: null })
    const group = this.index.sharedGroup(gone.groupName, gone.groupFilter)
    const member = group === undefined ? null : this.#choose(group, message)
    if (member === null) this.#engine.counters.queueDropped++
    else this.#handOver(groupShard, group!, member.subscriber, message)
  }

  /** Gives the publication that is under way to one member of this group. */
  choose(groupShard: Shard, name: string, filter: string, message: Message): void {
    const group = this.index.sharedGroup(name, filter)
    if (group === undefined || !this.#give(groupShard, group, message)) this.#engine.counters.queueDropped++
  }

  #give(groupShard: Shard, group: SharedGroup<GroupMember>, message: Message): boolean {
    const member = this.#choose(group, message)
    if (member === null) return false
    const { subscriber, retainAsPublished, identifiers } = member
    const qos = Math.min(message.qos, member.qos)
    const retain = message.retain && retainAsPublished
    const shard = this.#engine.shards[subscriber.shard]!
    const session = shard.isServing ? shard.sessions.get(subscriber.clientId) : undefined
    if (qos === 0) {
      if (session !== undefined) offerQos0(this.#engine, session, retain, identifiers)
      else this.#node.others.freshOwner(subscriber.shard)?.handOver(groupShard.number, 0, this.#target(group, subscriber), message)
      return true
    }
    // QoS 2 must be stored together with what says that the group has had it: in the group's own shard.
    const isDirect = session !== undefined && (message.qos === 1 || shard === groupShard)
    if (isDirect) offer(this.#engine, session, qos as 1 | 2, retain, identifiers, group)
    else this.#handOver(groupShard, group, subscriber, this.#engine.publication.kept(this.#engine))
    return true
  }

  #handOver(groupShard: Shard, group: SharedGroup<GroupMember>, { shard, clientId }: GroupMember, message: Message): void {
    const { name: groupName, filter: groupFilter } = group
    this.#node.handOvers.add(groupShard, { is: 'member', shard, clientId, groupName, groupFilter }, message)
  }

  #target(group: SharedGroup<GroupMember>, { shard, clientId }: GroupMember): HandOverTarget {
    return { is: 'member', shard, clientId, groupName: group.name, groupFilter: group.filter }
  }

  /** Decision 31 of docs/mqtt.md: one that takes messages now; else one whose turn comes soon; else one that may be away for days. */
  #choose(group: SharedGroup<GroupMember>, message: Message): Recipient<GroupMember> | null {
    const partition = message.propertiesLength > 0 ? userProperty(message, '$partition') : undefined
    const { name } = message.topic
    const able = group.pick(name, partition, member => this.#standing(member) === 'able')
    if (able !== null || message.qos === 0) return able
    const queues = (standing: Standing) => (member: GroupMember) => group.member(member)!.qos > 0 && this.#standing(member) === standing
    return group.pick(name, partition, queues('busy'), queues('away'))
  }

  #standing(member: GroupMember): Standing {
    const shard = this.#engine.shards[member.shard]!
    if (!shard.isServing) return member.standing
    const session = shard.sessions.get(member.clientId)
    return session === undefined ? 'full' : standingOf(this.#engine, session)
  }

  #forgetOthers(groupShard: Shard, memberShard: number, present: readonly MemberChange[]): void {
    const names = new Set(present.map(({ clientId, groupName, groupFilter }) => `${clientId}\0${groupName}/${groupFilter}`))
    for (const member of [...(this.#members.get(memberShard)?.values() ?? [])]) {
      for (const [key, { groupShard: shard, name, filter }] of [...member.groups]) {
        if (shard !== groupShard.number || names.has(`${member.clientId}\0${key}`)) continue
        this.put(shard, memberShard, member.clientId, name, filter, null)
        this.#record(groupShard, { shard: memberShard, clientId: member.clientId, groupName: name, groupFilter: filter, options: null })
      }
    }
  }

  #record(groupShard: Shard, member: Parameters<typeof writeMember>[1]): void {
    if (this.#engine.journal.isDurable) writeMember(this.#engine.journal.writer(groupShard.number), member)
  }

  *#all(): Iterable<GroupMember> {
    for (const members of this.#members.values()) yield* members.values()
  }
}
