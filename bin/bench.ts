import { runLoad } from '../loadtest/cli.ts'
import { systemTimers } from '#shared/base/timers.ts'
import type { Command } from './command.ts'

/** After an interrupt, clients get this long to leave. */
const LEAVE_TIMEOUT_MS = 2_000
/** As shells report a program that an interrupt ended. */
const INTERRUPTED = 130

/** `millrace bench` */
export const bench: Command = {
  help: null,
  run: async args => {
    const interrupt = new AbortController()
    let cancel = (): void => undefined
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        interrupt.abort()
        cancel = systemTimers.after(LEAVE_TIMEOUT_MS, () => process.exit(INTERRUPTED))
      })
    }
    const code = await runLoad(args, {
      out: text => void process.stdout.write(text),
      err: text => void process.stderr.write(text),
      interrupted: interrupt.signal,
    })
    cancel()
    return code
  },
}
