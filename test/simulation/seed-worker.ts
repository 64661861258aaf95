import { parentPort } from 'node:worker_threads'
import { runSeed, type SeedOrder, type SeedResult } from './seed-run.ts'

/** A thread that runs seeds as they come, one after the other. One that never ends is its main thread's to end. */
const port = parentPort!
let rejection: string | null = null
process.on('unhandledRejection', error => (rejection ??= error instanceof Error ? (error.stack ?? error.message) : JSON.stringify(error)))

async function run(order: SeedOrder): Promise<SeedResult> {
  rejection = null
  const result = await runSeed(order)
  if (rejection === null) return result
  const text = `a rejection that nobody handles: ${rejection}`
  return { ...result, violations: [{ rule: 'wrong', text, words: [] }, ...result.violations] }
}

port.on('message', (order: SeedOrder) => {
  void run(order).then(result => port.postMessage(result))
})
