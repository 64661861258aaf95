import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { SettingsError } from '../config/settings-error.ts'

/** What a `--config` directory holds, or a test's stand-in for one. */
export interface ResourceFiles {
  /** YAML files by name, in order of their names. */
  readonly yaml: readonly { readonly file: string; readonly text: string }[]
  /** `secrets/NAME/KEY`; null when it is not there. Names come checked: they hold no slash. */
  secret(name: string, key: string): string | null
}

/** Bytes of one YAML file or secret; a larger one is not a manifest. */
const FILE_BYTES_MAX = 4 * 1024 * 1024

/** @throws {SettingsError} the directory or a YAML file in it cannot be read */
export function openResourceDirectory(directory: string): ResourceFiles {
  try {
    const names = readdirSync(directory).filter(name => /\.ya?ml$/i.test(name) && !name.startsWith('.'))
    return {
      yaml: names.sort().map(name => ({ file: join(directory, name), text: readBounded(join(directory, name)) })),
      secret: (name, key) => readIfThere(join(directory, 'secrets', name, key)),
    }
  } catch (error) {
    throw new SettingsError([`flag --config: ${faultText(directory, error)}`])
  }
}

/** What is wrong with the directory itself, in words; faults of a file in it come with its name. */
function faultText(directory: string, error: unknown): string {
  const { code, path } = error as NodeJS.ErrnoException
  if (path === directory && code === 'ENOENT') return `the directory ${directory} does not exist`
  if (path === directory && code === 'ENOTDIR') return `${directory} is not a directory`
  return error instanceof Error ? error.message : String(error)
}

function readIfThere(file: string): string | null {
  try {
    return readBounded(file)
  } catch {
    return null
  }
}

function readBounded(file: string): string {
  const { size } = statSync(file)
  if (size > FILE_BYTES_MAX) throw new Error(`${file}: ${size} bytes are more than a resource has (${FILE_BYTES_MAX})`)
  return readFileSync(file, 'utf8')
}
