import { assert } from '#shared/base/assert.ts'
import { ENTRY_FIELD, LINK_FIELD } from './keys.ts'
import type { Argument, RedisCommand } from './connection.ts'

/** One `commit`, which is stored when all its appends are. */
export interface PendingCommit {
  missing: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

interface Append {
  position: number
  /** The position that this one follows, where it is not the one before: see Chain. */
  link: number | null
  readonly entries: readonly Uint8Array[]
  readonly commit: PendingCommit
}

/**
 * What we know of the log of one shard, and what we want in it. No connection here: the store asks for commands and tells what became of them.
 *
 *   unowned ─claimed→ synchronising ─as expected→ probing ─first append stored→ live
 *   probing, live ─connection lost, append refused→ synchronising        synchronising ─entries missing→ incomplete ─snapshot→ synchronising
 *   any ─somebody else has claimed it→ fenced ─claimed→ …
 *
 * Probing: after a fault only one append is under way, so that a server which still refuses gets few commands, and no gap arises.
 */
export type Phase = 'unowned' | 'synchronising' | 'probing' | 'live' | 'incomplete' | 'fenced'

/** Appends sent again get positions that far up, which nothing still on its way over a dead connection can have. */
const REPAIR_STEP = 2 ** 20

export class ShardLog {
  readonly shard: number
  phase: Phase = 'unowned'
  epoch = 0
  /** Grows with each loss of contact: answers that belong to a former one say nothing. */
  contact = 0
  /** The contact for which the log was asked what it holds; another number when it must be asked. */
  askedContact = -1
  /** Grows with each loss of entries; a snapshot mends those that happened before it began. */
  losses = 0
  /** Identifiers of snapshots that we began; unique in an epoch. */
  snapshots = 0
  isSnapshotUnderWay = false
  /** Position of the last entry that the snapshot under way covers. */
  covered = 0
  /** Bytes of entries passed to `commit` since the claim; and of former owners' entries in the log, as far as read. */
  ownBytes = 0
  foreignBytes = 0
  coveredBytes = 0
  readonly #log: string
  /** Those not stored yet, in order; from `#first` on. */
  #appends: Append[] = []
  #first = 0
  /** Appends that were sent in this contact. */
  #sent = 0
  #position = 0
  #stored = 0
  /** Called at the next change that a snapshot may wait for. */
  #waiting: (() => void)[] = []

  constructor(shard: number, log: string) {
    this.shard = shard
    this.#log = log
  }

  get isOwned(): boolean {
    return this.phase !== 'unowned' && this.phase !== 'fenced'
  }

  /** The last position given. */
  get position(): number {
    return this.#position
  }

  /** Up to here every entry of ours was answered as stored. */
  get stored(): number {
    return this.#stored
  }

  get pending(): number {
    return this.#appends.length - this.#first
  }

  begin(epoch: number): void {
    assert(!this.isOwned && this.pending === 0, `shard ${this.shard} has an owner, us`)
    this.epoch = epoch
    this.phase = 'live'
    this.contact++
    this.losses = 0
    this.snapshots = 0
    this.#appends = []
    this.#first = 0
    this.#sent = 0
    this.#position = 0
    this.#stored = 0
    this.ownBytes = 0
    this.coveredBytes = 0
    this.isSnapshotUnderWay = false
  }

  add(entries: readonly Uint8Array[], commit: PendingCommit): void {
    commit.missing++
    for (const entry of entries) this.ownBytes += entry.length
    this.#appends.push({ position: ++this.#position, link: null, entries, commit })
  }

  /** Commands for what may be sent now and was not. */
  takeUnsent(): RedisCommand[] {
    const countMax = this.phase === 'live' ? Infinity : this.phase === 'probing' ? 1 : 0
    const commands: RedisCommand[] = []
    for (; this.#sent < Math.min(this.pending, countMax); this.#sent++)
      commands.push(this.#command(this.#appends[this.#first + this.#sent]!))
    return commands
  }

  /** Position of the last append that was sent in this contact, 0 for none. */
  get sentPosition(): number {
    return this.#sent === 0 ? 0 : this.#appends[this.#first + this.#sent - 1]!.position
  }

  /** Everything up to `position` is stored. */
  onStored(position: number): void {
    this.#stored = Math.max(this.#stored, position)
    while (this.pending > 0 && this.#appends[this.#first]!.position <= position) this.#shift()
    if (this.phase === 'probing') this.phase = 'live'
    this.#wake()
  }

  /** What was sent has an unknown outcome, or was refused. */
  loseContact(): void {
    if (!this.isOwned) return
    this.contact++
    this.#sent = 0
    if (this.phase !== 'incomplete') this.phase = 'synchronising'
  }

  /**
   * What the log holds of ours, after contact was lost.
   * @param last the last position of our epoch that the log ever had
   * @param found the positions of our epoch above `stored` that are in it
   * What is there without a gap is stored; what is behind a gap will be sent again.
   */
  onSynchronised(last: number, found: readonly number[]): void {
    const present = new Set(found)
    let index = this.#first
    while (index < this.#appends.length && present.has(this.#appends[index]!.position)) index++
    const reached = index === this.#first ? this.#stored : this.#appends[index - 1]!.position
    const next = this.#appends[index]
    if (next !== undefined && next.position <= last) {
      next.link = reached
      this.#position = last + REPAIR_STEP
      for (; index < this.#appends.length; index++) this.#renumber(this.#appends[index]!)
    }
    this.onStored(reached)
    this.phase = this.pending > 0 ? 'probing' : 'live'
  }

  /** Entries that were answered as stored are missing. */
  onLoss(): void {
    this.losses++
    this.phase = 'incomplete'
    this.#wake()
  }

  /** Begins a snapshot of everything passed so far. */
  beginSnapshot(): void {
    this.isSnapshotUnderWay = true
    this.snapshots++
    this.covered = this.#position
  }

  /** Resolves when every entry that the snapshot under way covers is stored, or never will be: look at `phase` then. */
  async coveredIsStored(): Promise<void> {
    while (this.isOwned && this.phase !== 'incomplete' && this.#stored < this.covered) {
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    }
  }

  /** A snapshot that began after the loss covers everything up to `position`. */
  onMended(position: number): void {
    this.onStored(position)
    this.phase = 'synchronising'
    this.contact++
  }

  /** Somebody else owns the shard, or it is let go: what is pending will not be stored. Its commits end. */
  end(phase: 'unowned' | 'fenced'): void {
    this.phase = phase
    this.contact++
    while (this.pending > 0) this.#shift()
    this.#sent = 0
    this.#wake()
  }

  /** The store is closed: what is pending is given up. */
  abort(error: Error): void {
    this.phase = 'unowned'
    this.contact++
    this.#wake()
    for (const { commit } of this.#appends.slice(this.#first)) commit.reject(error)
    this.#appends = []
    this.#first = 0
    this.#sent = 0
  }

  #renumber(append: Append): void {
    const isLastCovered = append.position === this.covered
    append.position = ++this.#position
    if (isLastCovered) this.covered = append.position
  }

  #wake(): void {
    if (this.#waiting.length > 0) for (const wake of this.#waiting.splice(0)) wake()
  }

  #shift(): void {
    const { commit } = this.#appends[this.#first++]!
    if (this.#sent > 0) this.#sent--
    if (this.#first === this.#appends.length || this.#first >= 64) {
      this.#appends = this.#appends.slice(this.#first)
      this.#first = 0
    }
    if (--commit.missing === 0) commit.resolve()
  }

  #command({ position, link, entries }: Append): RedisCommand {
    const command: [string, ...Argument[]] = ['xadd', this.#log, `${this.epoch}-${position}`]
    if (link !== null) command.push(LINK_FIELD, String(link))
    for (const entry of entries) command.push(ENTRY_FIELD, Buffer.from(entry.buffer, entry.byteOffset, entry.length))
    return command
  }
}
