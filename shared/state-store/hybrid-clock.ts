import { assert } from '#shared/base/assert.ts'
import { ownCopy } from '#shared/base/own-copy.ts'

/**
 * 0 to 2^64 - 1. A bigint only where a number would not be exact: so equal values are identical, and `<` between the two kinds is exact.
 */
export type ClockNumber = number | bigint

/** A hybrid logical clock: a version, a fencing token, a client's time (spec state-store.md 6). */
export interface HybridClock {
  /** Milliseconds since 1970. */
  readonly wall: ClockNumber
  /** Tells apart what happened in one millisecond. */
  readonly counter: ClockNumber
  /** Whose clock. Not empty, without `:`. */
  readonly node: string
}

/** A clock that the store made: never beyond the present, so in exact numbers. */
export interface StoreClock extends HybridClock {
  readonly wall: number
  readonly counter: number
}

const STORE_NODE = 'StateStore'

/** A clock ahead of ours by more is refused; by just so much, it is not. */
const AHEAD_MAX_MS = 60_000

/** Some clients read the counter into 32 bits with a sign. */
const COUNTER_MAX = 2 ** 31 - 1

const WALL_DIGITS = 15
const COUNTER_DIGITS = 5

const NUMBER_MAX = 2n ** 64n - 1n
const NUMBER_DIGITS_MAX = 20
/** So many digits are exact in a double, whichever they are. */
const EXACT_DIGITS = 15
const ZERO = 0x30

export function storeClock(wall: number, counter: number): StoreClock {
  return { wall, counter, node: STORE_NODE }
}

/** Before every version. */
export const NO_CLOCK = storeClock(0, 0)

/**
 * Reads `wall:counter:node`: exactly three parts, leading zeros allowed. Linear in the length of `text`.
 * @returns null when `text` is anything else
 */
export function parseClock(text: string): HybridClock | null {
  const first = text.indexOf(':')
  if (first === -1) return null
  const second = text.indexOf(':', first + 1)
  if (second === -1 || second === text.length - 1 || text.includes(':', second + 1)) return null
  const wall = numberIn(text, 0, first)
  const counter = numberIn(text, first + 1, second)
  if (wall === null || counter === null) return null
  return { wall, counter, node: ownCopy(text.slice(second + 1), text) }
}

/** Padded to 15 and 5 digits, as clients write them. */
export function formatClock({ wall, counter, node }: HybridClock): string {
  return `${String(wall).padStart(WALL_DIGITS, '0')}:${String(counter).padStart(COUNTER_DIGITS, '0')}:${node}`
}

/** Below 0: `a` is older than `b`; 0: equal. Wall, then counter, then node by code unit. */
export function compareClocks(a: HybridClock, b: HybridClock): number {
  return compare(a.wall, b.wall) || compare(a.counter, b.counter) || compare(a.node, b.node)
}

export function isTooFarAhead(clock: HybridClock, nowMs: number): boolean {
  return clock.wall > nowMs + AHEAD_MAX_MS
}

/**
 * The store's clock after one more event: later than it was, and than `request`.
 *
 * A counter that would pass 2^31 - 1 goes into the next millisecond instead: only a client that sends such a counter gets there, and each
 * request moves the clock by one millisecond, which `isTooFarAhead` ends a minute ahead of the present.
 * @param request a clock that is not too far ahead; null: the event has none (a deletion)
 * @param nowMs wall time in whole milliseconds
 */
export function tick(store: StoreClock, request: HybridClock | null, nowMs: number): StoreClock {
  const { wall, counter } = store
  if (nowMs > wall && (request === null || nowMs > request.wall)) return storeClock(nowMs, 0)
  if (request === null || wall > request.wall) return after(wall, counter)
  assert(typeof request.wall === 'number', 'a clock too far ahead was refused before')
  if (wall === request.wall) return after(wall, counter > request.counter ? counter : request.counter)
  return after(request.wall, request.counter)
}

function after(wall: number, counter: ClockNumber): StoreClock {
  return counter < COUNTER_MAX ? storeClock(wall, Number(counter) + 1) : storeClock(wall + 1, 0)
}

function compare<T extends ClockNumber | string>(a: T, b: T): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

/** The decimal number that fills `text[start, end)`. */
function numberIn(text: string, start: number, end: number): ClockNumber | null {
  if (start === end) return null
  let value = 0
  for (let at = start; at < end; at++) {
    const code = text.charCodeAt(at)
    if (!isDigit(code)) return null
    value = value * 10 + (code - ZERO)
  }
  if (end - start <= EXACT_DIGITS) return value
  return largeNumberIn(text, start, end)
}

function largeNumberIn(text: string, start: number, end: number): ClockNumber | null {
  let digits = start
  while (digits < end - 1 && text[digits] === '0') digits++
  if (end - digits <= EXACT_DIGITS) return Number(text.slice(digits, end))
  if (end - digits > NUMBER_DIGITS_MAX) return null
  const value = BigInt(text.slice(digits, end))
  if (value > NUMBER_MAX) return null
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}

function isDigit(code: number): boolean {
  return code >= ZERO && code <= ZERO + 9
}
