import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { SettingsError } from '../config/settings-error.ts'
import { openResourceDirectory } from './resource-directory.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-test-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

test('a directory that is missing, or none, is named in words', () => {
  const missing = join(directory, 'missing')
  expect(() => openResourceDirectory(missing)).toThrow(new SettingsError([`flag --config: the directory ${missing} does not exist`]))
  const file = join(directory, 'broker.yaml')
  writeFileSync(file, '')
  expect(() => openResourceDirectory(file)).toThrow(new SettingsError([`flag --config: ${file} is not a directory`]))
})

test('YAML files come in order of their names, other files do not; a secret that is missing is null', () => {
  for (const name of ['b.yaml', 'a.YML', 'c.txt', '.d.yaml']) writeFileSync(join(directory, name), name)
  const resources = openResourceDirectory(directory)
  expect(resources.yaml.map(({ text }) => text)).toEqual(['a.YML', 'b.yaml'])
  expect(resources.secret('server', 'tls.crt')).toBeNull()
})
