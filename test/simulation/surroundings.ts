import { loadBrokerSettings, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import type { DurabilityLevel } from '../../backend/store/shard-store.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { History } from './history.ts'
import type { Mutation } from './mutations.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimRedis } from './sim-redis.ts'
import type { World } from './world.ts'

/** What all processes of a simulated cluster stand in. */
export interface Surroundings {
  readonly world: World
  readonly history: History
  readonly network: SimNetwork
  readonly redis: SimRedis
  readonly shardCount: number
  readonly level: DurabilityLevel
  readonly mutation: Mutation
}

/** Read once: it looks at the machine's memory. */
export const LIMITS = loadBrokerSettings([], systemSurroundings({})).settings.limits

export const SILENT_LOG: Log = { debugEnabled: false, debug: nothing, info: nothing, warn: nothing, error: nothing }

function nothing(): void {}
