import type { SeededRandom } from '#shared/testing/seeded-random.ts'
import type { Action, Version } from './history.ts'

/** Key 0 is written with tokens at times, key 1 is a lock with holders' names, keys 1 and 2 end by themselves. */
const FENCED_KEY = 0
export const LOCK_KEY = 1
const EXPIRING_KEYS = [1, 2]

export interface ActionChoice {
  readonly random: SeededRandom
  /** Number of the key. */
  readonly key: number
  /** Whose action it is. */
  readonly name: string
  /** Versions that answers told of: tokens are taken from among them. */
  readonly versions: readonly string[]
  readonly pxMsMax: number
  /** A value that no other SET writes. */
  readonly freshValue: () => string
  /** One that may be there: a VDEL that could never match would show nothing. */
  readonly seenValue: () => string
}

/** What a client asks for next. */
export function randomAction({ random, key, name, versions, pxMsMax, freshValue, seenValue }: ActionChoice): Action {
  const kind = random.int(0, 99)
  const token: Version = key === FENCED_KEY && versions.length > 0 && random.int(0, 9) < 7 ? random.pick(versions) : null
  const value = key === LOCK_KEY ? name : freshValue()
  if (kind < 35) return { is: 'get' }
  if (kind < 47) return { is: 'del', token }
  if (kind < 57) return { is: 'vdel', value: key === LOCK_KEY ? name : seenValue(), token }
  const condition = key === LOCK_KEY ? 'NEX' : ([null, null, 'NX', 'NEX'] as const)[random.int(0, 3)]!
  const pxMs = EXPIRING_KEYS.includes(key) && random.int(0, 1) === 1 ? random.int(1, pxMsMax) : null
  return { is: 'set', value, condition, pxMs, token }
}
