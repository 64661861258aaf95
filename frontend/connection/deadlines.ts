import type { Clock } from '#shared/base/clock.ts'
import { TimerWheel, type TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Turn } from '#shared/base/turn.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { disconnect } from './closing.ts'
import type { Connection } from './connection.ts'
import { expire } from './expiry.ts'

const WHEEL_TICK_MS = 100
/** [MQTT-3.1.2-22]: one and a half times the Keep Alive. */
const KEEP_ALIVE_FACTOR = 1.5
/** From the first challenge to the end of an exchange of AUTH packets. */
export const AUTHENTICATION_MS = 30_000
/** The wall clock is looked at this often where a credential ends later: nobody tells us when it is set. */
const EXPIRY_CHECK_MS = 60_000
/** Connections that end in one turn; after a network cut all of them fall due at once, and the rest goes on in the next. */
const DUE_PER_TURN_MAX = 2_000

/** How long a connection has for its CONNECT, how long a client may be silent and how long it may stay: one coarse wheel for all. */
export class Deadlines {
  /** Monotonic time, as of the last tick: exact enough for Keep Alive. */
  nowMs: number
  readonly #clock: Clock
  readonly #turn: Turn
  readonly #wheel: TimerWheel<() => void>
  #isBehind = false

  constructor(clock: Clock, turn: Turn) {
    this.#clock = clock
    this.#turn = turn
    this.nowMs = clock.monotonicMs()
    this.#wheel = new TimerWheel(WHEEL_TICK_MS, this.nowMs)
  }

  /** Monotonic time, to the point. */
  get clockMs(): number {
    return this.#clock.monotonicMs()
  }

  /** A few times a second. */
  tick(): void {
    this.nowMs = this.#clock.monotonicMs()
    this.#isBehind = !this.#wheel.advance(this.nowMs, run => run(), DUE_PER_TURN_MAX)
    if (this.#isBehind) this.#turn.request()
  }

  /** Goes on with what the last tick left. At the end of each turn. */
  catchUp(): void {
    if (this.#isBehind) this.tick()
  }

  /** The time for CONNECT counts from when the connection was accepted, handshakes included. */
  expectConnect(connection: Connection, withinMs: number): void {
    connection.timer = this.#wheel.schedule(() => this.#onConnectDeadline(connection), connection.transport.acceptedMs + withinMs)
  }

  /** The client has been asked for more: from now on it has this long until CONNACK. */
  expectAuthentication(connection: Connection): void {
    this.cancel(connection)
    connection.timer = this.#wheel.schedule(() => this.#onConnectDeadline(connection), this.#clock.monotonicMs() + AUTHENTICATION_MS)
  }

  /** Keep Alive and the end of its credential: one timer for both. @param seconds Keep Alive as granted; 0: none */
  watch(connection: Connection, seconds: number): void {
    connection.keepAliveMs = seconds * 1_000 * KEEP_ALIVE_FACTOR
    this.reschedule(connection)
  }

  /** Its credential is another one now. */
  reschedule(connection: Connection): void {
    this.cancel(connection)
    this.#schedule(connection)
  }

  /** Whether `wallMs`, null for never, has come. */
  hasPassed(wallMs: number | null): boolean {
    return wallMs !== null && wallMs <= this.#clock.wallMs()
  }

  /** Runs `run` in `ms` milliseconds or a little later. The answer cancels it. */
  after(ms: number, run: () => void): () => void {
    const timer = this.#wheel.schedule(run, this.#clock.monotonicMs() + ms)
    return () => this.#wheel.cancel(timer)
  }

  cancel(connection: Connection): void {
    const timer: TimerHandle | null = connection.timer
    if (timer !== null) this.#wheel.cancel(timer)
    connection.timer = null
  }

  #schedule(connection: Connection): void {
    const dueMs = Math.min(this.#silenceMs(connection), this.#expiryMs(connection))
    if (dueMs < Infinity) connection.timer = this.#wheel.schedule(() => this.#onDue(connection), dueMs)
  }

  #silenceMs({ keepAliveMs, lastInputMs }: Connection): number {
    return keepAliveMs === 0 ? Infinity : lastInputMs + keepAliveMs
  }

  /** When to look at the wall clock again: it may be set, so what is far away is looked at in between. */
  #expiryMs({ grant }: Connection): number {
    if (grant === null || grant.expiresMs === null) return Infinity
    return this.#clock.monotonicMs() + Math.min(EXPIRY_CHECK_MS, Math.max(0, grant.expiresMs - this.#clock.wallMs()))
  }

  #onDue(connection: Connection): void {
    const { frontend, grant } = connection
    connection.timer = null
    if (!connection.isAttached) return
    if (grant !== null && this.hasPassed(grant.expiresMs)) return expire(connection)
    if (connection.isUnheard()) connection.lastInputMs = this.nowMs
    if (this.#silenceMs(connection) > this.nowMs) return this.#schedule(connection)
    frontend.counters.keepAliveTimeouts++
    frontend.log.info('keep_alive_timeout', { client: connection.clientId })
    disconnect(connection, ReasonCode.KeepAliveTimeout, null)
  }

  #onConnectDeadline(connection: Connection): void {
    connection.timer = null
    if (connection.isAttached) return
    const late = connection.phase === 'authenticating' ? 'authentication took too long' : 'no CONNECT in time'
    connection.frontend.refused(connection.port.name, connection.transport.remoteAddress, late)
    disconnect(connection, ReasonCode.UnspecifiedError, null)
  }
}
