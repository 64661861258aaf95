import type { BrokerLimits } from '#shared/config/broker-settings.ts'

/** What a backend needs of the broker's settings; meaning, unit, default and reaction stand with their declaration. */
export type BackendSettings = Pick<
  BrokerLimits,
  | 'sessionsMax'
  | 'subscriptionsPerSessionMax'
  | 'queueMessagesMax'
  | 'queueBytesMax'
  | 'queueStrategy'
  | 'inflightMax'
  | 'retainedMessagesMax'
  | 'retainedBytesMax'
  | 'stateStoreKeysPerShardMax'
  | 'stateStoreKeysPerClientMax'
  | 'stateStoreBytesPerShardMax'
  | 'stateStoreWatchesPerClientMax'
  | 'stateStoreWatchersPerKeyMax'
  | 'stateStoreWatchBytesPerShardMax'
  | 'stateStoreKeepSecondsMax'
  | 'stateStoreKeptChangesPerKeyMax'
  | 'stateStoreKeptBytesPerShardMax'
  | 'maxMessageExpirySeconds'
  | 'memoryBytesMax'
  | 'memoryWatermarkPercent'
  | 'highPriorityMessagesBackpressureHandling'
>
