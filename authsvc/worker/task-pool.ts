import { fileURLToPath } from 'node:url'
import type { Piscina } from 'piscina'
import { FairQueue } from '../fair-queue.ts'
import type { Timers } from '#shared/base/timers.ts'
import { WorkersBusy } from './workers.ts'
import type { WorkerFigures } from './workers.ts'

/** Threads that had nothing to do for this long end, but for one: the next client should not wait for a thread to start (100 ms). */
const IDLE_MS = 30_000

/** Memory of one thread; a task that needs more ends its thread and is refused, the process stays. MiB. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 }

export interface TaskPoolSettings {
  /** Threads at most; they start when they are needed. */
  readonly threads: number
  /** Tasks that wait at most; one more is refused with WorkersBusy. */
  readonly queueMax: number
  /** A task that runs longer loses its thread: no task of ours takes near as long, and a thread that hangs must not hold a client for ever. */
  readonly taskTimeoutMs: number
  readonly timers: Timers
  /** File that exports `runTask`. */
  readonly entry: URL
}

interface Waiting {
  readonly message: unknown
  readonly resolve: (output: unknown) => void
  readonly reject: (error: unknown) => void
}

/**
 * Threads of piscina behind a queue of our own: piscina's loses the order of waiting tasks that can be aborted, and does not count them
 * against its limit. It never holds more tasks than threads.
 */
export class TaskPool {
  readonly #settings: TaskPoolSettings
  readonly #waiting = new FairQueue<Waiting>()
  /** Null until the first task, and after a thread could not start: the next task tries again with a new one. */
  #pool: Promise<Piscina> | null = null
  #running = 0
  #completed = 0
  #isClosed = false

  constructor(settings: TaskPoolSettings) {
    this.#settings = settings
  }

  figures(): WorkerFigures {
    return { waiting: this.#waiting.length, running: this.#running, completed: this.#completed }
  }

  /**
   * Runs `runTask(message)` on some thread, in the order of the calls of one source; sources take turns.
   * @param source whom the task is for; where the queue is full, who has most tasks in it loses its newest one to a source that has fewer
   * @throws {WorkersBusy} the queue is full; {Error} the task threw, its thread died or ran too long, or the pool is closed
   */
  run(message: unknown, source = ''): Promise<unknown> {
    if (this.#isClosed) return Promise.reject(new Error('the worker threads are closed'))
    if (this.#running >= this.#settings.threads && this.#waiting.length >= this.#settings.queueMax) {
      const displaced = this.#waiting.makeRoomFor(source)
      const busy = new WorkersBusy(`${this.#settings.queueMax} tasks wait`)
      if (displaced === undefined) return Promise.reject(busy)
      displaced.reject(busy)
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(source, { message, resolve, reject })
      this.#startNext()
    })
  }

  /** Ends all threads. What runs or waits is rejected. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) next.reject(new Error('closed'))
    await this.#discard()
  }

  #startNext(): void {
    if (this.#running >= this.#settings.threads) return
    const next = this.#waiting.shift()
    if (next === undefined) return
    this.#running++
    void this.#runNow(next.message)
      .then(next.resolve, next.reject)
      .finally(() => {
        this.#running--
        this.#completed++
        this.#startNext()
      })
  }

  async #runNow(message: unknown): Promise<unknown> {
    const pool = await (this.#pool ??= this.#open())
    const abort = new AbortController()
    const cancel = this.#settings.timers.after(this.#settings.taskTimeoutMs, () => abort.abort('it ran too long'))
    try {
      return await pool.run(message, { signal: abort.signal })
    } finally {
      cancel()
    }
  }

  async #open(): Promise<Piscina> {
    const { Piscina } = await import('piscina')
    const pool = new Piscina({
      filename: fileURLToPath(this.#settings.entry),
      name: 'runTask',
      minThreads: 1,
      maxThreads: this.#settings.threads,
      idleTimeout: IDLE_MS,
      atomics: 'async',
      recordTiming: false,
      resourceLimits: RESOURCE_LIMITS,
      // A task needs nothing of it, and secrets may be in it.
      env: {},
    })
    // A thread that died without a task: most likely it cannot start, and piscina then leaves the tasks that wait for it waiting.
    pool.on('error', () => void this.#discard())
    return pool
  }

  async #discard(): Promise<void> {
    const pool = this.#pool
    this.#pool = null
    await (await pool)?.destroy()
  }
}
