import { ErrorText } from './errors.ts'
import { parseStoreClock, type StoreClock } from './hybrid-clock.ts'
import { readScanCursor, type ScanCursor } from './scan-cursor.ts'
import { SHORT_MAX, type StoredBytes } from './stored-bytes.ts'

/** Only if the key does not exist; only if it does not exist or has this value already. */
export type SetCondition = 'nx' | 'nex'

/** What a request asks for. Keys have a character U+0000 to U+00FF for each byte; values as they are stored, long ones views into the payload. */
export type Command =
  | {
      readonly is: 'set'
      readonly key: string
      readonly value: StoredBytes
      readonly condition: SetCondition | null
      /** 1 to 2^53 - 1; null: it lives until it is deleted. */
      readonly lifetimeMs: number | null
    }
  | { readonly is: 'get'; readonly key: string }
  | { readonly is: 'del'; readonly key: string }
  | { readonly is: 'vdel'; readonly key: string; readonly value: StoredBytes }
  | { readonly is: 'keynotify'; readonly key: string; readonly isStop: boolean }

/** Ours, not of the protocol: `SCAN prefix cursor [COUNT n]`, keys page by page. */
export interface ScanCommand {
  readonly is: 'scan'
  readonly prefix: Buffer
  readonly cursor: ScanCursor
  /** Null: the request leaves it to us. */
  readonly countMax: number | null
}

/** Ours as well: `MGET key [key …]`, the values of several keys, in one answer. */
export interface MgetCommand {
  readonly is: 'mget'
  /** A character for each byte. */
  readonly keys: readonly string[]
}

/** And `WATCH prefix [STOP]`: KEYNOTIFY for all keys that begin so; an empty prefix: for all. */
export interface WatchCommand {
  readonly is: 'watch'
  /** A character for each byte. */
  readonly prefix: string
  readonly isStop: boolean
}

/** Ours as well: `KEYNOTIFY key KEEP ms [SINCE version]`, a watch that outlives its connection for so long. */
export interface KeepCommand {
  readonly is: 'keep'
  readonly key: string
  /** 1 to 2^53 - 1. */
  readonly keepMs: number
  /** The last change that the client knows of; null: it knows of none. */
  readonly since: StoreClock | null
}

/** What a request to this broker may ask for. */
export type ExtendedCommand = Command | ScanCommand | MgetCommand | WatchCommand | KeepCommand

/** Bytes of a prefix of WATCH; more are a syntax error. So many beginnings of its key, and one, a change is looked up by at most. */
export const WATCH_PREFIX_BYTES_MAX = 256

/** Keys of one MGET; more are a syntax error. */
export const MGET_KEYS_MAX = 256
/** Its answer, about: one that would be longer is refused, so that few bytes cannot ask for all memory. */
export const MGET_BYTES_MAX = 1_048_576

/** `SET key value NEX PX n`: no command of the protocol that is right has more elements. */
const SET_ELEMENTS_MAX = 6
/** Of which the places are kept. */
const PLACES_MAX = MGET_KEYS_MAX + 1

const ASTERISK = 0x2a
const DOLLAR = 0x24
const CR = 0x0d
const LF = 0x0a
const ZERO = 0x30
const NINE = 0x39
const NO_BYTES = Buffer.alloc(0)

/**
 * Reads the payload `bytes[start, end)` of a request (spec state-store.md 4 and 5), in one pass that allocates nothing by the numbers it claims.
 * @returns the first fault in the order of section 10, as far as `options`, when it is no command
 */
export function parseCommand(bytes: Buffer, start = 0, end = bytes.length): Command | ErrorText {
  return elements.read(bytes, start, end) ? standardCommand() : ErrorText.Syntax
}

/** As `parseCommand`, and what the protocol does not have. The standard commands are read just as there. */
export function parseExtendedCommand(bytes: Buffer, start = 0, end = bytes.length): ExtendedCommand | ErrorText {
  if (!elements.read(bytes, start, end)) return ErrorText.Syntax
  if (elements.is(VERB, 'SCAN')) return scanCommand()
  if (elements.is(VERB, 'WATCH')) return watchCommand()
  if (elements.is(VERB, 'MGET')) return mgetCommand()
  // Of a KEYNOTIFY the protocol knows no fourth element, whatever the third is.
  return elements.count > 3 && elements.is(2, 'KEEP') && elements.is(VERB, 'KEYNOTIFY') ? keepCommand() : standardCommand()
}

/** The array that a request is: where its first elements stand. Good until the next `read`. */
class Elements {
  #bytes: Buffer = NO_BYTES
  #at = 0
  #end = 0
  #length = 0
  readonly #starts = new Int32Array(PLACES_MAX)
  readonly #ends = new Int32Array(PLACES_MAX)
  /** How many it has, those whose places are not kept included. */
  count = 0

  /** False: the payload is not one array of blobs and nothing more. */
  read(bytes: Buffer, start: number, end: number): boolean {
    this.#bytes = bytes
    this.#at = start
    this.#end = end
    this.#length = end - start
    const count = this.#number(ASTERISK)
    if (count < 1) return false
    this.count = count
    for (let index = 0; index < count; index++) {
      const length = this.#number(DOLLAR)
      if (length === -1) return false
      const blob = this.#at
      this.#at += length
      if (!this.#passLineEnd()) return false
      if (index >= PLACES_MAX) continue
      this.#starts[index] = blob
      this.#ends[index] = blob + length
    }
    return this.#at === end
  }

  length(index: number): number {
    return this.#ends[index]! - this.#starts[index]!
  }

  /** Whether the element is this word of ASCII. */
  is(index: number, word: string): boolean {
    const start = this.#starts[index]!
    if (this.length(index) !== word.length) return false
    for (let at = 0; at < word.length; at++) if (this.#bytes[start + at] !== word.charCodeAt(at)) return false
    return true
  }

  /** A view. */
  bytes(index: number): Buffer {
    return this.#bytes.subarray(this.#starts[index], this.#ends[index])
  }

  /** A character for each byte. */
  text(index: number): string {
    return this.#bytes.toString('latin1', this.#starts[index], this.#ends[index])
  }

  value(index: number): StoredBytes {
    return this.length(index) <= SHORT_MAX ? this.text(index) : this.bytes(index)
  }

  /** Passes over a count or length with `sign` before it; -1 when there is none, or it says more than there are bytes. */
  #number(sign: number): number {
    const bytes = this.#bytes
    const end = this.#end
    let at = this.#at
    if (at >= end || bytes[at] !== sign) return -1
    const first = ++at
    let value = 0
    for (; at < end; at++) {
      const digit = bytes[at]! - ZERO
      if (digit < 0 || digit > 9) break
      value = value * 10 + digit
      if (value > this.#length) return -1
    }
    this.#at = at
    return at > first && this.#passLineEnd() ? value : -1
  }

  #passLineEnd(): boolean {
    const at = this.#at
    if (at + 2 > this.#end || this.#bytes[at] !== CR || this.#bytes[at + 1] !== LF) return false
    this.#at = at + 2
    return true
  }
}

const VERB = 0
const KEY = 1
const VALUE = 2

/** One for all requests: each use is over before the next begins. */
const elements = new Elements()

function standardCommand(): Command | ErrorText {
  if (elements.is(VERB, 'GET')) return keyFault(2, 2) ?? { is: 'get', key: elements.text(KEY) }
  if (elements.is(VERB, 'SET')) return setCommand()
  if (elements.is(VERB, 'DEL')) return keyFault(2, 2) ?? { is: 'del', key: elements.text(KEY) }
  if (elements.is(VERB, 'VDEL')) return keyFault(3, 3) ?? { is: 'vdel', key: elements.text(KEY), value: elements.value(VALUE) }
  if (elements.is(VERB, 'KEYNOTIFY'))
    return keyFault(2, 3) ?? stopFault() ?? { is: 'keynotify', key: elements.text(KEY), isStop: elements.count === 3 }
  return ErrorText.UnknownCommand
}

function setCommand(): Command | ErrorText {
  const { count } = elements
  const fault = keyFault(3, Infinity)
  if (fault !== null) return fault
  if (count > SET_ELEMENTS_MAX) return ErrorText.Syntax
  let condition: SetCondition | null = null
  let lifetimeMs: number | null = null
  for (let index = 3; index < count; index++) {
    if (condition === null && elements.is(index, 'NX')) condition = 'nx'
    else if (condition === null && elements.is(index, 'NEX')) condition = 'nex'
    else if (lifetimeMs === null && elements.is(index, 'PX')) {
      lifetimeMs = ++index < count ? positiveIn(elements.bytes(index)) : null
      if (lifetimeMs === null) return ErrorText.Syntax
    } else return ErrorText.Syntax
  }
  return { is: 'set', key: elements.text(KEY), value: elements.value(VALUE), condition, lifetimeMs }
}

function scanCommand(): ScanCommand | ErrorText {
  const { count } = elements
  if (count !== 3 && count !== 5) return ErrorText.ArgumentCount
  const countMax = count === 3 ? null : positiveIn(elements.bytes(4))
  if (count === 5 && (!elements.is(3, 'COUNT') || countMax === null)) return ErrorText.Syntax
  const cursor = readScanCursor(elements.bytes(2))
  return cursor === null ? ErrorText.Syntax : { is: 'scan', prefix: elements.bytes(1), cursor, countMax }
}

function mgetCommand(): MgetCommand | ErrorText {
  const { count } = elements
  if (count < 2) return ErrorText.ArgumentCount
  if (count > MGET_KEYS_MAX + 1) return ErrorText.Syntax
  const keys: string[] = []
  for (let index = KEY; index < count; index++) {
    if (elements.length(index) === 0) return ErrorText.EmptyKey
    keys.push(elements.text(index))
  }
  return { is: 'mget', keys }
}

function watchCommand(): WatchCommand | ErrorText {
  const { count } = elements
  if (count !== 2 && count !== 3) return ErrorText.ArgumentCount
  if (elements.length(KEY) > WATCH_PREFIX_BYTES_MAX) return ErrorText.Syntax
  return stopFault() ?? { is: 'watch', prefix: elements.text(KEY), isStop: count === 3 }
}

/** What gives back a WATCH of this prefix. */
export function watchStopRequest(prefix: string): Buffer {
  return Buffer.from(`*3\r\n$5\r\nWATCH\r\n$${prefix.length}\r\n${prefix}\r\n$4\r\nSTOP\r\n`, 'latin1')
}

function keepCommand(): KeepCommand | ErrorText {
  const { count } = elements
  const fault = count === 5 ? ErrorText.ArgumentCount : keyFault(4, 6)
  if (fault !== null) return fault
  const keepMs = positiveIn(elements.bytes(3))
  const since = count === 6 && elements.is(4, 'SINCE') ? parseStoreClock(elements.text(5)) : null
  if (keepMs === null || (count === 6 && since === null)) return ErrorText.Syntax
  return { is: 'keep', key: elements.text(KEY), keepMs, since }
}

/** What is wrong with a command whose second element is a key, before its options. */
function keyFault(min: number, max: number): ErrorText | null {
  if (elements.count < min || elements.count > max) return ErrorText.ArgumentCount
  return elements.length(KEY) === 0 ? ErrorText.EmptyKey : null
}

/** A third element can only be STOP. */
function stopFault(): ErrorText | null {
  return elements.count === 3 && !elements.is(2, 'STOP') ? ErrorText.Syntax : null
}

/** Decimal digits alone, from 1 to 2^53 - 1. */
function positiveIn(digits: Buffer): number | null {
  let value = 0
  for (const byte of digits) {
    if (byte < ZERO || byte > NINE) return null
    value = value * 10 + (byte - ZERO)
    if (value > Number.MAX_SAFE_INTEGER) return null
  }
  return value === 0 ? null : value
}
