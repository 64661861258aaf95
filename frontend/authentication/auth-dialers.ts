import { AuthServiceCalls } from '#shared/rpc/auth-calls.ts'
import { AuthAskerDispatch } from '#shared/rpc/auth-dispatch.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { MemberDialers, type MemberDialersParts } from '#shared/cluster/member-dialers.ts'
import type { AuthenticationCalls } from './authentication-calls.ts'

export interface AuthDialersParts extends Pick<MemberDialersParts, 'membership' | 'dialerTo' | 'log'> {
  readonly calls: AuthenticationCalls
}

/** Keeps a link from a frontend to every authentication service that is registered. */
export class AuthDialers extends MemberDialers {
  constructor({ calls, ...parts }: AuthDialersParts) {
    super({ ...parts, role: 'authsvc', handlerOf: link => askerHandler(link, calls) })
  }
}

/** What a frontend does with such a link. */
function askerHandler(link: Link, calls: AuthenticationCalls): LinkHandler {
  const dispatch = new AuthAskerDispatch(calls.onLinkOpen(link, new AuthServiceCalls(link)), false)
  return {
    onFrame: (method, body) => dispatch.dispatch(method, body),
    onCongestion: isCongested => calls.onCongestion(link, isCongested),
    onClosed: () => calls.onLinkClosed(link),
  }
}
