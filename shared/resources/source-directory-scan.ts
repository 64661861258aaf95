import { thrownText } from '../base/thrown.ts'
import type { BigIntStats } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Files that are looked at; a directory with more is refused as a whole. */
export const FILES_MAX = 4_096
/** Bytes of one file; a larger one is no manifest. */
export const FILE_BYTES_MAX = 4 * 1024 * 1024
/** Bytes of all files together. */
export const DIRECTORY_BYTES_MAX = 64 * 1024 * 1024

/** Names of Secrets and ConfigMaps in Kubernetes. */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/

/** What a mounted directory of each kind is called. */
export type MountKind = 'secrets' | 'configmaps'

export interface ScannedFile {
  readonly path: string
  /** Null: a YAML file. */
  readonly mount: { readonly kind: MountKind; readonly name: string; readonly key: string } | null
  /** Another one for another content: what stat says of the file that a chain of symbolic links leads to. */
  readonly fingerprint: string
  readonly bytes: number
}

/** What the directory looked like, without what is in its files. Two scans with one fingerprint saw the same. */
export interface DirectoryScan {
  readonly files: readonly ScannedFile[]
  readonly fingerprint: string
}

/** The directory or a file in it cannot be read, or is beyond a limit. */
export class DirectoryFault extends Error {
  override readonly name = 'DirectoryFault'
}

/**
 * Looks at a `--config` directory: YAML files in it, and `secrets/NAME/KEY` and `configmaps/NAME/KEY`, nothing deeper. Names that begin with a dot
 * are skipped: Kubernetes keeps the versions of a mounted volume under such names, and the links to the present one beside them.
 * @throws {DirectoryFault}
 */
export async function scanDirectory(directory: string): Promise<DirectoryScan> {
  const scan = new Scan(directory)
  try {
    await scan.run()
  } catch (error) {
    throw error instanceof DirectoryFault ? error : new DirectoryFault(faultText(directory, error))
  }
  return { files: scan.files, fingerprint: scan.files.map(file => `${file.path}\0${file.fingerprint}`).join('\n') }
}

/** @throws {DirectoryFault} it is gone, or became larger than a resource may be */
export async function readScanned(file: ScannedFile): Promise<Uint8Array> {
  try {
    const handle = await open(file.path, 'r')
    try {
      // One byte more than it may have: a file that grew since the scan is not read to its end, however long it became.
      const bytes = Buffer.alloc(file.bytes + 1)
      let length = 0
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        read = (await handle.read(bytes, length, bytes.length - length, length)).bytesRead
      }
      if (length !== file.bytes) throw new DirectoryFault(`${file.path}: changes while it is read`)
      return bytes.subarray(0, length)
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw error instanceof DirectoryFault ? error : new DirectoryFault(`${file.path}: ${thrownText(error)}`)
  }
}

class Scan {
  readonly files: ScannedFile[] = []
  readonly #directory: string
  #bytes = 0

  constructor(directory: string) {
    this.#directory = directory
  }

  async run(): Promise<void> {
    const names = await namesIn(this.#directory)
    for (const name of names.filter(each => /\.ya?ml$/i.test(each))) await this.#add(join(this.#directory, name), null)
    for (const kind of ['secrets', 'configmaps'] as const) if (names.includes(kind)) await this.#addMounts(kind)
  }

  async #addMounts(kind: MountKind): Promise<void> {
    for (const name of await foldersNames(join(this.#directory, kind))) {
      const folder = join(this.#directory, kind, name)
      for (const key of await namesIn(folder)) await this.#add(join(folder, key), { kind, name, key })
    }
  }

  async #add(path: string, mount: ScannedFile['mount']): Promise<void> {
    const found = await stat(path, { bigint: true })
    // A folder in a mount holds no key of it; whatever else is no file (a pipe, for instance) could be read for ever.
    if (!found.isFile()) return
    const bytes = Number(found.size)
    this.#bytes += bytes
    if (bytes > FILE_BYTES_MAX) throw new DirectoryFault(`${path}: ${bytes} bytes are more than a resource has (${FILE_BYTES_MAX})`)
    if (this.files.length >= FILES_MAX) throw new DirectoryFault(`${this.#directory}: more than ${FILES_MAX} files`)
    if (this.#bytes > DIRECTORY_BYTES_MAX) throw new DirectoryFault(`${this.#directory}: files of more than ${DIRECTORY_BYTES_MAX} bytes`)
    this.files.push({ path, mount, fingerprint: fingerprintOf(found), bytes })
  }
}

/** The time of the last change of the inode tells a file that was written with its old size and its old time apart. */
function fingerprintOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
}

async function namesIn(directory: string): Promise<readonly string[]> {
  const names = await readdir(directory)
  if (names.length > FILES_MAX) throw new DirectoryFault(`${directory}: more than ${FILES_MAX} files`)
  return names.filter(name => !name.startsWith('.')).sort()
}

/** Folders, also behind links, whose names can be that of a Secret or ConfigMap; nothing when `directory` itself is none. */
async function foldersNames(directory: string): Promise<readonly string[]> {
  if (!(await stat(directory)).isDirectory()) return []
  const folders: string[] = []
  for (const name of await namesIn(directory)) {
    if (OBJECT_NAME.test(name) && (await stat(join(directory, name))).isDirectory()) folders.push(name)
  }
  return folders
}

/** What is wrong with the directory itself, in words; faults of a file in it come with its name. */
function faultText(directory: string, error: unknown): string {
  const { code, path } = error as NodeJS.ErrnoException
  if (path === directory && code === 'ENOENT') return `the directory ${directory} does not exist`
  if (path === directory && code === 'ENOTDIR') return `${directory} is not a directory`
  return thrownText(error)
}
