import type { SimRedis } from './sim-redis.ts'
import type { SimProcess, World } from './world.ts'

/** What becomes of one call. `lost`: nobody knows whether it was done. */
export type Outcome<T> = { readonly is: 'answered'; readonly value: T } | { readonly is: 'lost' }

/** A process's connection to Redis: calls and answers in order, each with its way there and back; what is under way when it breaks is lost. */
export class RedisClient {
  readonly redis: SimRedis
  readonly process: SimProcess
  /** Whether a write counts only once the replica has it. */
  readonly waitsForReplica: boolean
  #lastCallMs = 0
  #lastAnswerMs = 0

  readonly #name: string

  /** @param purpose may be out of reach for itself, as it has a connection of its own */
  constructor(redis: SimRedis, process: SimProcess, waitsForReplica: boolean, purpose: 'store' | 'registry') {
    this.#name = `${purpose} ${process.name}`
    this.redis = redis
    this.process = process
    this.waitsForReplica = waitsForReplica
  }

  get #world(): World {
    return this.process.world
  }

  get isReachable(): boolean {
    return this.redis.isReachableBy(this.process.name) && this.redis.isReachableBy(this.#name)
  }

  /** `at` runs when the call is at Redis, `answer` back in the process, in the order of the calls. */
  call<T>(kind: 'read' | 'write', at: () => T, answer: (outcome: Outcome<T>) => void): void {
    const world = this.#world
    const { incarnation } = this.redis
    const isConnected = (): boolean => this.isReachable && this.redis.incarnation === incarnation
    const lose = (): void => this.process.arrive(0, () => answer({ is: 'lost' }))
    if (!this.isReachable) return lose()
    this.#lastCallMs = Math.max(this.#lastCallMs, world.nowMs + this.#delayMs)
    world.after(this.#lastCallMs - world.nowMs, () => {
      if (!isConnected()) return lose()
      const value = at()
      const reply = (isReplicated: boolean): void => {
        if (!isReplicated) return lose()
        this.#lastAnswerMs = Math.max(this.#lastAnswerMs, world.nowMs + this.#delayMs)
        this.process.arrive(this.#lastAnswerMs - world.nowMs, () => answer(isConnected() ? { is: 'answered', value } : { is: 'lost' }))
      }
      if (kind === 'write' && this.waitsForReplica) this.redis.whenReplicated(reply)
      else reply(true)
    })
  }

  /** Repeats the call until it is answered, whenever Redis is in reach. It must be safe to repeat: `at` is told whether it may have been done. */
  ask<T>(kind: 'read' | 'write', at: (isRepeated: boolean) => T): Promise<T> {
    return new Promise(resolve => {
      const attempt = (isRepeated: boolean): void =>
        this.call(
          kind,
          () => at(isRepeated),
          outcome => {
            if (outcome.is === 'answered') return resolve(outcome.value)
            this.whenReachable(() => attempt(true))
          },
        )
      attempt(false)
    })
  }

  /** Runs once, a moment after it is in reach, as a new connection takes. */
  whenReachable(run: () => void): void {
    if (!this.isReachable) {
      const stop = this.redis.onReachable(() => {
        if (!this.isReachable) return
        stop()
        this.whenReachable(run)
      })
      return
    }
    this.process.timers.after(this.#world.between(1, RECONNECT_MS_MAX), () => {
      if (this.isReachable) run()
      else this.whenReachable(run)
    })
  }

  get #delayMs(): number {
    return this.#world.between(0.05, this.redis.delayMsMax)
  }
}

const RECONNECT_MS_MAX = 20
