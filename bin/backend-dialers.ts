import { systemRandom } from '#shared/base/random.ts'
import type { Membership } from '#shared/cluster/membership.ts'
import type { Member } from '#shared/cluster/member.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import { CallerDispatch } from '#shared/rpc/caller-dispatch.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import { parseLinkAddress } from '#shared/rpc/link-address.ts'
import { LinkDialer, type LinkDialerOptions, type LinkOwner } from '#shared/rpc/link-dialer.ts'
import type { LinkHub } from '#shared/rpc/link-hub.ts'
import type { LinkSettings } from '#shared/rpc/link-settings.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import type { Log } from '#shared/telemetry/log.ts'

/** A process whose port the kernel refused so often in a row is gone: others need not wait for its lease. */
const REFUSALS_TO_EVICT = 2

/** Whoever calls backends: the router of a frontend, or another backend. */
export interface OwnerCaller {
  onLinkOpen(link: Link, calls: OwnerPort): CallerPort
  onLinkClosed(link: Link): void
  onCongestion?(link: Link, isCongested: boolean): void
}

/** Keeps a link to one address until it is stopped. */
type Dialer = Pick<LinkDialer, 'start' | 'stop'>

export interface BackendDialersParts {
  readonly membership: Membership
  readonly dialerTo: (target: Pick<LinkDialerOptions, 'address' | 'expected' | 'owner'>) => Dialer
  readonly topics: TopicCache
  readonly topicLevelsMax: number
  readonly shardCount: number
  readonly caller: OwnerCaller
  readonly log: Log
}

/** Over sockets. */
export function linkDialers(hub: LinkHub, settings: LinkSettings): BackendDialersParts['dialerTo'] {
  return target => new LinkDialer({ ...target, hub, settings, random: systemRandom })
}

/** Keeps a link to every backend that is registered, but to this process itself. */
export class BackendDialers {
  readonly #parts: BackendDialersParts
  /** By id and instance: a backend that was started again is another one. */
  readonly #dialed = new Map<string, Dialer>()
  readonly #stopListening: () => void

  constructor(parts: BackendDialersParts) {
    this.#parts = parts
    this.#stopListening = parts.membership.listen({ onMembers: () => this.#onMembers(), onLapsed: () => undefined })
  }

  stop(): void {
    this.#stopListening()
    for (const dialer of this.#dialed.values()) dialer.stop('this process stops')
    this.#dialed.clear()
  }

  #onMembers(): void {
    const { membership } = this.#parts
    const wanted = new Map(
      membership
        .membersOf('backend')
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
    const { dialerTo, log } = this.#parts
    const address = parseLinkAddress(member.address)
    if (address === undefined) {
      log.warn('backend_without_address', { id: member.id, address: member.address })
      return
    }
    const expected = { role: 'backend', id: member.id, instance: member.instance } as const
    const dialer = dialerTo({ address, expected, owner: this.#ownerOf(member) })
    this.#dialed.set(key, dialer)
    dialer.start()
  }

  #ownerOf({ id, instance, address }: Member): LinkOwner {
    const { membership, log } = this.#parts
    let refusals = 0
    return {
      onOpen: link => {
        refusals = 0
        return this.#handlerOf(link)
      },
      onRefused: refusal => {
        refusals = refusal.is === 'kernel' ? refusals + 1 : 0
        if (refusals !== REFUSALS_TO_EVICT) return
        log.warn('backend_gone', { id, address })
        void membership.evict(id, instance)
      },
    }
  }

  #handlerOf(link: Link): LinkHandler {
    const { caller, topics, topicLevelsMax, shardCount } = this.#parts
    const port = caller.onLinkOpen(link, new OwnerCalls(link))
    const dispatch = new CallerDispatch(port, { topics, shardCount, levelsMax: topicLevelsMax, isPeerNewer: false })
    return {
      onFrame: (method, body) => dispatch.dispatch(method, body),
      onCongestion: isCongested => caller.onCongestion?.(link, isCongested),
      onClosed: () => caller.onLinkClosed(link),
    }
  }
}

function keyOf({ id, instance }: Member): string {
  return `${id}/${instance}`
}
