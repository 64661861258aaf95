import { pageAnswer } from '#shared/state-store/answer.ts'
import { scanCursor } from '#shared/state-store/scan-cursor.ts'
import type { Entries } from './entries.ts'
import type { Moment } from './moment.ts'
import type { ShardScan } from './store-request.ts'

/** Keys that one SCAN looks at when it does not say, and at most; those whose lifetime has ended are not answered, but count. */
const SCAN_KEYS = 100
const SCAN_KEYS_MAX = 1_000
/** The page ends with the key that makes its keys so long in all. */
const SCAN_PAGE_BYTES = 65_536

/**
 * The answer to SCAN. Work is bounded by the page, wherever in the shard it begins and however many keys begin otherwise.
 * @returns null: the cursor is none of this shard
 */
export function scanPage(entries: Entries, { prefix, cursor, countMax, shard, shardCount }: ShardScan, now: Moment): Buffer | null {
  const begin = prefix.toString('latin1')
  const { after } = cursor
  // A cursor from elsewhere: nothing of other prefixes is read.
  if (cursor.shard !== shard || !(after === '' || after.startsWith(begin))) return null
  const page: string[] = []
  let left = Math.min(countMax ?? SCAN_KEYS, SCAN_KEYS_MAX)
  let bytes = 0
  let last = after
  // The least of all texts that come behind `after`.
  for (const entry of entries.from(after === '' ? begin : `${after}\0`)) {
    const { key } = entry
    if (!key.startsWith(begin)) break
    if (left-- === 0 || bytes >= SCAN_PAGE_BYTES) return pageAnswer(scanCursor(shard, last), page)
    last = key
    bytes += key.length
    if (!entry.hasExpired(now.monotonicMs)) page.push(key)
  }
  return pageAnswer(shard + 1 < shardCount ? scanCursor(shard + 1, '') : '', page)
}
