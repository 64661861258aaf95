/** From this length on a text is worth copying a part out of it. */
const LARGE_TEXT = 1_024

/**
 * `part`, which was cut out of `whole`, as a string of its own when `whole` is large. The engine lets a slice refer to the whole text,
 * so an index that keeps a level of 20 characters would keep the 64 KiB it came from, and nobody would count them.
 * @param part without unpaired surrogates, as all validated text is
 */
export function ownCopy(part: string, whole: string): string {
  return whole.length < LARGE_TEXT ? part : Buffer.from(part, 'utf8').toString('utf8')
}
