import { ErrorText } from './errors.ts'
import { copyBytes, type StoredBytes } from './stored-bytes.ts'

/** Payloads of responses and notifications (spec state-store.md 4 and 8.2). Those that are constants are shared: nobody may write into them. */
export const Answer = {
  /** SET done, KEYNOTIFY done. */
  Done: Buffer.from('+OK\r\n'),
  /** GET: no such key. */
  NoValue: Buffer.from('$-1\r\n'),
  /** DEL, VDEL: the key was deleted. */
  Deleted: Buffer.from(':1\r\n'),
  /** DEL, VDEL: no such key. KEYNOTIFY STOP: it was not watched. */
  Nothing: Buffer.from(':0\r\n'),
  /** SET: condition not met. VDEL: another value. */
  Differs: Buffer.from(':-1\r\n'),
} as const

const ERRORS = new Map(Object.values(ErrorText).map(text => [text, Buffer.from(`-ERR ${text}\r\n`)]))

const CRLF = '\r\n'
const CR = 0x0d
const LF = 0x0a
const DOLLAR = 0x24
const ZERO = 0x30

export function errorAnswer(text: ErrorText): Buffer {
  return ERRORS.get(text)!
}

/** GET: the value. */
export function valueAnswer(value: StoredBytes): Buffer {
  return blobBehind('', value)
}

/** KEYNOTIFY with KEEP: the watch goes on where it was, and so many notifications follow. */
export function resumedAnswer(missed: number): Buffer {
  return Buffer.from(`:${missed}${CRLF}`)
}

/** A watched key has a new value. */
export function setNotification(value: StoredBytes): Buffer {
  return blobBehind('*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n', value)
}

/** A watched key was deleted or has expired. */
export const DELETE_NOTIFICATION = Buffer.from('*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n')

/** SCAN: where the next page begins, empty when this is the last, and the keys of this one, a character for each byte. */
export function pageAnswer(next: string, keys: readonly string[]): Buffer {
  const blobs = keys.map(key => `$${key.length}${CRLF}${key}${CRLF}`)
  return Buffer.from(`*2${CRLF}$${next.length}${CRLF}${next}${CRLF}*${keys.length}${CRLF}${blobs.join('')}`, 'latin1')
}

/** MGET: in the order of the keys; null: there is no such key. */
export function valuesAnswer(values: readonly (StoredBytes | null)[]): Buffer {
  return Buffer.concat([
    Buffer.from(`*${values.length}${CRLF}`),
    ...values.map(value => (value === null ? Answer.NoValue : valueAnswer(value))),
  ])
}

/** How many bytes `writeBlob` writes. */
export function blobBytes(value: StoredBytes): number {
  return 1 + digitsOf(value.length) + 2 * CRLF.length + value.length
}

/** A blob; answers the offset behind it. */
export function writeBlob(into: Buffer, at: number, value: StoredBytes): number {
  into[at] = DOLLAR
  const digits = digitsOf(value.length)
  let rest = value.length
  for (let digit = at + digits; digit > at; digit--) {
    into[digit] = ZERO + (rest % 10)
    rest = Math.floor(rest / 10)
  }
  const end = copyBytes(value, into, putLineEnd(into, at + 1 + digits))
  return putLineEnd(into, end)
}

function digitsOf(length: number): number {
  let digits = 1
  for (let power = 10; length >= power; power *= 10) digits++
  return digits
}

function putLineEnd(into: Buffer, at: number): number {
  into[at] = CR
  into[at + 1] = LF
  return at + 2
}

function blobBehind(text: string, value: StoredBytes): Buffer {
  const bytes = Buffer.allocUnsafe(text.length + blobBytes(value))
  writeBlob(bytes, bytes.write(text, 0, 'latin1'), value)
  return bytes
}
