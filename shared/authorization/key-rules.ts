import { isAscii } from 'node:buffer'
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

/** Globs that begin with so many bytes of text. */
interface Prefixes {
  readonly length: number
  /** Keys: hash of those bytes. */
  readonly globs: Map<number, GlobRule[]>
}

/** Keys of one verdict and one way of access: found by the whole key, or by the text that a glob begins with. Built at the first question. */
export class KeyRules {
  readonly #rules: readonly KeyRule[]
  /** Keys as Latin-1, so that equal texts are equal bytes. */
  #literals: Map<string, KeyRule> | null = null
  /** Shortest first. */
  #prefixes: readonly Prefixes[] = []

  constructor(rules: readonly KeyRule[]) {
    this.#rules = rules
  }

  /** The first rule that names `key`; one that cannot be decided within its limit counts when it denies. */
  matching(key: Buffer): KeyRule | null {
    if (this.#rules.length === 0) return null
    let first = this.#open().get(key.toString('latin1')) ?? null
    let hash = 0
    let at = 0
    for (const { length, globs } of this.#prefixes) {
      if (length > key.length) break
      for (; at < length; at++) hash = (Math.imul(hash, 31) + key[at]!) | 0
      for (const { glob, rule } of globs.get(hash) ?? []) {
        if ((first === null || rule.rule < first.rule) && glob.matches(key, rule.isDenied)) first = rule
      }
    }
    return first
  }

  /** False: none of the rules names a key that begins so. Decided by the text that patterns begin with, so it may be true without such a key. */
  mayNameUnder(prefix: Buffer): boolean {
    return this.#rules.some(({ pattern: [first] }) => {
      if (first === undefined) return prefix.length === 0
      if (first.is !== 'literal') return true
      const length = Math.min(first.bytes.length, prefix.length)
      return prefix.subarray(0, length).equals(first.bytes.subarray(0, length))
    })
  }

  /** True: one of the rules names every key that begins so. It may be false although one does, or several do together. */
  nameAllUnder(prefix: Buffer): boolean {
    return this.#rules.some(({ pattern }) => {
      if (pattern.at(-1)?.is !== 'any') return false
      // What a character is depends on the whole key, which may turn out not to be UTF-8; only ASCII is the same in both.
      const isPlain = pattern.every(({ is }) => is === 'literal' || is === 'any')
      return (isPlain || isAscii(prefix)) && new Glob(pattern).matches(prefix, false)
    })
  }

  #open(): Map<string, KeyRule> {
    if (this.#literals !== null) return this.#literals
    const literals = new Map<string, KeyRule>()
    const prefixes = new Map<number, Prefixes>()
    for (const rule of this.#rules) {
      const [first, second] = rule.pattern
      const bytes = first?.is === 'literal' ? first.bytes : NO_BYTES
      if (first !== undefined && (first.is !== 'literal' || second !== undefined)) addGlob(prefixes, bytes, rule)
      else if (!literals.has(latin1(bytes))) literals.set(latin1(bytes), rule)
    }
    this.#prefixes = [...prefixes.values()].sort((a, b) => a.length - b.length)
    this.#literals = literals
    return literals
  }
}

const NO_BYTES = new Uint8Array(0)

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function addGlob(prefixes: Map<number, Prefixes>, bytes: Uint8Array, rule: KeyRule): void {
  const { length } = bytes
  let having = prefixes.get(length)
  if (having === undefined) prefixes.set(length, (having = { length, globs: new Map() }))
  const hash = bytes.reduce((sum, byte) => (Math.imul(sum, 31) + byte) | 0, 0)
  const globs = having.globs.get(hash)
  const glob = { glob: new Glob(rule.pattern), rule }
  if (globs === undefined) having.globs.set(hash, [glob])
  else globs.push(glob)
}
