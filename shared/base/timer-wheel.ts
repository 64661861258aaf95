import { assert } from './assert.ts'

const LEVEL_BITS = 5
const SLOTS_PER_LEVEL = 1 << LEVEL_BITS
/** Ticks are split here, because bit operations see 32 bits only: six levels below, the other five above. */
const LOW_BITS = 30
const LOW_LEVELS = LOW_BITS / LEVEL_BITS
const LOW_SPAN = 2 ** LOW_BITS
const LEVELS = 11
const TICK_MAX = Number.MAX_SAFE_INTEGER
const NOT_SCHEDULED = -1
/** Ticks in one slot of each level, and in all slots of the topmost. */
const SLOT_TICKS = Array.from({ length: LEVELS + 1 }, (_, level) => SLOTS_PER_LEVEL ** level)

/** One scheduled item, for `cancel` of the wheel that gave it out. */
export class TimerHandle {
  /** @internal */
  readonly item: unknown
  /** @internal Absolute, in ticks since the wheel's start. */
  dueTick: number
  /** @internal Index of the list it hangs in. */
  slot = NOT_SCHEDULED
  /** @internal */
  previous: TimerHandle | null = null
  /** @internal */
  next: TimerHandle | null = null

  constructor(item: unknown, dueTick: number) {
    this.item = item
    this.dueTick = dueTick
  }

  /** False once it fired or was cancelled. */
  get isScheduled(): boolean {
    return this.slot !== NOT_SCHEDULED
  }
}

/**
 * Many due times, one clock reading: a hierarchical timer wheel without I/O. The owner calls `advance` about once per tick.
 *
 * Eleven levels of 32 slots cover every tick a safe integer can name, so 136 years are as cheap as a second. An item hangs at
 * the level of the highest digit (base 32) in which its due tick differs from the current one. Therefore everything at a level
 * is due before everything at the levels above, and the first occupied slot of the lowest occupied level comes next:
 * empty time costs nothing, however long it was. Reaching a slot above level 0 spreads its items over the levels below,
 * at most ten times in an item's life.
 *
 * An item never fires early, and in the first `advance` at or after the tick that follows its due time. Items of one tick fire in no
 * particular order, earlier ticks first.
 */
export class TimerWheel<T> {
  readonly #tickMs: number
  readonly #startMs: number
  readonly #first: (TimerHandle | null)[] = Array.from({ length: LEVELS * SLOTS_PER_LEVEL }, () => null)
  /** Per level, one bit per slot that holds something. */
  readonly #occupied = new Int32Array(LEVELS)
  #tick = 0
  /** What is scheduled now is due after this tick: the current one or, while advancing, the one that is aimed at. */
  #firedTick = 0
  #advancing = false
  #size = 0

  /** @param startMs the clock's reading now; all due times and `advance` are of the same clock */
  constructor(tickMs: number, startMs: number) {
    assert(tickMs > 0 && Number.isFinite(startMs), 'a tick lasts some time and starts at a known one')
    this.#tickMs = tickMs
    this.#startMs = startMs
  }

  get size(): number {
    return this.#size
  }

  /**
   * O(1). A due time that has passed fires at the next tick, never inside `schedule` and never in the `advance` that is running.
   * One too far away for a safe integer fires at the end of time.
   */
  schedule(item: T, dueMs: number): TimerHandle {
    assert(!Number.isNaN(dueMs), 'a due time is a number')
    const due = Math.ceil((dueMs - this.#startMs) / this.#tickMs)
    const handle = new TimerHandle(item, Math.min(TICK_MAX, Math.max(due, this.#firedTick + 1)))
    this.#link(handle)
    this.#size++
    return handle
  }

  /** O(1). Does nothing when the item has fired or was cancelled before. */
  cancel(handle: TimerHandle): void {
    if (handle.slot === NOT_SCHEDULED) return
    this.#unlink(handle)
    this.#size--
  }

  /**
   * Fires what is due at `nowMs`, at most `max` items; false when more is due: the next call goes on there, whatever was scheduled
   * meanwhile. Time that goes back is ignored. `onDue` may schedule and cancel; when it throws, its item counts as fired and the
   * others fire at the next call.
   */
  advance(nowMs: number, onDue: (item: T) => void, max = Infinity): boolean {
    const target = Math.min(TICK_MAX, Math.floor((nowMs - this.#startMs) / this.#tickMs))
    if (!(target >= this.#tick)) return true
    assert(!this.#advancing, 'advance is not called from onDue')
    this.#advancing = true
    this.#firedTick = target
    try {
      return this.#run(target, onDue, max)
    } finally {
      this.#advancing = false
      this.#firedTick = this.#tick
    }
  }

  #run(target: number, onDue: (item: T) => void, max: number): boolean {
    let left = max
    for (let level = this.#lowestLevel(); level < LEVELS; level = this.#lowestLevel()) {
      const position = lowestBit(this.#occupied[level]!)
      const reachedTick = firstTickOf(this.#tick, level, position)
      if (reachedTick > target) break
      this.#tick = reachedTick
      const slot = level * SLOTS_PER_LEVEL + position
      for (let handle = this.#first[slot]; handle; handle = this.#first[slot]) {
        if (level > 0) {
          // Also what is due now: a slot that is left half spread would lie behind the levels below it.
          this.#unlink(handle)
          this.#link(handle)
          continue
        }
        if (left-- <= 0) return false
        this.#unlink(handle)
        this.#size--
        onDue(handle.item as T)
      }
    }
    this.#tick = target
    return true
  }

  #lowestLevel(): number {
    let level = 0
    while (level < LEVELS && this.#occupied[level] === 0) level++
    return level
  }

  #link(handle: TimerHandle): void {
    const level = levelOf(this.#tick, handle.dueTick)
    const position = digitAt(handle.dueTick, level)
    const slot = level * SLOTS_PER_LEVEL + position
    const next = this.#first[slot] ?? null
    handle.slot = slot
    handle.next = next
    if (next !== null) next.previous = handle
    this.#first[slot] = handle
    this.#occupied[level]! |= 1 << position
  }

  #unlink(handle: TimerHandle): void {
    const { slot, previous, next } = handle
    if (next !== null) next.previous = previous
    if (previous !== null) previous.next = next
    else {
      this.#first[slot] = next
      if (next === null) this.#occupied[Math.floor(slot / SLOTS_PER_LEVEL)]! &= ~(1 << (slot % SLOTS_PER_LEVEL))
    }
    handle.slot = NOT_SCHEDULED
    handle.previous = null
    handle.next = null
  }
}

/** The highest digit in which two ticks differ; 0 when they are equal. */
function levelOf(tick: number, dueTick: number): number {
  const high = Math.floor(tick / LOW_SPAN) ^ Math.floor(dueTick / LOW_SPAN)
  if (high !== 0) return LOW_LEVELS + Math.floor((31 - Math.clz32(high)) / LEVEL_BITS)
  const low = (tick % LOW_SPAN) ^ (dueTick % LOW_SPAN)
  return low === 0 ? 0 : Math.floor((31 - Math.clz32(low)) / LEVEL_BITS)
}

function digitAt(tick: number, level: number): number {
  return Math.floor(tick / SLOT_TICKS[level]!) % SLOTS_PER_LEVEL
}

/** First tick of the slot at `position` of `level`, in the part of time that `tick` lies in. */
function firstTickOf(tick: number, level: number, position: number): number {
  const levelTicks = SLOT_TICKS[level + 1]!
  return Math.floor(tick / levelTicks) * levelTicks + position * SLOT_TICKS[level]!
}

function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}
