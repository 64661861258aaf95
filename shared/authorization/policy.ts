import type { AuthorizationPolicies, AuthorizationRule } from '#shared/resources/broker-authorization.ts'
import { type GlobPart, type GlobTemplate, literalPart, parseGlob } from './glob.ts'
import type { KeyRule } from './key-rules.ts'
import { ruleText, type RuleName } from './permit.ts'
import { RuleIndex } from './rule-index.ts'
import { PatternFault, type Template } from './template.ts'
import { parseTopicTemplate } from './topic-template.ts'

/** A pattern as it stands in the resource, and what it means or why it never matches. */
export interface CompiledPattern<T> {
  readonly text: string
  readonly template: T | PatternFault
}

export interface CompiledRule {
  readonly name: RuleName
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
  /** Some rule has `stateStoreResources`, so keys are denied by default. */
  readonly hasKeyRules: boolean
}

/**
 * @param name of the BrokerAuthorization
 * @param policies as its schema has read them; what makes no sense in them matches nothing (`policyWarnings`)
 */
export function compilePolicy(name: string, policies: AuthorizationPolicies): Policy {
  const rules = (policies.rules ?? []).map((rule, index) => compileRule(rule, { policy: name, index }))
  const principals = (policies.rules ?? []).map(rule => rule.principals)
  return {
    name,
    rules,
    index: new RuleIndex(rules.map((rule, at) => ({ rule, principals: principals[at]! }))),
    isCached: policies.cache !== 'Disabled',
    disconnectsRefused311: policies.refusedPublish311 === 'Disconnect',
    hasKeyRules: rules.some(rule => rule.keys.length > 0),
  }
}

function compileRule(rule: AuthorizationRule, name: RuleName): CompiledRule {
  const of = (method: string): AuthorizationRule['brokerResources'] => rule.brokerResources.filter(resource => resource.method === method)
  const topics = (method: string): CompiledPattern<Template>[] =>
    of(method).flatMap(resource => (resource.topics ?? []).map(text => ({ text, template: parseTopicTemplate(text) })))
  return {
    name,
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

function keyTemplate(text: string, keyType: 'Pattern' | 'String' | 'Binary'): GlobTemplate | PatternFault {
  if (keyType === 'Pattern') return parseGlob(text, 'key')
  if (keyType === 'String') return [literalPart(text)]
  return BASE64.test(text) ? [{ is: 'literal', bytes: Buffer.from(text, 'base64') } satisfies GlobPart] : new PatternFault('is not base64')
}

/** What Buffer.from would take and read as something else is refused. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/

/** What an operator should know of a policy that is otherwise in order: one line each. */
export function policyWarnings(policy: Policy): readonly string[] {
  const warnings: string[] = []
  if (!policy.hasKeyRules)
    warnings.push(
      `BrokerAuthorization ${policy.name}: no rule has stateStoreResources, so who may publish to the state store may use every key`,
    )
  for (const rule of policy.rules) {
    for (const { text, template } of patternsOf(rule)) {
      if (template instanceof PatternFault) warnings.push(`${ruleText(rule.name)}: "${text}" never matches: ${template.message}`)
    }
  }
  return warnings
}

function patternsOf(rule: CompiledRule): readonly CompiledPattern<unknown>[] {
  return [
    ...rule.connect.flatMap(patterns => patterns ?? []),
    ...rule.publish,
    ...rule.subscribe,
    ...rule.keys.flatMap(keys => keys.patterns),
  ]
}
