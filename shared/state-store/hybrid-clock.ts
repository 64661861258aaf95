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

/** When it was by a clock, whoever's it is. */
export type ClockTime = Pick<HybridClock, 'wall' | 'counter'>

/** What a request gives as a clock; null: nothing. */
export type Given<T extends ClockTime> = T | 'malformed' | null

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
const COLON = 0x3a

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

export function givenClock(text: string | null): Given<HybridClock> {
  return text === null ? null : (parseClock(text) ?? 'malformed')
}

/** The time of the clock whose text is `bytes[start, end)`, as `parseClock` reads it; makes a string only of what few clients send. */
export function givenTime(bytes: Buffer, start: number, end: number): ClockTime | 'malformed' {
  let [wall, counter, colons, digits] = [0, 0, 0, 0]
  let at = start
  for (; at < end && colons < 2; at++) {
    const byte = bytes[at]!
    if (byte === COLON && digits > 0) {
      colons++
      digits = 0
      continue
    }
    if (!isDigit(byte)) return 'malformed'
    const digit = byte - ZERO
    if (++digits > EXACT_DIGITS) return parseClock(bytes.toString('utf8', start, end)) ?? 'malformed'
    if (colons === 0) wall = wall * 10 + digit
    else counter = counter * 10 + digit
  }
  if (colons < 2 || at === end) return 'malformed'
  for (; at < end; at++) if (bytes[at] === COLON) return 'malformed'
  return { wall, counter }
}

/** Reads a version that the store gave out. @returns null when `text` cannot be one */
export function parseStoreClock(text: string): StoreClock | null {
  const clock = parseClock(text)
  if (clock === null || clock.node !== STORE_NODE) return null
  const { wall, counter } = clock
  return typeof wall === 'number' && typeof counter === 'number' ? storeClock(wall, counter) : null
}

/** Padded to 15 and 5 digits, as clients write them. */
export function formatClock({ wall, counter, node }: HybridClock): string {
  return `${String(wall).padStart(WALL_DIGITS, '0')}:${String(counter).padStart(COUNTER_DIGITS, '0')}:${node}`
}

const STORE_TEXT = Buffer.from(formatClock(storeClock(0, 0)))
const WALL_MAX = 10 ** WALL_DIGITS
const COUNTER_TEXT_MAX = 10 ** COUNTER_DIGITS
/** Of the clock whose milliseconds STORE_TEXT has. */
let textWall = 0

/** Bytes that a clock of the store takes as a text. */
export function storeClockBytes({ wall, counter }: StoreClock): number {
  const isUsual = wall < WALL_MAX && counter < COUNTER_TEXT_MAX
  return isUsual ? STORE_TEXT.length : formatClock(storeClock(wall, counter)).length
}

/** Writes `formatClock` of a clock of the store; answers the offset behind it. Requests of one millisecond have all but the counter in common. */
export function writeStoreClock(into: Buffer, at: number, clock: StoreClock): number {
  const { wall, counter } = clock
  if (wall >= WALL_MAX || counter >= COUNTER_TEXT_MAX) return at + into.write(formatClock(clock), at, 'latin1')
  if (wall !== textWall) {
    STORE_TEXT.write(String(wall).padStart(WALL_DIGITS, '0'), 0, 'latin1')
    textWall = wall
  }
  let rest = counter
  for (let digit = WALL_DIGITS + COUNTER_DIGITS; digit > WALL_DIGITS; digit--) {
    STORE_TEXT[digit] = ZERO + (rest % 10)
    rest = Math.floor(rest / 10)
  }
  for (let i = 0; i < STORE_TEXT.length; i++) into[at + i] = STORE_TEXT[i]!
  return at + STORE_TEXT.length
}

/** Below 0: `a` is older than `b`; 0: equal. Wall, then counter, then node by code unit. */
export function compareClocks(a: HybridClock, b: HybridClock): number {
  return compare(a.wall, b.wall) || compare(a.counter, b.counter) || compare(a.node, b.node)
}

export function isTooFarAhead(clock: ClockTime, nowMs: number): boolean {
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
export function tick(store: StoreClock, request: ClockTime | null, nowMs: number): StoreClock {
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
