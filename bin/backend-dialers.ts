import { systemRandom } from '#shared/base/random.ts'
import type { Membership } from '#shared/cluster/membership.ts'
import type { Member } from '#shared/cluster/member.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import { CallerDispatch } from '#shared/rpc/caller-dispatch.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import { linkAddressText, parseLinkAddress } from '#shared/rpc/link-address.ts'
import { type DialRefusal, LinkDialer } from '#shared/rpc/link-dialer.ts'
import type { LinkHub } from '#shared/rpc/link-hub.ts'
import type { LinkSettings } from '#shared/rpc/link-settings.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'

/** A process whose port the kernel refused so often in a row is gone: others need not wait for its lease. */
const REFUSALS_TO_EVICT = 2

/** Whoever calls backends: the router of a frontend, or another backend. */
export interface OwnerCaller {
  onLinkOpen(link: Link, calls: OwnerPort): CallerPort
  onLinkClosed(link: Link): void
  onCongestion?(link: Link, isCongested: boolean): void
}

export interface BackendDialersParts {
  readonly membership: Membership
  readonly hub: LinkHub
  readonly settings: LinkSettings
  readonly topics: TopicCache
  readonly topicLevelsMax: number
  readonly caller: OwnerCaller
}

interface Dialed {
  readonly member: Member
  readonly dialer: LinkDialer
}

/** Keeps a link to every backend that is registered, but to this process itself. */
export class BackendDialers {
  readonly #parts: BackendDialersParts
  /** By id and instance: a backend that was started again is another one. */
  readonly #dialed = new Map<string, Dialed>()
  readonly #stopListening: () => void

  constructor(parts: BackendDialersParts) {
    this.#parts = parts
    this.#stopListening = parts.membership.listen({ onMembers: () => this.#onMembers(), onLapsed: () => undefined })
  }

  stop(): void {
    this.#stopListening()
    for (const { dialer } of this.#dialed.values()) dialer.stop('this process stops')
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
    for (const [key, { dialer }] of this.#dialed) {
      if (wanted.has(key)) continue
      this.#dialed.delete(key)
      dialer.stop('it is no member any more')
    }
    for (const [key, member] of wanted) if (!this.#dialed.has(key)) this.#dial(key, member)
  }

  #dial(key: string, member: Member): void {
    const { hub, settings, membership } = this.#parts
    const address = parseLinkAddress(member.address)
    if (address === undefined) {
      hub.log.warn('backend_without_address', { id: member.id, address: member.address })
      return
    }
    let refusals = 0
    const dialer = new LinkDialer({
      hub,
      address,
      settings,
      expected: { role: 'backend', id: member.id, instance: member.instance },
      random: systemRandom,
      owner: {
        onOpen: link => {
          refusals = 0
          return this.#handlerOf(link)
        },
        onRefused: (refusal: DialRefusal) => {
          refusals = refusal.is === 'kernel' ? refusals + 1 : 0
          if (refusals !== REFUSALS_TO_EVICT) return
          hub.log.warn('backend_gone', { id: member.id, address: linkAddressText(address) })
          void membership.evict(member.id, member.instance)
        },
      },
    })
    this.#dialed.set(key, { member, dialer })
    dialer.start()
  }

  #handlerOf(link: Link): LinkHandler {
    const { caller, topics, topicLevelsMax, settings } = this.#parts
    const port = caller.onLinkOpen(link, new OwnerCalls(link))
    const dispatch = new CallerDispatch(port, {
      topics,
      shardCount: settings.self.shards,
      levelsMax: topicLevelsMax,
      isPeerNewer: false,
    })
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
