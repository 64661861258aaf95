/** The monotonic clock is the machine's, but performance.now() counts from the start of each process. */
const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()

/** Milliseconds of a clock that all processes of this machine share and that never goes back. */
export function nowMs(): number {
  return originMs + performance.now()
}

/** The same in microseconds modulo 2^32, as messages carry it: a difference, as u32, is right for up to 71 minutes. */
export function stampUs(): number {
  return Math.floor(nowMs() * 1_000) >>> 0
}

/** Waits, as a promise. */
export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

/** The same, without keeping the process alive: for one side of a race. */
export function idleSleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms).unref())
}
