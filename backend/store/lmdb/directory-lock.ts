import { once } from 'node:events'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { errorCode, lockedError } from './errors.ts'

export interface DirectoryLock {
  release(): Promise<void>
}

/**
 * Makes this process the only one that uses `directory`, which is created when missing.
 *
 * On Linux the lock is a listening abstract Unix socket named after device and inode of the directory: the kernel
 * closes it with the process, so neither kill -9 nor a reused process id leaves or fakes a lock. Its reach is one
 * network namespace: containers that share a volume must be kept apart by whoever mounts it. Elsewhere the lock is the
 * `LOCK` file with the process id, taken over when no such process lives. The file is written on Linux too, for the message.
 * @throws {StoreError} locked
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  await mkdir(directory, { recursive: true })
  const file = join(directory, 'LOCK')
  const release = process.platform === 'linux' ? await listenOnName(directory, file) : await takeFile(directory, file)
  await writeFile(file, `${process.pid}\n`)
  return { release }
}

async function listenOnName(directory: string, file: string): Promise<() => Promise<void>> {
  const { dev, ino } = await stat(directory, { bigint: true })
  const server = createServer(socket => socket.destroy())
  server.listen({ path: `\0millrace-store-${dev}-${ino}` })
  try {
    await once(server, 'listening')
  } catch (error) {
    if (errorCode(error) === 'EADDRINUSE') throw lockedError(directory, await ownerOf(file), error)
    throw error
  }
  server.unref()
  return async () => {
    server.close()
    await once(server, 'close')
  }
}

async function takeFile(directory: string, file: string): Promise<() => Promise<void>> {
  const owner = await ownerOf(file)
  if (owner !== undefined && isAlive(owner)) throw lockedError(directory, owner)
  return async () => {
    await writeFile(file, '')
  }
}

async function ownerOf(file: string): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(file, 'utf8'), 10) || undefined
  } catch {
    return undefined
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errorCode(error) === 'EPERM'
  }
}
