import type { ResourceListener, ResourceSnapshot } from './resource-snapshot.ts'

/** Who wants to hear of snapshots and of updates that were refused. */
export class SourceListeners {
  readonly #listeners = new Set<ResourceListener>()

  add(listener: ResourceListener): () => void {
    // The same object may listen twice, and each time ends by itself.
    const own: ResourceListener = {
      onSnapshot: snapshot => listener.onSnapshot(snapshot),
      onRefused: faults => listener.onRefused(faults),
    }
    this.#listeners.add(own)
    return () => {
      this.#listeners.delete(own)
    }
  }

  onSnapshot(snapshot: ResourceSnapshot): void {
    for (const listener of this.#listeners) listener.onSnapshot(snapshot)
  }

  onRefused(faults: readonly string[]): void {
    for (const listener of this.#listeners) listener.onRefused(faults)
  }
}
