import { AssertionError } from '#shared/base/assert.ts'
import { StoreError } from '../shard-store.ts'

export function closedError(): StoreError {
  return new StoreError('closed', 'the store is closed')
}

/** Errors that are ours, or our caller's, as against what Redis or the way to it has. */
export function isOwnError(error: unknown): boolean {
  return error instanceof StoreError || error instanceof AssertionError || error instanceof TypeError || error instanceof RangeError
}

/** Redis has answered, and the answer is no; everything else leaves open whether the command was carried out. */
export function isReply(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError'
}
