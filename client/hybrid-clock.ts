import { ServerClockError, UnexpectedAnswerError } from './errors.ts'

/** A version of an entry, and a fencing token: a point in the order of all changes. */
export interface HybridTime {
  /** Milliseconds since 1970. */
  readonly wallMs: number
  /** Tells points of one millisecond apart. */
  readonly counter: number
  readonly node: string
}

/** Further ahead than this no clock of another machine is believed. */
const AHEAD_MAX_MS = 60_000
/** How other clients pad both numbers, so that texts sort like times. */
const WALL_DIGITS = 15
const COUNTER_DIGITS = 5

/** `wall:counter:node`. @throws {UnexpectedAnswerError} it is not of that form */
export function parseHybridTime(text: string): HybridTime {
  const parts = /^(\d{1,20}):(\d{1,20}):([^:]+)$/.exec(text)
  const wallMs = Number(parts?.[1])
  const counter = Number(parts?.[2])
  if (parts === null || !Number.isSafeInteger(wallMs) || !Number.isSafeInteger(counter))
    throw new UnexpectedAnswerError(`not a hybrid logical clock: ${text.slice(0, 80)}`)
  return { wallMs, counter, node: parts[3]! }
}

export function formatHybridTime({ wallMs, counter, node }: HybridTime): string {
  return `${String(wallMs).padStart(WALL_DIGITS, '0')}:${String(counter).padStart(COUNTER_DIGITS, '0')}:${node}`
}

/** Below zero when `a` is older: wall, then counter, then node by code unit. */
export function compareHybridTimes(a: HybridTime, b: HybridTime): number {
  if (a.wallMs !== b.wallMs) return a.wallMs - b.wallMs
  if (a.counter !== b.counter) return a.counter - b.counter
  return a.node < b.node ? -1 : a.node > b.node ? 1 : 0
}

/** The clock of one client: never goes back, and is past every time that it was told of. */
export class HybridClock {
  readonly #node: string
  readonly #now: () => number
  #wallMs = 0
  #counter = 0

  /** @param now milliseconds since 1970 by this machine */
  constructor(node: string, now: () => number) {
    this.#node = node.replaceAll(':', '_')
    this.#now = now
  }

  /** A time later than all before. */
  tick(): HybridTime {
    const now = Math.floor(this.#now())
    if (now > this.#wallMs) {
      this.#wallMs = now
      this.#counter = 0
    } else this.#counter++
    return { wallMs: this.#wallMs, counter: this.#counter, node: this.#node }
  }

  /** Takes over what another clock says. @throws {ServerClockError} it is over a minute ahead of this machine; nothing was taken over */
  merge(other: HybridTime): void {
    const ahead = other.wallMs - this.#now()
    if (ahead > AHEAD_MAX_MS) throw new ServerClockError(`the clock of the answer is ${Math.round(ahead)} ms ahead of this machine`)
    if (other.wallMs > this.#wallMs) {
      this.#wallMs = other.wallMs
      this.#counter = other.counter
    } else if (other.wallMs === this.#wallMs) this.#counter = Math.max(this.#counter, other.counter)
  }
}
