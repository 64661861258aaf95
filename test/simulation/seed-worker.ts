import { parentPort } from 'node:worker_threads'
import { runSeed, type SeedOrder, type SeedResult } from './seed-run.ts'

/** A thread that runs seeds as they come, one after the other. One that never ends is its main thread's to end. */
const port = parentPort!
const rejections: string[] = []
process.on('unhandledRejection', error => rejections.push(error instanceof Error ? (error.stack ?? error.message) : JSON.stringify(error)))

async function run(order: SeedOrder): Promise<SeedResult> {
  rejections.length = 0
  const result = await runSeed(order)
  const violations = rejections.map(text => ({ rule: 'wrong' as const, text: `a rejection that nobody handles: ${text}`, words: [] }))
  return { ...result, violations: [...violations, ...result.violations] }
}

port.on('message', (order: SeedOrder) => {
  void run(order).then(result => port.postMessage(result))
})
