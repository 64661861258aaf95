import type { Clock } from '#shared/base/clock.ts'
import type { Random } from '#shared/base/random.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { Turn } from '#shared/base/turn.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { EventQueue, type Scheduled } from './event-queue.ts'

/** The civil time at which every simulation begins. */
const WALL_START_MS = 1_700_000_000_000
/** How far the civil clocks of two machines may lie apart. */
export const WALL_SKEW_MS_MAX = 40
const TURN_MS_MAX = 0.3

/** An exception that a core let out: in the real process it would have ended it. */
export interface Failure {
  readonly process: string
  readonly error: unknown
}

/**
 * A simulated world: time that only jumps from event to event, randomness from one seed, and nothing real. Events run one after the other;
 * what they leave to promises goes on before the next event begins, as in Node, where the microtask queue is empty before the event loop
 * takes its next callback. `run` waits for exactly that: one `setImmediate` per event, and since nothing else of this process
 * uses the event loop meanwhile, its real order and speed cannot be seen from inside. The same seed therefore gives the same run.
 */
export class World {
  readonly random: SeededRandom
  readonly failures: Failure[] = []
  readonly #queue = new EventQueue()
  #nowMs = 0
  /** Events run so far. */
  events = 0

  constructor(seed: number) {
    this.random = new SeededRandom(seed)
  }

  /** Simulated milliseconds since the beginning. */
  get nowMs(): number {
    return this.#nowMs
  }

  /** Civil time, as a clock that is right has it. */
  get wallMs(): number {
    return WALL_START_MS + this.#nowMs
  }

  /** Runs `run` after `delayMs`; for what belongs to no process: clients, the network, faults. */
  after(delayMs: number, run: () => void): Scheduled {
    return this.#queue.add(this.#nowMs + Math.max(0, delayMs), run)
  }

  /** A number of milliseconds from `min` to `max`. */
  between(min: number, max: number): number {
    return min + this.random.next() * (max - min)
  }

  /** Runs all events up to `untilMs`; time then stands there. Ends early when `isDone` says so. */
  async run(untilMs: number, isDone: () => boolean = () => false): Promise<void> {
    while (this.#queue.nextMs <= untilMs && !isDone()) {
      const next = this.#queue.take()!
      const { run } = next
      if (run === null) continue
      next.run = null
      this.#nowMs = next.dueMs
      this.events++
      run()
      await microtasksDone()
    }
    if (!isDone()) this.#nowMs = Math.max(this.#nowMs, untilMs)
  }
}

/** Resolves when no promise has anything left to run. */
export function microtasksDone(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

type Kind = 'timer' | 'io'

/**
 * One run of a process: its clocks, timers and turn. Paused (as by SIGSTOP) nothing of it runs; when it goes on, due timers run first, then
 * what has arrived meanwhile, in order, as in an event loop. Killed, nothing of it ever runs again.
 */
export class SimProcess {
  readonly world: World
  readonly name: string
  readonly instance: string
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  #state: 'running' | 'paused' | 'dead' = 'running'
  #backlog: { readonly kind: Kind; readonly run: () => void }[] = []
  /** What arrived after this was not read yet: it paused then. */
  #unreadSinceMs = Infinity
  readonly #onEnd: (() => void)[] = []

  constructor(world: World, name: string, instance: string) {
    this.world = world
    this.name = name
    this.instance = instance
    const skewMs = world.between(-WALL_SKEW_MS_MAX, WALL_SKEW_MS_MAX)
    const bootMs = world.between(0, 1e6)
    this.clock = {
      wallMs: () => Math.floor(WALL_START_MS + world.nowMs + skewMs),
      monotonicMs: () => bootMs + world.nowMs,
    }
    this.timers = {
      after: (ms, run) => {
        const scheduled = this.#schedule('timer', ms, run)
        return () => {
          scheduled.isCancelled = true
        }
      },
      nowMs: () => this.clock.monotonicMs(),
    }
    this.random = {
      uuid: () => Array.from({ length: 4 }, () => world.random.int(0, 0x7fffffff).toString(16).padStart(8, '0')).join('-'),
    }
  }

  get isRunning(): boolean {
    return this.#state === 'running'
  }

  get isPaused(): boolean {
    return this.#state === 'paused'
  }

  get isDead(): boolean {
    return this.#state === 'dead'
  }

  /** Up to here it has read what came: now, unless it is paused or has only just gone on. */
  get readMs(): number {
    return Math.min(this.world.nowMs, this.#unreadSinceMs)
  }

  /** Something arrives from outside after `delayMs`. */
  arrive(delayMs: number, run: () => void): void {
    this.#schedule('io', delayMs, run)
  }

  /** Runs `run` every `ms`, as an interval does. */
  every(ms: number, run: () => void): void {
    this.timers.after(ms, () => {
      run()
      this.every(ms, run)
    })
  }

  /** The end of an event-loop turn: `steps` run once after whatever else happens at this moment. */
  turn(steps: readonly (() => void)[]): Turn {
    let isRequested = false
    return {
      request: () => {
        if (isRequested) return
        isRequested = true
        // What arrives until then belongs to the turn.
        this.#schedule('io', this.world.random.next() * TURN_MS_MAX, () => {
          isRequested = false
          for (const step of steps) step()
        })
      },
    }
  }

  /** Called once when it is killed. */
  onEnd(run: () => void): void {
    this.#onEnd.push(run)
  }

  pause(): void {
    if (this.#state !== 'running') return
    this.#state = 'paused'
    this.#unreadSinceMs = Math.min(this.#unreadSinceMs, this.world.nowMs)
  }

  resume(): void {
    if (this.#state !== 'paused') return
    this.#state = 'running'
    const backlog = this.#backlog
    this.#backlog = []
    for (const kind of ['timer', 'io'] as const) {
      for (const { run } of backlog.filter(each => each.kind === kind)) this.#schedule(kind, 0, run)
      if (kind === 'timer') this.#schedule('io', 0, () => void (this.#unreadSinceMs = Infinity))
    }
  }

  kill(): void {
    if (this.#state === 'dead') return
    this.#state = 'dead'
    this.#backlog = []
    for (const run of this.#onEnd.splice(0)) run()
  }

  #schedule(kind: Kind, delayMs: number, run: () => void): { isCancelled: boolean } {
    const scheduled = { isCancelled: false }
    const due = (): void => {
      if (this.#state === 'dead' || scheduled.isCancelled) return
      if (this.#state === 'paused') {
        this.#backlog.push({ kind, run: due })
        return
      }
      try {
        run()
      } catch (error) {
        this.world.failures.push({ process: this.name, error })
      }
    }
    this.world.after(delayMs, due)
    return scheduled
  }
}
