import { parseGlob } from '../authorization/glob.ts'
import { BASE64 } from '../authorization/key-pattern.ts'
import { PatternFault } from '../authorization/template.ts'
import { parseTopicTemplate } from '../authorization/topic-template.ts'
import { filterMatches } from '../mqtt/topic.ts'
import type { AuthorizationPolicies, AuthorizationRule } from './broker-authorization.ts'
import type { Findings } from './findings.ts'
import type { FieldPath } from './resource-document.ts'

type BrokerResource = AuthorizationRule['brokerResources'][number]
type StateStoreResource = NonNullable<AuthorizationRule['stateStoreResources']>[number]

const POLICIES: FieldPath = ['spec', 'authorizationPolicies']

/** Where a state store takes its requests. */
const STATE_STORE_TOPIC = 'statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8/command/invoke'

/** What the schema cannot say of rules: patterns that can never match, and what a rule says to nobody. */
export function checkPolicies(findings: Findings, { rules = [] }: AuthorizationPolicies): void {
  let reachesStore: FieldPath | null = null
  for (const [index, rule] of rules.entries()) {
    const path = [...POLICIES, 'rules', index]
    checkPrincipals(findings, [...path, 'principals'], rule.principals)
    for (const [place, resource] of rule.brokerResources.entries()) {
      const at = [...path, 'brokerResources', place]
      checkBrokerResource(findings, at, resource)
      if (reachesStore === null && rule.effect !== 'Deny' && mayReachStore(resource)) reachesStore = [...at, 'topics']
    }
    for (const [place, resource] of (rule.stateStoreResources ?? []).entries())
      checkKeys(findings, [...path, 'stateStoreResources', place], resource)
  }
  if (reachesStore !== null && rules.every(({ stateStoreResources }) => stateStoreResources === undefined))
    findings.warn(
      reachesStore,
      'no rule has stateStoreResources: whoever may publish to the state store may read and write all of its keys',
    )
}

function checkPrincipals(findings: Findings, path: FieldPath, { attributes, clientIds, usernames }: AuthorizationRule['principals']): void {
  for (const [index, entry] of (attributes ?? []).entries())
    if (Object.keys(entry).length === 0) findings.fault([...path, 'attributes', index], 'needs at least one attribute')
  if ([attributes, clientIds, usernames].every(list => (list ?? []).length === 0))
    findings.warn(path, 'is empty: the rule applies to nobody')
}

function checkBrokerResource(findings: Findings, path: FieldPath, { method, clientIds, topics }: BrokerResource): void {
  if (method === 'Connect') {
    if ((topics ?? []).length > 0) findings.fault([...path, 'topics'], 'belongs to methods Publish and Subscribe')
    for (const [index, pattern] of (clientIds ?? []).entries())
      checkPattern(findings, [...path, 'clientIds', index], pattern, parseGlob(pattern, 'clientId'))
    return
  }
  if ((topics ?? []).length === 0) findings.fault([...path, 'topics'], `is missing: method ${method} needs at least one topic`)
  if ((clientIds ?? []).length > 0) findings.warn([...path, 'clientIds'], `has no effect: it belongs to method Connect`)
  for (const [index, topic] of (topics ?? []).entries()) {
    const at = [...path, 'topics', index]
    checkPattern(findings, at, topic, parseTopicTemplate(topic))
    if (topic.includes('*')) findings.warn(at, '* is no wildcard of MQTT and stands for itself; + and # are wildcards')
  }
}

function checkKeys(findings: Findings, path: FieldPath, { keyType, keys }: StateStoreResource): void {
  if (keys.length === 0) findings.warn([...path, 'keys'], 'is empty: the entry allows nothing')
  for (const [index, key] of keys.entries()) {
    const at = [...path, 'keys', index]
    if (keyType === 'Binary' && !BASE64.test(key)) findings.fault(at, 'expected base64')
    if (keyType === undefined || keyType === 'Pattern') checkPattern(findings, at, key, parseGlob(key, 'key'))
  }
}

function checkPattern(findings: Findings, path: FieldPath, pattern: string, parsed: object): void {
  const token = foreignToken(pattern)
  if (token !== null)
    findings.fault(path, `there is no token ${token}; there are {principal.clientId}, {principal.username}, {principal.attributes.NAME}`)
  else if (parsed instanceof PatternFault) findings.fault(path, parsed.message)
}

const OWN_TOKEN = /^\{principal\.(clientId|username|attributes\.[^{}]+)\}$/

/** The first text in braces that is none of the tokens: it would match as it stands, which nobody who wrote it can have meant. */
function foreignToken(pattern: string): string | null {
  for (let at = 0; ; ) {
    const start = pattern.indexOf('{', at)
    const end = start === -1 ? -1 : pattern.indexOf('}', start)
    if (end === -1) return null
    const token = pattern.slice(start, end + 1)
    if (!OWN_TOKEN.test(token)) return token
    at = end + 1
  }
}

function mayReachStore({ method, topics }: BrokerResource): boolean {
  return method === 'Publish' && (topics ?? []).some(topic => filterMatches(withoutTokens(topic), STATE_STORE_TOPIC))
}

/** Tokens as `+`: what any client could be allowed. */
function withoutTokens(topic: string): string {
  return topic
    .split('/')
    .map(level => (OWN_TOKEN.test(level) ? '+' : level))
    .join('/')
}
