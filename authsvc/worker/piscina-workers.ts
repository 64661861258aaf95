import type { Timers } from '#shared/base/timers.ts'
import { TaskPool } from './task-pool.ts'
import type { TaskInput, TaskName, TaskOutput } from './tasks.ts'
import type { TaskCall } from './worker.ts'
import type { WorkerFigures, Workers } from './workers.ts'

/** Far beyond what the dearest task (a password hash) takes on a slow, busy machine. */
const TASK_TIMEOUT_MS = 10_000

/** Built sources are JavaScript. */
const ENTRY = new URL(new URL('./worker.ts', import.meta.url).href.replace(/\.ts$/, import.meta.url.endsWith('.js') ? '.js' : '.ts'))

export interface WorkersSettings {
  /** Threads at most. */
  readonly threads: number
  /** Tasks that wait for a thread at most (`authWorkerQueueMax`). */
  readonly queueMax: number
  readonly timers: Timers
}

/** Worker threads; the first one starts with the first task. Ends them with `close`. */
export function openWorkers(settings: WorkersSettings): Workers & { figures(): WorkerFigures } {
  const pool = new TaskPool({ ...settings, taskTimeoutMs: TASK_TIMEOUT_MS, entry: ENTRY })
  return {
    figures: () => pool.figures(),
    run: async <N extends TaskName>(task: N, input: TaskInput<N>, source?: string): Promise<TaskOutput<N>> => {
      const call: TaskCall<N> = { task, input }
      return (await pool.run(call, source)) as TaskOutput<N>
    },
    close: () => pool.close(),
  }
}
