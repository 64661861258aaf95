import type { Member } from '#shared/cluster/member.ts'
import type { Membership } from '#shared/cluster/membership.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { SimDialer } from './sim-dialer.ts'
import type { SimNetwork, Station } from './sim-network.ts'

/** Refused so often in a row by the kernel, a process counts as dead. */
const REFUSALS_MAX = 2

/** The links of one process to all backends that are registered, but itself. */
export class Neighbours {
  readonly #network: SimNetwork
  readonly #station: Station
  readonly #membership: Membership
  readonly #onOpen: (link: Link) => LinkHandler
  readonly #dialers = new Map<string, { readonly member: Member; readonly dialer: SimDialer }>()

  constructor(network: SimNetwork, station: Station, membership: Membership, onOpen: (link: Link) => LinkHandler) {
    this.#network = network
    this.#station = station
    this.#membership = membership
    this.#onOpen = onOpen
    membership.listen({ onMembers: () => this.#onMembers(), onLapsed: () => {} })
  }

  linkTo(id: string): Link | null {
    return this.#dialers.get(id)?.dialer.link ?? null
  }

  #onMembers(): void {
    const wanted = this.#membership.membersOf('backend').filter(({ id }) => id !== this.#station.id)
    for (const [id, { member, dialer }] of this.#dialers) {
      if (wanted.some(each => each.id === id && each.instance === member.instance)) continue
      this.#dialers.delete(id)
      dialer.stop('no member any more')
    }
    for (const member of wanted) if (!this.#dialers.has(member.id)) this.#dial(member)
  }

  #dial(member: Member): void {
    let refusals = 0
    const dialer = new SimDialer(this.#network, this.#station, member.address, {
      onOpen: link => {
        refusals = 0
        return this.#onOpen(link)
      },
      onRefused: refusal => {
        refusals = refusal.is === 'kernel' ? refusals + 1 : 0
        if (refusals >= REFUSALS_MAX) void this.#membership.evict(member.id, member.instance)
      },
    })
    this.#dialers.set(member.id, { member, dialer })
    dialer.start()
  }
}
