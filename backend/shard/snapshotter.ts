import { ByteWriter } from '#shared/base/byte-writer.ts'
import type { Message } from '#shared/mqtt/message.ts'
import type { Engine } from '../engine.ts'
import type { Delivery } from '../session/delivery.ts'
import type { Session } from '../session/session.ts'
import { momentOf } from '../statestore/moment.ts'
import { StoreError } from '../store/shard-store.ts'
import { ENTRY_FORMAT_PLAIN } from './journal.ts'
import {
  Record,
  writeCounters,
  writeHandOver,
  writeHeld,
  writeMember,
  writeNextHandOver,
  writeNumbered,
  writeRetained,
  writeRun,
  writeSeen,
  writeSession,
  writeShared,
  writeStore,
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
/** The same where clients wait for it. */
const MEND_RETRY_MS_MAX = 5_000
/** Bytes made at once: what one turn spends on a snapshot. */
const CHUNK_BYTES = 256 * 1024

/**
 * Keeps each shard's log short by writing snapshots, one shard at a time and in pieces, while the shard goes on changing.
 * A piece holds its sessions as they are at that moment; what changes afterwards stands in the log and is replayed (see ShardStore).
 */
export class Snapshotter {
  readonly #engine: Engine
  readonly #failed = new Map<Shard, Retry>()
  #running: Promise<void> | null = null
  #isClosed = false
  /** Of the snapshot that is under way. */
  #writing: Shard | null = null
  /** Ends it at its next step, even while it waits for the journal. */
  #interrupt: () => void = () => {}
  /** Shards of which the store has lost entries, until a snapshot that began later is finished. */
  readonly #lost = new Map<Shard, Mend>()

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** Called at each tick, a few times a second: starts the snapshot that is due, unless one is under way. */
  check(): void {
    if (this.#isClosed) return
    for (const [shard, mend] of this.#lost) this.#runMend(shard, mend)
    if (this.#running !== null) return
    const shard = this.#engine.shards.find(candidate => this.#isDue(candidate))
    if (shard === undefined) return
    const interrupted = new Promise<false>(resolve => {
      this.#interrupt = () => resolve(false)
    })
    this.#writing = shard
    this.#running = this.#write(shard, interrupted)
      .then(
        () => void this.#failed.delete(shard),
        (error: unknown) => this.#onFailed(shard, error),
      )
      .finally(() => {
        this.#running = null
        this.#writing = null
      })
  }

  /**
   * The store has lost entries of the shard that it had answered, and takes no others before a snapshot of what we have in memory (ClusterStore.
   * onIncomplete): it is begun at once, or when a shard that is being taken over is served, and again until it is finished or the shard is
   * forgotten. Commits wait meanwhile, so it must not wait for them.
   */
  mend(shard: Shard): void {
    const known = this.#lost.get(shard)
    const mend: Mend = known ?? { running: null, isOutdated: false, retry: null }
    mend.isOutdated = true
    if (known !== undefined) return
    this.#lost.set(shard, mend)
    this.#runMend(shard, mend)
  }

  /** The shard is in memory no more, whyever: nothing that the store has lost of it can be written again, and no commit waits for that. */
  forget(shard: Shard): void {
    this.#lost.delete(shard)
    this.#engine.cluster?.store.forsake(shard.number)
  }

  /** The shard goes to another backend: a snapshot of it that is under way is dropped. Where nothing was journalled, all is written now. */
  async leave(shard: Shard): Promise<void> {
    if (!this.#engine.journal.isDurable) return this.#writeAtOnce(shard)
    if (this.#writing === shard) {
      this.#interrupt()
      await this.#running
    }
    await this.#lost.get(shard)?.running
  }

  /** Stops after the piece under way; an unfinished snapshot is dropped, the former one and the log stay. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#running
    for (const { running } of this.#lost.values()) await running
  }

  #onFailed(shard: Shard, error: unknown): void {
    const waitMs = nextWaitMs(this.#failed.get(shard), RETRY_MS_MAX)
    this.#failed.set(shard, { waitMs, retryAtMs: this.#engine.clock.monotonicMs() + waitMs })
    this.#engine.log.error('snapshot_failed', { shard: shard.number, error: String(error), retryAfterMs: waitMs })
  }

  #isDue(shard: Shard): boolean {
    if (!shard.isServing || this.#lost.has(shard)) return false
    const failed = this.#failed.get(shard)
    if (failed !== undefined && this.#engine.clock.monotonicMs() < failed.retryAtMs) return false
    return this.#engine.store.logBytes(shard.number) > Math.max(LOG_BYTES_MIN, LOG_TO_SNAPSHOT * shard.snapshotBytes)
  }

  #runMend(shard: Shard, mend: Mend): void {
    if (mend.running !== null || this.#isClosed) return
    // Being taken over: `check` comes again, and finds it served or forgotten.
    if (!isOurs(shard)) return
    if (mend.retry !== null && this.#engine.clock.monotonicMs() < mend.retry.retryAtMs) return
    mend.isOutdated = false
    // Forgotten meanwhile, and perhaps lost again in another time of ours: this one says nothing about that.
    const isCurrent = (): boolean => this.#lost.get(shard) === mend
    mend.running = this.#mend(shard, isCurrent)
      .then(
        () => {
          if (!mend.isOutdated && isCurrent()) this.#lost.delete(shard)
        },
        (error: unknown) => {
          if (!isCurrent() || this.#isClosed) return
          const waitMs = nextWaitMs(mend.retry, MEND_RETRY_MS_MAX)
          mend.retry = { waitMs, retryAtMs: this.#engine.clock.monotonicMs() + waitMs }
          this.#engine.log.error('snapshot_failed', { shard: shard.number, error: String(error), retryAfterMs: waitMs })
        },
      )
      .finally(() => {
        mend.running = null
      })
  }

  async #mend(shard: Shard, isCurrent: () => boolean): Promise<void> {
    if (this.#writing === shard) {
      this.#interrupt()
      await this.#running
    }
    if (isCurrent()) await this.#writeAtOnce(shard)
  }

  /** A snapshot of one moment: nothing in it needs a record that is not stored yet, so that it waits for none. */
  async #writeAtOnce(shard: Shard): Promise<void> {
    const target = this.#engine.store.beginSnapshot(shard.number)
    try {
      const pieces = new Pieces()
      const chunks: Uint8Array[] = []
      for (const _ of this.#records(pieces, shard)) if (pieces.isLarge) chunks.push(pieces.take())
      chunks.push(pieces.take())
      for (const chunk of chunks) await target.write(chunk)
      await target.finish()
      this.#onFinished(shard, pieces)
    } catch (error) {
      await target.abandon()
      throw error
    }
  }

  async #write(shard: Shard, interrupted: Promise<false>): Promise<void> {
    const target = this.#engine.store.beginSnapshot(shard.number)
    const pieces = new Pieces()
    try {
      for (const _ of this.#records(pieces, shard)) {
        if (!pieces.isLarge) continue
        await target.write(pieces.take())
        this.#checkGoesOn(shard)
      }
      await target.write(pieces.take())
      // The pieces hold changes whose records may not be stored yet. Finished first, the snapshot could show after a crash
      // a QoS 2 identifier as received whose message was never stored with its receivers, in this or another shard.
      if (!(await Promise.race([this.#engine.journal.stored(), interrupted]))) throw new StoreError('closed', 'stopped')
      this.#checkGoesOn(shard)
      await target.finish()
      this.#onFinished(shard, pieces)
    } catch (error) {
      await target.abandon()
      if (!this.#isClosed && shard.isServing && !this.#lost.has(shard)) throw error
    }
  }

  #onFinished(shard: Shard, pieces: Pieces): void {
    shard.snapshotBytes = pieces.bytes
    this.#engine.counters.snapshots++
  }

  #checkGoesOn(shard: Shard): void {
    if (this.#isClosed || !shard.isServing || this.#lost.has(shard)) throw new StoreError('closed', 'stopped')
  }

  /** Writes all records of the shard; whoever asks for the next step may take what is written out, and let time pass. */
  *#records(pieces: Pieces, shard: Shard): Iterable<void> {
    const { nextSession } = shard
    const newest = this.#engine.retainedSequence
    writeCounters(pieces.writer, nextSession)
    yield* this.#clusterStateOf(pieces, shard)
    for (const session of shard.sessions.values()) {
      // Those that come while this runs stand in the log.
      if (session.number < nextSession && (session.isRecorded || session.isInCluster)) yield* this.#recordsOf(pieces, session)
    }
    for (const message of shard.retained) {
      // In order of coming: those that come while this runs stand in the log, and must not keep it running.
      if (message.retainedSequence > newest) break
      writeRetained(pieces.writer, message)
      yield
    }
    for (const change of shard.store?.snapshot(() => momentOf(this.#engine.clock)) ?? []) {
      writeStore(pieces.writer, change)
      yield
    }
  }

  *#recordsOf(pieces: Pieces, session: Session): Iterable<void> {
    writeSession(pieces.writer, session)
    if (!session.keepsMessages) return yield
    for (const { filter, qos, noLocal, retainAsPublished, identifier } of session.subscriptions?.values() ?? []) {
      writeSubscribed(pieces.writer, { session: session.number, text: filter.text, qos, noLocal, retainAsPublished, identifier })
    }
    for (const packetId of session.receivedQos2 ?? []) writeNumbered(pieces.writer, Record.Qos2Held, session.number, packetId)
    for (const delivery of deliveriesOf(session)) {
      if (session.hasEnded || session.outbox === null) return
      writeHeld(pieces.writer, pieces.indexOf(delivery.message), receiverOf(session, delivery))
      yield
    }
    yield
  }

  /** What was taken from others, what others still have to take, and who is in the groups of this shard. */
  *#clusterStateOf(pieces: Pieces, shard: Shard): Iterable<void> {
    const { nextHandOver } = shard
    writeNextHandOver(pieces.writer, nextHandOver)
    if (shard.runId !== '') writeRun(pieces.writer, shard.runId)
    // At once, and before the sessions: they have by then what these numbers stand for.
    for (const [fromShard, sequence] of shard.seen) writeSeen(pieces.writer, fromShard, sequence)
    yield
    for (const handOver of shard.handOvers.values()) {
      // In order of coming: those that come while this runs stand in the log.
      if (handOver.sequence >= nextHandOver) break
      writeHandOver(pieces.writer, handOver)
      yield
    }
    for (const member of this.#engine.cluster?.groups.membersOf(shard.number) ?? []) {
      writeMember(pieces.writer, member)
      yield
    }
  }
}

interface Retry {
  readonly retryAtMs: number
  readonly waitMs: number
}

interface Mend {
  running: Promise<void> | null
  /** Entries were lost since it began. */
  isOutdated: boolean
  retry: Retry | null
}

function nextWaitMs(before: Retry | null | undefined, maxMs: number): number {
  return Math.min(maxMs, 2 * (before?.waitMs ?? RETRY_MS_MIN / 2))
}

/** Its memory is whole. */
function isOurs(shard: Shard): boolean {
  return shard.phase === 'serving' || shard.phase === 'leaving'
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
  readonly #indexes = new Map<Message, number>()
  bytes = 0

  constructor() {
    this.writer.u8(ENTRY_FORMAT_PLAIN)
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

  /** What was written so far; another piece begins. */
  take(): Uint8Array {
    const chunk = this.writer.take()
    this.writer.u8(ENTRY_FORMAT_PLAIN)
    this.bytes += chunk.length
    return chunk
  }
}
