import { type Command, ExitCode } from './command.ts'

/** A command that is planned and says so, instead of doing half of it. */
export function notAvailable(name: string): Command {
  const text = `millrace ${name}: not available in this version`
  return {
    help: () => text,
    run: () => {
      process.stderr.write(`${text}\n`)
      return Promise.resolve(ExitCode.Usage)
    },
  }
}
