import { filterCovers, filterMatches, isOwnTopic, parseTopicFilter } from '#shared/mqtt/topic.ts'
import { filtersOverlap } from './filters-overlap.ts'
import { fillGlob, Glob, type GlobPart } from './glob.ts'
import type { KeyAccess } from './key-rules.ts'
import { type Decision, ruleText, type RuleName } from './permit.ts'
import { type Authorized, permitFor, STORE_TOPICS } from './permit-for.ts'
import type { CompiledRule, Policy } from './policy.ts'
import { type AppliedRule, pairsText } from './rule-index.ts'
import { PatternFault, type Subject } from './template.ts'
import { fillTopic } from './topic-template.ts'

/** What somebody wants to know of a client. Names and filters are valid. */
export type Question =
  | { readonly is: 'connect' }
  | { readonly is: 'publish'; readonly topicName: string }
  /** As in SUBSCRIBE: `$share/{ShareName}/` may stand before it. */
  | { readonly is: 'subscribe'; readonly filter: string }
  | { readonly is: 'key'; readonly key: Uint8Array; readonly access: KeyAccess }

export interface Explanation {
  readonly isAllowed: boolean
  /** Why, from the reason to the details: lines, those of a detail indented. */
  readonly lines: readonly string[]
}

/** Where a rule stands, for people: `plant.yaml:12`. */
export type WhereOf = (rule: RuleName) => string

/** Rules of others that are shown because they nearly apply. */
const NEAR_MAX = 5

/** Decides as a frontend and a backend would, and says why. A client that may not connect may do nothing else. */
export function explain(policies: readonly Policy[], subject: Subject, question: Question, whereOf: WhereOf): Explanation {
  return new Explainer(policies, subject, whereOf).answer(question)
}

class Explainer {
  readonly #policies: readonly Policy[]
  readonly #subject: Subject
  readonly #whereOf: WhereOf
  readonly #authorized: Authorized
  readonly #applied: readonly AppliedRule<CompiledRule>[]

  constructor(policies: readonly Policy[], subject: Subject, whereOf: WhereOf) {
    this.#policies = policies
    this.#subject = subject
    this.#whereOf = whereOf
    this.#authorized = permitFor(policies, subject)
    this.#applied = policies.flatMap(policy => policy.index.of(subject))
  }

  answer(question: Question): Explanation {
    const { connect, permit } = this.#authorized
    if (!connect.allowed) return this.#explained(connect, { is: 'connect' }, 'it may not connect')
    switch (question.is) {
      case 'connect':
        return this.#explained(connect, question, 'it may connect')
      case 'publish':
        if (isOwnTopic(question.topicName)) return { isAllowed: false, lines: ['topics of the broker itself are written by no client'] }
        return this.#explained(permit.decidePublish(question.topicName), question, `publish to ${question.topicName}`)
      case 'subscribe': {
        const { filter, group } = parseTopicFilter(question.filter)
        const shared = group === null ? '' : `, judged without $share/${group}/`
        return this.#explained(permit.decideSubscribe(filter), { is: 'subscribe', filter }, `subscribe to ${filter}${shared}`)
      }
      default:
        return this.#explainedKey(question)
    }
  }

  /** A request to the state store is a publish: both must be allowed. */
  #explainedKey(question: Extract<Question, { is: 'key' }>): Explanation {
    const { permit } = this.#authorized
    const publish: Question = { is: 'publish', topicName: STORE_TOPICS[0] }
    const store = permit.decidePublish(publish.topicName)
    if (!store.allowed) return this.#explained(store, publish, `publish to the state store, ${publish.topicName}`)
    if (permit.parts.keys !== null)
      return this.#explained(permit.decideKey(question.key, question.access), question, `${question.access} the key`)
    const free = 'no rule of the policies has stateStoreResources: who may publish to the state store may use every key'
    return { isAllowed: true, lines: [free, ...this.#explained(store, publish, 'publish to the state store').lines] }
  }

  /** @param question what was decided; of a filter without `$share/{ShareName}/` */
  #explained(decision: Decision, question: Question, what: string): Explanation {
    const { allowed: isAllowed } = decision
    const decisive = this.#applied.find(({ rule }) => ruleText(rule.name) === decision.rule)
    if (decisive !== undefined) {
      const patterns = this.#patternsOf(decisive.rule, question)
      const fitting = patterns.filter(({ fits }) => fits)
      const lines = this.#indented(fitting.length === 0 ? patterns : fitting, question)
      return { isAllowed, lines: [`${isAllowed ? 'allowed' : 'denied'} by ${this.#ruleLine(decisive)}`, ...lines] }
    }
    if (this.#applied.length === 0) return { isAllowed, lines: ['no rule applies to this client', ...this.#nearLines()] }
    const isTooLarge = question.is === 'connect' && this.#authorized.permit.parts.rules.length === 0
    if (isTooLarge)
      return { isAllowed, lines: ['with the values of this client the patterns of its rules are larger than a permit may be'] }
    const rules = this.#applied.flatMap(applied => [
      `  ${this.#ruleLine(applied)}`,
      ...this.#indented(this.#patternsOf(applied.rule, question), question),
    ])
    return { isAllowed, lines: [`no rule of this client allows: ${what}`, 'its rules:', ...rules, ...this.#nearLines()] }
  }

  #ruleLine({ rule, principal }: AppliedRule<CompiledRule>): string {
    return `${ruleText(rule.name)} (${this.#whereOf(rule.name)})${rule.isDenied ? ', effect Deny' : ''}, by ${principal}`
  }

  #indented(patterns: readonly ShownPattern[], { is }: Question): readonly string[] {
    return patterns.length === 0 ? [`    says nothing of ${NOUN[is]}`] : patterns.map(({ line }) => `    ${line}`)
  }

  /** The patterns of a rule that have to do with the question. */
  #patternsOf(rule: CompiledRule, question: Question): readonly ShownPattern[] {
    switch (question.is) {
      case 'connect':
        return this.#connectPatterns(rule)
      case 'publish':
        return rule.publish.map(pattern =>
          this.#topicPattern('Publish', pattern, rule, filter => filterMatches(filter, question.topicName)),
        )
      case 'subscribe': {
        const fits = rule.isDenied ? filtersOverlap : filterCovers
        return rule.subscribe.map(pattern => this.#topicPattern('Subscribe', pattern, rule, filter => fits(filter, question.filter)))
      }
      default:
        return rule.keys.flatMap(({ access, patterns }) => {
          const isAsked = access === 'readwrite' || access === question.access
          return patterns.map(pattern => this.#globPattern(ACCESS_TEXT[access], pattern, isAsked ? Buffer.from(question.key) : null))
        })
    }
  }

  #connectPatterns({ connect }: CompiledRule): readonly ShownPattern[] {
    const clientId = Buffer.from(this.#subject.clientId, 'utf8')
    const any: ShownPattern = { line: 'Connect with any Client Identifier', fits: true }
    return connect.flatMap(patterns => patterns?.map(pattern => this.#globPattern('Connect', pattern, clientId)) ?? [any])
  }

  #topicPattern(
    method: string,
    { text, template }: CompiledRule['publish'][number],
    rule: CompiledRule,
    fits: (filter: string) => boolean,
  ): ShownPattern {
    const filter = template instanceof PatternFault ? template : fillTopic(template, this.#subject, rule.isDenied)
    return shown(method, text, filter, filter instanceof PatternFault ? null : filter, fits)
  }

  /** @param asked null when the pattern speaks of something else */
  #globPattern(method: string, { text, template }: CompiledRule['keys'][number]['patterns'][number], asked: Buffer | null): ShownPattern {
    const parts = template instanceof PatternFault ? template : fillGlob(template, this.#subject)
    const isText = parts instanceof PatternFault || !text.includes('{')
    return shown(method, text, parts, isText ? text : globText(parts), each => asked !== null && new Glob(each).matches(asked, false))
  }

  /** Rules that would apply if one thing of their principals were otherwise. */
  #nearLines(): readonly string[] {
    const applied = new Set(this.#applied.map(({ rule }) => rule))
    const near = this.#policies.flatMap(policy =>
      policy.rules.flatMap(rule => {
        const reason = applied.has(rule) ? null : nearReason(rule, this.#subject)
        return reason === null ? [] : [`  ${ruleText(rule.name)} (${this.#whereOf(rule.name)}): ${reason}`]
      }),
    )
    if (near.length === 0) return []
    const more = near.length > NEAR_MAX ? [`  and ${near.length - NEAR_MAX} more`] : []
    return ['rules that nearly apply:', ...near.slice(0, NEAR_MAX), ...more]
  }
}

/** A pattern in words, and whether it has to do with what was asked. */
interface ShownPattern {
  readonly line: string
  readonly fits: boolean
}

const NOUN = { connect: 'Connect', publish: 'Publish', subscribe: 'Subscribe', key: 'keys of the state store' } as const
const ACCESS_TEXT = { read: 'Read', write: 'Write', readwrite: 'ReadWrite' } as const

/** @param filled what the pattern is for this client; `filledText` the same in words */
function shown<T>(
  method: string,
  text: string,
  filled: T | PatternFault,
  filledText: string | null,
  fits: (filled: T) => boolean,
): ShownPattern {
  if (filled instanceof PatternFault) return { line: `${method} ${text} matches nothing: ${filled.message}`, fits: false }
  return { line: `${method} ${text}${filledText === text ? '' : ` = ${filledText}`}`, fits: fits(filled) }
}

/** For people: what a client's value holds looks like the pattern's own. */
function globText(parts: readonly GlobPart[]): string {
  return parts.map(part => (part.is === 'literal' ? Buffer.from(part.bytes).toString('utf8') : GLOB_SIGNS[part.is])).join('')
}

const GLOB_SIGNS = { any: '*', one: '?', class: '[…]' } as const

function nearReason({ principals }: CompiledRule, subject: Subject): string | null {
  const spelt = [
    ...(principals.clientIds ?? []).filter(id => isSameButForCase(id, subject.clientId)).map(id => `clientIds has ${id}`),
    ...(principals.usernames ?? []).filter(name => isSameButForCase(name, subject.userName)).map(name => `usernames has ${name}`),
  ]
  if (spelt.length > 0) return `${spelt.join(', ')}; capital and small letters differ`
  for (const element of principals.attributes ?? []) {
    const pairs = Object.entries(element)
    const missing = pairs.filter(([name, value]) => subject.attributes.get(name) !== value)
    if (missing.length === pairs.length && !pairs.some(([name]) => subject.attributes.has(name))) continue
    const has = missing.map(([name]) => `${name}${subject.attributes.has(name) ? `=${subject.attributes.get(name)}` : ' not at all'}`)
    return `attributes asks for ${pairsText(pairs)}; the client has ${has.join(', ')}`
  }
  return null
}

function isSameButForCase(one: string, other: string): boolean {
  return other !== '' && one.toLowerCase() === other.toLowerCase()
}
