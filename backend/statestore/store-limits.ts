import type { BackendSettings } from '../config.ts'
import type { KeptLimits } from './kept-watches.ts'

/** Of one shard. Reached: the SET, KEYNOTIFY or WATCH is answered with `the quota has been exceeded`. */
export interface KeyStoreLimits extends KeptLimits {
  /** A SET that would create one more fails; overwriting and deleting always work. */
  readonly keysMax: number
  /** The same for keys that one client created; Infinity: nobody counts. */
  readonly keysPerClientMax: number
  /** Of entries, by `entryBytes`. A SET that would make them more fails, of a key that is there as well: memory is bounded whatever clients do. */
  readonly bytesMax: number
  /** Answers remembered for one frontend; see Repeats. */
  readonly answersMax: number
}

/**
 * Answers remembered for one frontend in one shard. It has at most so many requests without an answer on the way as its clients' Receive
 * Maximum allows; the oldest goes, and should it be asked again after a failover, it is executed again.
 */
const ANSWERS_PER_FRONTEND_MAX = 65_536

export function storeLimits(settings: BackendSettings): KeyStoreLimits {
  return {
    keysMax: settings.stateStoreKeysPerShardMax,
    keysPerClientMax: settings.stateStoreKeysPerClientMax === 0 ? Infinity : settings.stateStoreKeysPerClientMax,
    bytesMax: settings.stateStoreBytesPerShardMax,
    answersMax: ANSWERS_PER_FRONTEND_MAX,
    keysPerConnectionMax: settings.stateStoreWatchesPerClientMax,
    watchersPerKeyMax: settings.stateStoreWatchersPerKeyMax,
    watchedBytesMax: settings.stateStoreWatchBytesPerShardMax,
    keepMsMax: settings.stateStoreKeepSecondsMax * 1_000,
    pastPerKeyMax: settings.stateStoreKeptChangesPerKeyMax,
    pastBytesMax: settings.stateStoreKeptBytesPerShardMax,
  }
}
