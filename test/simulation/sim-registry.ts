import type { Member, Registry } from '#shared/cluster/member.ts'
import { RedisClient } from './redis-client.ts'
import type { SimRedis } from './sim-redis.ts'
import type { SimProcess } from './world.ts'

/** The registry of members in the simulated Redis, with leases by its clock. */
export class SimRegistry implements Registry {
  readonly #redis: SimRedis
  readonly #process: SimProcess
  readonly #client: RedisClient

  constructor(redis: SimRedis, process: SimProcess) {
    this.#redis = redis
    this.#process = process
    this.#client = new RedisClient(redis, process, false)
  }

  heartbeat(self: Member): Promise<readonly Member[]> {
    return this.#once(() => {
      const { nowMs } = this.#redis.world
      this.#redis.write(state => void state.members.set(keyOf(self), { member: self, seenMs: nowMs }))
      return this.#redis.state.living(nowMs)
    })
  }

  evict(id: string, instance: string): Promise<void> {
    return this.#once(() => this.#remove(id, instance))
  }

  leave(self: Member): Promise<void> {
    return this.#once(() => this.#remove(self.id, self.instance))
  }

  #remove(id: string, instance: string): void {
    this.#redis.write(state => {
      for (const [key, { member }] of state.members) if (member.id === id && member.instance === instance) state.members.delete(key)
    })
  }

  /** Out of reach is noticed after a while, as by a time limit. */
  #once<T>(at: () => T): Promise<T> {
    return new Promise((resolve, reject) =>
      this.#client.call('write', at, outcome =>
        outcome.is === 'answered'
          ? resolve(outcome.value)
          : this.#process.timers.after(this.#redis.world.between(0, TIMEOUT_MS_MAX), () => reject(new Error('Redis cannot be reached'))),
      ),
    )
  }
}

const TIMEOUT_MS_MAX = 1_000

function keyOf({ role, id }: Member): string {
  return `${role}/${id}`
}
