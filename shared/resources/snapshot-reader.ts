import { z } from 'zod'
import { suggestion } from '../config/nearest.ts'
import { checkPolicies } from './authorization-policy-check.ts'
import { type BrokerSpec, brokerValues, readBroker } from './broker.ts'
import { type AuthenticationMethodSpec, type BrokerAuthenticationSpec, readBrokerAuthentication } from './broker-authentication.ts'
import { type BrokerAuthorizationSpec, brokerAuthorizationSchema } from './broker-authorization.ts'
import { type BrokerListenerSpec, type ListenerPort, readBrokerListener } from './broker-listener.ts'
import { readConfigMap, readSecret, readServiceAccount } from './core-objects.ts'
import { metadata, objectName } from './field.ts'
import { Findings } from './findings.ts'
import { ListenerConflicts } from './listener-conflicts.ts'
import { API_GROUP, API_VERSION } from './api-group.ts'
import { listenerRefs, type ListenerRefs } from './old-listener.ts'
import { translate } from './old-names.ts'
import type { ResourceInput } from './read-snapshot.ts'
import type { ResourceDocument } from './resource-document.ts'
import type { Resource, ResourceFault, ResourceSnapshot } from './resource-snapshot.ts'
import { resourceVersion } from './resource-version.ts'

/** The version that is written today, and those of the generations before. */
const OWN_VERSIONS = [API_VERSION, `${API_GROUP}/v1beta1`, 'mq.iotoperations.azure.com/v1beta1', 'az-edge.com/v1alpha4']
const CORE_VERSIONS = ['v1']

/** Kinds that may stand in a directory, with the versions of each. */
const KINDS = new Map<string, readonly string[]>([
  ['Broker', OWN_VERSIONS],
  ['BrokerListener', OWN_VERSIONS],
  ['BrokerAuthentication', OWN_VERSIONS],
  ['BrokerAuthorization', OWN_VERSIONS],
  ['ConfigMap', CORE_VERSIONS],
  ['Secret', CORE_VERSIONS],
  ['ServiceAccount', CORE_VERSIONS],
])

const named = z.looseObject({ metadata })
const namedCore = z.looseObject({ metadata: z.looseObject({ name: objectName(), namespace: objectName().optional() }) })

/** A name shorter than this is no name of a resource in Resource Manager. */
const NAME_LENGTH_MIN = 3

/** One document with the words that will name it. */
interface Found {
  readonly kind: string
  readonly name: string
  readonly namespace: string | undefined
  readonly findings: Findings
}

/** Reads one input into one snapshot. */
export class SnapshotReader {
  readonly faults: string[] = []
  readonly #input: ResourceInput
  readonly #warnings: string[] = []
  readonly #resourceFaults: ResourceFault[] = []
  readonly #listenerRefs: ListenerRefs
  /** `KIND/NAME` → where it was found first. */
  readonly #seen = new Map<string, string>()
  readonly #conflicts = new ListenerConflicts()
  #broker: Resource<BrokerSpec> | null = null
  readonly #listeners = new Map<string, Resource<BrokerListenerSpec>>()
  readonly #listenerFindings = new Map<string, Findings>()
  readonly #authentications = new Map<string, Resource<BrokerAuthenticationSpec>>()
  readonly #authorizations = new Map<string, Resource<BrokerAuthorizationSpec>>()
  readonly #secrets = new Map<string, ReadonlyMap<string, Uint8Array>>()
  readonly #configMaps = new Map<string, ReadonlyMap<string, string>>()
  /** `NAMESPACE/NAME` → annotations. */
  readonly #serviceAccounts = new Map<string, ReadonlyMap<string, string>>()

  constructor(input: ResourceInput) {
    this.#input = input
    this.#listenerRefs = listenerRefs(input.documents)
  }

  read(): ResourceSnapshot {
    const all = this.#input.documents.map(document => this.#read(document))
    this.#checkListeners()
    for (const found of all) this.#conclude(found)
    const secrets = this.#secrets
    const configMaps = this.#configMaps
    const { mountedSecret, mountedConfigMap } = bound(this.#input)
    return {
      values: this.#broker === null ? new Map() : brokerValues(this.#broker.spec),
      broker: this.#broker,
      listeners: this.#listeners,
      authentications: this.#authentications,
      authorizations: this.#authorizations,
      secret: name => merged(mountedSecret(name), secrets.get(name)),
      configMap: name => merged(mountedConfigMap(name), configMaps.get(name)),
      serviceAccount: (namespace, name) => this.#serviceAccounts.get(`${namespace}/${name}`) ?? null,
      faults: this.#resourceFaults,
      warnings: this.#warnings,
    }
  }

  #read(document: ResourceDocument): Found {
    const untranslated = new Findings(document)
    const kind = kindOf(untranslated)
    if (kind === null)
      return { kind: rawText(document.value, 'kind'), name: rawName(document), namespace: undefined, findings: untranslated }
    const isCore = KINDS.get(kind) === CORE_VERSIONS
    const head = document.check(isCore ? namedCore : named, untranslated.faults)
    if (head === null) return { kind, name: rawName(document), namespace: undefined, findings: untranslated }
    const { name } = head.metadata
    const namespace = typeof head.metadata['namespace'] === 'string' ? head.metadata['namespace'] : undefined
    const findings = isCore ? untranslated : translate(document, kind, name, this.#listenerRefs)
    if (findings !== untranslated) findings.warnings.unshift(...untranslated.warnings)
    const found: Found = { kind, name, namespace, findings }
    if (!isCore && name.length < NAME_LENGTH_MIN)
      findings.warn(['metadata', 'name'], `a name of fewer than ${NAME_LENGTH_MIN} characters is not taken everywhere`)
    if (findings.faults.length === 0 && this.#isNew(found)) this.#add(found)
    return found
  }

  #isNew({ kind, name, namespace, findings }: Found): boolean {
    const key = kind === 'Broker' ? kind : kind === 'ServiceAccount' ? `${kind}/${namespace ?? ''}/${name}` : `${kind}/${name}`
    const before = this.#seen.get(key)
    if (before === undefined) {
      this.#seen.set(key, findings.document.whereOf(['metadata', 'name']))
      return true
    }
    const isBroker = kind === 'Broker'
    findings.fault(
      ['metadata', 'name'],
      isBroker ? `there is a Broker already, at ${before}` : `there is a ${kind} of this name already, at ${before}`,
    )
    return false
  }

  #add({ kind, name, namespace, findings }: Found): void {
    switch (kind) {
      case 'Broker':
        this.#broker = resource(findings, name, readBroker(findings))
        return
      case 'BrokerListener': {
        keep(this.#listeners, resource(findings, name, readBrokerListener(findings)))
        this.#listenerFindings.set(name, findings)
        return
      }
      case 'BrokerAuthentication':
        return keep(this.#authentications, resource(findings, name, readBrokerAuthentication(findings)))
      case 'BrokerAuthorization': {
        const spec = findings.document.check(brokerAuthorizationSchema, findings.faults)?.spec ?? null
        if (spec !== null) checkPolicies(findings, spec.authorizationPolicies)
        return keep(this.#authorizations, resource(findings, name, spec))
      }
      case 'Secret':
        this.#secrets.set(name, readSecret(findings))
        return
      case 'ConfigMap':
        this.#configMaps.set(name, readConfigMap(findings))
        return
      case 'ServiceAccount':
        this.#serviceAccounts.set(`${namespace ?? 'default'}/${name}`, readServiceAccount(findings))
    }
  }

  /** What one listener cannot know alone. One with a fault leaves the snapshot. */
  #checkListeners(): void {
    for (const [name, listener] of this.#listeners) {
      const findings = this.#listenerFindings.get(name)!
      for (const [index, port] of listener.spec.ports.entries()) {
        if (port.tls === undefined) this.#checkPlainPort(findings, index, port)
      }
      this.#conflicts.add(findings, listener)
      if (findings.faults.length > 0) this.#listeners.delete(name)
    }
  }

  #checkPlainPort(findings: Findings, index: number, { port, authenticationRef = '' }: ListenerPort): void {
    const methods = this.#authentications.get(authenticationRef)?.spec.authenticationMethods ?? []
    const has = (wanted: AuthenticationMethodSpec['method']): boolean => methods.some(({ method }) => method === wanted)
    const at = ['spec', 'ports', index, 'authenticationRef']
    if (has('X509')) findings.fault(at, `BrokerAuthentication ${authenticationRef} has method X509, which needs a port with tls`)
    if (has('Password'))
      findings.warn(
        at,
        `BrokerAuthentication ${authenticationRef} has method Password, and port ${port} has no tls: whoever can listen on the way reads passwords`,
      )
  }

  #conclude({ kind, name, findings }: Found): void {
    this.#warnings.push(...findings.warnings)
    if (findings.faults.length === 0) return
    this.faults.push(...findings.faults)
    this.#resourceFaults.push({ kind, name, faults: findings.faults })
  }
}

function kindOf(findings: Findings): string | null {
  const { document } = findings
  const kind = rawText(document.value, 'kind')
  const versions = KINDS.get(kind)
  if (versions === undefined) {
    findings.fault(['kind'], `expected one of ${[...KINDS.keys()].join(', ')}${kind === '' ? '' : suggestion(kind, KINDS.keys())}`)
    return null
  }
  const apiVersion = rawText(document.value, 'apiVersion')
  if (!versions.includes(apiVersion)) {
    findings.fault(['apiVersion'], `expected ${versions.slice(0, 2).join(' or ')}`)
    return null
  }
  if (OWN_VERSIONS.indexOf(apiVersion) > 1) findings.warn(['apiVersion'], `is old: write ${OWN_VERSIONS[0]}`)
  return kind
}

/** The text of a field of an untrusted object; empty when it has none. */
function rawText(value: unknown, field: string): string {
  const text = typeof value === 'object' && value !== null && Object.hasOwn(value, field) ? (value as Record<string, unknown>)[field] : ''
  return typeof text === 'string' ? text : ''
}

function rawName({ value }: ResourceDocument): string {
  const found =
    typeof value === 'object' && value !== null && Object.hasOwn(value, 'metadata') ? (value as Record<string, unknown>)['metadata'] : null
  return rawText(found, 'name')
}

function resource<Spec>(findings: Findings, name: string, spec: Spec | null): Resource<Spec> | null {
  if (spec === null || findings.faults.length > 0) return null
  return { name, spec, version: resourceVersion(spec), where: findings.document.whereOf([]) }
}

function keep<Spec>(resources: Map<string, Resource<Spec>>, found: Resource<Spec> | null): void {
  if (found !== null) resources.set(found.name, found)
}

/** Keys of a document come before those of a mounted directory. */
function merged<Value>(
  mounted: ReadonlyMap<string, Value> | null,
  described: ReadonlyMap<string, Value> | undefined,
): ReadonlyMap<string, Value> | null {
  if (described === undefined || mounted === null) return described ?? mounted
  return new Map([...mounted, ...described])
}

function bound(input: ResourceInput): Pick<ResourceInput, 'mountedSecret' | 'mountedConfigMap'> {
  return { mountedSecret: name => input.mountedSecret(name), mountedConfigMap: name => input.mountedConfigMap(name) }
}
