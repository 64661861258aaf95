import { MountedFiles } from './mounted-files.ts'
import { readSnapshot } from './read-snapshot.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'
import { readScanned, scanDirectory } from './source-directory-scan.ts'
import { readYaml, type YamlDocument } from './yaml-document.ts'

export interface CheckedDirectory {
  readonly snapshot: ResourceSnapshot
  /** `file:line: field: message` each. */
  readonly faults: readonly string[]
  /** Of all kinds. */
  readonly documents: number
}

/**
 * The resources of a directory as they are at this moment, faults and all.
 * @throws {DirectoryFault} it, or a file in it, cannot be read
 */
export async function readDirectory(directory: string): Promise<CheckedDirectory> {
  const faults: string[] = []
  const documents: YamlDocument[] = []
  const mounted = new MountedFiles()
  for (const file of (await scanDirectory(directory)).files) {
    const bytes = await readScanned(file)
    if (file.mount !== null) mounted.add(file.mount, bytes)
    else for (const document of readYaml(file.path, Buffer.from(bytes).toString('utf8'), faults)) documents.push(document)
  }
  const input = {
    documents,
    mountedSecret: (name: string) => mounted.secret(name),
    mountedConfigMap: (name: string) => mounted.configMap(name),
  }
  return { snapshot: readSnapshot(input, faults), faults, documents: documents.length }
}
