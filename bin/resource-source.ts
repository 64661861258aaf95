import type { ResourceOrigin } from '#shared/config/resource-origin.ts'
import { DirectorySource } from '#shared/resources/directory-source.ts'
import type { ResourceSource } from '#shared/resources/resource-snapshot.ts'
import type { Log } from '#shared/telemetry/log.ts'

/**
 * The resources of this process, read for the first time and watched from now on; null where there are none.
 * @throws {SettingsError} they cannot be read, or hold a fault
 */
export async function openSource(origin: ResourceOrigin, log: Log): Promise<ResourceSource | null> {
  if (origin.is === 'none') return null
  const source = new DirectorySource(origin.is === 'directory' ? origin.directory : '')
  await source.start()
  return source
}
