/** Writes docs/settings.md from the declarations. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { ALL_SETTINGS } from '#shared/config/all-settings.ts'
import { settingsPage } from '#shared/config/settings-page.ts'

const docs = new URL('../docs/', import.meta.url)
mkdirSync(docs, { recursive: true })
writeFileSync(new URL('settings.md', docs), settingsPage(ALL_SETTINGS))
