import type { Clock } from '#shared/base/clock.ts'
import { TimerWheel, type TimerHandle } from '#shared/base/timer-wheel.ts'
import type { Turn } from '#shared/base/turn.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { disconnect } from './closing.ts'
import type { Connection } from './connection.ts'

const WHEEL_TICK_MS = 100
/** [MQTT-3.1.2-22]: one and a half times the Keep Alive. */
const KEEP_ALIVE_FACTOR = 1.5
/** Connections that end in one turn; after a network cut all of them fall due at once, and the rest goes on in the next. */
const DUE_PER_TURN_MAX = 2_000

/** How long a connection has for its CONNECT, and how long a client may be silent: one coarse wheel for all. */
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

  /** @param seconds Keep Alive as granted; 0: none */
  startKeepAlive(connection: Connection, seconds: number): void {
    this.cancel(connection)
    connection.keepAliveMs = seconds * 1_000 * KEEP_ALIVE_FACTOR
    if (seconds > 0) this.#scheduleKeepAlive(connection)
  }

  cancel(connection: Connection): void {
    const timer: TimerHandle | null = connection.timer
    if (timer !== null) this.#wheel.cancel(timer)
    connection.timer = null
  }

  #scheduleKeepAlive(connection: Connection): void {
    connection.timer = this.#wheel.schedule(() => this.#onKeepAlive(connection), connection.lastInputMs + connection.keepAliveMs)
  }

  #onKeepAlive(connection: Connection): void {
    const { frontend } = connection
    connection.timer = null
    if (connection.phase !== 'open') return
    if (connection.isUnheard()) connection.lastInputMs = this.nowMs
    if (connection.lastInputMs + connection.keepAliveMs > this.nowMs) return this.#scheduleKeepAlive(connection)
    frontend.counters.keepAliveTimeouts++
    frontend.log.info('keep_alive_timeout', { client: connection.clientId })
    disconnect(connection, ReasonCode.KeepAliveTimeout, null)
  }

  #onConnectDeadline(connection: Connection): void {
    connection.timer = null
    if (connection.phase === 'open') return
    connection.frontend.refused(connection.port.name, connection.transport.remoteAddress, 'no CONNECT in time')
    disconnect(connection, ReasonCode.UnspecifiedError, null)
  }
}
