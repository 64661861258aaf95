import { createHash } from 'node:crypto'
import { assert } from '../base/assert.ts'
import { systemTimers, type Timers } from '../base/timers.ts'
import { SettingsError } from '../config/settings-error.ts'
import { MountedFiles } from './mounted-files.ts'
import { readSnapshot } from './read-snapshot.ts'
import type { ResourceListener, ResourceSnapshot, ResourceSource } from './resource-snapshot.ts'
import { DirectoryFault, type DirectoryScan, readScanned, scanDirectory } from './source-directory-scan.ts'
import { SourceListeners } from './source-listeners.ts'
import { updateFaults } from './update-faults.ts'
import { readYaml, type YamlDocument } from './yaml-document.ts'

/** From the end of one look at the directory to the next. */
export const SCAN_EVERY_MS = 1_000
/**
 * After a look that found a change: whoever writes files in place (cut to nothing, then written) has so long from one write to the next, or a
 * half of what is meant could be taken for all of it. With SCAN_EVERY_MS a change is in force well within 2 s.
 */
export const SETTLE_MS = 400
/** Looks in a row that each saw another directory, after which this is worth a word. */
const UNSETTLED_LOOKS_MAX = 20
const FIRST_READS_MAX = 5

export interface DirectorySourceOptions {
  readonly timers?: Timers
}

interface Content {
  readonly snapshot: ResourceSnapshot
  readonly faults: readonly string[]
  /** The same for the same resources, however their files are laid out. */
  readonly digest: string
}

/**
 * Resources from the files of a `--config` directory. It is looked at every second (names, sizes, times, inodes), which sees everything that can
 * happen to it: a file written in place or renamed into place, the switch of the link behind a volume of Kubernetes, a directory that goes and
 * comes back. Files whose looks did not change are not read again. An update counts once two looks in a row agree, so that none is
 * taken while it is written; with any fault in it, it is refused as a whole.
 */
export class DirectorySource implements ResourceSource {
  readonly #directory: string
  readonly #timers: Timers
  readonly #listeners = new SourceListeners()
  /** Content by path, of files that have not changed since. */
  #read = new Map<string, { readonly fingerprint: string; readonly bytes: Uint8Array }>()
  #current: ResourceSnapshot | null = null
  #digest = ''
  /** Fingerprint of the scan whose content is in force or was refused; a scan that failed has the text of its fault. */
  #judged = ''
  /** Fingerprint of the newest scan. */
  #seen = ''
  #unsettledLooks = 0
  #faults: readonly string[] = []
  #cancelLook: (() => void) | null = null
  #look: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(directory: string, { timers = systemTimers }: DirectorySourceOptions = {}) {
    this.#directory = directory
    this.#timers = timers
  }

  get current(): ResourceSnapshot {
    assert(this.#current !== null, 'a source is asked before it was started')
    return this.#current
  }

  async start(): Promise<void> {
    const { scan, content } = await this.#readFirst()
    if (content.faults.length > 0) throw new SettingsError(content.faults)
    this.#judged = scan.fingerprint
    this.#seen = scan.fingerprint
    this.#digest = content.digest
    this.#current = content.snapshot
    this.#lookAfter(SCAN_EVERY_MS)
  }

  listen(listener: ResourceListener): () => void {
    return this.#listeners.add(listener)
  }

  report(): void {
    // A file has no status; the log and /readyz say what is wrong with it.
  }

  impaired(): readonly string[] {
    const isUnsettled = this.#unsettledLooks >= UNSETTLED_LOOKS_MAX
    return isUnsettled ? [...this.#faults, `${this.#directory}: changes all the time, so no change of it is taken`] : this.#faults
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelLook?.()
    await this.#look
  }

  async #readFirst(): Promise<{ readonly scan: DirectoryScan; readonly content: Content }> {
    try {
      for (let attempt = 1; ; attempt++) {
        const scan = await scanDirectory(this.#directory)
        const content = await this.#contentOf(scan)
        if ((await scanDirectory(this.#directory)).fingerprint === scan.fingerprint) return { scan, content }
        if (attempt === FIRST_READS_MAX) throw new DirectoryFault(`${this.#directory}: changes while it is read`)
      }
    } catch (error) {
      if (error instanceof DirectoryFault) throw new SettingsError([`flag --config: ${error.message}`])
      throw error
    }
  }

  #lookAfter(ms: number): void {
    if (this.#isStopped) return
    this.#cancelLook = this.#timers.after(ms, () => {
      this.#look = this.#lookNow()
    })
  }

  async #lookNow(): Promise<void> {
    try {
      const scan = await scanDirectory(this.#directory)
      const before = this.#seen
      this.#seen = scan.fingerprint
      if (scan.fingerprint === this.#judged) this.#unsettledLooks = 0
      else if (scan.fingerprint !== before) this.#unsettledLooks++
      else if (await this.#judge(scan)) this.#unsettledLooks = 0
    } catch (error) {
      if (!(error instanceof DirectoryFault)) throw error
      this.#onUnreadable(error.message)
    }
    this.#lookAfter(this.#seen === this.#judged ? SCAN_EVERY_MS : SETTLE_MS)
  }

  /** Puts what a settled scan saw in force, or refuses it. False: it changed meanwhile. */
  async #judge(scan: DirectoryScan): Promise<boolean> {
    const content = await this.#contentOf(scan)
    // What was read in between may be half old and half new.
    const after = await scanDirectory(this.#directory)
    if (after.fingerprint !== scan.fingerprint || this.#isStopped) {
      this.#seen = after.fingerprint
      return false
    }
    this.#judged = scan.fingerprint
    const faults = content.faults.length > 0 ? content.faults : updateFaults(this.current, content.snapshot)
    if (faults.length > 0) {
      this.#refuse(faults)
      return true
    }
    this.#faults = []
    if (content.digest === this.#digest) return true
    this.#digest = content.digest
    this.#current = content.snapshot
    this.#listeners.onSnapshot(content.snapshot)
    return true
  }

  /** A link that is being switched and a directory that is made again look so for a moment: the fault counts when it is met twice. */
  #onUnreadable(fault: string): void {
    const isSettled = this.#seen === fault
    this.#seen = fault
    if (!isSettled || this.#judged === fault || this.#isStopped) return
    this.#judged = fault
    this.#refuse([fault])
  }

  #refuse(faults: readonly string[]): void {
    this.#faults = faults
    this.#listeners.onRefused(faults)
  }

  async #contentOf(scan: DirectoryScan): Promise<Content> {
    const read = new Map<string, { readonly fingerprint: string; readonly bytes: Uint8Array }>()
    const documents: YamlDocument[] = []
    const mounted = new MountedFiles()
    const faults: string[] = []
    const digest = createHash('sha256')
    for (const file of scan.files) {
      const { path, mount, fingerprint } = file
      const known = this.#read.get(path)
      const bytes = known?.fingerprint === fingerprint ? known.bytes : await readScanned(file)
      read.set(path, { fingerprint, bytes })
      if (mount !== null) {
        mounted.add(mount, bytes)
        digest.update(`${JSON.stringify([mount.kind, mount.name, mount.key, bytes.length])}\n`).update(bytes)
        continue
      }
      const found = readYaml(path, Buffer.from(bytes).toString('utf8'), faults)
      digest.update(meaningOf(found) ?? bytes)
      for (const document of found) documents.push(document)
    }
    this.#read = read
    const input = {
      documents,
      mountedSecret: (name: string) => mounted.secret(name),
      mountedConfigMap: (name: string) => mounted.configMap(name),
    }
    return { snapshot: readSnapshot(input, faults), faults, digest: digest.digest('hex') }
  }
}

/** What documents say, without layout and comments; null when JSON cannot tell: an alias inside of what it names has no end. */
function meaningOf(documents: readonly YamlDocument[]): string | null {
  try {
    return documents.map(document => `${JSON.stringify(document.value)}\n`).join('')
  } catch {
    return null
  }
}
