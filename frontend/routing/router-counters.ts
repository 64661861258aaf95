/** What a Router counts: plain numbers, read by the metrics page. */
export class RouterCounters {
  /** QoS 1 publishes and QoS 0 ones that waited for a shard that was not fresh. */
  publishesHeld = 0
  /** Sent again for a shard that had not answered or had moved. */
  publishesResent = 0
  /** Answers that named shards which were not there any more: so many shards. */
  publishesMoved = 0
  /** QoS 1 publishes refused after `publishWaitMs`, and QoS 2 ones that never left. */
  publishesRefusedLate = 0
  /** Publishes refused because as much waits as may (`pendingBytesMax`), or because a link takes no more (`congestedBytesMax`). */
  publishesRefusedFull = 0
  /** QoS 0 publishes dropped while a shard with subscribers was not fresh. */
  qos0DroppedNotFresh = 0
  /** QoS 0 publishes dropped because a link took no more. */
  qos0DroppedCongested = 0
  /** Messages whose Message Expiry Interval passed while they were held. */
  heldMessagesExpired = 0
  /** Requests to the state store asked again of the next owner. */
  storeRequestsRepeated = 0
  sessionsResumed = 0
  /** Connections ended because their session could not be served. */
  sessionsGivenUp = 0
  attachesTimedOut = 0
  /** Connections refused or ended because the backend is of a version that knows no rights. */
  rightsNotUnderstood = 0
  /** Deliveries by a backend that does not serve the session any more. */
  deliveriesIgnored = 0
}
