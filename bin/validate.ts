import { SettingsError } from '#shared/config/settings-error.ts'
import { missingReferences } from '#shared/resources/missing-references.ts'
import { readDirectory } from '#shared/resources/read-directory.ts'
import { DirectoryFault } from '#shared/resources/source-directory-scan.ts'
import { brokenContent } from './broken-content.ts'
import { type Command, ExitCode, print } from './command.ts'

/** `millrace validate DIR` */
export const validate: Command = {
  help: () => `Usage: millrace validate DIR

Reads the resources of a directory as --config DIR does, and starts nothing. Every fault is a line on standard output,
FILE:LINE: FIELD: what is wrong, content of Secrets and ConfigMaps that no client could be authenticated by among them; what is accepted and does nothing, or refers to something that is not there, is a line on standard error.
Exit code 0: no faults. 1: faults. 2: the directory cannot be read.`,
  run: async args => {
    const [directory, ...rest] = args
    if (directory === undefined || directory.startsWith('-') || rest.length > 0)
      throw new SettingsError(['expected one directory: millrace validate DIR'])
    const { snapshot, faults, documents } = await read(directory)
    for (const warning of [...snapshot.warnings, ...missingReferences(snapshot)]) process.stderr.write(`${warning}\n`)
    const all = [...faults, ...brokenContent(snapshot)]
    for (const fault of all) print(fault)
    if (all.length > 0) return ExitCode.Failure
    print(`${directory}: ${documents} ${documents === 1 ? 'resource' : 'resources'}, no faults`)
    return ExitCode.Success
  },
}

async function read(directory: string): ReturnType<typeof readDirectory> {
  try {
    return await readDirectory(directory)
  } catch (error) {
    throw error instanceof DirectoryFault ? new SettingsError([error.message]) : error
  }
}
