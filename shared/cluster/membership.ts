import { thrownText } from '#shared/base/thrown.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { Role } from '#shared/rpc/link.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { EvictedError, HEARTBEAT_MS, LEASE_MS, type Member, type Registry } from './member.ts'

/** After a heartbeat that failed; three more then fit into the lease. */
const RETRY_MS = 250
/** Heartbeats without an answer. Beyond, the next waits until one of them has ended; the registry's own time limit ends them. */
const UNDER_WAY_MAX = 16

/** Reasons of one outage that are logged, each once. */
const REASONS_LOGGED_MAX = 8

export interface MembershipListener {
  /**
   * Other members than before, or others of their properties but `figures`; and whenever the own lease begins: the first time, and after it
   * had lapsed. `members` has them.
   */
  onMembers(): void
  /** Our lease has ended, or others have evicted us: they may have taken what we had. Once each time; `onMembers` follows when there is a new lease. */
  onLapsed(): void
}

export interface MembershipOptions {
  readonly self: Omit<Member, 'isLeaving' | 'figures'>
  readonly registry: Registry
  readonly timers: Timers
  readonly log: Log
  /** Asked before each heartbeat. */
  readonly figures?: () => ReadonlyMap<string, number>
}

/**
 * This process as a member of the cluster, and who else is. A lease counts from before the heartbeat that it came with, by the monotonic
 * clock; the registry's own end of it is later. What must not be done without a lease asks `checkLease` just before: a process that stood still
 * for a while finds out there, before any timer has fired.
 *   new ─answer→ alive ─lease over, refused→ lapsed ─answer→ alive      any ─leave→ left
 */
export class Membership {
  readonly #options: MembershipOptions
  readonly #listeners = new Set<MembershipListener>()
  #phase: 'new' | 'alive' | 'lapsed' | 'left' = 'new'
  #members: readonly Member[] = []
  #leaseEndMs = -Infinity
  #isLeaving = false
  /** Heartbeats have numbers, so that an answer that comes late does not undo a newer one. */
  #lastSent = 0
  #lastApplied = 0
  /** The newest heartbeat that was refused: what older ones were answered says nothing any more. */
  #lastRefused = 0
  #underWay = 0
  #isFailing = false
  /** What was logged since the registry last answered. */
  readonly #reasonsLogged = new Set<string>()
  #latest: Promise<boolean> = Promise.resolve(false)
  #following: Promise<boolean> | null = null
  #cancelHeartbeat: () => void = () => undefined
  #cancelLapse: (() => void) | null = null
  heartbeatsFailed = 0
  lapses = 0

  constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** The living members as last heard of, ourselves among them, by role and id. They stay while the registry is out of reach. */
  get members(): readonly Member[] {
    return this.#members
  }

  get self(): Member {
    return { ...this.#options.self, isLeaving: this.#isLeaving }
  }

  /** We have a lease at this moment. */
  get isAlive(): boolean {
    return this.#phase === 'alive' && this.#options.timers.nowMs() < this.#leaseEndMs
  }

  /** Monotonic milliseconds at which the lease ends unless it is renewed. */
  get leaseEndMs(): number {
    return this.#leaseEndMs
  }

  membersOf(role: Role): readonly Member[] {
    return this.#members.filter(member => member.role === role)
  }

  find(role: Role, id: string): Member | undefined {
    return this.#members.find(member => member.role === role && member.id === id)
  }

  /** The answer ends it. */
  listen(listener: MembershipListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Begins to send heartbeats, until `leave`. Listeners hear when there is a lease. */
  start(): void {
    if (this.#lastSent === 0) void this.#heartbeat()
  }

  /** Whether we have a lease; when it has ended and nobody was told yet, they are told now. */
  checkLease(): boolean {
    if (this.isAlive) return true
    if (this.#phase === 'alive') this.#lapse()
    return false
  }

  /** Asks for the members anew: true when `members` are those of a heartbeat that began after this call. */
  refresh(): Promise<boolean> {
    if (this.#phase === 'left' || this.#lastSent === 0) return Promise.resolve(false)
    if (this.#following !== null) return this.#following
    // One that is under way may have been answered already: whoever asks meanwhile shares the one after it.
    this.#following = this.#latest.then(() => {
      this.#following = null
      return this.#heartbeat()
    })
    return this.#following
  }

  /** Says that this process takes on nothing more and gives away what it has. True when the registry knows; it is told again until then. */
  markLeaving(): Promise<boolean> {
    this.#isLeaving = true
    return this.refresh()
  }

  /**
   * Ends the membership: no more heartbeats, no more calls of listeners, no lease. Others need not wait for it to lapse, if the registry
   * can be reached. Does not throw.
   */
  async leave(): Promise<void> {
    if (this.#phase === 'left') return
    const { registry, log } = this.#options
    this.#phase = 'left'
    this.#cancelHeartbeat()
    this.#cancelLapse?.()
    this.#listeners.clear()
    if (this.#lastSent === 0) return
    // After a heartbeat that is under way, which would register us again.
    await this.#latest
    await registry.leave(this.self).catch((error: unknown) => log.warn('registry_leave_failed', { reason: textOf(error) }))
  }

  /** Another process is known to be dead. True when it is removed from the registry, or was not in it, and `members` say so. */
  async evict(id: string, instance: string): Promise<boolean> {
    const { registry, log } = this.#options
    try {
      await registry.evict(id, instance)
    } catch (error) {
      log.warn('registry_evict_failed', { id, reason: textOf(error) })
      return false
    }
    log.info('member_evicted', { id, instance })
    return await this.refresh()
  }

  /** True when it was answered and its answer counts. */
  #heartbeat(): Promise<boolean> {
    if (this.#phase === 'left') return Promise.resolve(false)
    this.#schedule(HEARTBEAT_MS)
    if (this.#underWay >= UNDER_WAY_MAX) return this.#latest
    const number = ++this.#lastSent
    const startMs = this.#options.timers.nowMs()
    this.#underWay++
    this.#latest = this.#call().then(
      members => {
        this.#underWay--
        return this.#onAnswer(number, startMs, members)
      },
      (error: unknown) => {
        this.#underWay--
        this.#onFailure(number, error)
        return false
      },
    )
    return this.#latest
  }

  #call(): Promise<readonly Member[]> {
    const { registry, figures } = this.#options
    return registry.heartbeat(figures === undefined ? this.self : { ...this.self, figures: figures() })
  }

  #schedule(ms: number): void {
    this.#cancelHeartbeat()
    this.#cancelHeartbeat = this.#options.timers.after(ms, () => void this.#heartbeat())
  }

  #onAnswer(number: number, startMs: number, members: readonly Member[]): boolean {
    if (this.#phase === 'left' || number < this.#lastRefused) return false
    // Before the lease is renewed: one that ended meanwhile has ended, whatever came after.
    this.checkLease()
    this.#leaseEndMs = Math.max(this.#leaseEndMs, startMs + LEASE_MS)
    if (this.#isFailing) this.#options.log.info('registry_answers')
    this.#isFailing = false
    this.#reasonsLogged.clear()
    const isNewest = number > this.#lastApplied
    const before = this.#members
    if (isNewest) {
      this.#lastApplied = number
      this.#members = [...members].sort((a, b) => compare(a.role, b.role) || compare(a.id, b.id))
    }
    const isNewLease = this.#phase !== 'alive' && this.#options.timers.nowMs() < this.#leaseEndMs
    if (isNewLease) this.#begin()
    if (isNewLease || (isNewest && !isSame(before, this.#members))) for (const listener of this.#listeners) listener.onMembers()
    return isNewest
  }

  #onFailure(number: number, error: unknown): void {
    if (this.#phase === 'left') return
    if (error instanceof EvictedError) this.#onRefused(number)
    else this.#onNoAnswer(number, textOf(error))
    if (number === this.#lastSent) this.#schedule(RETRY_MS)
  }

  #onNoAnswer(number: number, reason: string): void {
    this.heartbeatsFailed++
    // A later one was answered: the registry was out of reach, but is not now.
    if (number < this.#lastApplied) return
    this.#isFailing = true
    if (this.#reasonsLogged.has(reason) || this.#reasonsLogged.size >= REASONS_LOGGED_MAX) return
    this.#reasonsLogged.add(reason)
    this.#options.log.warn('registry_does_not_answer', { reason })
  }

  /** Others took us for dead: what we had may be theirs already, however long our lease was. */
  #onRefused(number: number): void {
    if (number < this.#lastApplied) return
    this.#lastRefused = Math.max(this.#lastRefused, number)
    this.#leaseEndMs = -Infinity
    if (this.#phase !== 'alive') return
    this.#options.log.warn('evicted', { id: this.#options.self.id, instance: this.#options.self.instance })
    this.#lapse()
  }

  #begin(): void {
    this.#phase = 'alive'
    this.#options.log.info('lease_begun', { id: this.#options.self.id, instance: this.#options.self.instance })
    this.#watchLease()
  }

  #watchLease(): void {
    const { timers } = this.#options
    this.#cancelLapse?.()
    this.#cancelLapse = timers.after(Math.max(this.#leaseEndMs - timers.nowMs(), 0), () => {
      if (this.checkLease()) this.#watchLease()
    })
  }

  #lapse(): void {
    this.#phase = 'lapsed'
    this.lapses++
    this.#cancelLapse?.()
    this.#options.log.error('lease_lapsed', { leaseMs: LEASE_MS })
    for (const listener of this.#listeners) listener.onLapsed()
  }
}

function isSame(before: readonly Member[], after: readonly Member[]): boolean {
  const text = (members: readonly Member[]): string =>
    JSON.stringify(members.map(({ role, id, instance, address, isLeaving }) => [role, id, instance, address, isLeaving]))
  return text(before) === text(after)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function textOf(error: unknown): string {
  return thrownText(error)
}
