import type { TaskInput, TaskName, TaskOutput } from './tasks.ts'

/** Threads for what costs a processor long: signatures, hashes of passwords, tokens, large JSON. */
export interface Workers {
  /**
   * Runs one task of tasks.ts on some thread.
   * @param source whom it is for: see requestSource. Sources take turns, so that one that has much to do does not make the others wait
   * @throws {WorkersBusy} too many tasks wait (`authWorkerQueueMax`); {Error} the thread died or the task threw
   */
  run<N extends TaskName>(name: N, input: TaskInput<N>, source?: string): Promise<TaskOutput<N>>
  close(): Promise<void>
}

/** For metrics. */
export interface WorkerFigures {
  /** Tasks that no thread has begun. */
  readonly waiting: number
  readonly running: number
  /** Since the start, failed ones too. */
  readonly completed: number
}

/** The queue of tasks is at its limit: the client is told to come back later. */
export class WorkersBusy extends Error {
  override readonly name = 'WorkersBusy'
}
