import { translateAuthentication } from './old-authentication.ts'
import { type ListenerRefs, translateListener } from './old-listener.ts'
import { Findings } from './findings.ts'
import type { ResourceDocument } from './resource-document.ts'
import { Translation, type TranslatedFields } from './translated-document.ts'

/**
 * The document in today's names, with a warning for each old one and a fault for what has no successor. What is found out about the
 * translated document afterwards names the fields, and lines, that were written.
 * @param name the resource's
 */
export function translate(document: ResourceDocument, kind: string, name: string, refs: ListenerRefs): Findings {
  const translation = new Translation(document)
  const { spec } = translation
  if (spec !== null) {
    if (kind === 'Broker') translateBroker(spec)
    else if (kind === 'BrokerListener') translateListener(spec, name, refs)
    else if (kind === 'BrokerAuthentication') translateAuthentication(spec)
    else translateAuthorization(spec)
  }
  const findings = new Findings(translation.document)
  findings.warnings.push(...translation.warnings)
  findings.faults.push(...translation.faults)
  return findings
}

function translateBroker(spec: TranslatedFields): void {
  const traces = spec.child('diagnostics')?.child('traces')
  traces?.drop('exportIntervalSeconds', 'was removed and has no effect')
  traces?.drop('openTelemetryCollectorAddress', 'was removed and has no effect')
  const persistence = spec.child('persistence')
  persistence?.drop('dynamicSettings', 'was removed: the User Property is aio-persistence with the value true')
  persistence
    ?.child('subscriberQueue')
    ?.child('subscriberQueueSettings')
    ?.drop('topics', 'was removed: queues are chosen by subscriberClientIds')
}

function translateAuthorization(spec: TranslatedFields): void {
  spec.drop('listenerRef', 'is old: the listener names what it uses, in ports[].authorizationRef')
  const policies = spec.child('authorizationPolicies')
  policies?.rename('enableCache', 'cache', value => (value === true ? 'Enabled' : value === false ? 'Disabled' : value))
  for (const rule of policies?.children('rules') ?? []) {
    rule.child('principals')?.rename('clientids', 'clientIds')
    for (const resource of rule.children('brokerResources')) resource.rename('clientids', 'clientIds')
  }
}
