import { Answer } from '#shared/state-store/answer.ts'
import type { WatchCommand } from '#shared/state-store/command.ts'
import type { RequestProperties } from '#shared/state-store/request-properties.ts'
import type { Engine } from '../engine.ts'
import type { Shard } from '../shard/shard.ts'
import { record } from '../shard/store-upkeep.ts'
import { momentOf } from '../statestore/moment.ts'
import type { RequestOrigin, WatcherId } from '../statestore/store-request.ts'

/** WATCH in all shards; or, when one refuses, in none that did not have it before. @returns the payload of the answer */
export function watchAll(engine: Engine, command: WatchCommand, properties: RequestProperties, watcher: WatcherId): Buffer {
  const changed: Shard[] = []
  for (const shard of engine.shards) {
    const answer = watchIn(engine, shard, command, properties, watcher, null)
    if (answer === Answer.Done) changed.push(shard)
    else if (answer !== Answer.Nothing) {
      const stop = { ...command, isStop: true }
      if (!command.isStop) for (const each of changed) watchIn(engine, each, stop, properties, watcher, null)
      return answer
    }
  }
  return command.isStop && changed.length === 0 ? Answer.Nothing : Answer.Done
}

/** In one. @returns `Done`: something changed. `Nothing`: nothing did. An error. Empty: nobody waits for it any more */
export function watchIn(
  engine: Engine,
  shard: Shard,
  command: WatchCommand,
  { timestamp, fencingToken, isPersistent }: RequestProperties,
  watcher: WatcherId,
  origin: RequestOrigin | null,
): Buffer {
  const request = { command, timestamp, fencingToken, isPersistent, watcher, origin }
  const { answer, changes } = engine.storeOf(shard).execute(request, momentOf(engine.clock))
  record(engine, shard, changes)
  return answer
}
