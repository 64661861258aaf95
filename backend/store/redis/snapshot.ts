import { assert } from '#shared/base/assert.ts'
import { redisFault } from '#shared/cluster/redis-fault.ts'
import { StoreError, type SnapshotWriter } from '../shard-store.ts'
import type { Connection } from './connection.ts'
import type { Keys } from './keys.ts'
import type { OnSide } from './reading.ts'
import { ABANDON_SNAPSHOT, ADD_CHUNK, FINISH_SNAPSHOT } from './scripts.ts'
import type { ShardLog } from './shard-log.ts'

export interface SnapshotParts {
  readonly log: ShardLog
  readonly keys: Keys
  readonly owner: { readonly id: string; readonly instance: string }
  readonly onSide: OnSide
  readonly onFenced: (log: ShardLog) => void
  /** The snapshot is in place; the log up to `position` of `epoch` may be trimmed. */
  readonly onFinished: (log: ShardLog, epoch: number, position: number) => void
  /** A loss of entries is mended. */
  readonly onMended: (log: ShardLog) => void
}

/**
 * Writes chunks to a list that nothing names yet; the last step names it in the place of the former one. Each step is a script that refuses
 * who is not the owner any more, and that may be made again when its outcome is unknown.
 */
export class RedisSnapshotWriter implements SnapshotWriter {
  readonly #parts: SnapshotParts
  readonly #epoch: number
  readonly #snapshot: string
  readonly #ownBytes: number
  readonly #foreignBytes: number
  readonly #losses: number
  #chunks = 0
  #hasEnded = false

  constructor(parts: SnapshotParts) {
    const { log } = parts
    this.#parts = parts
    this.#epoch = log.epoch
    log.beginSnapshot()
    this.#snapshot = `${log.epoch}-${log.snapshots}`
    this.#ownBytes = log.ownBytes
    this.#foreignBytes = log.foreignBytes
    this.#losses = log.losses
  }

  async write(chunk: Uint8Array): Promise<void> {
    assert(!this.#hasEnded, 'a chunk of a snapshot that has ended')
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    const index = this.#chunks++
    await this.#run(side => side.call('eval', ADD_CHUNK, 3, ...this.#keysOf(), ...this.#arguments(), this.#snapshot, index, bytes))
  }

  async finish(): Promise<void> {
    const { log } = this.#parts
    this.#end()
    let covered = 0
    try {
      covered = await this.#covered()
      const mends = this.#mends() ? '1' : '0'
      await this.#run(side =>
        side.write(['eval', FINISH_SNAPSHOT, 3, ...this.#keysOf(), ...this.#arguments(), this.#snapshot, this.#chunks, covered, mends]),
      )
    } finally {
      this.#release()
    }
    if (log.epoch !== this.#epoch || !log.isOwned) return
    log.coveredBytes = this.#ownBytes
    log.foreignBytes -= this.#foreignBytes
    if (this.#mends()) {
      log.onMended(covered)
      this.#parts.onMended(log)
    }
    this.#parts.onFinished(log, this.#epoch, covered)
  }

  async abandon(): Promise<void> {
    if (this.#hasEnded) return
    this.#end()
    const [, meta, chunks] = this.#keysOf()
    try {
      await this.#parts.onSide(this.#parts.log.shard, side => side.call('eval', ABANDON_SNAPSHOT, 2, meta, chunks, this.#snapshot))
    } finally {
      this.#release()
    }
  }

  /**
   * The position up to which the snapshot stands for the log. Its entries are stored first, unless the snapshot is there to replace them: were
   * some sent again later, under higher positions, they would be replayed over a state that is ahead of them, and the rest might never come.
   */
  async #covered(): Promise<number> {
    const { log } = this.#parts
    if (log.epoch === this.#epoch && !this.#mends()) await log.coveredIsStored()
    if (log.epoch !== this.#epoch || (log.phase === 'incomplete' && !this.#mends())) {
      throw new StoreError('failed', `shard ${log.shard} has changed hands, or lost entries, since this snapshot began; it is dropped`)
    }
    return log.covered
  }

  /** It replaces entries that were lost, because it began after they were. */
  #mends(): boolean {
    const { log } = this.#parts
    return log.epoch === this.#epoch && log.phase === 'incomplete' && log.losses === this.#losses
  }

  async #run(send: (side: Connection) => Promise<unknown>): Promise<void> {
    const { log, onFenced, onSide } = this.#parts
    const answer = await onSide(log.shard, async side => {
      try {
        return String(await send(side))
      } catch (error) {
        if (redisFault(error) === 'outOfMemory') throw new StoreError('full', 'Redis is out of memory; raise maxmemory', { cause: error })
        throw error
      }
    })
    if (answer === 'mine') return
    if (answer === 'fenced' && log.epoch === this.#epoch && log.isOwned) onFenced(log)
    const why = answer === 'fenced' ? 'another backend owns the shard' : 'Redis lost chunks of the snapshot in a failover'
    throw new StoreError('failed', `shard ${log.shard}: ${why}; this snapshot is dropped`)
  }

  #keysOf(): readonly [string, string, string] {
    const { keys, log } = this.#parts
    return [keys.log(log.shard), keys.meta(log.shard), keys.snapshotPrefix(log.shard) + this.#snapshot]
  }

  #arguments(): readonly (string | number)[] {
    const { keys, log, owner } = this.#parts
    return [this.#epoch, owner.id, owner.instance, keys.snapshotPrefix(log.shard)]
  }

  #end(): void {
    assert(!this.#hasEnded, 'a snapshot ends once')
    this.#hasEnded = true
  }

  /** Unless another owner's time has begun meanwhile, ours again perhaps. */
  #release(): void {
    const { log } = this.#parts
    if (log.epoch === this.#epoch) log.isSnapshotUnderWay = false
  }
}
