import type { TaskInput, TaskName, TaskOutput } from './tasks.ts'
import { runTask } from './worker.ts'
import type { Workers } from './workers.ts'

/** For unit tests: tasks run where they are called. What goes in and comes out is cloned, as it is on its way to a thread. */
export const sameThreadWorkers: Workers = {
  run: async <N extends TaskName>(task: N, input: TaskInput<N>): Promise<TaskOutput<N>> =>
    structuredClone(await runTask({ task, input: structuredClone(input) })),
  close: () => Promise.resolve(),
}
