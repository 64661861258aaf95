import { ErrorText } from './errors.ts'
import { readScanCursor, type ScanCursor } from './scan-cursor.ts'

/** Only if the key does not exist; only if it does not exist or has this value already. */
export type SetCondition = 'nx' | 'nex'

/** What a request asks for. Keys and values are views into its payload. */
export type Command =
  | {
      readonly is: 'set'
      readonly key: Buffer
      readonly value: Buffer
      readonly condition: SetCondition | null
      /** 1 to 2^53 - 1; null: it lives until it is deleted. */
      readonly lifetimeMs: number | null
    }
  | { readonly is: 'get'; readonly key: Buffer }
  | { readonly is: 'del'; readonly key: Buffer }
  | { readonly is: 'vdel'; readonly key: Buffer; readonly value: Buffer }
  | { readonly is: 'keynotify'; readonly key: Buffer; readonly isStop: boolean }

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
  readonly keys: readonly Buffer[]
}

/** What a request to this broker may ask for. */
export type ExtendedCommand = Command | ScanCommand | MgetCommand

/** Keys of one MGET; more are a syntax error. */
export const MGET_KEYS_MAX = 256
/** Its answer, about: one that would be longer is refused, so that few bytes cannot ask for all memory. */
export const MGET_BYTES_MAX = 1_048_576

/** `SET key value NEX PX n`: no command of the protocol that is right has more elements. */
const ELEMENTS_MAX = 6

const ASTERISK = 0x2a
const DOLLAR = 0x24
const CR = 0x0d
const LF = 0x0a
const ZERO = 0x30
const NINE = 0x39

/**
 * Reads the payload of a request (spec state-store.md 4 and 5), in one pass that allocates nothing by the numbers it claims.
 * @returns the first fault in the order of section 10, as far as `options`, when it is no command
 */
export function parseCommand(payload: Uint8Array): Command | ErrorText {
  const elements = readArray(payload, ELEMENTS_MAX)
  return elements === null ? ErrorText.Syntax : standardCommand(elements)
}

/** As `parseCommand`, and what the protocol does not have. The standard commands are read just as there. */
export function parseExtendedCommand(payload: Uint8Array): ExtendedCommand | ErrorText {
  const elements = readArray(payload, MGET_KEYS_MAX + 1)
  if (elements === null) return ErrorText.Syntax
  const verb = verbOf(elements)
  return verb === 'SCAN' ? scanCommand(elements) : verb === 'MGET' ? mgetCommand(elements) : standardCommand(elements)
}

/** The array that a request is. */
interface Elements {
  /** How many it has, those that are not in `first` included. */
  readonly count: number
  readonly first: readonly Buffer[]
}

/** Null: the payload is not one array of blobs and nothing more. */
function readArray(payload: Uint8Array, keptMax: number): Elements | null {
  const cursor = new Cursor(payload)
  const count = cursor.number(ASTERISK)
  if (count < 1) return null
  const first: Buffer[] = []
  for (let index = 0; index < count; index++) {
    const length = cursor.number(DOLLAR)
    if (length === -1) return null
    const start = cursor.at
    cursor.at += length
    if (!cursor.passLineEnd()) return null
    if (index < keptMax) first.push(cursor.bytes.subarray(start, start + length))
  }
  return cursor.at === cursor.bytes.length ? { count, first } : null
}

class Cursor {
  readonly bytes: Buffer
  at = 0

  constructor(payload: Uint8Array) {
    this.bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  }

  /** Passes over a count or length with `sign` before it; -1 when there is none, or it says more than there are bytes. */
  number(sign: number): number {
    const { bytes } = this
    if (bytes[this.at] !== sign) return -1
    const start = ++this.at
    let value = 0
    for (let byte = bytes[start]; byte !== undefined && byte >= ZERO && byte <= NINE; byte = bytes[++this.at]) {
      value = value * 10 + (byte - ZERO)
      if (value > bytes.length) return -1
    }
    return this.at > start && this.passLineEnd() ? value : -1
  }

  passLineEnd(): boolean {
    if (this.bytes[this.at] !== CR || this.bytes[this.at + 1] !== LF) return false
    this.at += 2
    return true
  }
}

function standardCommand(elements: Elements): Command | ErrorText {
  switch (verbOf(elements)) {
    case 'SET':
      return setCommand(elements)
    case 'GET':
      return keyCommand(elements, 2, 2) ?? { is: 'get', key: elements.first[1]! }
    case 'DEL':
      return keyCommand(elements, 2, 2) ?? { is: 'del', key: elements.first[1]! }
    case 'VDEL':
      return keyCommand(elements, 3, 3) ?? { is: 'vdel', key: elements.first[1]!, value: elements.first[2]! }
    case 'KEYNOTIFY':
      return keyCommand(elements, 2, 3) ?? stopFault(elements) ?? { is: 'keynotify', key: elements.first[1]!, isStop: elements.count === 3 }
    default:
      return ErrorText.UnknownCommand
  }
}

function setCommand(elements: Elements): Command | ErrorText {
  const fault = keyCommand(elements, 3, Infinity)
  if (fault !== null) return fault
  if (elements.count > ELEMENTS_MAX) return ErrorText.Syntax
  const { first } = elements
  let condition: SetCondition | null = null
  let lifetimeMs: number | null = null
  for (let index = 3; index < elements.count; index++) {
    const option = first[index]!.toString('latin1')
    if ((option === 'NX' || option === 'NEX') && condition === null) condition = option === 'NX' ? 'nx' : 'nex'
    else if (option === 'PX' && lifetimeMs === null) {
      lifetimeMs = positiveIn(first[++index])
      if (lifetimeMs === null) return ErrorText.Syntax
    } else return ErrorText.Syntax
  }
  return { is: 'set', key: first[1]!, value: first[2]!, condition, lifetimeMs }
}

function scanCommand({ count, first }: Elements): ScanCommand | ErrorText {
  if (count !== 3 && count !== 5) return ErrorText.ArgumentCount
  const countMax = count === 3 ? null : positiveIn(first[4])
  if (count === 5 && (first[3]!.toString('latin1') !== 'COUNT' || countMax === null)) return ErrorText.Syntax
  const cursor = readScanCursor(first[2]!)
  return cursor === null ? ErrorText.Syntax : { is: 'scan', prefix: first[1]!, cursor, countMax }
}

function mgetCommand(elements: Elements): MgetCommand | ErrorText {
  const keys = elements.first.slice(1)
  const fault = countFault(elements, 2, Infinity) ?? (keys.some(key => key.length === 0) ? ErrorText.EmptyKey : null)
  return fault ?? (elements.count > MGET_KEYS_MAX + 1 ? ErrorText.Syntax : { is: 'mget', keys })
}

/** As a text for comparison; one that is longer than any verb is none. */
function verbOf({ first }: Elements): string {
  return first[0]!.toString('latin1', 0, VERB_BYTES_MAX + 1)
}

const VERB_BYTES_MAX = 'KEYNOTIFY'.length

function countFault({ count }: Elements, min: number, max: number): ErrorText | null {
  return count < min || count > max ? ErrorText.ArgumentCount : null
}

/** What is wrong with a command whose second element is a key, before its options. */
function keyCommand(elements: Elements, min: number, max: number): ErrorText | null {
  return countFault(elements, min, max) ?? (elements.first[1]!.length === 0 ? ErrorText.EmptyKey : null)
}

/** A third element can only be STOP. */
function stopFault({ count, first }: Elements): ErrorText | null {
  return count === 3 && first[2]!.toString('latin1') !== 'STOP' ? ErrorText.Syntax : null
}

/** Decimal digits alone, from 1 to 2^53 - 1. */
function positiveIn(digits: Buffer | undefined): number | null {
  let value = 0
  for (const byte of digits ?? []) {
    if (byte < ZERO || byte > NINE) return null
    value = value * 10 + (byte - ZERO)
    if (value > Number.MAX_SAFE_INTEGER) return null
  }
  return value === 0 ? null : value
}
