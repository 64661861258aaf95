import { z } from 'zod'
import { BASE64, keyGlob, type KeyType } from '../authorization/key-pattern.ts'
import { PatternFault } from '../authorization/template.ts'
import type { Address } from '../config/address.ts'
import { limitSettings, processSettings } from '../config/broker-settings.ts'
import { frontendSettings, linkSettings, persistenceSettings } from '../config/role-settings.ts'
import { Refusal } from '../config/setting.ts'
import { persistence } from './broker-persistence.ts'
import { keyAlgorithm, rotationPolicy } from './certificate-key.ts'
import { checked, duration, matchingText, onOff, resourceSchema, settingField, wholeNumber } from './field.ts'
import type { Findings } from './findings.ts'
import { volumeClaimSpec } from './volume-claim.ts'

const INT64_MAX = 2 ** 63

/** The original allows lengths up to 2^63-1; a number that large means no limit and is kept as the largest exact one. */
const queueLength = checked(
  value =>
    typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= INT64_MAX
      ? Math.min(value, Number.MAX_SAFE_INTEGER)
      : new Refusal('expected a whole number from 1 to 9223372036854775807 messages'),
  { type: 'integer', format: 'int64', minimum: 1 },
)

const clients = z.strictObject({
  maxSessionExpirySeconds: settingField(limitSettings.maxSessionExpirySeconds).optional(),
  maxMessageExpirySeconds: settingField(limitSettings.maxMessageExpirySeconds).optional(),
  maxPacketSizeBytes: settingField(limitSettings.packetBytesMax).optional(),
  subscriberQueueLimit: z
    .strictObject({ length: queueLength.optional(), strategy: settingField(limitSettings.queueStrategy).optional() })
    .optional(),
  maxReceiveMaximum: settingField(limitSettings.inflightMax).optional(),
  maxKeepAliveSeconds: settingField(limitSettings.serverKeepAliveSeconds).optional(),
})

const advanced = z.strictObject({
  clients: clients.optional(),
  encryptInternalTraffic: settingField(linkSettings.encryptInternalTraffic).optional(),
  internalCerts: z
    .strictObject({
      duration: duration(),
      renewBefore: duration(),
      privateKey: z.strictObject({ algorithm: keyAlgorithm, rotationPolicy }),
    })
    .optional(),
})

/** How many pods there are is for whoever starts them; replicas, partitions and workers of backends are taken and say nothing to a process. */
const cardinality = z.strictObject({
  frontend: z.strictObject({ replicas: wholeNumber(1, 16), workers: settingField(frontendSettings.workers).optional() }).optional(),
  backendChain: z
    .strictObject({
      partitions: wholeNumber(1, 16),
      redundancyFactor: settingField(persistenceSettings.redundancyFactor),
      workers: wholeNumber(1, 16).optional(),
    })
    .optional(),
})

const diagnostics = z.strictObject({
  logs: z.strictObject({ level: settingField(processSettings.logLevel).optional() }).optional(),
  metrics: z.strictObject({ prometheusPort: wholeNumber(0, 65_535).optional() }).optional(),
  selfCheck: z
    .strictObject({
      mode: onOff().optional(),
      intervalSeconds: wholeNumber(30, 300).optional(),
      timeoutSeconds: wholeNumber(5, 120).optional(),
    })
    .optional(),
  traces: z
    .strictObject({
      mode: onOff().optional(),
      cacheSizeMegabytes: wholeNumber(1, 128).optional(),
      spanChannelCapacity: wholeNumber(1_000, 100_000).optional(),
      selfTracing: z.strictObject({ mode: onOff().optional(), intervalSeconds: wholeNumber(1, 300).optional() }).optional(),
    })
    .optional(),
})

const diskBackedMessageBuffer = z.strictObject({
  maxSize: matchingText(/^[0-9]+[KMGTPE]$/, 'a size such as 500M or 10G'),
  ephemeralVolumeClaimSpec: volumeClaimSpec.optional(),
  persistentVolumeClaimSpec: volumeClaimSpec.optional(),
})

/** Extension: every limit under its own name. */
const extension = z.strictObject(
  Object.fromEntries(Object.entries(limitSettings).map(([name, setting]) => [name, settingField<unknown>(setting).optional()])),
)

export const brokerSchema = resourceSchema(
  z
    .strictObject({
      advanced: advanced.optional(),
      cardinality: cardinality.optional(),
      diagnostics: diagnostics.optional(),
      diskBackedMessageBuffer: diskBackedMessageBuffer.optional(),
      generateResourceLimits: z.strictObject({ cpu: onOff().optional() }).optional(),
      highPriorityMessagesBackpressureHandling: settingField(limitSettings.highPriorityMessagesBackpressureHandling).optional(),
      memoryProfile: settingField(limitSettings.memoryProfile).optional(),
      persistence: persistence.optional(),
      millrace: extension.optional(),
    })
    .optional(),
)

export type BrokerSpec = NonNullable<z.infer<typeof brokerSchema>['spec']>

/** Field of `spec` → setting. */
const FIELDS: readonly (readonly [path: readonly string[], setting: string])[] = [
  [['advanced', 'clients', 'maxSessionExpirySeconds'], 'maxSessionExpirySeconds'],
  [['advanced', 'clients', 'maxMessageExpirySeconds'], 'maxMessageExpirySeconds'],
  [['advanced', 'clients', 'maxPacketSizeBytes'], 'packetBytesMax'],
  [['advanced', 'clients', 'subscriberQueueLimit', 'length'], 'queueMessagesMax'],
  [['advanced', 'clients', 'subscriberQueueLimit', 'strategy'], 'queueStrategy'],
  [['advanced', 'clients', 'maxReceiveMaximum'], 'inflightMax'],
  [['advanced', 'clients', 'maxKeepAliveSeconds'], 'serverKeepAliveSeconds'],
  [['advanced', 'encryptInternalTraffic'], 'encryptInternalTraffic'],
  [['cardinality', 'frontend', 'workers'], 'workers'],
  [['cardinality', 'backendChain', 'redundancyFactor'], 'redundancyFactor'],
  [['diagnostics', 'logs', 'level'], 'logLevel'],
  [['diagnostics', 'metrics', 'prometheusPort'], 'metrics'],
  [['highPriorityMessagesBackpressureHandling'], 'highPriorityMessagesBackpressureHandling'],
  [['memoryProfile'], 'memoryProfile'],
  ...Object.keys(limitSettings).map(name => [['millrace', name], name] as const),
]

/** The spec, with what its schema cannot say checked as well; null with faults. */
export function readBroker(findings: Findings): BrokerSpec | null {
  const broker = findings.document.check(brokerSchema, findings.faults)
  if (broker === null) return null
  const spec = broker.spec ?? {}
  if (broker.metadata.name !== 'default') findings.fault(['metadata', 'name'], 'expected default: there is one Broker, and it is called so')
  if (spec.cardinality?.backendChain?.redundancyFactor === 1)
    findings.warn(['spec', 'cardinality', 'backendChain', 'redundancyFactor'], 'one copy alone: what is stored does not survive its loss')
  checkPersistence(findings, spec.persistence)
  checkRepeats(findings, spec)
  return spec
}

const PERSISTENCE_SETTINGS = {
  retain: 'retainSettings',
  subscriberQueue: 'subscriberQueueSettings',
  stateStore: 'stateStoreSettings',
} as const

function checkPersistence(findings: Findings, found: BrokerSpec['persistence']): void {
  for (const [policy, settings] of Object.entries(PERSISTENCE_SETTINGS)) {
    const given = found?.[policy as keyof typeof PERSISTENCE_SETTINGS] as { mode: string; [settings: string]: unknown } | undefined
    const path = ['spec', 'persistence', policy, settings]
    if (given?.mode === 'Custom' && given[settings] === undefined) findings.fault(path, 'is missing: mode Custom needs it')
    if (given !== undefined && given.mode !== 'Custom' && given[settings] !== undefined) findings.fault(path, 'belongs to mode Custom')
  }
  checkStoredKeys(findings, found?.stateStore?.stateStoreSettings?.stateStoreResources ?? [])
  const modes = found?.persistentVolumeClaimSpec?.accessModes
  if (modes !== undefined && (modes.length !== 1 || modes[0] !== 'ReadWriteOncePod'))
    findings.fault(['spec', 'persistence', 'persistentVolumeClaimSpec', 'accessModes'], 'expected ReadWriteOncePod alone')
}

function checkStoredKeys(findings: Findings, resources: readonly { readonly keyType: KeyType; readonly keys: readonly string[] }[]): void {
  for (const [index, { keyType, keys }] of resources.entries()) {
    for (const [place, key] of keys.entries()) {
      const at = ['spec', 'persistence', 'stateStore', 'stateStoreSettings', 'stateStoreResources', index, 'keys', place]
      if (keyType === 'Binary' && !BASE64.test(key)) findings.fault(at, 'expected base64')
      const glob = keyGlob(key, keyType)
      if (glob instanceof PatternFault) findings.warn(at, `names no key: ${glob.message}`)
    }
  }
}

/** Naming one setting in two places is a fault. */
function checkRepeats(findings: Findings, spec: BrokerSpec): void {
  const givenAt = new Map<string, string>()
  for (const [path, setting] of FIELDS) {
    if (valueAt(spec, path) === undefined) continue
    const before = givenAt.get(setting)
    if (before !== undefined) findings.fault(['spec', ...path], `spec.${before} gives the same limit; keep one of them`)
    givenAt.set(setting, path.join('.'))
  }
}

/** Values of settings, by name, that a Broker gives. */
export function brokerValues(spec: BrokerSpec): ReadonlyMap<string, unknown> {
  const values = new Map<string, unknown>()
  for (const [path, setting] of FIELDS) {
    const value = valueAt(spec, path)
    if (value !== undefined) values.set(setting, setting === 'metrics' ? metricsAddress(value as number) : value)
  }
  return values
}

/** The field knows a port alone; whoever wants metrics to be read from other machines says so with the flag. */
function metricsAddress(port: number): Address {
  return { host: processSettings.metrics.default?.host ?? '127.0.0.1', port }
}

function valueAt(spec: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => (typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined), spec)
}
