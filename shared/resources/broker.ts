import { z } from 'zod'
import { limitSettings, standaloneSettings } from '../config/broker-settings.ts'
import { frontendSettings, linkSettings, persistenceSettings } from '../config/role-settings.ts'
import { checked, metadata, oneOf, settingField, wholeNumber } from './field.ts'
import type { YamlDocument } from './yaml-document.ts'
import { Refusal } from '../config/setting.ts'

const INT64_MAX = 2 ** 63

/** Accepted as the original has it; says nothing to a standalone broker. */
const unused = z.unknown().optional()

/** The original allows lengths up to 2^63-1; a number that large means no limit and is kept as the largest exact one. */
const queueLength = checked(value =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= INT64_MAX
    ? Math.min(value, Number.MAX_SAFE_INTEGER)
    : new Refusal('expected a whole number from 1 to 9223372036854775807 messages'),
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

/** How many pods there are is for whoever starts them; replicas, partitions and workers of backends are taken and say nothing to a process. */
const cardinality = z.strictObject({
  frontend: z
    .strictObject({ replicas: wholeNumber(1, 16).optional(), workers: settingField(frontendSettings.workers).optional() })
    .optional(),
  backendChain: z
    .strictObject({
      partitions: wholeNumber(1, 16).optional(),
      redundancyFactor: settingField(persistenceSettings.redundancyFactor).optional(),
      workers: wholeNumber(1, 16).optional(),
    })
    .optional(),
})

/** Extension: every limit under its own name. */
const extension = z.strictObject(
  Object.fromEntries(Object.entries(limitSettings).map(([name, setting]) => [name, settingField<unknown>(setting).optional()])),
)

export const brokerSchema = z.strictObject({
  apiVersion: z.unknown(),
  kind: z.unknown(),
  metadata,
  status: unused,
  spec: z
    .strictObject({
      advanced: z
        .strictObject({
          clients: clients.optional(),
          encryptInternalTraffic: settingField(linkSettings.encryptInternalTraffic).optional(),
          internalCerts: unused,
        })
        .optional(),
      cardinality: cardinality.optional(),
      diagnostics: z
        .looseObject({ logs: z.looseObject({ level: settingField(standaloneSettings.logLevel).optional() }).optional() })
        .optional(),
      diskBackedMessageBuffer: unused,
      generateResourceLimits: z.strictObject({ cpu: oneOf(['Enabled', 'Disabled']).optional() }).optional(),
      highPriorityMessagesBackpressureHandling: settingField(limitSettings.highPriorityMessagesBackpressureHandling).optional(),
      memoryProfile: settingField(limitSettings.memoryProfile).optional(),
      persistence: unused,
      millrace: extension.optional(),
    })
    .optional(),
})

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
  [['highPriorityMessagesBackpressureHandling'], 'highPriorityMessagesBackpressureHandling'],
  [['memoryProfile'], 'memoryProfile'],
  ...Object.keys(limitSettings).map(name => [['millrace', name], name] as const),
]

/** Values of settings, by name, that a Broker resource gives. Naming one setting in two places is a fault. */
export function brokerValues(document: YamlDocument, faults: string[]): ReadonlyMap<string, unknown> {
  const values = new Map<string, unknown>()
  const broker = document.check(brokerSchema, faults)
  if (broker === null) return values
  const givenAt = new Map<string, string>()
  for (const [path, setting] of FIELDS) {
    const value = valueAt(broker.spec, path)
    if (value === undefined) continue
    const before = givenAt.get(setting)
    if (before !== undefined) faults.push(document.fault(['spec', ...path], `spec.${before} gives the same limit; keep one of them`))
    givenAt.set(setting, path.join('.'))
    values.set(setting, value)
  }
  return values
}

function valueAt(spec: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => (typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined), spec)
}
