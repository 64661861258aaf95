/**
 * What a backend does with the shards that it gets and gives away; ShardOwnership decides when. Of one shard, at most one of `prepare`,
 * `take` and `stop` is under way at a time. `drop` and `abandon` may come while one is: it then ends soon, either way, and without effect.
 */
export interface ShardHost {
  /** Reads ahead what is stored of a shard that another backend owns. Rejects when it cannot be read. */
  prepare(shard: number): Promise<void>
  /**
   * The shard is ours since `epoch`: reads the rest, or everything when nothing was prepared, then serves and announces it. Between the last
   * read and serving it must ask `ShardOwnership.mayServe(shard)`, in the same turn: the process may have stood still meanwhile. Rejects when
   * the shard cannot be read; nothing of it is kept then.
   */
  take(shard: number, epoch: number): Promise<void>
  /** Stops serving and flushes. Resolves when the journal is complete. Followed by `released` or `drop`. */
  stop(shard: number): Promise<void>
  /** The shard is let go in the store: tells callers that it is lost, and forgets it. */
  released(shard: number): void
  /** Taken from us, or our lease has lapsed: forgets it at once, without the store. Nothing more is answered for it. */
  drop(shard: number): void
  /** What was prepared, or is being prepared, is not needed any more. */
  abandon(shard: number): void
}

/** The other backends, by their links. */
export interface Peers {
  /**
   * OwnerPort.requestShard: true when the owner has let the shard go. False, or a rejection (no link, or one that closes meanwhile): it has
   * not, as far as we know.
   */
  requestShard(memberId: string, shard: number): Promise<boolean>
}
