/** A sub-command of `millrace`. */
export interface Command {
  /** Text of `millrace NAME --help`; null when the command reads that flag itself. */
  readonly help: (() => string) | null
  /** Does it; answers the exit code. @throws {SettingsError} it was called wrongly: exit code 2 */
  run(args: readonly string[]): Promise<number>
}

export const ExitCode = { Success: 0, Failure: 1, Usage: 2 } as const

/** One line on standard output. What a user reads goes there; what happens goes to the log. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
