import { ImmediateTurn } from '#shared/base/turn.ts'
import { nowMs } from './monotonic.ts'

/** One read fills at most this; all connections of the process share the buffer, for a chunk is used up before the next read. */
const READ_BYTES = 256 * 1024

export interface Flushable {
  flush(): void
}

/**
 * What the connections of one generator process share: the read buffer, the clock reading of the current chunk,
 * and the end of the event-loop turn, where each socket gets one write.
 */
export class Engine {
  readonly readBuffer = new Uint8Array(READ_BYTES)
  /** Clock at the last chunk read, microseconds modulo 2^32: one reading serves all its messages. */
  nowUs = 0
  /** Connections that ended or failed although nobody here wanted it. */
  disconnects = 0
  readonly faults: string[] = []
  readonly #beforeFlush: (() => void)[] = []
  readonly #afterFlush: (() => void)[] = []
  #dirty: Flushable[] = []
  #spare: Flushable[] = []
  readonly #turn = new ImmediateTurn([() => this.#endTurn()])

  constructor() {
    this.tick()
  }

  tick(): void {
    this.nowUs = Math.floor(nowMs() * 1_000) >>> 0
  }

  /** Runs before (say, publishers with free slots) or after (say, links) the sockets of each turn are written. */
  onTurn(when: 'before' | 'after', step: () => void): void {
    if (when === 'before') this.#beforeFlush.push(step)
    else this.#afterFlush.push(step)
  }

  requestTurn(): void {
    this.#turn.request()
  }

  /** Queues one `flush` for the end of this turn. The caller keeps track of not asking twice. */
  flushLater(item: Flushable): void {
    this.#dirty.push(item)
    this.#turn.request()
  }

  /** Keeps the first few reasons: ten thousand lost connections have one cause. */
  fault(what: string): void {
    this.disconnects++
    if (this.faults.length < 5) this.faults.push(what)
  }

  #endTurn(): void {
    for (const step of this.#beforeFlush) step()
    const dirty = this.#dirty
    this.#dirty = this.#spare
    for (const item of dirty) item.flush()
    dirty.length = 0
    this.#spare = dirty
    for (const step of this.#afterFlush) step()
  }
}
