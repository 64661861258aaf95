import { TASKS } from './tasks.ts'
import type { TaskInput, TaskName, TaskOutput } from './tasks.ts'

/** What a thread is sent. */
export interface TaskCall<N extends TaskName = TaskName> {
  readonly task: N
  readonly input: TaskInput<N>
}

/** Runs in a thread: entry of the pool in piscina-workers.ts. */
export async function runTask<N extends TaskName>(call: TaskCall<N>): Promise<TaskOutput<N>> {
  const task = (await TASKS[call.task]()) as (input: TaskInput<N>) => TaskOutput<N> | Promise<TaskOutput<N>>
  return task(call.input)
}
