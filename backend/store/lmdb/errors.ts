import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AssertionError } from '#shared/base/assert.ts'
import { thrownText } from '#shared/base/thrown.ts'
import { StoreError } from '../shard-store.ts'

/** With less than this on its disk, a write that failed for whatever reason is said to have failed for lack of space. */
const FREE_BYTES_MIN = 1024 * 1024

export function closedError(): StoreError {
  return new StoreError('closed', 'the store is closed')
}

export function corruptError(file: string, what: string, cause?: unknown): StoreError {
  const remedy = `move ${dirname(file)} aside to start empty, or restore a backup of it`
  return new StoreError('corrupt', `${file} is damaged: ${what}; ${remedy}`, { cause })
}

export function newerFormatError(file: string, what: string, supported: number, cause?: unknown): StoreError {
  const remedy = `run the version that wrote it, or move ${dirname(file)} aside to start empty`
  return new StoreError('newerFormat', `${file}: ${what}, this version reads up to ${supported}; ${remedy}`, { cause })
}

export function mismatchError(file: string, what: string, found: string | number, configured: string | number): StoreError {
  const remedy = `configure ${found} again, or use another directory than ${dirname(file)}`
  return new StoreError('mismatch', `${file} was created for ${what} ${found}, but ${configured} is configured; ${remedy}`)
}

export function lockedError(directory: string, owner: number | undefined, cause?: unknown): StoreError {
  const who = owner === undefined ? 'another process' : `process ${owner}`
  return new StoreError('locked', `${directory} is in use by ${who}; stop it, or use another directory`, { cause })
}

/** What lmdb, or the operating system, threw while the store was opened. */
export function openingError(error: unknown, file: string): unknown {
  if (error instanceof StoreError || error instanceof AssertionError) return error
  const reason = thrownText(error)
  if (/MDB_/.test(reason)) return corruptError(file, reason, error)
  return new StoreError('failed', `cannot open ${file}: ${reason}; check its disk and permissions`, { cause: error })
}

/** What a failed transaction means to the callers of `commit`. */
export async function writingError(error: unknown, file: string): Promise<StoreError> {
  const reason = thrownText(error)
  // LMDB takes a write that the disk could hold only in part for an I/O error.
  const space = await statfs(dirname(file)).catch(() => undefined)
  const noSpace = space !== undefined && space.bavail * space.bsize < FREE_BYTES_MIN
  if (noSpace || /No space left|quota|File too large|MDB_MAP_FULL/i.test(reason)) {
    return new StoreError('full', `cannot write ${file}: its disk is full (${reason}); free space, then restart`, { cause: error })
  }
  return new StoreError('failed', `cannot write ${file}: ${reason}; check its disk, then restart`, { cause: error })
}

export function errorCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
