import { systemClock } from '#shared/base/clock.ts'
import { systemTimers } from '#shared/base/timers.ts'
import type { ResourceSnapshot, ResourceVersion } from '#shared/resources/resource-snapshot.ts'
import { contentVersion } from '#shared/resources/resource-version.ts'
import { referencesOf } from '#shared/resources/source-references.ts'
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

/** One line for each resource, and each Secret and ConfigMap that one names, that is another one, new or gone. */
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
  const [namedBefore, named] = [before === null ? null : namedContent(before), namedContent(after)]
  for (const [key, { kind, name, version }] of named) {
    const versionBefore = namedBefore?.get(key)?.version ?? null
    if (version !== null && version !== versionBefore) audit.change({ change: 'content_changed', kind, name, detail: version })
    if (version === null && versionBefore !== null) audit.change({ change: 'content_gone', kind, name, detail: '' })
  }
}

interface NamedContent {
  readonly kind: 'Secret' | 'ConfigMap'
  readonly name: string
  /** Null: it is not there. */
  readonly version: ResourceVersion | null
}

/** What resources name, by kind and name. Of what it holds a version is all that goes on. */
function namedContent(snapshot: ResourceSnapshot): ReadonlyMap<string, NamedContent> {
  const { secrets, configMaps } = referencesOf(snapshot)
  const all: readonly NamedContent[] = [
    ...[...secrets].map(name => ({ kind: 'Secret', name, version: contentVersion(snapshot.secret(name)) }) as const),
    ...[...configMaps].map(name => ({ kind: 'ConfigMap', name, version: contentVersion(snapshot.configMap(name)) }) as const),
  ]
  return new Map(all.map(content => [`${content.kind} ${content.name}`, content]))
}
