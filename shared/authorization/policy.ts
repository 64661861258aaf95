import type { AuthorizationPolicies, AuthorizationRule } from '#shared/resources/broker-authorization.ts'
import { type GlobTemplate, parseGlob } from './glob.ts'
import { keyTemplate } from './key-pattern.ts'
import type { KeyRule } from './key-rules.ts'
import type { RuleName } from './permit.ts'
import { type Principals, RuleIndex } from './rule-index.ts'
import type { PatternFault, Template } from './template.ts'
import { parseTopicTemplate } from './topic-template.ts'

/** A pattern as it stands in the resource, and what it means or why it never matches. */
export interface CompiledPattern<T> {
  readonly text: string
  readonly template: T | PatternFault
}

export interface CompiledRule {
  readonly name: RuleName
  readonly principals: Principals
  /** Extension `effect: Deny`. */
  readonly isDenied: boolean
  /** One element per Connect entry: null for any Client Identifier. */
  readonly connect: readonly (readonly CompiledPattern<GlobTemplate>[] | null)[]
  readonly publish: readonly CompiledPattern<Template>[]
  readonly subscribe: readonly CompiledPattern<Template>[]
  readonly keys: readonly CompiledKeys[]
}

export interface CompiledKeys {
  readonly access: KeyRule['access']
  readonly patterns: readonly CompiledPattern<GlobTemplate>[]
}

/** The rules of one BrokerAuthorization, indexed by principals. Nothing in it ever changes. */
export interface Policy {
  readonly name: string
  readonly rules: readonly CompiledRule[]
  readonly index: RuleIndex<CompiledRule>
  readonly isCached: boolean
  readonly disconnectsRefused311: boolean
  /** Some rule has `stateStoreResources`, were it an empty list: keys are denied by default. */
  readonly hasKeyRules: boolean
}

/**
 * @param name of the BrokerAuthorization
 * @param policies as its schema has read them; a pattern that makes no sense matches nothing (the check of the resource refuses it before)
 */
export function compilePolicy(name: string, policies: AuthorizationPolicies): Policy {
  const rules = (policies.rules ?? []).map((rule, index) => compileRule(rule, { policy: name, index }))
  return {
    name,
    rules,
    index: new RuleIndex(rules),
    isCached: policies.cache !== 'Disabled',
    disconnectsRefused311: policies.refusedPublish311 === 'Disconnect',
    hasKeyRules: (policies.rules ?? []).some(rule => rule.stateStoreResources !== undefined),
  }
}

function compileRule(rule: AuthorizationRule, name: RuleName): CompiledRule {
  const of = (method: string): AuthorizationRule['brokerResources'] => rule.brokerResources.filter(resource => resource.method === method)
  const topics = (method: string): CompiledPattern<Template>[] =>
    of(method).flatMap(resource => (resource.topics ?? []).map(text => ({ text, template: parseTopicTemplate(text) })))
  return {
    name,
    principals: rule.principals,
    isDenied: rule.effect === 'Deny',
    connect: of('Connect').map(({ clientIds = [] }) =>
      clientIds.length === 0 ? null : clientIds.map(text => ({ text, template: parseGlob(text, 'clientId') })),
    ),
    publish: topics('Publish'),
    subscribe: topics('Subscribe'),
    keys: (rule.stateStoreResources ?? []).map(({ method, keyType, keys }) => ({
      access: ACCESS[method],
      patterns: keys.map(text => ({ text, template: keyTemplate(text, keyType ?? 'Pattern') })),
    })),
  }
}

const ACCESS = { Read: 'read', Write: 'write', ReadWrite: 'readwrite' } as const
