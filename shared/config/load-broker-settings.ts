import { readFileSync } from 'node:fs'
import { openResourceDirectory, type ResourceFiles } from '../resources/resource-directory.ts'
import { readResources } from '../resources/read-resources.ts'
import type { Resource, ResourceSnapshot } from '../resources/resource-snapshot.ts'
import type { BrokerListenerSpec } from '../resources/broker-listener.ts'
import {
  type BrokerLimits,
  type BrokerSettings,
  configSetting,
  limitSettings,
  PACKET_BYTES_BY_PROFILE,
  standaloneSettings,
} from './broker-settings.ts'
import { readPorts } from './listeners.ts'
import { defaultMemoryBytes, type MachineMemory, machineMemory } from './memory.ts'
import { type Environment, type GivenFlags, mistypedVariables, readFlags, resolveSettings } from './read-settings.ts'
import { SettingsError } from './settings-error.ts'
import type { SettingsGroup } from './settings-page.ts'

/** The flags of `millrace start`, as help and docs list them. */
export const START_SETTINGS: readonly SettingsGroup[] = [
  { title: 'Ports, store and files', settings: standaloneSettings },
  { title: 'Limits and behaviour', settings: limitSettings },
]

const allSettings = { ...standaloneSettings, ...limitSettings }

/** What the outside world gives. Tests hand in their own. */
export interface Surroundings {
  readonly environment: Environment
  readonly memory: MachineMemory
  /** @throws an error that names the file */
  readFile: (path: string) => string
  /** @throws {SettingsError} */
  openResources: (directory: string) => ResourceFiles
}

/** The machine's. `environment` is `process.env`, which `bin/` alone reads. */
export function systemSurroundings(environment: Environment): Surroundings {
  return { environment, memory: machineMemory(), readFile: path => readFileSync(path, 'utf8'), openResources: openResourceDirectory }
}

export interface Loaded {
  readonly settings: BrokerSettings
  /** For the log: what was accepted and has no effect. */
  readonly warnings: readonly string[]
}

/**
 * All that `millrace start` is told, checked and resolved.
 * @throws {SettingsError} with one line for every fault of flags, environment and files
 */
export function loadBrokerSettings(args: readonly string[], surroundings: Surroundings): Loaded {
  const { environment, readFile } = surroundings
  const flags = readFlags(allSettings, args)
  const snapshot = openConfig(flags, surroundings)
  const faults: string[] = []
  const values = resolveSettings(allSettings, flags, environment, snapshot?.values)
  const { ports, admin } = readPorts({ values, flags, environment, snapshot, readFile }, faults)
  if (faults.length > 0) throw new SettingsError(faults)
  return {
    settings: {
      dataDirectory: values.data,
      store: values.store,
      durability: values.durability,
      ports,
      admin,
      metrics: values.metrics,
      logLevel: values.logLevel,
      logLinesPerSecond: values.logLinesPerSecond,
      limits: resolveLimits(values, surroundings.memory),
    },
    warnings: [...(snapshot?.warnings ?? []), ...mistypedVariables(allSettings, environment)],
  }
}

/**
 * The resources of `--config`, whose values take part; null without it.
 * @throws {SettingsError} every fault of the files
 */
export function openConfig(flags: GivenFlags, { environment, openResources }: Surroundings): ResourceSnapshot | null {
  const { config } = resolveSettings(configSetting, flags, environment)
  if (config === null) return null
  const faults: string[] = []
  const resources = readResources(openResources(config), faults)
  if (faults.length > 0) throw new SettingsError(faults)
  // Bridge until readSnapshot is there.
  const listeners = new Map<string, Resource<BrokerListenerSpec>>(
    resources.ports.map(({ name, where, port }, i) => [
      `${name} ${i}`,
      { name: name.split(' ')[1]!, where, version: '', spec: { ports: [port] } },
    ]),
  )
  const secret = (name: string): ReadonlyMap<string, Uint8Array> | null => {
    const found = ['tls.crt', 'tls.key'].flatMap(key => {
      const text = resources.secret(name, key)
      return text === null ? [] : [[key, Buffer.from(text)] as const]
    })
    return found.length === 0 ? null : new Map(found)
  }
  return {
    values: resources.values,
    listeners,
    authentications: new Map(),
    authorizations: new Map(),
    configMap: () => null,
    secret,
    serviceAccount: () => null,
    faults: [],
    warnings: resources.warnings,
  }
}

/** Limits as `BrokerLimits` has them. */
export function resolveLimits(values: BrokerLimits, memory: MachineMemory): BrokerLimits {
  const limits = Object.fromEntries(
    Object.keys(limitSettings).map(name => [name, values[name as keyof BrokerLimits]]),
  ) as unknown as BrokerLimits
  return {
    ...limits,
    packetBytesMax: Math.min(limits.packetBytesMax, PACKET_BYTES_BY_PROFILE[limits.memoryProfile]),
    memoryBytesMax: limits.memoryBytesMax === 0 ? defaultMemoryBytes(memory) : limits.memoryBytesMax,
  }
}
