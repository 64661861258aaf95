import type { DialRefusal, LinkOwner } from '#shared/rpc/link-dialer.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import type { SimNetwork, Station } from './sim-network.ts'

/** As LinkDialer has them. */
const BACKOFF_MS_MIN = 100
const BACKOFF_MS_MAX = 2_000

/** Keeps one link to one address on the simulated network, as LinkDialer does on sockets: at once after one that stood, then with pauses. */
export class SimDialer {
  readonly #network: SimNetwork
  readonly #from: Station
  readonly #address: string
  readonly #owner: LinkOwner
  #isStopped = false
  #failures = 0
  #openedMs = 0
  #link: Link | null = null

  constructor(network: SimNetwork, from: Station, address: string, owner: LinkOwner) {
    this.#network = network
    this.#from = from
    this.#address = address
    this.#owner = owner
  }

  get link(): Link | null {
    return this.#link
  }

  start(): void {
    this.#dial()
  }

  stop(reason: string): void {
    this.#isStopped = true
    this.#link?.close(reason)
  }

  #dial(): void {
    if (this.#isStopped) return
    this.#network.dial(this.#from, this.#address, {
      onOpen: link => this.#onOpen(link),
      onFailed: reason =>
        this.#onFailed(reason === 'refused' ? { is: 'kernel', code: 'ECONNREFUSED' } : { is: 'timeout', phase: 'handshake' }),
    })
  }

  #onOpen(link: Link): LinkHandler {
    if (this.#isStopped) {
      link.close('not needed any more')
      return IGNORING
    }
    this.#link = link
    this.#openedMs = this.#from.process.world.nowMs
    const handler = this.#owner.onOpen(link)
    return {
      onFrame: (method, body) => handler.onFrame(method, body),
      onCongestion: isCongested => handler.onCongestion(isCongested),
      onClosed: reason => {
        this.#link = null
        handler.onClosed(reason)
        const hasStood = this.#from.process.world.nowMs - this.#openedMs >= BACKOFF_MS_MAX
        this.#failures = hasStood ? 0 : this.#failures + 1
        this.#pause()
      },
    }
  }

  #onFailed(refusal: DialRefusal): void {
    if (this.#isStopped) return
    this.#failures++
    this.#owner.onRefused(refusal)
    this.#pause()
  }

  #pause(): void {
    if (this.#isStopped) return
    const fullMs = this.#failures === 0 ? 0 : Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures - 1, 16))
    this.#from.process.timers.after(fullMs * this.#from.process.world.between(0.5, 1), () => this.#dial())
  }
}

const IGNORING: LinkHandler = { onFrame: nothing, onCongestion: nothing, onClosed: nothing }

function nothing(): void {}
