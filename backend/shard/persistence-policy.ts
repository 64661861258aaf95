import type { GlobPart } from '#shared/authorization/glob.ts'
import { keyGlob } from '#shared/authorization/key-pattern.ts'
import { PatternFault } from '#shared/authorization/template.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { PersistencePolicy } from './persistence.ts'

/** What the Broker resource says about what outlives a stop of the process; null: everything does that is stored. */
export function persistencePolicyOf(snapshot: ResourceSnapshot | null): PersistencePolicy | null {
  const persistence = snapshot?.broker?.spec.persistence
  if (persistence === undefined) return null
  const { retain, subscriberQueue, stateStore } = persistence
  return {
    retain: retain === undefined ? null : { mode: retain.mode, ...topicsOf(retain.retainSettings) },
    subscriberQueue:
      subscriberQueue === undefined ? null : { mode: subscriberQueue.mode, ...clientsOf(subscriberQueue.subscriberQueueSettings) },
    stateStore: stateStore === undefined ? null : { mode: stateStore.mode, ...keysOf(stateStore.stateStoreSettings) },
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

function keysOf(settings: NonNullable<Persistence['stateStore']>['stateStoreSettings']): {
  keys: readonly (readonly GlobPart[])[]
  dynamic: boolean
} {
  const globs = (settings?.stateStoreResources ?? []).flatMap(({ keyType, keys }) => keys.map(key => keyGlob(key, keyType)))
  return {
    // One that names no key was warned about.
    keys: globs.flatMap(glob => (glob instanceof PatternFault ? [] : [glob])),
    dynamic: settings?.dynamic?.mode !== 'Disabled',
  }
}
