import { nowMs, sleep } from './monotonic.ts'

const LOOK_INTERVAL_MS = 5

/**
 * Waits until `count` reaches `wanted`, or has not moved for `stallS` seconds.
 * Resolves with the time (nowMs) at which it last moved.
 */
export async function waitForCount(count: () => number, wanted: number, stallS: number): Promise<number> {
  let seen = count()
  let movedMs = nowMs()
  while (seen < wanted && nowMs() - movedMs < stallS * 1_000) {
    await sleep(LOOK_INTERVAL_MS)
    const now = count()
    if (now === seen) continue
    seen = now
    movedMs = nowMs()
  }
  return movedMs
}
