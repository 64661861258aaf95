import { fork } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import type { ToWorker } from './fleet.ts'
import { programBeside } from './program.ts'

// Generator processes run the sources as they are, which needs a runtime that strips types.
test.runIf(process.features.typescript)('a process whose coordinator left before the answer ends without a word', async () => {
  const child = fork(programBeside(import.meta.url, 'worker'), [], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const ended = once(child, 'exit')
  const words = text(child.stderr!)
  const question: ToWorker = { kind: 'step', name: 'nothing', given: {} }
  child.send(question, () => child.disconnect())
  expect([await words, ...(await ended)]).toEqual(['', 0, null])
})
