import { isMainThread } from 'node:worker_threads'

/** Entry of threads whose tasks fail in every way that a thread can. */
export async function runTask(task: string): Promise<string> {
  switch (task) {
    case 'throw':
      throw new RangeError('thrown in the task')
    case 'exit':
      return process.exit(3)
    case 'memory':
      return eatMemory()
    case 'hang':
      return new Promise(() => undefined)
    default:
      return `${task} ${isMainThread ? 'here' : 'in a thread'}`
  }
}

function eatMemory(): string {
  const kept: unknown[] = []
  for (;;) kept.push(Array<number>(1_000_000).fill(0))
}
