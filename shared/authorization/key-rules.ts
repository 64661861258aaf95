import { Glob, type GlobPart } from './glob.ts'

export type KeyAccess = 'read' | 'write'

/** Keys of the state store that a rule names, tokens replaced. */
export interface KeyRule {
  readonly access: KeyAccess | 'readwrite'
  readonly pattern: readonly GlobPart[]
  readonly isDenied: boolean
  /** Place of the rule in the table of the Permit. */
  readonly rule: number
}

interface GlobRule {
  readonly glob: Glob
  readonly rule: KeyRule
}

/** Keys of one verdict and one way of access. Built at the first question. */
export class KeyRules {
  readonly #rules: readonly KeyRule[]
  /** Keys as Latin-1, so that equal texts are equal bytes. */
  #literals: Map<string, KeyRule> | null = null
  readonly #globs: GlobRule[] = []

  constructor(rules: readonly KeyRule[]) {
    this.#rules = rules
  }

  /** The first rule that names `key`; one that cannot be decided within its limit counts when it denies. */
  matching(key: Buffer): KeyRule | null {
    if (this.#rules.length === 0) return null
    const literal = this.#open().get(key.toString('latin1')) ?? null
    for (const { glob, rule } of this.#globs) {
      if (literal !== null && literal.rule < rule.rule) return literal
      if (glob.matches(key, rule.isDenied)) return rule
    }
    return literal
  }

  #open(): Map<string, KeyRule> {
    if (this.#literals !== null) return this.#literals
    const literals = new Map<string, KeyRule>()
    for (const rule of this.#rules) {
      const [only, more] = rule.pattern
      if (more === undefined && (only === undefined || only.is === 'literal')) {
        const key = Buffer.from(only?.bytes ?? []).toString('latin1')
        if (!literals.has(key)) literals.set(key, rule)
      } else this.#globs.push({ glob: new Glob(rule.pattern), rule })
    }
    this.#literals = literals
    return literals
  }
}
