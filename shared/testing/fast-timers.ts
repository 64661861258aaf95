import { systemTimers, type Timers } from '../base/timers.ts'

/** The machine's timers, so many times faster: for tests of what waits long, against parts that run at their own speed. */
export function fastTimers(factor: number): Timers {
  return { after: (ms, run) => systemTimers.after(ms / factor, run), nowMs: () => systemTimers.nowMs() * factor }
}
