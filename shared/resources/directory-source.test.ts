import { linkSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ManualTimers } from '../base/timers.ts'
import { SettingsError } from '../config/settings-error.ts'
import { until } from '../testing/redis-server.ts'
import { DirectorySource, SCAN_EVERY_MS, SETTLE_MS } from './directory-source.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'
import { FILE_BYTES_MAX, FILES_MAX, scanDirectory } from './source-directory-scan.ts'

let directory: string
let source: DirectorySource
let timers: ManualTimers
let snapshots: ResourceSnapshot[]
let refusals: (readonly string[])[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-directory-'))
  timers = new ManualTimers()
  snapshots = []
  refusals = []
  source = new DirectorySource(directory, { timers })
  source.listen({ onSnapshot: each => void snapshots.push(each), onRefused: each => void refusals.push(each) })
})

afterEach(async () => {
  await source.stop()
  await rm(directory, { recursive: true, force: true })
})

function listener(name: string, port: number): string {
  const head = `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerListener\nmetadata:\n  name: ${name}\n`
  // There is one listener of each type.
  return `${head}spec:\n  serviceType: ${name === 'one' ? 'ClusterIp' : 'NodePort'}\n  ports:\n    - port: ${port}\n`
}

async function write(file: string, text: string): Promise<void> {
  const path = join(directory, file)
  await mkdir(join(path, '..'), { recursive: true })
  await writeFile(path, text)
}

/** Lets time pass until the next look is over: the next timer is there then. */
async function look(ms: number): Promise<void> {
  await until(() => timers.pendingCount === 1, 'the look before is over')
  timers.advance(ms)
  await until(() => timers.pendingCount === 1, 'a look is over')
}

/** As long as a change may take: the look that finds it, and the one that sees it settled. */
async function lookTwice(): Promise<void> {
  await look(SCAN_EVERY_MS)
  await look(SETTLE_MS)
}

function ports(snapshot: ResourceSnapshot = source.current): readonly (readonly [string, number])[] {
  return [...snapshot.listeners.values()].map(({ name, spec }) => [name, spec.ports[0]!.port] as const)
}

describe('the first read', () => {
  test('takes YAML files, Secrets and ConfigMaps that stand as files, and nothing else', async () => {
    await write('a.yaml', listener('one', 1_884))
    await write('.hidden.yaml', 'no: [yaml')
    await write('notes.txt', 'no: [yaml')
    await write('deeper/b.yaml', 'no: [yaml')
    await write('configmaps/client-ca/ca.pem', 'text')
    await write('secrets/tls.one/tls.key', 'key')
    await write('secrets/tls.one/deeper/tls.key', 'key')
    await write('secrets/NO NAME/tls.key', 'key')
    await source.start()
    expect(ports()).toEqual([['one', 1_884]])
    expect([...source.current.configMap('client-ca')!]).toEqual([['ca.pem', 'text']])
    expect([...source.current.secret('tls.one')!].map(([key, bytes]) => [key, String(bytes)])).toEqual([['tls.key', 'key']])
    expect(source.current.secret('NO NAME')).toBeNull()
  })

  test('of faults is an error with each of them, and file and line', async () => {
    await write('a.yaml', listener('one', 70_000))
    await write('b.yaml', 'kind: Nothing')
    const error: unknown = await source.start().catch((fault: unknown) => fault)
    expect(error).toBeInstanceOf(SettingsError)
    expect((error as SettingsError).faults).toEqual([
      expect.stringMatching(/a\.yaml:8: spec\.ports\[0\]\.port: /),
      expect.stringMatching(/b\.yaml:1: kind: expected one of/),
    ])
  })

  test.each([
    ['that does not exist', 'gone', /^flag --config: the directory .*gone does not exist$/],
    ['that is a file', 'file', /^flag --config: .*file is not a directory$/],
  ])('of a directory %s is an error that says so', async (_, name, words) => {
    await write('file', '')
    await expect(new DirectorySource(join(directory, name), { timers }).start()).rejects.toThrow(words)
  })

  test('stops at a file, and at a number of files, that no manifests have', async () => {
    await write('secrets/s/large', 'x'.repeat(FILE_BYTES_MAX + 1))
    await expect(source.start()).rejects.toThrow(/large: 4194305 bytes are more than a resource has/)
    await rm(join(directory, 'secrets'), { recursive: true })
    await write('secrets/s/0', '')
    for (let at = 1; at <= FILES_MAX; at++) linkSync(join(directory, 'secrets/s/0'), join(directory, `secrets/s/${at}`))
    await expect(source.start()).rejects.toThrow(new RegExp(`more than ${FILES_MAX} files`))
  })
})

describe('a change', () => {
  beforeEach(async () => {
    await write('a.yaml', listener('one', 1_884))
    await source.start()
  })

  test('of a file in place, by renaming, of a new and of a deleted file is in the next snapshot, once', async () => {
    const first = source.current
    await write('a.yaml', listener('one', 1_885))
    await lookTwice()
    await write('.new', listener('one', 1_886))
    await rename(join(directory, '.new'), join(directory, 'a.yaml'))
    await lookTwice()
    await write('b.yml', listener('two', 1_887))
    await lookTwice()
    await rm(join(directory, 'a.yaml'))
    await lookTwice()
    await look(SCAN_EVERY_MS)
    expect(snapshots.map(each => ports(each))).toEqual([
      [['one', 1_885]],
      [['one', 1_886]],
      [
        ['one', 1_886],
        ['two', 1_887],
      ],
      [['two', 1_887]],
    ])
    expect(ports(first)).toEqual([['one', 1_884]])
    expect(source.current).toBe(snapshots.at(-1))
  })

  test('of nothing but layout gives no snapshot', async () => {
    await write('a.yaml', `# a comment\n${listener('one', 1_884)}`)
    await lookTwice()
    await write('a.yaml', listener('one', 1_884))
    await lookTwice()
    expect(snapshots).toEqual([])
  })

  test('is not taken while it is being written', async () => {
    await write('a.yaml', '')
    await look(SCAN_EVERY_MS)
    await write('a.yaml', listener('one', 1_885))
    await look(SETTLE_MS)
    expect(snapshots).toEqual([])
    await look(SETTLE_MS)
    expect(snapshots.map(each => ports(each))).toEqual([[['one', 1_885]]])
  })

  test('with a fault is refused as a whole, stays in readiness until it is mended, and is told once', async () => {
    await write('a.yaml', listener('one', 70_000))
    await write('b.yaml', listener('two', 1_890))
    await lookTwice()
    await look(SCAN_EVERY_MS)
    expect(refusals).toEqual([[expect.stringMatching(/a\.yaml:8: spec\.ports\[0\]\.port/)]])
    expect(source.impaired()).toEqual(refusals[0])
    expect(ports()).toEqual([['one', 1_884]])
    await write('a.yaml', listener('one', 1_885))
    await lookTwice()
    expect(source.impaired()).toEqual([])
    expect(ports()).toEqual([
      ['one', 1_885],
      ['two', 1_890],
    ])
    expect(snapshots).toHaveLength(1)
  })

  test('of what is fixed when a store is created is refused', async () => {
    const broker = (partitions: number): string =>
      `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: Broker\nmetadata:\n  name: default\nspec:\n  cardinality:\n    backendChain: {partitions: ${partitions}, redundancyFactor: 2}\n    frontend: {replicas: 1}\n`
    await write('broker.yaml', broker(2))
    await lookTwice()
    expect(snapshots).toHaveLength(1)
    await write('broker.yaml', broker(3))
    await lookTwice()
    expect(refusals).toEqual([[expect.stringContaining('was 2 when the broker was created and cannot be changed to 3')]])
  })

  test('that takes the directory away leaves everything in force, until it comes back', async () => {
    await rm(directory, { recursive: true })
    await lookTwice()
    expect(source.impaired()).toEqual([`the directory ${directory} does not exist`])
    expect(ports()).toEqual([['one', 1_884]])
    await write('a.yaml', listener('one', 1_885))
    await lookTwice()
    expect(source.impaired()).toEqual([])
    expect(snapshots.map(each => ports(each))).toEqual([[['one', 1_885]]])
  })

  test('that never settles is not taken, and is worth a word', async () => {
    await write('a.yaml', listener('one', 2_000))
    await look(SCAN_EVERY_MS)
    for (let port = 2_001; port < 2_020; port++) {
      await write('a.yaml', listener('one', port))
      await look(SETTLE_MS)
    }
    expect(snapshots).toEqual([])
    expect(source.impaired()).toEqual([expect.stringContaining('changes all the time')])
    await look(SETTLE_MS)
    expect(source.impaired()).toEqual([])
    expect(ports()).toEqual([['one', 2_019]])
  })

  test('is found with the timers of the machine', async () => {
    const live = new DirectorySource(directory)
    await live.start()
    const changed = new Promise<ResourceSnapshot>(resolve => live.listen({ onSnapshot: resolve, onRefused: () => undefined }))
    await write('a.yaml', listener('one', 1_899))
    expect(ports(await changed)).toEqual([['one', 1_899]])
    await live.stop()
    expect(SCAN_EVERY_MS + SETTLE_MS).toBeLessThanOrEqual(1_500)
  })
})

describe('a volume of Kubernetes', () => {
  async function version(name: string, files: Readonly<Record<string, string>>): Promise<void> {
    for (const [file, text] of Object.entries(files)) await write(`${name}/${file}`, text)
  }

  async function switchTo(mount: string, name: string): Promise<void> {
    await symlink(name, join(directory, mount, '..data_tmp'))
    await rename(join(directory, mount, '..data_tmp'), join(directory, mount, '..data'))
  }

  test('changes when the link to its present version is switched', async () => {
    await version('..2026_01', { 'listener.yaml': listener('one', 1_884) })
    await switchTo('', '..2026_01')
    await symlink('..data/listener.yaml', join(directory, 'listener.yaml'))
    await version('secrets/tls/..2026_01', { 'tls.key': 'old' })
    await switchTo('secrets/tls', '..2026_01')
    await symlink('..data/tls.key', join(directory, 'secrets/tls/tls.key'))
    await source.start()
    expect(ports()).toEqual([['one', 1_884]])
    const first = source.current

    await version('..2026_02', { 'listener.yaml': listener('one', 1_885) })
    await switchTo('', '..2026_02')
    await rm(join(directory, '..2026_01'), { recursive: true })
    await lookTwice()
    expect(ports()).toEqual([['one', 1_885]])

    await version('secrets/tls/..2026_02', { 'tls.key': 'new' })
    await switchTo('secrets/tls', '..2026_02')
    await lookTwice()
    expect(String(source.current.secret('tls')!.get('tls.key'))).toBe('new')
    expect(String(first.secret('tls')!.get('tls.key'))).toBe('old')
    expect(snapshots).toHaveLength(2)
    expect(refusals).toEqual([])
  })

  test('whose link leads nowhere for a moment is no reason to refuse anything', async () => {
    await version('..2026_01', { 'listener.yaml': listener('one', 1_884) })
    await switchTo('', '..2026_01')
    await symlink('..data/listener.yaml', join(directory, 'listener.yaml'))
    await source.start()
    await rm(join(directory, '..2026_01'), { recursive: true })
    await look(SCAN_EVERY_MS)
    await version('..2026_02', { 'listener.yaml': listener('one', 1_885) })
    await switchTo('', '..2026_02')
    await look(SETTLE_MS)
    await look(SETTLE_MS)
    expect(refusals).toEqual([])
    expect(ports()).toEqual([['one', 1_885]])
  })
})

test('two looks at a directory in which nothing happened see the same, and one after a write of the same length does not', async () => {
  await write('a.yaml', 'a: 1')
  const before = await scanDirectory(directory)
  expect((await scanDirectory(directory)).fingerprint).toBe(before.fingerprint)
  await write('a.yaml', 'a: 2')
  expect((await scanDirectory(directory)).fingerprint).not.toBe(before.fingerprint)
})
