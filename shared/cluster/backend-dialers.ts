import type { TopicCache } from '#shared/mqtt/topic.ts'
import { CallerDispatch } from '#shared/rpc/caller-dispatch.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import { MemberDialers, type MemberDialersParts } from './member-dialers.ts'

/** Whoever calls backends: the router of a frontend, or another backend. */
export interface OwnerCaller {
  onLinkOpen(link: Link, calls: OwnerPort): CallerPort
  onLinkClosed(link: Link): void
  onCongestion?(link: Link, isCongested: boolean): void
}

export interface BackendDialersParts extends Pick<MemberDialersParts, 'membership' | 'dialerTo' | 'log'> {
  readonly topics: TopicCache
  readonly topicLevelsMax: number
  readonly shardCount: number
  readonly caller: OwnerCaller
}

/** Keeps a link to every backend that is registered, but to this process itself. */
export class BackendDialers extends MemberDialers {
  constructor(parts: BackendDialersParts) {
    const { membership, dialerTo, log } = parts
    super({ role: 'backend', membership, dialerTo, log, handlerOf: link => ownerHandler(link, parts) })
  }
}

function ownerHandler(link: Link, { caller, topics, topicLevelsMax, shardCount }: BackendDialersParts): LinkHandler {
  const port = caller.onLinkOpen(link, new OwnerCalls(link))
  const dispatch = new CallerDispatch(port, { topics, shardCount, levelsMax: topicLevelsMax, isPeerNewer: false })
  return {
    onFrame: (method, body) => dispatch.dispatch(method, body),
    onCongestion: isCongested => caller.onCongestion?.(link, isCongested),
    onClosed: () => caller.onLinkClosed(link),
  }
}
