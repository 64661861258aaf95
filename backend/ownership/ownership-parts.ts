import type { Timers } from '#shared/base/timers.ts'
import type { Membership } from '#shared/cluster/membership.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { ClusterStore } from '../store/shard-store.ts'
import type { Peers, ShardHost } from './shard-host.ts'

/** What decides about ownership is handed. */
export interface OwnershipParts {
  readonly membership: Membership
  readonly store: Pick<ClusterStore, 'shardCount' | 'ownerOf' | 'claim' | 'release' | 'onFenced'>
  readonly host: ShardHost
  readonly peers: Peers
  readonly timers: Timers
  readonly log: Log
  /**
   * Closes all links to this backend, at once: what is unanswered on them callers repeat to whoever owns the shard. Called after `host.drop`.
   * lapsed: the lease is over. fenced: somebody else has claimed a shard of ours. failed: a shard could not be let go in order.
   */
  closeLinks(reason: 'lapsed' | 'fenced' | 'failed'): void
  /**
   * From the beginning of a lease to the first claim: when the whole cluster starts, or Redis comes back, the others register meanwhile,
   * and nobody claims what is not theirs. SETTLE_MS when left out.
   */
  readonly settleMs?: number
}

/** Somewhat longer than members take to register anew once Redis answers. */
export const SETTLE_MS = 1_200

/** For metrics. */
export class OwnershipCounters {
  /** Shards taken over from a living backend that let them go. */
  moves = 0
  /** Taken over from a backend that is no member any more. */
  failovers = 0
  /** Shards that nobody owned. */
  claims = 0
  /** Let go in order. */
  released = 0
  /** Ours, and claimed by somebody else. */
  fenced = 0
  /** Leases that ended. */
  lapses = 0
  /** A shard could not be read or let go. */
  failures = 0
}
