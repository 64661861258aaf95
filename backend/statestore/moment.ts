import type { Clock } from '#shared/base/clock.ts'

/** Both clocks of one moment: lifetimes are counted by the monotonic one, versions and what is recorded by the other. */
export interface Moment {
  /** Whole milliseconds since 1970. */
  readonly wallMs: number
  readonly monotonicMs: number
}

export function momentOf(clock: Clock): Moment {
  return { wallMs: Math.floor(clock.wallMs()), monotonicMs: clock.monotonicMs() }
}
