import { EvictedError, LEASE_MS, type Member, type Registry } from '#shared/cluster/member.ts'
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
    this.#client = new RedisClient(redis, process, false, 'registry')
  }

  async heartbeat(self: Member): Promise<readonly Member[]> {
    const members = await this.#once(() => {
      const { nowMs } = this.#redis.world
      const { evicted } = this.#redis.state
      if (nowMs - (evicted.get(self.instance) ?? -Infinity) <= LEASE_MS) return null
      this.#redis.write(state => void state.members.set(keyOf(self), { member: self, seenMs: nowMs }))
      return this.#redis.state.living(nowMs)
    })
    if (members === null) throw new EvictedError()
    return members
  }

  evict(id: string, instance: string): Promise<void> {
    return this.#once(() => this.#redis.evict(id, instance))
  }

  leave(self: Member): Promise<void> {
    return this.#once(() => this.#redis.write(state => state.remove(self.id, self.instance)))
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
