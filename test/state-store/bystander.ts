/** A thread of its own, so that what it measures is the broker and not the process of the test: one client of the state store that asks and asks. */
import { parentPort, workerData } from 'node:worker_threads'
import { StateStore } from '../../client/state-store.ts'

/** What it has seen since it was asked last. */
export interface Seen {
  readonly answered: number
  /** Of a GET or SET, the longest. */
  readonly longestMs: number
  readonly failed: number
}

const port = parentPort!
const KEY = 'bystander'
let [answered, longestMs, failed] = [0, 0, 0]
let isOver = false

const store = await StateStore.connect((workerData as { readonly url: string }).url)
port.on('message', (what: 'seen' | 'end') => {
  port.postMessage({ answered, longestMs, failed } satisfies Seen)
  ;[answered, longestMs, failed] = [0, 0, 0]
  isOver = what === 'end'
})
for (let turn = 0; !isOver; turn++) {
  const startMs = performance.now()
  try {
    const value = String(turn)
    await store.set(KEY, value)
    const entry = await store.get(KEY)
    if (entry?.text === value) answered += 2
    else failed++
  } catch {
    failed++
  }
  longestMs = Math.max(longestMs, performance.now() - startMs)
  // Not as fast as it can: it is there to notice, not to load.
  await new Promise(resolve => setTimeout(resolve, 1))
}
await store.close()
port.close()
