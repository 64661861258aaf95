import type { Role } from '#shared/rpc/link.ts'

/** A process of the cluster as it is registered. */
export interface Member {
  readonly role: Role
  readonly id: string
  readonly instance: string
  /** Where backends take links: `host:port` or `unix:PATH`; empty for the others. */
  readonly address: string
  /** It is draining: it gets no shards and gives those it has to others. */
  readonly isLeaving: boolean
  /** What it counts, for totals over the cluster: a few numbers (FIGURES_MAX), as old as its last heartbeat. */
  readonly figures?: ReadonlyMap<string, number>
}

/** The list of living processes, kept in Redis. A member that has not been heard of for the lease is not in it. */
export interface Registry {
  /**
   * Registers this process or says that it lives, and answers who does. A process that could not do so for the lease, measured from before
   * the call by the monotonic clock, must take itself for dead (ARCHITECTURE.md).
   * @throws {EvictedError} others took this very instance for dead. Its lease is over, whatever it counted: try again
   * @throws when Redis cannot be reached: try again
   */
  heartbeat(self: Member): Promise<readonly Member[]>
  /**
   * The process is known to be dead (its port refuses): others need not wait for its lease. Only that very instance is removed. For LEASE_MS
   * its heartbeats are refused: should it live, it has learnt by then, from them or from its own clock, that its lease is over. Without
   * that it would be back within a second, serving shards that others have taken meanwhile.
   */
  evict(id: string, instance: string): Promise<void>
  /** This process is leaving. */
  leave(self: Member): Promise<void>
}

/** The answer to a heartbeat of an instance that was evicted a moment ago. */
export class EvictedError extends Error {
  override readonly name = 'EvictedError'

  constructor() {
    super('others could not reach this process and have removed it; it is registered again after a moment')
  }
}

/** Figures of one member that are passed on; further ones are not. */
export const FIGURES_MAX = 64

export const HEARTBEAT_MS = 1_000
export const LEASE_MS = 3_000
