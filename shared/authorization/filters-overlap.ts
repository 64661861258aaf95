import { splitLevels } from '#shared/mqtt/topic.ts'

/** Whether some Topic Name is matched by both Topic Filters (§4.7), neither with `$share/…`. Linear, symmetric. */
export function filtersOverlap(one: string, other: string): boolean {
  const a = splitLevels(one)
  const b = splitLevels(other)
  for (let level = 0; ; level++) {
    const x = a[level]
    const y = b[level]
    // A wildcard at the first level does not match a `$` [MQTT-4.7.2-1].
    if (level === 0 && ((isWildcard(x!) && y!.startsWith('$')) || (isWildcard(y!) && x!.startsWith('$')))) return false
    // `a/#` matches `a` as well (§4.7.1.2).
    if (x === '#' || y === '#') return true
    if (x === undefined || y === undefined) return x === y
    if (x !== y && x !== '+' && y !== '+') return false
  }
}

function isWildcard(level: string): boolean {
  return level === '#' || level === '+'
}
