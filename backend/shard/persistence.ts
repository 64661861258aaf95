import { Glob, type GlobPart, literalPart } from '#shared/authorization/glob.ts'
import { KeyRules } from '#shared/authorization/key-rules.ts'
import { type Message, userProperty } from '#shared/mqtt/message.ts'
import { PERSISTENCE_NAME, PERSISTENCE_VALUE } from '#shared/mqtt/persistence-request.ts'
import type { Engine } from '../engine.ts'
import { record } from './store-upkeep.ts'
import { forgetRetained } from '../queue/retained-store.ts'
import { finish } from '../session/finish.ts'
import { takeOut } from '../session/queue-limits.ts'
import type { Session } from '../session/session.ts'
import type { Shard } from './shard.ts'
import { FilterSet } from '../subscription/filter-set.ts'

/** What outlives a stop of the process (`spec.persistence` of the Broker resource); null: all of that kind does. */
export interface PersistencePolicy {
  /** Retained Messages. `topics` are Topic Filters; `dynamic`: also those whose PUBLISH asked for it by User Property. */
  readonly retain: { readonly mode: PersistenceMode; readonly topics: readonly string[]; readonly dynamic: boolean } | null
  /**
   * Messages that wait in sessions for a Packet Identifier. `clientIds` may hold `*`; `dynamic`: also sessions whose CONNECT asked for it
   * (AttachRequest.isPersistenceRequested).
   */
  readonly subscriberQueue: { readonly mode: PersistenceMode; readonly clientIds: readonly string[]; readonly dynamic: boolean } | null
  /** Keys of the state store, those that one of the globs names; `dynamic`: also those of which a SET asked for it by User Property. */
  readonly stateStore: { readonly mode: PersistenceMode; readonly keys: readonly (readonly GlobPart[])[]; readonly dynamic: boolean } | null
}

export type PersistenceMode = 'All' | 'None' | 'Custom'

/**
 * The shards were read after a stop: what the policy does not choose is dropped, in the store as well, so that a later policy does not bring it
 * back. Sessions, Subscriptions, Wills and what clients have not finished acknowledging stay.
 */
export function dropUnchosen(engine: Engine, shards: readonly Shard[], { retain, subscriberQueue, stateStore }: PersistencePolicy): void {
  const before = engine.counters.notPersisted
  if (retain !== null && retain.mode !== 'All') dropRetained(engine, shards, chooserOfTopics(retain))
  if (subscriberQueue !== null && subscriberQueue.mode !== 'All') dropQueues(engine, shards, chooserOfSessions(subscriberQueue))
  const dropped = engine.counters.notPersisted - before
  if (dropped > 0) engine.log.info('not_persisted', { messages: dropped })
  if (stateStore !== null && stateStore.mode !== 'All') dropKeys(engine, shards, chooserOfKeys(stateStore))
}

/** There may be something that it does not choose. */
export function isSelective(policy: PersistencePolicy | null): policy is PersistencePolicy {
  return policy !== null && [policy.retain, policy.subscriberQueue, policy.stateStore].some(each => each !== null && each.mode !== 'All')
}

function dropRetained(engine: Engine, shards: readonly Shard[], isChosen: (message: Message) => boolean): void {
  for (const shard of shards) {
    for (const message of [...shard.retained].filter(each => !isChosen(each))) {
      engine.counters.notPersisted++
      forgetRetained(engine, message.topic)
    }
  }
}

function dropQueues(engine: Engine, shards: readonly Shard[], isChosen: (session: Session) => boolean): void {
  for (const shard of shards) {
    for (const session of shard.sessions.values()) {
      if (session.outbox === null || isChosen(session)) continue
      for (const delivery of takeOut(engine, session, session.outbox, () => true)) {
        engine.counters.notPersisted++
        finish(engine, session, delivery)
      }
    }
  }
}

/** The clock of the store stays, so that versions never go back. */
function dropKeys(engine: Engine, shards: readonly Shard[], isChosen: (key: string, isPersistent: boolean) => boolean): void {
  let dropped = 0
  for (const shard of shards) {
    const changes = shard.store?.dropUnchosen(isChosen) ?? []
    record(engine, shard, changes)
    for (const { is } of changes) if (is === 'deleted') dropped++
  }
  engine.counters.keysNotPersisted += dropped
  if (dropped > 0) engine.log.info('keys_not_persisted', { keys: dropped })
}

function chooserOfTopics({ mode, topics, dynamic }: NonNullable<PersistencePolicy['retain']>): (message: Message) => boolean {
  if (mode === 'None') return () => false
  const chosen = new FilterSet()
  for (const filter of topics) chosen.add(filter)
  return message => chosen.matches(message.topic.name) || (dynamic && userProperty(message, PERSISTENCE_NAME) === PERSISTENCE_VALUE)
}

function chooserOfSessions({ mode, clientIds, dynamic }: NonNullable<PersistencePolicy['subscriberQueue']>): (session: Session) => boolean {
  if (mode === 'None') return () => false
  const globs = clientIds.map(globOf)
  return session => {
    const clientId = Buffer.from(session.clientId)
    // One that costs too much to compare is kept.
    return (dynamic && session.isPersistenceRequested) || globs.some(glob => glob.matches(clientId, true))
  }
}

function chooserOfKeys({
  mode,
  keys,
  dynamic,
}: NonNullable<PersistencePolicy['stateStore']>): (key: string, isPersistent: boolean) => boolean {
  if (mode === 'None') return () => false
  const named = new KeyRules(keys.map((pattern, rule) => ({ access: 'readwrite', pattern, isDenied: true, rule })))
  // One that costs too much to compare is kept: that is what `isDenied` asks for.
  return (key, isPersistent) => (dynamic && isPersistent) || named.matching(Buffer.from(key, 'latin1')) !== null
}

/** `*` for any run of characters; everything else is literal. */
function globOf(pattern: string): Glob {
  const parts: GlobPart[] = []
  pattern.split(/\*+/).forEach((text, index) => {
    if (index > 0) parts.push({ is: 'any' })
    if (text !== '') parts.push(literalPart(text))
  })
  return new Glob(parts)
}
