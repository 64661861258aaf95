import { SettingsError } from '../config/settings-error.ts'
import { readSnapshot } from './read-snapshot.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'
import { readYaml } from './yaml-document.ts'

export interface WrittenResources {
  /** YAML by file name. */
  readonly yaml?: Readonly<Record<string, string>>
  /** Text by `NAME/KEY`. */
  readonly secrets?: Readonly<Record<string, string>>
  readonly configMaps?: Readonly<Record<string, string>>
}

/**
 * Resources as a test writes them.
 * @throws {SettingsError} with every fault
 */
export function snapshotOf({ yaml = {}, secrets = {}, configMaps = {} }: WrittenResources): ResourceSnapshot {
  const faults: string[] = []
  const documents = Object.entries(yaml).flatMap(([file, text]) => readYaml(file, text, faults))
  const snapshot = readSnapshot(
    {
      documents,
      mountedSecret: name => keysOf(secrets, name, text => Buffer.from(text)),
      mountedConfigMap: name => keysOf(configMaps, name, text => text),
    },
    faults,
  )
  if (faults.length > 0) throw new SettingsError(faults)
  return snapshot
}

function keysOf<T>(texts: Readonly<Record<string, string>>, name: string, make: (text: string) => T): ReadonlyMap<string, T> | null {
  const found = Object.entries(texts).flatMap(([path, text]) =>
    path.startsWith(`${name}/`) ? [[path.slice(name.length + 1), make(text)] as const] : [],
  )
  return found.length === 0 ? null : new Map(found)
}
