const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,30}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/
/** Longer than any that TIMESTAMP admits. */
const TIMESTAMP_LENGTH_MAX = 64

/** Milliseconds since the epoch of an RFC 3339 `date-time` (§5.6), a leap second counting as the next one; null for anything else. */
export function parseRfc3339(text: string): number | null {
  const found = text.length > TIMESTAMP_LENGTH_MAX ? null : TIMESTAMP.exec(text)
  if (found === null) return null
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map(Number) as [number, number, number, number, number, number]
  const isReal = month >= 1 && month <= 12 && day >= 1 && day <= daysOf(year, month)
  if (!isReal || hour > 23 || minute > 59 || second > (minute === 59 ? 60 : 59)) return null
  const offsetHours = Number(found[9] ?? 0)
  const offsetMinutes = Number(found[10] ?? 0)
  if (offsetHours > 23 || offsetMinutes > 59) return null
  const milliseconds = Math.floor(Number(`0.${found[7] ?? 0}`) * 1_000)
  const offsetMs = (found[8] === '-' ? -1 : 1) * (offsetHours * 60 + offsetMinutes) * 60_000
  return Date.UTC(year, month - 1, day, hour, minute, second, milliseconds) - offsetMs
}

function daysOf(year: number, month: number): number {
  const isLeap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  if (month === 2) return isLeap ? 29 : 28
  return [4, 6, 9, 11].includes(month) ? 30 : 31
}
