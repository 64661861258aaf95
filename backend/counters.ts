/** What a backend counts: plain numbers, read by the metrics page and `$SYS`, at 9 ns instead of 400. */
export class BackendCounters {
  publishesReceived = 0
  publishesSent = 0
  payloadBytesReceived = 0
  payloadBytesSent = 0
  retainedMessages = 0
  retainedBytes = 0
  willMessages = 0
  willBytes = 0
  expiredMessages = 0
  /** Subscriptions that ended because their client may not have them any more, and messages that waited for it because of them alone. */
  withdrawnSubscriptions = 0
  withdrawnMessages = 0
  /** Retained and queued messages dropped after a stop because the persistence policy does not choose them. */
  notPersisted = 0
  /** The same of keys of the state store. */
  keysNotPersisted = 0
  /** Wills that were due and that their client may not publish any more. */
  willsRefused = 0
  /** Dropped because a queue was full: the oldest, to admit a new one (DropOldest), or a message that nobody is left to refuse to: a Will, one handed on. */
  queueDropped = 0
  /** Refused with QuotaExceeded: a queue, the retained store or memory was full. */
  refusedQueueFull = 0
  refusedRetainedFull = 0
  refusedMemory = 0
  qos0DroppedIncoming = 0
  /** QoS 0 for a connection whose link takes no more. */
  qos0DroppedOutgoing = 0
  sessionsConnected = 0
  sessionsTotal = 0
  takeovers = 0
  queuedMessages = 0
  /** Finished ones, of any shard. */
  snapshots = 0
  /** Bytes of messages that are queued, in flight or retained, each counted once. */
  messageBytes = 0
  /** Bytes of sessions and their Subscriptions, about; without messages. */
  sessionBytes = 0
  /** What the state store holds, as of the last tick. */
  storeBytes = 0
  /** Notifications of the state store to a connection that is not there any more. */
  notificationsDropped = 0
}
