import { PolicyBook } from '#shared/authorization/policy-book.ts'
import { WillJudge } from '#shared/authorization/will-guard.ts'
import { systemClock } from '#shared/base/clock.ts'
import type { LiveSettings } from '#shared/config/live-settings.ts'

/** Judges Wills when they are due, by the BrokerAuthorizations that are in force then. */
export function willJudgeOf<S>(live: LiveSettings<S>): (guard: Uint8Array, topicName: string) => boolean {
  const policies = new PolicyBook({ clock: systemClock, keepMs: 0 })
  if (live.snapshot !== null) policies.update(live.snapshot.authorizations)
  live.listen((_, { authorizations }) => policies.update(authorizations))
  const judge = new WillJudge(name => policies.current(name))
  return (guard, topicName) => judge.mayPublish(guard, topicName)
}
