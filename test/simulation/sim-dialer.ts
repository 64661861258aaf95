import { addressText } from '#shared/config/address.ts'
import type { DialRefusal, LinkDialerOptions } from '#shared/rpc/link-dialer.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import type { SimNetwork, Station } from './sim-network.ts'

/** As LinkDialer has them. */
const BACKOFF_MS_MIN = 100
const BACKOFF_MS_MAX = 2_000

type Target = Pick<LinkDialerOptions, 'address' | 'expected' | 'owner'>

/** What BackendDialers dials with, on the simulated network. */
export function simDialers(network: SimNetwork, from: Station): (target: Target) => SimDialer {
  return target => new SimDialer(network, from, target)
}

/** Keeps one link to one address on the simulated network, as LinkDialer does on sockets: at once after one that stood, then with pauses. */
class SimDialer {
  readonly #network: SimNetwork
  readonly #from: Station
  readonly #target: Target
  readonly #address: string
  #isStopped = false
  #failures = 0
  #openedMs = 0
  #link: Link | null = null

  constructor(network: SimNetwork, from: Station, target: Target) {
    if ('path' in target.address) throw new Error('there are no sockets in files here')
    this.#network = network
    this.#from = from
    this.#target = target
    this.#address = addressText(target.address)
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
    this.#network.dial(this.#from, this.#address, this.#target.expected?.instance ?? '', {
      onOpen: link => this.#onOpen(link),
      onFailed: reason => this.#onFailed(REFUSALS[reason]),
    })
  }

  #onOpen(link: Link): LinkHandler {
    if (this.#isStopped) {
      link.close('not needed any more')
      return IGNORING
    }
    this.#link = link
    this.#openedMs = this.#from.process.world.nowMs
    const handler = this.#target.owner.onOpen(link)
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
    this.#target.owner.onRefused(refusal)
    this.#pause()
  }

  #pause(): void {
    if (this.#isStopped) return
    const fullMs = this.#failures === 0 ? 0 : Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures - 1, 16))
    this.#from.process.timers.after(fullMs * this.#from.process.world.between(0.5, 1), () => this.#dial())
  }
}

const REFUSALS: Readonly<Record<'refused' | 'timeout' | 'another', DialRefusal>> = {
  refused: { is: 'kernel', code: 'ECONNREFUSED' },
  timeout: { is: 'timeout', phase: 'handshake' },
  another: { is: 'handshake', reason: 'peer', detail: 'another instance answers there' },
}

const IGNORING: LinkHandler = { onFrame: nothing, onCongestion: nothing, onClosed: nothing }

function nothing(): void {}
