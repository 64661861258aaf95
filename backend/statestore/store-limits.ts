import type { BackendSettings } from '../config.ts'
import type { KeyStoreLimits } from './key-store.ts'

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
