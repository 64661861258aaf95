import { ownersOf } from '#shared/cluster/rendezvous.ts'
import { Acquisition } from './acquisition.ts'
import { Draining } from './draining.ts'
import { OwnershipCounters, type OwnershipParts, SETTLE_MS } from './ownership-parts.ts'
import { ShardSlot } from './shard-slot.ts'

/** Questions to the store, claims with the reading that follows, and moves that are under way at a time. */
const LOOKS_MAX = 32
const CLAIMS_MAX = 8
/** One: reading ahead for a second shard would hold up the first, whose publishers wait. */
const MOVES_MAX = 1
/** Served shards whose owner is looked up each second, in turn: finds out about a claim that nobody has told us of and that no append has met. */
const VERIFIED_MAX = 16
const VERIFY_MS = 1_000
/** Lines of `problems`. */
const PROBLEMS_MAX = 16

/**
 * Which shards this backend owns. The assignment follows from the living members alone, so every backend has the same; the one to which it
 * gives a shard acts: claims it when no living backend owns it, else prepares and asks the owner to let it go.
 *
 * Invariant: of one shard, at most one process of the cluster serves at any time. A shard is claimed only when its owner has let it go or is
 * no longer registered, and an owner that is not registered has no lease (Membership): `mayServe` says no there, however late the process
 * notices. Somebody evicted by mistake is the exception; there, as for clocks that run apart, the store refuses what the older epoch appends.
 *
 * Phases of a shard: see shard-slot.ts.
 */
export class ShardOwnership {
  readonly counters = new OwnershipCounters()
  readonly #parts: OwnershipParts
  readonly #acquisition: Acquisition
  readonly #slots: readonly ShardSlot[]
  #assignment: readonly string[]
  #hasLease = false
  /** Monotonic milliseconds before which nothing is claimed. */
  #settledMs = Infinity
  #draining: Draining | null = null
  #isRunning = false
  #isRoundDue = false
  #verifyAt = 0
  #isVerifying = false
  #stopListening: () => void = () => undefined
  #cancelRound: () => void = () => undefined
  #cancelVerify: () => void = () => undefined

  constructor(parts: OwnershipParts) {
    this.#parts = parts
    this.#acquisition = new Acquisition(parts, this.counters, () => this.#roundSoon())
    this.#slots = Array.from({ length: parts.store.shardCount }, (_, shard) => new ShardSlot(shard))
    this.#assignment = ownersOf(parts.store.shardCount, [])
  }

  /** Begins to own shards, as soon as there is a lease. Sets `store.onFenced`. Start the membership afterwards. */
  start(): void {
    const { membership, store } = this.#parts
    this.#isRunning = true
    store.onFenced = shard => this.onFenced(shard)
    this.#stopListening = membership.listen({ onMembers: () => this.#onMembers(), onLapsed: () => this.#onLapsed() })
    if (membership.isAlive) this.#onMembers()
    this.#verifyLater()
  }

  /** Ends at once, as a process does: the host is told nothing, the store keeps us as the owner. After `drain` nothing is left anyway. */
  stop(): void {
    this.#isRunning = false
    this.#stopListening()
    this.#cancelRound()
    this.#cancelVerify()
    this.#draining?.end()
    for (const slot of this.#slots) slot.attempt?.cancel()
  }

  /** Shards that are served, without those that are just being let go. */
  owned(): readonly { readonly shard: number; readonly epoch: number }[] {
    return this.#slots.filter(slot => slot.phase === 'serving').map(({ shard, epoch }) => ({ shard, epoch }))
  }

  /**
   * Whether this backend may answer for the shard now. Ask before anything is done for it, in the same turn: it also notices that the lease is
   * over, and then everything is dropped before the answer comes.
   */
  mayServe(shard: number): boolean {
    if (!this.#parts.membership.checkLease()) return false
    const phase = this.#slots[shard]?.phase
    return phase === 'serving' || phase === 'taking'
  }

  /** We are a member, and every shard that is ours by assignment is served, here or by a living backend that has not let it go yet. */
  get isReady(): boolean {
    const { membership, timers } = this.#parts
    if (!membership.isAlive || this.#draining !== null || timers.nowMs() < this.#settledMs) return false
    return this.#slots.every(slot => !this.#isOurs(slot) || ['serving', 'stopping', 'elsewhere', 'moving'].includes(slot.phase))
  }

  /** What keeps this backend from serving what is its own, a line each; empty when nothing does. */
  problems(): readonly string[] {
    if (!this.#parts.membership.isAlive) return ['no lease: the registry of members does not answer']
    const found = this.#slots.filter(slot => slot.problem !== null && this.#isOurs(slot))
    const lines = found.slice(0, PROBLEMS_MAX).map(slot => `shard ${slot.shard}: ${slot.problem}`)
    return found.length <= PROBLEMS_MAX ? lines : [...lines, `and ${found.length - PROBLEMS_MAX} shards more`]
  }

  /**
   * Another backend asks for a shard (OwnerPort.requestShard). True when we do not serve it any more and its journal is complete. It is let go
   * only if the assignment gives it to `from`, or if we are leaving.
   */
  async onRequestShard(from: string, shard: number): Promise<boolean> {
    const { membership } = this.#parts
    const slot = this.#slots[shard]
    if (slot === undefined || !this.#isRunning || !membership.checkLease()) return false
    // The other may have heard of a new member before us.
    if (!this.#mayGive(from, shard) && !((await membership.refresh()) && this.#mayGive(from, shard))) return false
    if (!membership.checkLease()) return false
    switch (slot.phase) {
      case 'serving':
        return await this.#acquisition.release(slot)
      case 'stopping':
        return (await slot.releasing) ?? false
      case 'claiming':
      case 'taking':
        return false
      default:
        // Ours in the store, perhaps, but nobody serves it: no reason to wait.
        return true
    }
  }

  /** An answer to `requestShard` came when nobody waited for it any more: the shard may be free. */
  onShardReleased(shard: number): void {
    const slot = this.#slots[shard]
    if (slot === undefined) return
    if (slot.failures === 0) slot.retryAtMs = 0
    slot.attempt?.wake()
    this.#roundSoon()
  }

  /** A backend says that it owns the shard (CallerPort.owned): with an epoch above ours it is right. */
  onOwnedElsewhere(shard: number, epoch: number): void {
    const slot = this.#slots[shard]
    if (slot !== undefined && epoch > slot.epoch && slot.isHeld && slot.phase !== 'claiming') this.onFenced(shard)
  }

  /** The store has refused something of ours: somebody else has claimed the shard. */
  onFenced(shard: number): void {
    const slot = this.#slots[shard]
    if (slot === undefined || !slot.isHeld || slot.phase === 'claiming') return
    this.counters.fenced++
    this.#parts.log.warn('shard_fenced', { shard, epoch: slot.epoch })
    this.#acquisition.cancel(slot)
    this.#parts.closeLinks('fenced')
    this.#roundSoon()
  }

  /**
   * Gives everything away: others are told that this process is leaving, and take what it has. Resolves when nothing is owned any more. What
   * nobody has asked for after `boundMs`, or when there is nobody left to ask, is let go in the store, so that others may claim it at once.
   * The membership goes on: leave it afterwards.
   */
  drain(boundMs: number): Promise<void> {
    if (this.#draining !== null) return this.#draining.ended
    for (const slot of this.#slots) if (!slot.isHeld) this.#acquisition.cancel(slot)
    this.#draining = new Draining(this.#parts, this.#acquisition, this.#slots, boundMs)
    return this.#draining.ended
  }

  #mayGive(from: string, shard: number): boolean {
    return this.#draining !== null || this.#assignment[shard] === from
  }

  #isOurs(slot: ShardSlot): boolean {
    return this.#assignment[slot.shard] === this.#parts.membership.self.id
  }

  #onMembers(): void {
    const { membership, timers, log, settleMs } = this.#parts
    const backends = membership.membersOf('backend').filter(member => !member.isLeaving)
    this.#assignment = ownersOf(
      this.#slots.length,
      backends.map(member => member.id),
    )
    log.info('shards_assigned', { backends: backends.map(member => member.id), own: this.#slots.filter(slot => this.#isOurs(slot)).length })
    if (!this.#hasLease) this.#settledMs = timers.nowMs() + (settleMs ?? SETTLE_MS)
    this.#hasLease = true
    for (const slot of this.#slots) {
      if (slot.phase === 'unowned' || slot.phase === 'elsewhere') slot.phase = 'away'
      if (slot.phase === 'moving' && !this.#acquisition.isLiving(slot.ownerId, slot.ownerInstance)) slot.attempt?.wake()
      if (slot.failures === 0) slot.retryAtMs = 0
    }
    this.#roundSoon()
  }

  #onLapsed(): void {
    this.counters.lapses++
    this.#hasLease = false
    this.#settledMs = Infinity
    for (const slot of this.#slots) this.#acquisition.cancel(slot)
    this.#parts.closeLinks('lapsed')
    this.#roundSoon()
  }

  /** After whatever is under way in this turn, so that what ends together is looked at together. */
  #roundSoon(): void {
    if (this.#isRoundDue || !this.#isRunning) return
    this.#isRoundDue = true
    queueMicrotask(() => {
      this.#isRoundDue = false
      if (!this.#isRunning) return
      if (this.#draining !== null) this.#draining.round()
      else this.#round()
    })
  }

  #round(): void {
    const { membership, timers } = this.#parts
    this.#cancelRound()
    if (!membership.checkLease()) return
    const nowMs = timers.nowMs()
    if (nowMs < this.#settledMs) return this.#roundAt(this.#settledMs)
    this.#giveUpOthers()
    const room = new Room(this.#slots)
    let nextMs = Infinity
    for (const slot of this.#slots) {
      if (slot.phase !== 'away' || !this.#isOurs(slot)) continue
      if (slot.retryAtMs > nowMs) nextMs = Math.min(nextMs, slot.retryAtMs)
      else if (room.looking < LOOKS_MAX) {
        room.looking++
        this.#acquisition.look(slot)
      }
    }
    for (const slot of this.#slots) {
      if (slot.phase !== 'unowned' || room.claims >= CLAIMS_MAX) continue
      room.claims++
      room.unowned--
      this.#acquisition.claim(slot)
    }
    // What nobody serves goes before what somebody does.
    if (room.unowned === 0 && room.looking === 0) {
      for (const slot of this.#slots) {
        if (slot.phase !== 'elsewhere' || room.moves >= MOVES_MAX) continue
        room.moves++
        this.#acquisition.move(slot)
      }
    }
    if (nextMs < Infinity) this.#roundAt(nextMs)
  }

  /** What is not begun, and what is not claimed yet, when it is another's by now. */
  #giveUpOthers(): void {
    for (const slot of this.#slots) {
      if (!this.#isOurs(slot) && (slot.phase === 'unowned' || slot.phase === 'elsewhere' || slot.phase === 'moving'))
        this.#acquisition.cancel(slot)
    }
  }

  #roundAt(ms: number): void {
    const { timers } = this.#parts
    this.#cancelRound = timers.after(Math.max(ms - timers.nowMs(), 1), () => this.#roundSoon())
  }

  #verifyLater(): void {
    this.#cancelVerify = this.#parts.timers.after(VERIFY_MS, () => {
      this.#verifyLater()
      if (!this.#isVerifying) void this.#verify()
    })
  }

  async #verify(): Promise<void> {
    this.#isVerifying = true
    const serving = this.#slots.filter(slot => slot.phase === 'serving')
    if (this.#verifyAt >= serving.length) this.#verifyAt = 0
    const chosen = serving.slice(this.#verifyAt, this.#verifyAt + VERIFIED_MAX)
    this.#verifyAt += VERIFIED_MAX
    const ask = async (slot: ShardSlot): Promise<void> => {
      const owner = await this.#parts.store.ownerOf(slot.shard).catch(() => null)
      if (this.#isRunning && owner !== null) this.onOwnedElsewhere(slot.shard, owner.epoch)
    }
    await Promise.all(chosen.map(ask))
    this.#isVerifying = false
  }
}

/** What is under way, counted. */
class Room {
  looking = 0
  unowned = 0
  claims = 0
  moves = 0

  constructor(slots: readonly ShardSlot[]) {
    for (const slot of slots) {
      if (slot.phase === 'looking') this.looking++
      else if (slot.phase === 'unowned') this.unowned++
      else if (slot.isMove) this.moves++
      else if (slot.phase === 'claiming' || slot.phase === 'taking') this.claims++
    }
  }
}
