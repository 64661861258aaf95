/** The load generator as a program of its own. */
import { runLoad } from './cli.ts'

/** After an interrupt, clients get this long to leave. */
const LEAVE_TIMEOUT_MS = 2_000

const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupt.abort()
    setTimeout(() => process.exit(130), LEAVE_TIMEOUT_MS).unref()
  })
}

process.exitCode = await runLoad(process.argv.slice(2), {
  out: text => void process.stdout.write(text),
  err: text => void process.stderr.write(text),
  interrupted: interrupt.signal,
})
