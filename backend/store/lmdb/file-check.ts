import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { corruptError, errorCode, newerFormatError } from './errors.ts'

// LMDB's first two pages each describe the environment: header of 24 bytes, then magic, data version, …
const META_OFFSET = 24
const MAGIC = 0xbeefc0de
const DATA_VERSION = 2
const HEAD_BYTES = 168
const PAGE_BYTES_OFFSET = META_OFFSET + 24
const LAST_PAGE_OFFSET = META_OFFSET + 120
const TRANSACTION_OFFSET = META_OFFSET + 128

/** Of what a test process says; the rest is dropped. */
const OUTPUT_CHARS_MAX = 500
/** A test process that takes longer than a slow disk explains is caught in a circle; it is killed. */
const PROBE_MS_MIN = 20_000
const PROBE_BYTES_PER_MS_MIN = 10_000

/**
 * Checks a data file before it is mapped into this process, where a damaged page would end it with a signal.
 * Reading the head tells foreign and newer files; then a child process tries what this one will do, and may die of it.
 * It does not find a damaged value, which checksums do later, nor all damage in the list of free pages.
 * A file that does not exist, or is empty as a crash during creation leaves it, is fine.
 * @throws {StoreError} corrupt, newerFormat
 */
export async function checkFile(file: string): Promise<void> {
  const head = await readHead(file)
  if (!head) return
  const { exitCode, signal, output } = await probe(file, head.size)
  if (signal) throw corruptError(file, `reading it ended a test process with ${signal}${head.missing}`)
  if (exitCode !== 0)
    throw corruptError(file, `${output.trim() || `a test process could not read it (exit code ${exitCode})`}${head.missing}`)
}

async function readHead(file: string): Promise<{ size: number; missing: string } | undefined> {
  const handle = await open(file).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  })
  if (!handle) return undefined
  try {
    const { size } = await handle.stat()
    if (size === 0) return undefined
    const first = Buffer.alloc(HEAD_BYTES)
    await handle.read(first, 0, HEAD_BYTES, 0)
    checkMeta(file, first)
    const pageBytes = first.readUInt32LE(PAGE_BYTES_OFFSET)
    if (pageBytes < 512 || pageBytes > 65_536) throw corruptError(file, `its head says pages have ${pageBytes} bytes`)
    const second = Buffer.alloc(HEAD_BYTES)
    const { bytesRead } = await handle.read(second, 0, HEAD_BYTES, pageBytes)
    if (bytesRead < HEAD_BYTES) throw corruptError(file, `it ends after ${size} bytes, inside its head`)
    checkMeta(file, second)
    const newer = first.readBigUInt64LE(TRANSACTION_OFFSET) > second.readBigUInt64LE(TRANSACTION_OFFSET) ? first : second
    const described = (newer.readBigUInt64LE(LAST_PAGE_OFFSET) + 1n) * BigInt(pageBytes)
    // Not an error in itself: last pages that were used and freed in one transaction are never written.
    return { size, missing: described > size ? `; it has ${size} of the ${described} bytes its head describes` : '' }
  } finally {
    await handle.close()
  }
}

function checkMeta(file: string, head: Buffer): void {
  if (head.readUInt32LE(META_OFFSET) !== MAGIC) throw corruptError(file, 'its head is not that of an LMDB file')
  const version = head.readUInt32LE(META_OFFSET + 4) & 0xffff
  if (version === DATA_VERSION) return
  if (version < DATA_VERSION) throw corruptError(file, `it has LMDB data version ${version}, which no version of this store wrote`)
  throw newerFormatError(file, `it has LMDB data version ${version}`, DATA_VERSION)
}

async function probe(file: string, size: number): Promise<{ exitCode: number | null; signal: NodeJS.Signals | null; output: string }> {
  // Beside this file, and compiled when this file is.
  const script = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './probe.ts' : './probe.js', import.meta.url))
  const child = spawn(process.execPath, [script, file], {
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: PROBE_MS_MIN + Math.ceil(size / PROBE_BYTES_PER_MS_MIN),
    killSignal: 'SIGKILL',
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (output.length < OUTPUT_CHARS_MAX) output += text
  })
  const [exitCode, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { exitCode, signal, output: output.slice(0, OUTPUT_CHARS_MAX) }
}
