import { filterMatches } from '#shared/mqtt/topic.ts'
import { fillGlob, Glob, type GlobPart } from './glob.ts'
import type { KeyRule } from './key-rules.ts'
import { type Decision, Permit, type RuleName, ruleText } from './permit.ts'
import type { CompiledRule, Policy } from './policy.ts'
import { PatternFault, type Subject } from './template.ts'
import type { TopicRule } from './topic-rules.ts'
import { fillTopic } from './topic-template.ts'

/**
 * Where requests to the state store go: under its name of today, and the one that manifests were written with before. The right to
 * publish to either is the right to publish to both, and so is its denial.
 */
export const STORE_TOPICS = [
  'statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8/command/invoke',
  '$services/statestore/_any_/command/invoke/request',
] as const

/** Characters and bytes in all patterns of a Permit. A client that would have more (a long Client Identifier in thousands of patterns) is not let in. */
export const PERMIT_SIZE_MAX = 4 * 1024 * 1024

const REFUSED: Decision = { allowed: false, rule: null }

export interface Authorized {
  /** Whether it may be connected at all. */
  readonly connect: Decision
  readonly permit: Permit
}

/** What `policies` together allow `subject`; without any policy nothing. */
export function permitFor(policies: readonly Policy[], subject: Subject): Authorized {
  const rules = policies.flatMap(policy => policy.index.of(subject).map(({ rule }) => rule))
  const parts = new PermitBuilder(
    subject,
    policies.some(policy => policy.hasKeyRules),
  )
  for (const rule of rules) parts.add(rule)
  const isTooLarge = parts.size > PERMIT_SIZE_MAX
  return {
    connect: isTooLarge ? REFUSED : decideConnect(rules, subject),
    permit: new Permit({
      rules: isTooLarge ? [] : parts.rules,
      publish: isTooLarge ? [] : [...parts.publish.values()],
      subscribe: isTooLarge ? [] : [...parts.subscribe.values()],
      keys: isTooLarge ? [] : parts.keys,
      isCached: policies.every(policy => policy.isCached),
      disconnectsRefused311: policies.some(policy => policy.disconnectsRefused311),
    }),
  }
}

/** By the rules that apply to the client. */
function decideConnect(rules: readonly CompiledRule[], subject: Subject): Decision {
  const clientId = Buffer.from(subject.clientId, 'utf8')
  const fits = (rule: CompiledRule): boolean => rule.connect.some(patterns => mayBe(patterns, rule.isDenied, subject, clientId))
  const decisive = rules.find(rule => rule.isDenied && fits(rule)) ?? rules.find(rule => !rule.isDenied && fits(rule))
  return decisive === undefined ? REFUSED : { allowed: !decisive.isDenied, rule: ruleText(decisive.name) }
}

function mayBe(patterns: CompiledRule['connect'][number], isDenied: boolean, subject: Subject, clientId: Buffer): boolean {
  if (patterns === null) return true
  return patterns.some(({ template }) => {
    if (template instanceof PatternFault) return false
    const parts = fillGlob(template, subject)
    return !(parts instanceof PatternFault) && new Glob(parts).matches(clientId, isDenied)
  })
}

class PermitBuilder {
  readonly rules: RuleName[] = []
  /** Per verdict and filter, the first rule alone. */
  readonly publish = new Map<string, TopicRule>()
  readonly subscribe = new Map<string, TopicRule>()
  readonly keys: KeyRule[] | null
  size = 0
  readonly #subject: Subject

  constructor(subject: Subject, hasKeyRules: boolean) {
    this.#subject = subject
    this.keys = hasKeyRules ? [] : null
  }

  add(rule: CompiledRule): void {
    if (this.size > PERMIT_SIZE_MAX) return
    const place = this.rules.push(rule.name) - 1
    for (const { template } of rule.publish) {
      const filter = this.#addTopic(this.publish, rule, place, template)
      if (filter !== null) this.#addStoreTopic(filter, rule, place)
    }
    for (const { template } of rule.subscribe) this.#addTopic(this.subscribe, rule, place, template)
    for (const { access, patterns } of rule.keys) {
      for (const { template } of patterns) {
        const pattern = template instanceof PatternFault ? template : fillGlob(template, this.#subject)
        if (pattern instanceof PatternFault) continue
        this.keys?.push({ access, pattern, isDenied: rule.isDenied, rule: place })
        this.size += sizeOf(pattern)
      }
    }
  }

  /** Answers the filter, or null when the client has none. */
  #addTopic(
    into: Map<string, TopicRule>,
    { isDenied }: CompiledRule,
    rule: number,
    template: CompiledRule['publish'][number]['template'],
  ): string | null {
    const filter = template instanceof PatternFault ? template : fillTopic(template, this.#subject, isDenied)
    if (filter instanceof PatternFault) return null
    this.#addFilter(into, { filter, isDenied, rule })
    return filter
  }

  #addFilter(into: Map<string, TopicRule>, topic: TopicRule): void {
    const key = `${topic.isDenied ? '-' : '+'}${topic.filter}`
    if (into.has(key)) return
    into.set(key, topic)
    this.size += topic.filter.length
  }

  #addStoreTopic(filter: string, { isDenied }: CompiledRule, rule: number): void {
    for (const [index, name] of STORE_TOPICS.entries()) {
      if (filterMatches(filter, name)) this.#addFilter(this.publish, { filter: STORE_TOPICS[1 - index]!, isDenied, rule })
    }
  }
}

function sizeOf(pattern: readonly GlobPart[]): number {
  return pattern.reduce((size, part) => size + (part.is === 'literal' ? part.bytes.length : 1), 0)
}
