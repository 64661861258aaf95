import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { isMainThread } from 'node:worker_threads'

/** Loaded into an authentication service with `--import`: its worker threads break when they check one of these passwords. */

const { scryptSync } = crypto

function eatMemory(): never {
  const kept: number[][] = []
  for (;;) kept.push(Array.from({ length: 100_000 }, (_, index) => index))
}

function hang(): never {
  for (;;);
}

const FAULTS = new Map<string, () => never>([
  ['eats memory', eatMemory],
  ['ends the thread', () => process.exit(3)],
  ['hangs', hang],
])

if (!isMainThread) {
  crypto.scryptSync = (password, salt, bytes, options) => {
    FAULTS.get(Buffer.from(password as Uint8Array).toString())?.()
    return scryptSync(password, salt, bytes, options)
  }
  syncBuiltinESMExports()
}
