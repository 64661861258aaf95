/** Flags, environment or files say something that cannot be done: the operator's to repair, exit code 2. One line per fault. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError'
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.faults = faults
  }
}
