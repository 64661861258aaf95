/**
 * What a shard must remember (ARCHITECTURE.md). The owner keeps a shard in memory; the store holds, per shard, one
 * snapshot and the log of entries that came after it. Engines: lmdb, memory, redis; one conformance suite.
 *
 * Entries and chunks are opaque bytes here: their layout is backend/shard/records.ts's. They are absolute
 * ("key is now this", "key is gone"), so replaying an entry over a state that already includes it changes nothing;
 * that is why a snapshot may be taken while the shard changes ("fuzzy"), and why no pause is needed.
 */
export interface ShardStore {
  readonly level: DurabilityLevel
  /** Number of shards, fixed when the store was first created. */
  readonly shardCount: number

  /**
   * Reads back a shard: first the chunks of its last finished snapshot, then the log entries that are not covered by
   * it, each in the order written. Streams: `visit` is called many times, never with everything in memory at once.
   * `bytes` may be a view into something larger: copy what is kept. What `visit` throws ends this recovery.
   * Before the shard's first snapshot since the store was opened; and for all shards in one turn (`Promise.all`), for
   * an engine may then read a common log once instead of once per shard.
   * @throws {StoreError} corrupt, newerFormat, closed
   */
  recover(shard: number, visit: (kind: 'snapshot' | 'log', bytes: Uint8Array) => void): Promise<void>

  /**
   * Group commit: all entries, of any shards, become durable together or not at all. Resolves once they are stored at
   * `level`. Calls take effect in the order made; several may be under way at once. The bytes are the store's after
   * the call. Rejects with StoreError `full`, `failed`, `closed`; then nothing of this and of any later call was stored,
   * and every later call rejects too until the store is opened anew. What waits is held in memory: the caller limits it
   * by limiting the commits under way. Entries of a ClusterStore are durable together only within one shard.
   */
  commit(entries: readonly ShardEntry[]): Promise<void>

  /**
   * Starts a snapshot that will cover every entry passed to `commit` before this call. One at a time per shard.
   * @throws {StoreError} full, failed, closed
   */
  beginSnapshot(shard: number): SnapshotWriter

  /** Bytes of log entries of `shard` that no finished snapshot covers: decides when the next snapshot is worth it. */
  logBytes(shard: number): number

  /** Waits for what is under way, flushes and closes; later calls reject with `closed`. Closing again is harmless. */
  close(): Promise<void>
}

/**
 * A store that several backends share: each shard has one owner at a time, and each ownership an epoch. Before `commit`, `beginSnapshot` and
 * `logBytes` of a shard it must be claimed. Redis out of reach: calls wait and try again until `close`, unless said otherwise.
 */
export interface ClusterStore extends ShardStore {
  /** Who was the last to claim the shard, and whether it has let it go. Null: nobody ever did. */
  ownerOf(shard: number): Promise<ShardOwner | null>
  /**
   * Makes this process the owner, with an epoch above every one before; from then on the store refuses whatever an older owner sends.
   * `after` is the epoch that the caller has seen (0: none): null when somebody else was faster. Stored at the promised level. A shard that
   * is ours already gets a new epoch, and what is pending of it is given up: its lease was over.
   */
  claim(shard: number, after: number): Promise<number | null>
  /** Lets the shard go, after its last commit was answered: `ownerOf` says so to others. Its entries stay. */
  release(shard: number): Promise<void>
  /**
   * Called when the store refused something of ours because somebody else has claimed the shard: before the commit resolves, whose
   * entries of that shard were not stored. Whoever listens must see to it that nothing is acknowledged for it (ARCHITECTURE.md). From
   * then on the store passes over entries of the shard until it is claimed again.
   */
  onFenced: ((shard: number) => void) | null
  /** Reads a shard that need not be owned, in steps: see ShardReading. */
  read(shard: number): ShardReading
  /**
   * Called when entries that were answered as stored are missing in the store (a failover at level `stored`): the owner, whose memory has
   * everything, writes a snapshot at once; until it is finished, commits of the shard wait.
   */
  onIncomplete: ((shard: number) => void) | null
  /**
   * What the shard held is not in our memory any more, so nobody will write that snapshot: commits that wait for it resolve as if another
   * one had claimed the shard, though `onFenced` is not called, and its entries are passed over until it is claimed again. Does nothing
   * unless entries are missing.
   */
  forsake(shard: number): void
}

export interface ShardOwner {
  readonly epoch: number
  /** Member id and instance (shared/cluster/member.ts). */
  readonly id: string
  readonly instance: string
  readonly isReleased: boolean
}

/** A reader of one shard that goes on where it stopped: most of it before the shard is taken over, the rest after. */
export interface ShardReading {
  /**
   * Everything that is stored now and was not visited before: the first time the snapshot and the log, then only the log. Answers false
   * when the place where it stopped is gone (a snapshot has replaced it): begin with another reading.
   * @throws {StoreError} corrupt, newerFormat, closed
   */
  readOn(visit: (kind: 'snapshot' | 'log', bytes: Uint8Array) => void): Promise<boolean>
}

export interface ShardEntry {
  readonly shard: number
  readonly bytes: Uint8Array
}

export interface SnapshotWriter {
  /**
   * Adds a chunk (at most 1 MiB advised). Resolves when the store can take the next one. Rejects with `full` when this
   * chunk does not fit: abandon the snapshot then; commits may go on.
   */
  write(chunk: Uint8Array): Promise<void>
  /** Atomically replaces the former snapshot and trims the log entries that this one covers (in the background, in bounded steps). */
  finish(): Promise<void>
  /** Drops what was written; the former snapshot and the log stay. */
  abandon(): Promise<void>
}

/**
 * memory: nothing survives the process. stored: in the store, survives the process. replicated: in as many copies of the store as
 * redundancyFactor says. fsynced: survives the machine.
 */
export type DurabilityLevel = 'memory' | 'stored' | 'replicated' | 'fsynced'

export type StoreFault = 'corrupt' | 'newerFormat' | 'locked' | 'mismatch' | 'full' | 'failed' | 'closed'

/** Message names the file and the remedy, for the operator. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly fault: StoreFault

  constructor(fault: StoreFault, message: string, options?: ErrorOptions) {
    super(message, options)
    this.fault = fault
  }
}
