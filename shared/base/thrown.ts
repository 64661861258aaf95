/** What was thrown, as text. */
export function thrownText(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** What was thrown, as a field of a log line: with its stack where it has one. */
export function thrownField(thrown: unknown): Error | string {
  return thrown instanceof Error ? thrown : String(thrown)
}
