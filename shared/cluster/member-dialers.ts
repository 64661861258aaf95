import { systemRandom } from '#shared/base/random.ts'
import { parseLinkAddress } from '#shared/rpc/link-address.ts'
import { LinkDialer, type LinkDialerOptions, type LinkOwner } from '#shared/rpc/link-dialer.ts'
import type { LinkHub } from '#shared/rpc/link-hub.ts'
import type { LinkSettings } from '#shared/rpc/link-settings.ts'
import type { Link, LinkHandler, Role } from '#shared/rpc/link.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { Membership } from './membership.ts'
import type { Member } from './member.ts'

/** A process whose port the kernel refused so often in a row is gone: others need not wait for its lease. */
const REFUSALS_TO_EVICT = 2

/** Keeps a link to one address until it is stopped. */
type Dialer = Pick<LinkDialer, 'start' | 'stop'>

export interface MemberDialersParts {
  readonly role: Role
  readonly membership: Membership
  readonly dialerTo: (target: Pick<LinkDialerOptions, 'address' | 'expected' | 'owner'>) => Dialer
  /** What is done with a link that stands. */
  readonly handlerOf: (link: Link) => LinkHandler
  readonly log: Log
}

/** Over sockets. */
export function linkDialers(hub: LinkHub, settings: LinkSettings): MemberDialersParts['dialerTo'] {
  return target => new LinkDialer({ ...target, hub, settings, random: systemRandom })
}

/** Keeps a link to every member of one role that is registered, but to this process itself. */
export class MemberDialers {
  readonly #parts: MemberDialersParts
  /** By id and instance: a process that was started again is another one. */
  readonly #dialed = new Map<string, Dialer>()
  readonly #stopListening: () => void

  constructor(parts: MemberDialersParts) {
    this.#parts = parts
    this.#stopListening = parts.membership.listen({ onMembers: () => this.#onMembers(), onLapsed: () => undefined })
  }

  stop(): void {
    this.#stopListening()
    for (const dialer of this.#dialed.values()) dialer.stop('this process stops')
    this.#dialed.clear()
  }

  #onMembers(): void {
    const { membership, role } = this.#parts
    const wanted = new Map(
      membership
        .membersOf(role)
        .filter(({ id, instance }) => id !== membership.self.id || instance !== membership.self.instance)
        .map(member => [keyOf(member), member]),
    )
    for (const [key, dialer] of this.#dialed) {
      if (wanted.has(key)) continue
      this.#dialed.delete(key)
      dialer.stop('it is no member any more')
    }
    for (const [key, member] of wanted) if (!this.#dialed.has(key)) this.#dial(key, member)
  }

  #dial(key: string, member: Member): void {
    const { role, dialerTo, log } = this.#parts
    const address = parseLinkAddress(member.address)
    if (address === undefined) {
      log.warn('member_without_address', { peerRole: role, id: member.id, address: member.address })
      return
    }
    const expected = { role, id: member.id, instance: member.instance } as const
    const dialer = dialerTo({ address, expected, owner: this.#ownerOf(member) })
    this.#dialed.set(key, dialer)
    dialer.start()
  }

  #ownerOf({ id, instance, address }: Member): LinkOwner {
    const { role, membership, handlerOf, log } = this.#parts
    let refusals = 0
    return {
      onOpen: link => {
        refusals = 0
        return handlerOf(link)
      },
      onRefused: refusal => {
        refusals = refusal.is === 'kernel' ? refusals + 1 : 0
        if (refusals !== REFUSALS_TO_EVICT) return
        log.warn('member_gone', { peerRole: role, id, address })
        void membership.evict(id, instance)
      },
    }
  }
}

function keyOf({ id, instance }: Member): string {
  return `${id}/${instance}`
}
