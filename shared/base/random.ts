import { randomUUID } from 'node:crypto'

/** Randomness as a value, so that a simulation can hand in a seeded one. */
export interface Random {
  /** A fresh identifier that nobody can guess. */
  uuid(): string
}

/** Randomness for spreading things in time or over places; guessing it does no harm. */
export interface Fractions {
  /** From 0 to below 1. */
  fraction(): number
}

export const systemRandom: Random & Fractions = { uuid: () => randomUUID(), fraction: () => Math.random() }
