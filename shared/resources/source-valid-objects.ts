import type { KubernetesObject } from '../kubernetes/kubernetes-object.ts'
import { assert } from '../base/assert.ts'
import { readSnapshot } from './read-snapshot.ts'
import { JsonDocument } from './resource-document.ts'
import type { ResourceFault, ResourceSnapshot } from './resource-snapshot.ts'
import { updateFaults } from './update-faults.ts'

/** Content of the Secrets and ConfigMaps that resources refer to. */
export interface MountedObjects {
  readonly secrets: ReadonlyMap<string, ReadonlyMap<string, Uint8Array>>
  readonly configMaps: ReadonlyMap<string, ReadonlyMap<string, string>>
}

interface Candidate {
  readonly object: KubernetesObject
  /** Whether it is the newest version of the object, not the last one without a fault. */
  readonly isNewest: boolean
}

/**
 * Reads the custom resources of a namespace one by one: an object with a fault is replaced by its last version without one, or left out when
 * there is none, and the others count as they are. What is kept is bounded by what is there: an object that is deleted is forgotten.
 */
export class ValidObjects {
  /** Last version without a fault, by `KIND/NAME`. */
  #valid = new Map<string, KubernetesObject>()

  /** @param before what is in force, null at first. @returns a snapshot whose `faults` has every object that is not in force as it is */
  read(objects: readonly KubernetesObject[], mounted: MountedObjects, before: ResourceSnapshot | null): ResourceSnapshot {
    const candidates = new Map<string, Candidate>()
    for (const object of [...objects].sort(byAge)) candidates.set(keyOf(object.kind, object.metadata.name), { object, isNewest: true })
    const refused = new Map<string, ResourceFault>()
    // Each round replaces or drops at least one object, and none twice each.
    for (let round = 0; ; round++) {
      assert(round <= 2 * objects.length, 'a fault that is of no object')
      const snapshot = snapshotOf([...candidates.values()], mounted)
      const faults = [...snapshot.faults, ...brokerFaults(before, snapshot)]
      if (faults.length === 0) {
        this.#valid = new Map([...candidates].map(([key, { object }]) => [key, object]))
        return { ...snapshot, faults: [...refused.values()] }
      }
      for (const fault of faults) {
        const key = keyOf(fault.kind, fault.name)
        if (!refused.has(key)) refused.set(key, fault)
        const candidate = candidates.get(key)
        const valid = this.#valid.get(key)
        if (candidate?.isNewest === true && valid !== undefined) candidates.set(key, { object: valid, isNewest: false })
        else candidates.delete(key)
      }
    }
  }
}

function snapshotOf(candidates: readonly Candidate[], { secrets, configMaps }: MountedObjects): ResourceSnapshot {
  const input = {
    documents: candidates.map(({ object }) => new JsonDocument(object, whereOf(object))),
    mountedSecret: (name: string) => secrets.get(name) ?? null,
    mountedConfigMap: (name: string) => configMaps.get(name) ?? null,
  }
  // Its faults stand in the snapshot, by object.
  return readSnapshot(input, [])
}

function brokerFaults(before: ResourceSnapshot | null, after: ResourceSnapshot): readonly ResourceFault[] {
  const faults = before === null ? [] : updateFaults(before, after)
  return faults.length === 0 || after.broker === null ? [] : [{ kind: 'Broker', name: after.broker.name, faults }]
}

/** The older object of two that exclude each other counts. */
function byAge(a: KubernetesObject, b: KubernetesObject): number {
  const ageA = `${a.metadata.creationTimestamp ?? ''} ${a.metadata.name}`
  const ageB = `${b.metadata.creationTimestamp ?? ''} ${b.metadata.name}`
  return ageA < ageB ? -1 : ageA > ageB ? 1 : 0
}

function whereOf({ kind, metadata }: KubernetesObject): string {
  return `${kind} ${metadata.namespace ?? ''}/${metadata.name}`
}

function keyOf(kind: string, name: string): string {
  return `${kind}/${name}`
}
