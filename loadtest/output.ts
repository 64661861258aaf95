/** What a command gets from the process that it runs in. */
export interface Output {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Aborted on SIGINT or SIGTERM: finish and report. */
  readonly interrupted: AbortSignal
}
