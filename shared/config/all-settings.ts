import { limitSettings, standaloneSettings } from './broker-settings.ts'
import { CLUSTER_SETTINGS } from './cluster-settings.ts'
import { authsvcSettings, backendSettings, frontendSettings, memberSettings } from './role-settings.ts'
import type { SettingsGroup } from './settings-page.ts'

/** Every setting of every command that serves, as docs/settings.md lists them. */
export const ALL_SETTINGS: readonly SettingsGroup[] = [
  { title: '`millrace start`: ports, store and files', settings: standaloneSettings },
  { title: '`millrace frontend`: ports and workers', settings: frontendSettings },
  { title: '`millrace backend`: port and state', settings: backendSettings },
  { title: '`millrace authsvc`: port', settings: authsvcSettings },
  { title: '`millrace frontend`, `backend`, `authsvc`: membership, links and files', settings: memberSettings },
  { title: '`millrace cluster`: processes, ports and state', settings: CLUSTER_SETTINGS[0]!.settings },
  { title: 'All of them: limits and behaviour', settings: limitSettings },
]
