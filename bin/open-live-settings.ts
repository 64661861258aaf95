import { LiveSettings, type LoadedSettings } from '#shared/config/live-settings.ts'
import { resourceOrigin } from '#shared/config/resource-origin.ts'
import type { SettingsGroup } from '#shared/config/settings-page.ts'
import { Kubernetes } from '#shared/kubernetes/kubernetes.ts'
import { openSource } from '#shared/resources/open-source.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { LogLevel, ProcessLog } from '#shared/telemetry/log.ts'

/**
 * Reads the resources that `args` and the environment name, and with them all settings; the log has its level from then on.
 * @param groups every setting that the command takes
 * @throws {SettingsError} every fault of flags, environment and resources
 */
export async function openLiveSettings<S extends { readonly logLevel: LogLevel }>(
  groups: readonly SettingsGroup[],
  args: readonly string[],
  log: ProcessLog,
  load: (snapshot: ResourceSnapshot | null) => LoadedSettings<S>,
): Promise<LiveSettings<S>> {
  const kubernetes = new Kubernetes(process.env)
  const source = await openSource(resourceOrigin(groups, args, process.env), kubernetes, log)
  const live = new LiveSettings(kubernetes, source, load, log)
  log.setLevel(live.settings.logLevel)
  live.listen(({ logLevel }) => log.setLevel(logLevel))
  return live
}
