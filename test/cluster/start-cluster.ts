import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach } from 'vitest'
import { ClusterProcess, Command } from './cluster-process.ts'

/** For a test that starts a cluster of its own: up to a dozen processes, each of which needs a core for a second or two before it serves. */
export const CLUSTER_TEST_MS = 90_000

/** Clusters and directories that are gone when it ends. */
class Scope {
  readonly #commands: Command[] = []
  readonly #directories: string[] = []

  async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-test-'))
    this.#directories.push(directory)
    return directory
  }

  async start(flags: readonly string[]): Promise<ClusterProcess> {
    const logLevel = flags.includes('--log-level') ? [] : ['--log-level', 'info']
    const command = new Command([...logLevel, ...flags], await this.directory())
    this.#commands.push(command)
    return ClusterProcess.start(command)
  }

  async end(): Promise<void> {
    await Promise.all(
      this.#commands.splice(0).map(command => {
        command.signal('SIGKILL')
        return command.ended
      }),
    )
    await Promise.all(this.#directories.splice(0).map(directory => rm(directory, { recursive: true, force: true })))
  }
}

const ofTest = new Scope()
const ofFile = new Scope()
afterEach(() => ofTest.end())
afterAll(() => ofFile.end())

/** A cluster that serves, for the test that calls this; it does not outlive it. */
export async function startCluster(...flags: readonly string[]): Promise<ClusterProcess> {
  return ofTest.start(flags)
}

/** One that all tests of the file share, made with what `flags` answers: it gets a directory that lives as long. */
export async function startClusterForFile(flags: (directory: string) => Promise<readonly string[]>): Promise<ClusterProcess> {
  return ofFile.start(await flags(await ofFile.directory()))
}
