/**
 * Bytes as they are kept: short ones as a text of one character U+0000 to U+00FF for each, which costs some 20 bytes beside them where a
 * Buffer costs over 100; long ones as a Buffer, outside of the heap that the collector walks through.
 */
export type StoredBytes = string | Buffer

/** Bytes of the longest that is kept as a text. */
export const SHORT_MAX = 1_024

/** A copy that shares no memory with what `bytes` was cut out of. */
export function keepBytes(bytes: StoredBytes): StoredBytes {
  if (typeof bytes === 'string') return bytes
  if (bytes.length <= SHORT_MAX) return bytes.toString('latin1')
  const kept = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(kept)
  return kept
}

export function sameBytes(a: StoredBytes, b: StoredBytes): boolean {
  if (a.length !== b.length) return false
  // Of one length, both are of one kind but where somebody made a Buffer of a short one.
  return typeof a === 'string' || typeof b === 'string' ? textOf(a) === textOf(b) : a.equals(b)
}

function textOf(bytes: StoredBytes): string {
  return typeof bytes === 'string' ? bytes : bytes.toString('latin1')
}

/** @returns the offset behind what was written */
export function copyBytes(bytes: StoredBytes, into: Buffer, at: number): number {
  return at + (typeof bytes === 'string' ? into.write(bytes, at, 'latin1') : bytes.copy(into, at))
}
