/**
 * 32-bit hash of `text`, 0 to 2^32 - 1: MurmurHash3 x86 32 over the UTF-16 code units, low byte first, so any other
 * program gets the same from the text's UTF-16LE bytes. Two code units fill one block and nothing has to be encoded.
 * Shards and consistent hashes are derived from it and outlive processes and versions: it must never change, and the
 * test holds published vectors. Not keyed: whoever chooses the text can choose the hash, so never let safety or a bound depend on it.
 */
export function hash32(text: string, seed = 0): number {
  const { length } = text
  let hash = seed | 0
  let at = 0
  for (; at + 1 < length; at += 2) {
    hash ^= scramble(text.charCodeAt(at) | (text.charCodeAt(at + 1) << 16))
    hash = (hash << 13) | (hash >>> 19)
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0
  }
  if (at < length) hash ^= scramble(text.charCodeAt(at))
  return mix32(hash ^ (length * 2)) >>> 0
}

/** Bijection of 32-bit integers in which each bit of the input moves each bit of the result (signed, so that it stays a small integer). */
export function mix32(value: number): number {
  let mixed = value ^ (value >>> 16)
  mixed = Math.imul(mixed, 0x85ebca6b)
  mixed ^= mixed >>> 13
  mixed = Math.imul(mixed, 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}

function scramble(block: number): number {
  const spread = Math.imul(block, 0xcc9e2d51)
  return Math.imul((spread << 15) | (spread >>> 17), 0x1b873593)
}
