import { configSetting } from './broker-settings.ts'
import { type Environment, flagName, readFlags, resolveSettings } from './read-settings.ts'
import type { Settings } from './setting.ts'
import { SettingsError } from './settings-error.ts'
import type { SettingsGroup } from './settings-page.ts'

/** Where the resources of a process come from. */
export type ResourceOrigin =
  | { readonly is: 'none' }
  | { readonly is: 'directory'; readonly directory: string }
  /** Namespace empty: that of the pod. */
  | { readonly is: 'kubernetes'; readonly namespace: string }

/**
 * What the command line and the environment say of it; resources give values to settings, so this comes before all the others.
 * @param groups every setting that the command takes
 * @throws {SettingsError}
 */
export function resourceOrigin(groups: readonly SettingsGroup[], args: readonly string[], environment: Environment): ResourceOrigin {
  const declared: Settings = Object.assign({}, ...groups.map(({ settings }) => settings))
  const { config, kubernetes, namespace } = resolveSettings(configSetting, readFlags(declared, args), environment)
  if (config !== null && kubernetes)
    throw new SettingsError([`flags ${flagName('config')} and ${flagName('kubernetes')}: resources come from one of them; give one`])
  if (config !== null) return { is: 'directory', directory: config }
  return kubernetes ? { is: 'kubernetes', namespace } : { is: 'none' }
}
