import { type Deferred, deferred } from './deferred.ts'
import type { Pointer } from './layout.ts'
import type { ShardState } from './load.ts'

export type Visit = (kind: 'snapshot' | 'log', bytes: Uint8Array) => void

/** One call of `recover`. What its `visit` throws ends it, and not the others that read the journal with it. */
export class Reader {
  readonly shard: number
  /** Of when it began: snapshot and log must agree. */
  readonly pointer: Pointer
  readonly #visit: Visit
  readonly #end: Deferred = deferred()
  #failed = false

  constructor(shard: number, state: ShardState, visit: Visit) {
    this.shard = shard
    this.pointer = state.pointer
    this.#visit = visit
  }

  get ended(): Promise<void> {
    return this.#end.promise
  }

  resolve(): void {
    this.#end.resolve()
  }

  reject(error: unknown): void {
    this.#end.reject(error)
  }

  readonly deliver: Visit = (kind, bytes) => {
    if (this.#failed) return
    try {
      this.#visit(kind, bytes)
    } catch (error) {
      this.#failed = true
      this.#end.reject(error)
    }
  }
}

export function groupByShard(readers: readonly Reader[]): Map<number, Reader[]> {
  const groups = new Map<number, Reader[]>()
  for (const reader of readers) {
    const group = groups.get(reader.shard)
    if (group) group.push(reader)
    else groups.set(reader.shard, [reader])
  }
  return groups
}
