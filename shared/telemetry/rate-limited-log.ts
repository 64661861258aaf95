import type { Clock } from '../base/clock.ts'
import type { Timers } from '../base/timers.ts'
import type { Log, LogFields, LogLevel } from './log.ts'

const WINDOW_MS = 1_000
/** Event names that are counted apart. Names are our own, so a number beyond this is a mistake; further ones share one count. */
const NAMES_MAX = 1_024
const FURTHER_NAMES = 'further_events'

interface Window {
  startMs: number
  written: number
  suppressed: number
  level: Exclude<LogLevel, 'trace'>
}

/**
 * A log for events that clients can cause as often as they like: of one name, `perSecond` lines a second are written; the
 * rest are counted, and when the second is over one line of the same name says `suppressed: n`.
 */
export class RateLimitedLog implements Log {
  readonly #log: Log
  readonly #perSecond: number
  readonly #clock: Clock
  readonly #timers: Timers
  readonly #windows = new Map<string, Window>()
  #cancel: (() => void) | null = null

  constructor(log: Log, perSecond: number, clock: Clock, timers: Timers) {
    this.#log = log
    this.#perSecond = perSecond
    this.#clock = clock
    this.#timers = timers
  }

  get debugEnabled(): boolean {
    return this.#log.debugEnabled
  }

  debug(event: string, fields?: LogFields): void {
    if (this.#log.debugEnabled && this.#admit(event, 'debug')) this.#log.debug(event, fields)
  }

  info(event: string, fields?: LogFields): void {
    if (this.#admit(event, 'info')) this.#log.info(event, fields)
  }

  warn(event: string, fields?: LogFields): void {
    if (this.#admit(event, 'warn')) this.#log.warn(event, fields)
  }

  error(event: string, fields?: LogFields): void {
    if (this.#admit(event, 'error')) this.#log.error(event, fields)
  }

  /** Writes what is still to be said about suppressed lines. Call before exit. */
  flush(): void {
    this.#cancel?.()
    this.#cancel = null
    for (const [event, window] of this.#windows) this.#sumUp(event, window)
    this.#windows.clear()
  }

  #admit(event: string, level: Window['level']): boolean {
    const window = this.#windowOf(event, level)
    if (window.written < this.#perSecond) {
      window.written++
      return true
    }
    window.suppressed++
    window.level = level
    this.#cancel ??= this.#timers.after(WINDOW_MS, () => this.flush())
    return false
  }

  #windowOf(event: string, level: Window['level']): Window {
    const nowMs = this.#clock.monotonicMs()
    const name = this.#windows.has(event) || this.#windows.size < NAMES_MAX ? event : FURTHER_NAMES
    const known = this.#windows.get(name)
    if (known !== undefined && nowMs - known.startMs < WINDOW_MS) return known
    if (known !== undefined) this.#sumUp(name, known)
    const fresh: Window = { startMs: nowMs, written: 0, suppressed: 0, level }
    this.#windows.set(name, fresh)
    return fresh
  }

  #sumUp(event: string, window: Window): void {
    if (window.suppressed > 0) this.#log[window.level](event, { suppressed: window.suppressed })
    window.suppressed = 0
  }
}
