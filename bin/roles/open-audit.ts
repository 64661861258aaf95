import { systemClock } from '#shared/base/clock.ts'
import { systemTimers } from '#shared/base/timers.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import { Audit } from '#shared/telemetry/audit.ts'
import type { Log } from '#shared/telemetry/log.ts'

/** @param refusalsPerSecond of each kind; further ones are counted */
export function openAudit(log: Log, refusalsPerSecond: number): Audit {
  return new Audit({ log, clock: systemClock, timers: systemTimers, refusalsPerSecond })
}

const KINDS = [
  ['BrokerListener', 'listeners'],
  ['BrokerAuthentication', 'authentications'],
  ['BrokerAuthorization', 'authorizations'],
] as const

/** One line for each resource that is another one, new or gone. */
export function auditChanges(audit: Audit, before: ResourceSnapshot | null, after: ResourceSnapshot): void {
  for (const [kind, field] of KINDS) {
    for (const [name, { version, where }] of after[field]) {
      if (before?.[field].get(name)?.version !== version)
        audit.change({ change: 'resource_taken', kind, name, detail: `${version} from ${where}` })
    }
    for (const name of before?.[field].keys() ?? []) {
      if (!after[field].has(name)) audit.change({ change: 'resource_gone', kind, name, detail: '' })
    }
  }
  const [was, is] = [before?.broker, after.broker]
  if (was?.version !== is?.version)
    audit.change({ change: is === null ? 'resource_gone' : 'resource_taken', kind: 'Broker', name: 'default', detail: is?.version ?? '' })
}
