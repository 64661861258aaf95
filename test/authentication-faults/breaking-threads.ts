import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { isMainThread } from 'node:worker_threads'

/** To be loaded by an authentication service with `--import`: its worker threads then break when they check one of the passwords below. */
export const BREAKING_THREADS: string = import.meta.filename

export const EATS_MEMORY = 'eats memory'
export const ENDS_THREAD = 'ends the thread'
export const HANGS = 'hangs'

function eatMemory(): never {
  const kept: number[][] = []
  for (;;) kept.push(Array.from({ length: 100_000 }, (_, index) => index))
}

function hang(): never {
  for (;;);
}

const FAULTS = new Map<string, () => never>([
  [EATS_MEMORY, eatMemory],
  [ENDS_THREAD, () => process.exit(3)],
  [HANGS, hang],
])

if (!isMainThread) {
  const { scryptSync } = crypto
  crypto.scryptSync = (password, salt, bytes, options) => {
    FAULTS.get(Buffer.from(password as Uint8Array).toString())?.()
    return scryptSync(password, salt, bytes, options)
  }
  syncBuiltinESMExports()
}
