import { type KeepingStore, openKeepingStore } from './memory/memory-store.ts'
import { StoreError, type ShardEntry, type ShardStore, type SnapshotWriter } from './shard-store.ts'

interface Step {
  readonly run: () => void
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/**
 * A store for tests that is as slow as they like: what is written waits until the test completes it, one step after the other in the
 * order written, as with a disk. A crash loses what waits. Everything committed is kept a second time as a log without snapshots, so that
 * a recovery through snapshots can be compared with one that read every record.
 */
export class LateStore implements ShardStore {
  readonly level = 'stored'
  readonly shardCount: number
  readonly #kept: KeepingStore
  readonly #logOnly: KeepingStore
  readonly #steps: Step[] = []
  #failure: Error | null = null
  /** Completes everything at once, for tests that are not about time. */
  isPrompt = false
  /** The shard whose log claims to be long enough for a snapshot. */
  snapshotDue = -1

  constructor(kept: KeepingStore, logOnly: KeepingStore) {
    this.shardCount = kept.shardCount
    this.#kept = kept
    this.#logOnly = logOnly
  }

  static empty(shardCount: number): LateStore {
    return new LateStore(openKeepingStore({ shardCount }), openKeepingStore({ shardCount }))
  }

  /** Steps that wait: commits, and beginnings and ends of snapshots. */
  get waiting(): number {
    return this.#steps.length
  }

  /** Completes the oldest `count` steps. */
  complete(count = Infinity): void {
    for (let done = 0; done < count && this.#steps.length > 0; done++) {
      const step = this.#steps.shift()!
      step.run()
      step.resolve()
    }
  }

  /** What a restart finds when the process ends now; the oldest `reached` steps have reached the disk, though nobody was told. */
  crash(reached = 0): LateStore {
    for (let done = 0; done < reached && this.#steps.length > 0; done++) this.#steps.shift()!.run()
    this.#steps.length = 0
    return new LateStore(this.#kept.crashCopy(), this.#logOnly.crashCopy())
  }

  /** The same as `crash` of every record ever committed, with no snapshot. */
  withoutSnapshots(): LateStore {
    return new LateStore(this.#logOnly.crashCopy(), this.#logOnly.crashCopy())
  }

  /** What waits and all that comes is refused. */
  fail(): void {
    this.#failure = new StoreError('failed', 'the disk is gone')
    for (const step of this.#steps.splice(0)) step.reject(this.#failure)
  }

  recover(shard: number, visit: (kind: 'snapshot' | 'log', bytes: Uint8Array) => void): Promise<void> {
    return this.#kept.recover(shard, visit)
  }

  commit(entries: readonly ShardEntry[]): Promise<void> {
    return this.#later(() => {
      void this.#kept.commit(entries)
      void this.#logOnly.commit(entries)
    })
  }

  beginSnapshot(shard: number): SnapshotWriter {
    this.snapshotDue = -1
    const chunks: Uint8Array[] = []
    let writer: SnapshotWriter | null = null
    // In its turn, so that it covers exactly the entries passed before.
    const begun = this.#later(() => {
      writer = this.#kept.beginSnapshot(shard)
    })
    begun.catch(() => {})
    return {
      write: async chunk => {
        if (this.#failure !== null) throw this.#failure
        chunks.push(chunk.slice())
      },
      finish: () =>
        this.#later(() => {
          for (const chunk of chunks) void writer!.write(chunk)
          void writer!.finish()
        }),
      abandon: () => this.#later(() => void writer!.abandon()),
    }
  }

  logBytes(shard: number): number {
    return this.snapshotDue === shard ? Number.MAX_SAFE_INTEGER : 0
  }

  async close(): Promise<void> {}

  #later(run: () => void): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure)
    if (this.isPrompt) {
      run()
      return Promise.resolve()
    }
    return new Promise<void>((resolve, reject) => this.#steps.push({ run, resolve, reject }))
  }
}
