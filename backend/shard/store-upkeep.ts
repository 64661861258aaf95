import type { Engine } from '../engine.ts'
import { notify } from '../publishing/key-notifications.ts'
import type { StoreChange } from '../statestore/changes.ts'
import type { KeyStore } from '../statestore/key-store.ts'
import { momentOf } from '../statestore/moment.ts'
import { writeStore } from './records.ts'
import type { Shard } from './shard.ts'

/** Entries whose lifetime has ended that one turn removes: requests must not wait for all of them. The rest goes in the next turns. */
const EXPIRED_PER_TURN_MAX = 2_000

/** Connection and session have parted: it watches nothing any more. */
export function forgetWatcher(engine: Engine, frontend: string, connection: number): void {
  for (const shard of engine.shards) {
    if (shard.store !== null && shard.isServing) record(engine, shard, shard.store.forget(frontend, connection, momentOf(engine.clock)))
  }
}

/** The process was stopped: no connection of before exists. */
export function forgetAllWatchers(engine: Engine): void {
  for (const shard of engine.shards) if (shard.store !== null) record(engine, shard, shard.store.forgetWatchers(momentOf(engine.clock)))
}

/** A few times a second, and at the end of a turn while more is due: what has lived its time. */
export function expireEntries(engine: Engine): void {
  let bytes = 0
  let budget = EXPIRED_PER_TURN_MAX
  for (const shard of engine.shards) {
    if (shard.store === null) continue
    if (shard.isServing && budget > 0) budget -= expire(engine, shard, shard.store, budget)
    bytes += shard.store.heldBytes
  }
  engine.counters.storeBytes = bytes
  engine.isExpiryBehind = budget <= 0
  if (engine.isExpiryBehind) engine.turn.request()
}

/** Records changes of a shard's store. */
export function record(engine: Engine, shard: Shard, changes: readonly StoreChange[]): void {
  if (!engine.journal.isDurable) return
  for (const change of changes) writeStore(engine.journal.writer(shard.number), change)
}

/** At most `budget` entries; answers how many. In a cluster no more while very many notifications of the shard are under way: the next tick goes on. */
function expire(engine: Engine, shard: Shard, store: KeyStore, budget: number): number {
  const { cluster } = engine
  const step = cluster === null ? budget : 1
  let count = 0
  for (let isDone = false; !isDone && count < budget && cluster?.storeTurns.isBusy(shard.number) !== true; ) {
    const effects = store.due(momentOf(engine.clock), step)
    record(engine, shard, effects.changes)
    for (const notification of effects.notifications) notify(engine, shard, notification)
    count += effects.changes.length
    isDone = effects.changes.length < step
  }
  return count
}
