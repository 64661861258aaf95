import type { Timers } from '#shared/base/timers.ts'
import type { MethodVerdict } from './authentication-method.ts'

/** A re-authentication is tried again for so long before the client hears of the trouble (AUTH 0x18): no attempt begins later. */
export const RETRY_FOR_MS = 2_000
/** Between the first attempts; doubles each time. With answers at once there are six attempts. */
const FIRST_PAUSE_MS = 100

/** Repeats `attempt` while it answers `unreachable`, with pauses, as long as RETRY_FOR_MS has not passed; then that answer stands. */
export async function retryWhileUnreachable(timers: Timers, attempt: () => Promise<MethodVerdict>): Promise<MethodVerdict> {
  const endMs = timers.nowMs() + RETRY_FOR_MS
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
    const verdict = await attempt()
    const leftMs = endMs - timers.nowMs()
    if (verdict.is !== 'unreachable' || leftMs <= 0) return verdict
    await new Promise<void>(resolve => timers.after(Math.min(pauseMs, leftMs), resolve))
  }
}
