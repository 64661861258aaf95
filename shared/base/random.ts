import { randomUUID } from 'node:crypto'

/** Randomness as a value, so that a simulation can hand in a seeded one. */
export interface Random {
  /** A fresh identifier that nobody can guess. */
  uuid(): string
}

export const systemRandom: Random = { uuid: () => randomUUID() }
