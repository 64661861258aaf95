import { type RootDatabase, open } from 'lmdb'
import type { DurabilityLevel } from '../shard-store.ts'

export type Environment = RootDatabase<Buffer, Buffer>

/**
 * Address space set aside for the file, not memory: what a file may grow to before LMDB maps it anew. It keeps the former mapping then, so each
 * time counted the file's pages once more in the resident memory.
 */
const MAP_BYTES = 64 * 1024 ** 3

/**
 * Options of lmdb, with what was measured or read in its source (3.5.6):
 * - `overlappingSync` off. With it a commit's promise resolves no earlier (only after fdatasync), and after a failed
 *   transaction `close` waits for ever for a flush that will not come.
 * - `noSync` for `stored`: the pages are in the kernel when `commit` resolves, so they survive the process. Without it
 *   (`fsynced`) a thread of the pool writes the pages, calls fdatasync, then writes the meta page through a descriptor
 *   opened with O_DSYNC, and only then does the promise resolve.
 * - `eventTurnBatching` off: committer.ts batches; and with it a promise that nobody holds rejects when a transaction fails.
 */
export function openEnvironment(file: string, level: DurabilityLevel): Environment {
  return open<Buffer, Buffer>({
    path: file,
    encoding: 'binary',
    keyEncoding: 'binary',
    maxDbs: 1,
    mapSize: MAP_BYTES,
    overlappingSync: false,
    eventTurnBatching: false,
    noSync: level === 'stored',
  })
}

/** Waits until all that was committed is on the disk, at any level. */
export function syncEnvironment(db: Environment): Promise<void> {
  // Missing in the package's types.
  const { sync } = db as unknown as { sync: (this: Environment, callback: (error?: Error) => void) => void }
  return new Promise((resolve, reject) => {
    sync.call(db, error => (error ? reject(error) : resolve()))
  })
}
