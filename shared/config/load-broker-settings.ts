import { readFileSync } from 'node:fs'
import type { ResourceSnapshot } from '../resources/resource-snapshot.ts'
import { type BrokerLimits, type BrokerSettings, limitSettings, PACKET_BYTES_BY_PROFILE, standaloneSettings } from './broker-settings.ts'
import { readPorts } from './listeners.ts'
import { defaultMemoryBytes, type MachineMemory, machineMemory } from './memory.ts'
import { type Environment, mistypedVariables, readFlags, resolveSettings } from './read-settings.ts'
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
  /** The resources, whose values take part; null without `--config` and `--kubernetes` (resource-origin.ts). */
  readonly snapshot: ResourceSnapshot | null
}

/** The machine's. `environment` is `process.env`, which `bin/` alone reads. */
export function systemSurroundings(environment: Environment, snapshot: ResourceSnapshot | null = null): Surroundings {
  return { environment, memory: machineMemory(), readFile: path => readFileSync(path, 'utf8'), snapshot }
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
  const { environment, readFile, snapshot } = surroundings
  const flags = readFlags(allSettings, args)
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
