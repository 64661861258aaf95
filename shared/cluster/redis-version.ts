/** The oldest Redis whose scripts and streams behave as we need. */
const REDIS_VERSION_MIN = [7, 0] as const

/** The fields of an answer to INFO. */
export function redisInfo(text: string): ReadonlyMap<string, string> {
  const lines = text.matchAll(/^([a-z0-9_]+):(.*?)\r?$/gm)
  return new Map(Array.from(lines, ([, name, value]) => [name!, value!] as const))
}

/** Why a server of this INFO is too old, for the operator; null when it is not. */
export function redisIsTooOld(info: ReadonlyMap<string, string>, where: string): string | null {
  // Valkey says 7.2 here for the sake of clients, and its own version elsewhere.
  const version = info.get('redis_version') ?? ''
  return isAtLeast(version, REDIS_VERSION_MIN) ? null : `${where} is Redis ${version}; Redis 7.0 or newer, or Valkey, is needed`
}

/** Whether `7.2.4` is 7.2 or newer. */
export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [foundMajor = 0, foundMinor = 0] = version.split('.').map(Number)
  return foundMajor > major || (foundMajor === major && foundMinor >= minor)
}
