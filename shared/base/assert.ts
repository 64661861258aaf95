/** We are wrong: state that our own code made impossible. Never for bytes or requests from outside. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** @throws {AssertionError} when `condition` does not hold: a bug of ours, not of a client. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new AssertionError(what)
}
