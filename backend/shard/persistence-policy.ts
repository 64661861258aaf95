import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { PersistencePolicy } from './persistence.ts'

/** What the Broker resource says about what outlives a stop of the process; null: everything does that is stored. */
export function persistencePolicyOf(snapshot: ResourceSnapshot | null): PersistencePolicy | null {
  const persistence = snapshot?.broker?.spec.persistence
  if (persistence === undefined) return null
  const { retain, subscriberQueue } = persistence
  return {
    retain: retain === undefined ? null : { mode: retain.mode, ...topicsOf(retain.retainSettings) },
    subscriberQueue:
      subscriberQueue === undefined ? null : { mode: subscriberQueue.mode, ...clientsOf(subscriberQueue.subscriberQueueSettings) },
  }
}

type Persistence = NonNullable<NonNullable<ResourceSnapshot['broker']>['spec']['persistence']>

/** What clients ask for counts unless it is switched off. */
function topicsOf(settings: NonNullable<Persistence['retain']>['retainSettings']): { topics: readonly string[]; dynamic: boolean } {
  return { topics: settings?.topics ?? [], dynamic: settings?.dynamic?.mode !== 'Disabled' }
}

function clientsOf(settings: NonNullable<Persistence['subscriberQueue']>['subscriberQueueSettings']): {
  clientIds: readonly string[]
  dynamic: boolean
} {
  return { clientIds: settings?.subscriberClientIds ?? [], dynamic: settings?.dynamic?.mode !== 'Disabled' }
}
