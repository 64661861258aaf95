import { UnexpectedAnswerError } from './errors.ts'

/** What the payload of an answer or a notification says. */
export type Answer =
  | { readonly is: 'ok' }
  | { readonly is: 'value'; readonly value: Uint8Array }
  | { readonly is: 'none' }
  | { readonly is: 'number'; readonly number: number }
  | { readonly is: 'error'; readonly text: string }
  | { readonly is: 'list'; readonly items: readonly Answer[] }

const CR = 13
const LF = 10
const CRLF = Buffer.from('\r\n')
/** No answer holds a list in a list in a list. */
const DEPTH_MAX = 2

/** `*N`, then each part as `$L`: the form of every request. */
export function encodeParts(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...parts.flatMap(part => [Buffer.from(`$${part.length}\r\n`), part, CRLF])])
}

/** @throws {UnexpectedAnswerError} it is none, or more than one */
export function parseAnswer(payload: Uint8Array): Answer {
  const reader = new Reader(payload)
  const answer = reader.answer(DEPTH_MAX)
  if (!reader.isAtEnd) throw malformed()
  return answer
}

function malformed(): UnexpectedAnswerError {
  return new UnexpectedAnswerError('the payload is no answer of the state store')
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  answer(depth: number): Answer {
    const line = this.#line()
    const rest = line.slice(1)
    switch (line[0]) {
      case '+':
        if (rest === 'OK') return { is: 'ok' }
        throw malformed()
      case '-':
        if (rest.startsWith('ERR ')) return { is: 'error', text: rest.slice('ERR '.length) }
        throw malformed()
      case ':':
        return { is: 'number', number: numberOf(rest) }
      case '$':
        return rest === '-1' ? { is: 'none' } : { is: 'value', value: this.#blob(numberOf(rest)) }
      case '*':
        if (depth === 0) throw malformed()
        return { is: 'list', items: this.#items(numberOf(rest), depth - 1) }
      default:
        throw malformed()
    }
  }

  #items(count: number, depth: number): Answer[] {
    const items: Answer[] = []
    // The bytes end before a count that promises too much does.
    while (items.length < count) items.push(this.answer(depth))
    return items
  }

  #line(): string {
    const end = this.#bytes.indexOf(CRLF, this.#at)
    if (end === -1) throw malformed()
    const line = this.#bytes.toString('utf8', this.#at, end)
    this.#at = end + CRLF.length
    return line
  }

  /** A copy: the caller keeps it, and the packet is let go. */
  #blob(length: number): Uint8Array {
    const end = this.#at + length
    if (length < 0 || this.#bytes[end] !== CR || this.#bytes[end + 1] !== LF) throw malformed()
    const value = new Uint8Array(this.#bytes.subarray(this.#at, end))
    this.#at = end + CRLF.length
    return value
  }
}

function numberOf(text: string): number {
  if (!/^-?\d{1,15}$/.test(text)) throw malformed()
  return Number(text)
}
