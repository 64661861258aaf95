/** Where a page of SCAN begins. Clients hand it back as they got it; its form is nobody's business but ours. */
export interface ScanCursor {
  readonly shard: number
  /** The last key of the page before, a character for each byte; empty: none of this shard yet. */
  readonly after: string
}

const BEGIN: ScanCursor = { shard: 0, after: '' }
const COLON = 0x3a
const ZERO = 0x30
const NINE = 0x39
/** More than there can be shards. */
const SHARD_DIGITS_MAX = 9

/** `12:` and the key: whoever owns that shard when it comes back can go on, whatever became of the key. */
export function scanCursor(shard: number, after: string): string {
  return `${shard}:${after}`
}

/** Empty: from the beginning. Null: we never said that. */
export function readScanCursor(bytes: Buffer): ScanCursor | null {
  if (bytes.length === 0) return BEGIN
  const end = bytes.subarray(0, SHARD_DIGITS_MAX + 1).indexOf(COLON)
  if (end <= 0) return null
  let shard = 0
  for (const digit of bytes.subarray(0, end)) {
    if (digit < ZERO || digit > NINE) return null
    shard = shard * 10 + (digit - ZERO)
  }
  return { shard, after: bytes.toString('latin1', end + 1) }
}
