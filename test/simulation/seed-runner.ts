import { Worker } from 'node:worker_threads'
import { systemTimers } from '#shared/base/timers.ts'
import type { SeedOrder, SeedResult } from './seed-run.ts'

/** A run takes a tenth of a second. One that takes so long goes round in circles: it is ended, and counts as failed. */
const SEED_MS_MAX = 120_000

/** Runs seeds in a thread of its own, so that one that never ends can be named and ended. */
export class SeedRunner {
  #worker: Worker | null = null

  /** One at a time. */
  async run(order: SeedOrder): Promise<SeedResult> {
    const worker = (this.#worker ??= new Worker(new URL('./seed-worker.ts', import.meta.url)))
    const { promise, resolve } = Promise.withResolvers<SeedResult>()
    const fail = (text: string): void => {
      this.#worker = null
      resolve(failed(order, text))
      void worker.terminate()
    }
    const onError = (error: unknown): void => fail(error instanceof Error ? (error.stack ?? error.message) : String(error))
    worker.once('message', resolve)
    worker.once('error', onError)
    const cancel = systemTimers.after(SEED_MS_MAX, () => fail(`not over after ${SEED_MS_MAX} ms`))
    worker.postMessage(order)
    const result = await promise
    cancel()
    worker.off('error', onError)
    return result
  }

  async close(): Promise<void> {
    await this.#worker?.terminate()
  }
}

function failed({ seed }: SeedOrder, text: string): SeedResult {
  const nothing = new Map<string, number>()
  return {
    seed,
    violations: [{ rule: 'wrong', text, words: [] }],
    hash: 0,
    level: 'unknown',
    events: 0,
    simulatedMs: 0,
    acknowledged: 0,
    delivered: 0,
    storeAnswered: 0,
    notified: 0,
    faults: nothing,
    figures: nothing,
    lines: [],
  }
}
