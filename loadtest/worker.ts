/** One generator process: joins the scenario that it is told, then runs its steps one after the other. */
import { Engine } from './engine.ts'
import type { FromWorker, ToWorker } from './fleet.ts'
import { findScenario } from './scenarios.ts'
import type { StepReport, Steps } from './scenario.ts'

let steps: Steps | null = null

async function handle(message: ToWorker): Promise<StepReport> {
  if (message.kind === 'start') {
    steps = await findScenario(message.scenario).join({ engine: new Engine(), ...message })
    return {}
  }
  const step = steps?.[message.name]
  if (!step) throw new Error(`no step ${message.name}`)
  return step(message.given)
}

/** When one process fails, the coordinator leaves the others in the middle of their step: their answer then finds the channel closed. */
function answer(message: FromWorker): void {
  process.send?.(message, undefined, undefined, error => {
    if (error !== null) process.exit(0)
  })
}

process.on('message', (message: ToWorker) => {
  handle(message).then(
    report => answer({ kind: 'done', report }),
    (error: unknown) => answer({ kind: 'failed', message: error instanceof Error ? error.message : String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
// The terminal's interrupt reaches the whole process group; the coordinator decides when the run is over.
process.on('SIGINT', () => {})
