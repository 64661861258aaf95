import type { FrontendPort } from '#shared/rpc/frontend-port.ts'

/** Below this share of the limit publishers go on: not at once, or they would stop and go with every answer. */
const RELIEF = 0.75

/** Why publishers must wait, joined: too much unanswered here, links that are congested, backends that are short of memory. */
export class Pressure {
  readonly #bytesMax: number
  #bytes = 0
  #isFull = false
  #others = 0
  #isTold = false
  #frontend: FrontendPort | null = null

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
  }

  /** Of all publishes that are not answered. */
  get bytes(): number {
    return this.#bytes
  }

  /** Whether another one is refused: one whose client can be told so before one whose client can only be cut off. */
  refuses(isRefusable: boolean): boolean {
    return this.#isFull && (isRefusable || this.#bytes >= 2 * this.#bytesMax)
  }

  /** No room for what may be dropped. */
  get isFull(): boolean {
    return this.#isFull
  }

  add(bytes: number): void {
    this.#bytes += bytes
    if (!this.#isFull && this.#bytes >= this.#bytesMax) this.#setFull(true)
  }

  remove(bytes: number): void {
    this.#bytes -= bytes
    if (this.#isFull && this.#bytes < this.#bytesMax * RELIEF) this.#setFull(false)
  }

  /** One more, or one less, of the other reasons. */
  addOther(change: 1 | -1): void {
    this.#others += change
    this.#tell()
  }

  #setFull(isFull: boolean): void {
    this.#isFull = isFull
    this.#tell()
  }

  #tell(): void {
    const isFull = this.#isFull || this.#others > 0
    if (isFull === this.#isTold) return
    this.#isTold = isFull
    this.#frontend?.pressure(isFull)
  }
}
