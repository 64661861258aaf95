import type { Timers } from '#shared/base/timers.ts'
import type { Membership } from './membership.ts'
import { HEARTBEAT_MS, LEASE_MS } from './member.ts'

/** The run of a cluster, as Redis knows it: forgotten LEASE_MS after it was asked for last. */
export interface RunRegistry {
  /**
   * The run that is under way; when there is none, that of `proposal` begins. Null: there is none, and nothing was proposed (empty).
   * @throws when Redis cannot be reached: try again
   */
  joinRun(proposal: string): Promise<string | null>
  /**
   * A backend has left in order: were there no others, the run has ended.
   * @throws when Redis cannot be reached: then it is forgotten later
   */
  endRun(): Promise<void>
}

export interface ClusterRunParts {
  readonly membership: Pick<Membership, 'isAlive' | 'membersOf' | 'self'>
  readonly registry: RunRegistry
  readonly timers: Timers
  /** The run is known, or another one than before. */
  onKnown(id: string): void
}

/**
 * Which run of the cluster this backend is part of. A run begins with a backend that finds no other one, and lasts as long as there is one: all
 * have the same, and what is stored says of which run it is. So whoever takes a shard over knows whether all backends had stopped since.
 *
 * A run that nobody renews is forgotten, also while Redis is away: those that were part of it bring it back, and one that has just started
 * leaves that to them as long as it hears of others.
 */
export class ClusterRun {
  readonly #parts: ClusterRunParts
  #id: string | null = null
  /** Since when Redis says that there is none, and others are left to begin one. */
  #waitingSinceMs: number | null = null
  #isRunning = false
  #renewing: Promise<void> = Promise.resolve()
  #cancelNext: () => void = () => undefined

  constructor(parts: ClusterRunParts) {
    this.#parts = parts
  }

  /** Null until it is known; then always the last that was. */
  get id(): string | null {
    return this.#id
  }

  start(): void {
    this.#isRunning = true
    this.#renewing = this.#renew()
  }

  stop(): void {
    this.#isRunning = false
    this.#cancelNext()
  }

  /** When the membership is left: whoever starts now finds that all had stopped, unless others go on. Does not throw. */
  async end(): Promise<void> {
    this.stop()
    await this.#renewing
    await this.#parts.registry.endRun().catch(() => undefined)
  }

  async #renew(): Promise<void> {
    const { membership, registry, timers } = this.#parts
    // One that is no member says nothing: others may have begun anew without it.
    const found = membership.isAlive ? await registry.joinRun(this.#proposal()).catch(() => undefined) : undefined
    if (!this.#isRunning) return
    if (found === null) this.#waitingSinceMs ??= timers.nowMs()
    const isNew = found && found !== this.#id
    if (isNew) this.#id = found
    this.#cancelNext = timers.after(this.#id === null ? FIRST_MS : HEARTBEAT_MS, () => {
      this.#renewing = this.#renew()
    })
    if (isNew) this.#parts.onKnown(found)
  }

  #proposal(): string {
    if (this.#id !== null) return this.#id
    const { membership, timers } = this.#parts
    const { id, instance } = membership.self
    if (membership.membersOf('backend').every(member => member.id === id)) return instance
    // The others may all have started with us, each leaving it to the rest.
    const isTooLong = this.#waitingSinceMs !== null && timers.nowMs() - this.#waitingSinceMs >= LEASE_MS
    return isTooLong ? instance : ''
  }
}

/** Between tries while it is not known: no shard is taken before. */
const FIRST_MS = 100
