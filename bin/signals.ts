import { systemClock } from '#shared/base/clock.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ExitCode } from './command.ts'

/** A terminal sends Ctrl-C to us and to the launcher or npm above us, which passes it on: within this time it is one and the same. */
const SAME_SIGNAL_MS = 500

/** How soon a program started through npm notices that it was left alone. */
const PARENT_CHECK_MS = 500

/**
 * Calls `stop` at the first SIGTERM or SIGINT; a second one calls `onSecond` (default: ends the process with exit code 1). While
 * `mayExit` says so, the first one ends it at once.
 * Answers how to stop watching the parent, without which the process would not end by itself.
 */
export function onStopSignal(stop: (signal: NodeJS.Signals) => void, mayExit: () => boolean, onSecond?: () => void): () => void {
  let stoppedMs: number | null = null
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stoppedMs !== null) {
        if (systemClock.monotonicMs() - stoppedMs <= SAME_SIGNAL_MS) return
        if (onSecond === undefined) process.exit(ExitCode.Failure)
        return onSecond()
      }
      if (mayExit()) process.exit(ExitCode.Success)
      stoppedMs = systemClock.monotonicMs()
      stop(signal)
    })
  }
  // The terminal that started us is gone; we are not.
  process.on('SIGHUP', () => undefined)
  return process.env['npm_lifecycle_event'] === undefined ? () => {} : watchParent(process.ppid)
}

/**
 * Under npm and npx a shell may stand between us and the process that the user sees; it dies of a signal without passing it on. Left
 * alone, we would keep the ports.
 */
function watchParent(parent: number): () => void {
  let cancel = (): void => {}
  const check = (): void => {
    cancel = systemTimers.after(PARENT_CHECK_MS, () => {
      if (process.ppid === parent) check()
      else process.kill(process.pid, 'SIGTERM')
    })
  }
  check()
  return () => cancel()
}
