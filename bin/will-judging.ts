import { PolicyBook } from '#shared/authorization/policy-book.ts'
import { WillJudge } from '#shared/authorization/will-guard.ts'
import { systemClock } from '#shared/base/clock.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'

/** LiveSettings of any process. */
interface LiveResources {
  readonly snapshot: ResourceSnapshot | null
  listen(onChange: (settings: never, snapshot: ResourceSnapshot) => void): void
}

/** Judges Wills when they are due, by the BrokerAuthorizations that are in force then. */
export function willJudgeOf(live: LiveResources): (guard: Uint8Array, topicName: string) => boolean {
  const policies = new PolicyBook({ clock: systemClock, keepMs: 0 })
  if (live.snapshot !== null) policies.update(live.snapshot.authorizations)
  live.listen((_, { authorizations }) => policies.update(authorizations))
  const judge = new WillJudge(name => policies.current(name))
  return (guard, topicName) => judge.mayPublish(guard, topicName)
}
