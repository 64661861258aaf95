import { ByteWriter } from '#shared/base/byte-writer.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'
import type { Delivery } from '../session/delivery.ts'
import type { Session } from '../session/session.ts'
import { StoreError, type SnapshotWriter } from '../store/shard-store.ts'
import { ENTRY_FORMAT } from './journal.ts'
import {
  Record,
  writeCounters,
  writeHandOver,
  writeHeld,
  writeMember,
  writeNextHandOver,
  writeNumbered,
  writeRetained,
  writeSeen,
  writeSession,
  writeShared,
  writeSubscribed,
} from './records.ts'
import { receiverOf } from './receiver-of.ts'
import type { Shard } from './shard.ts'

/** A shard's log may grow to this, or to twice its last snapshot, before the next one: recovery reads no more than that. */
const LOG_BYTES_MIN = 1024 * 1024
const LOG_TO_SNAPSHOT = 2
/** A shard whose snapshot failed, of a full disk say, is tried again after this, and after twice as long each time that it fails again. */
const RETRY_MS_MIN = 1_000
const RETRY_MS_MAX = 60_000
/** Bytes made at once: what one turn spends on a snapshot. */
const CHUNK_BYTES = 256 * 1024

/**
 * Keeps each shard's log short by writing snapshots, one shard at a time and in pieces, while the shard goes on changing.
 * A piece holds its sessions as they are at that moment; what changes afterwards stands in the log and is replayed (see ShardStore).
 */
export class Snapshotter {
  readonly #engine: Engine
  readonly #failed = new Map<Shard, { readonly retryAtMs: number; readonly waitMs: number }>()
  #running: Promise<void> | null = null
  #isClosed = false
  /** Of the snapshot that is under way. */
  #writing: Shard | null = null
  #forced: Shard | null = null

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** Called at each tick, a few times a second: starts the snapshot that is due, unless one is under way. */
  check(): void {
    if (this.#running !== null || this.#isClosed) return
    const shard = this.#engine.shards.find(candidate => this.#isDue(candidate))
    if (shard === undefined) return
    this.#running = this.#write(shard)
      .then(
        () => void this.#failed.delete(shard),
        (error: unknown) => this.#onFailed(shard, error),
      )
      .finally(() => {
        this.#running = null
        this.#writing = null
      })
  }

  /** Writes one now, whatever the log's size: entries of the shard are missing in the store, or were never written. */
  async writeNow(shard: Shard): Promise<void> {
    while (this.#running !== null) await this.#running
    this.#forced = shard
    const running = this.#write(shard).finally(() => {
      this.#forced = null
      if (this.#running === running) this.#running = null
    })
    this.#running = running.catch(() => undefined)
    await running
  }

  /** The shard goes to another backend: a snapshot of it that is under way is dropped. Where nothing was journalled, all is written now. */
  async leave(shard: Shard): Promise<void> {
    if (!this.#engine.journal.isDurable) return this.writeNow(shard)
    if (this.#writing === shard) await this.#running
  }

  /** Stops after the piece under way; an unfinished snapshot is dropped, the former one and the log stay. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#running
  }

  #onFailed(shard: Shard, error: unknown): void {
    const waitMs = Math.min(RETRY_MS_MAX, 2 * (this.#failed.get(shard)?.waitMs ?? RETRY_MS_MIN / 2))
    this.#failed.set(shard, { waitMs, retryAtMs: this.#engine.clock.monotonicMs() + waitMs })
    this.#engine.log.error('snapshot_failed', { shard: shard.number, error: String(error), retryAfterMs: waitMs })
  }

  #isDue(shard: Shard): boolean {
    if (!shard.isServing) return false
    const failed = this.#failed.get(shard)
    if (failed !== undefined && this.#engine.clock.monotonicMs() < failed.retryAtMs) return false
    return this.#engine.store.logBytes(shard.number) > Math.max(LOG_BYTES_MIN, LOG_TO_SNAPSHOT * shard.snapshotBytes)
  }

  async #write(shard: Shard): Promise<void> {
    const target = this.#engine.store.beginSnapshot(shard.number)
    this.#writing = shard
    const pieces = new Pieces(target)
    try {
      const { nextSession } = shard
      writeCounters(pieces.writer, nextSession)
      this.#writeClusterState(pieces, shard)
      for (const session of shard.sessions.values()) {
        // Those that come while this runs stand in the log.
        if (session.number < nextSession && (session.isRecorded || session.isInCluster)) await this.#writeSession(pieces, session)
      }
      await this.#writeRetained(pieces, shard)
      await pieces.flush()
      // The pieces hold changes whose records may not be stored yet. Finished first, the snapshot could show after a crash
      // a QoS 2 identifier as received whose message was never stored with its receivers, in this or another shard.
      if (!(await this.#engine.journal.stored())) throw new StoreError('closed', 'stopped')
      this.#checkGoesOn(shard)
      await target.finish()
      shard.snapshotBytes = pieces.bytes
      this.#engine.counters.snapshots++
    } catch (error) {
      await target.abandon()
      if (shard === this.#forced || (!this.#isClosed && shard.isServing)) throw error
    }
  }

  async #writeSession(pieces: Pieces, session: Session): Promise<void> {
    this.#checkGoesOn(this.#engine.shards[session.shard]!)
    writeSession(pieces.writer, session)
    if (!session.keepsMessages) return pieces.flushIfLarge()
    for (const { filter, qos, noLocal, retainAsPublished, identifier } of session.subscriptions?.values() ?? []) {
      writeSubscribed(pieces.writer, { session: session.number, text: filter.text, qos, noLocal, retainAsPublished, identifier })
    }
    for (const packetId of session.receivedQos2 ?? []) writeNumbered(pieces.writer, Record.Qos2Held, session.number, packetId)
    for (const delivery of deliveriesOf(session)) {
      if (session.hasEnded || session.outbox === null) return
      writeHeld(pieces.writer, pieces.indexOf(delivery.message), receiverOf(session, delivery))
      if (pieces.isLarge) await pieces.flush()
    }
    await pieces.flushIfLarge()
  }

  /** What others still have to take, what was taken from others, and who is in the groups of this shard. */
  #writeClusterState(pieces: Pieces, shard: Shard): void {
    writeNextHandOver(pieces.writer, shard.nextHandOver)
    for (const handOver of shard.handOvers.values()) writeHandOver(pieces.writer, handOver)
    for (const [fromShard, sequence] of shard.seen) writeSeen(pieces.writer, fromShard, sequence)
    for (const member of this.#engine.cluster?.groups.membersOf(shard.number) ?? []) writeMember(pieces.writer, member)
  }

  #checkGoesOn(shard: Shard): void {
    const goesOn = shard.isServing || (shard === this.#forced && shard.phase === 'leaving')
    if (this.#isClosed || !goesOn) throw new StoreError('closed', 'stopped')
  }

  async #writeRetained(pieces: Pieces, shard: Shard): Promise<void> {
    const newest = this.#engine.retainedSequence
    for (const message of shard.retained) {
      // In order of coming: those that come while this runs stand in the log, and must not keep it running.
      if (message.retainedSequence > newest) break
      this.#checkGoesOn(shard)
      writeRetained(pieces.writer, message)
      await pieces.flushIfLarge()
    }
  }
}

/** As they stand now, each once: those with an identifier, then those that wait for one. */
function deliveriesOf(session: Session): Delivery[] {
  const { outbox } = session
  if (outbox === null) return []
  const all = outbox.ids.deliveries()
  for (let i = 0; i < outbox.queued.length; i++) all.push(outbox.queued.at(i)!)
  return all
}

/** Collects records into chunks of a bounded size. */
class Pieces {
  readonly writer = new ByteWriter(CHUNK_BYTES)
  readonly #target: SnapshotWriter
  readonly #indexes = new Map<Message, number>()
  bytes = 0

  constructor(target: SnapshotWriter) {
    this.#target = target
    this.writer.u8(ENTRY_FORMAT)
  }

  /** The number of a message in this snapshot; written when it is met first. */
  indexOf(message: Message): number {
    const known = this.#indexes.get(message)
    if (known !== undefined) return known
    const index = this.#indexes.size
    this.#indexes.set(message, index)
    writeShared(this.writer, index, message)
    return index
  }

  get isLarge(): boolean {
    return this.writer.length >= CHUNK_BYTES
  }

  async flushIfLarge(): Promise<void> {
    if (this.isLarge) await this.flush()
  }

  async flush(): Promise<void> {
    const chunk = this.writer.take()
    this.writer.u8(ENTRY_FORMAT)
    this.bytes += chunk.length
    await this.#target.write(chunk)
  }
}
