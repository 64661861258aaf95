import type { ResourceDocument } from './resource-document.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'
import { SnapshotReader } from './snapshot-reader.ts'

/** What a snapshot is read from: the same for files and for the Kubernetes API. */
export interface ResourceInput {
  /**
   * In the order in which they count: of two that exclude each other (one name, one port, one service type) the later one has the fault.
   * Besides the four kinds: ConfigMap, Secret, ServiceAccount.
   */
  readonly documents: readonly ResourceDocument[]
  /** Key → bytes of a Secret that no document describes; null when there is none. Answers the same for as long as the snapshot is used. */
  mountedSecret(name: string): ReadonlyMap<string, Uint8Array> | null
  /** Key → text of a ConfigMap that no document describes; null when there is none. Answers the same for as long as the snapshot is used. */
  mountedConfigMap(name: string): ReadonlyMap<string, string> | null
}

/**
 * Reads and checks all resources. Never throws for what they hold: every fault goes to `faults` as `where: field: message` and, with kind and
 * name of its resource, to `snapshot.faults`; a resource with a fault is not in the snapshot. What nothing refers to, or what refers to
 * nothing, is no fault.
 */
export function readSnapshot(input: ResourceInput, faults: string[]): ResourceSnapshot {
  const reader = new SnapshotReader(input)
  const snapshot = reader.read()
  // Not as arguments of one call: there may be more of them than a call can have.
  for (const fault of reader.faults) faults.push(fault)
  return snapshot
}
