import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type StoreUnderTest, describeShardStore, entry, faultOf, recovered } from '../shard-store.contract.ts'
import type { ShardStore } from '../shard-store.ts'
import { openEnvironment } from './environment.ts'
import * as layout from './layout.ts'
import { JOURNAL_FILE, type LmdbStoreOptions, openLmdbStore } from './lmdb-store.ts'
import { journal } from './load.ts'

const FIXTURE = join(import.meta.dirname, 'commit-until-killed.ts')

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'millrace-lmdb-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

function options(changes: Partial<LmdbStoreOptions> = {}): LmdbStoreOptions {
  return { directory: join(root, 'store'), shardCount: 3, clusterName: 'test', level: 'stored', ...changes }
}

/** A copy of what is on the disk while the store is open is what a crash leaves. */
function lmdb(level: 'stored' | 'fsynced'): StoreUnderTest {
  let [current, generation]: [LmdbStoreOptions | undefined, number] = [undefined, 0]
  let store: ShardStore | undefined
  const start = async (next: LmdbStoreOptions): Promise<ShardStore> => (store = await openLmdbStore((current = next)))
  return {
    open: changes => start(options({ level, ...changes })),
    restart: async () => {
      await store!.close()
      return start(current!)
    },
    crash: async () => {
      const directory = join(root, `crash-${generation++}`)
      await copyBetweenTransactions(current!.directory, directory)
      await store!.close()
      return start({ ...current!, directory })
    },
    dispose: async () => store?.close(),
  }
}

/** A transaction of background work that ends during the copy would tear it; each one changes the head of the file. */
async function copyBetweenTransactions(from: string, to: string): Promise<void> {
  const head = async (): Promise<string> => (await readFile(join(from, JOURNAL_FILE))).subarray(0, 8192).toString('latin1')
  for (let before = ''; before !== (await head()); ) {
    before = await head()
    await cp(from, to, { recursive: true, force: true })
  }
}

describeShardStore('lmdb, stored', () => lmdb('stored'))
describeShardStore('lmdb, fsynced', () => lmdb('fsynced'))

async function filled(changes: Partial<LmdbStoreOptions> = {}): Promise<string> {
  const store = await openLmdbStore(options(changes))
  for (let index = 0; index < 50; index++) await store.commit([{ shard: index % 3, bytes: Buffer.alloc(3000, `entry ${index};`) }])
  const snapshot = store.beginSnapshot(1)
  await snapshot.write(Buffer.alloc(20_000, 'snapshot;'))
  await snapshot.finish()
  await store.close()
  return join(options(changes).directory, JOURNAL_FILE)
}

async function openAndRecover(changes: Partial<LmdbStoreOptions> = {}): Promise<void> {
  const store = await openLmdbStore(options(changes))
  try {
    await Promise.all([0, 1, 2].map(shard => store.recover(shard, () => {})))
  } finally {
    await store.close()
  }
}

async function overwrite(file: string, position: number, bytes: Uint8Array): Promise<void> {
  const handle = await open(file, 'r+')
  await handle.write(bytes, 0, bytes.length, position)
  await handle.close()
}

describe('a damaged file is refused, and never ends the process', () => {
  const message = /store\/journal\.mdb is damaged: .*; move .*\/store aside .*backup/

  test.each([
    ['record', 'entry 31;', /record 32 does not match its checksum/],
    ['chunk', 'snapshot;', /snapshot chunk 0 of shard 1 does not match its checksum/],
  ])('a flipped byte in a %s', async (_, text, detail) => {
    const file = await filled()
    const position = (await readFile(file)).indexOf(text.repeat(20))
    await overwrite(file, position + 50, Buffer.from('X'))
    const refusal = openAndRecover()
    await expect(refusal).rejects.toMatchObject({ fault: 'corrupt', message: expect.stringMatching(message) as string })
    await expect(refusal).rejects.toThrow(detail)
  })

  test.each([40, 5000, 9000, 40_000, 100_000])('a file cut to %d bytes', async size => {
    const file = await filled()
    await writeFile(file, (await readFile(file)).subarray(0, size))
    await expect(openAndRecover()).rejects.toMatchObject({ fault: 'corrupt', message: expect.stringMatching(message) as string })
  })

  test('a file of something else', async () => {
    await mkdir(options().directory)
    await writeFile(join(options().directory, JOURNAL_FILE), 'not ours '.repeat(5000))
    await expect(openAndRecover()).rejects.toMatchObject({ fault: 'corrupt', message: expect.stringMatching(message) as string })
  })

  test('an environment without the description of a store', async () => {
    await mkdir(options().directory)
    const db = openEnvironment(join(options().directory, JOURNAL_FILE), 'fsynced')
    await db.put(Buffer.from('key'), Buffer.from('value'))
    await db.close()
    expect(await faultOf(openAndRecover())).toBe('corrupt')
  })

  test('pages overwritten with noise', async () => {
    const original = await readFile(await filled())
    const random = seededRandom(7)
    for (let round = 0; round < 12; round++) {
      const file = join(options().directory, JOURNAL_FILE)
      await writeFile(file, original)
      for (let page = 0; page < 3; page++) {
        const position = 4096 * (2 + Math.floor(random() * (original.length / 4096 - 2)))
        await overwrite(file, position, Buffer.from(Array.from({ length: 64 }, () => Math.floor(random() * 256))))
      }
      expect(['corrupt', 'newerFormat', 'none']).toContain(await faultOf(openAndRecover()))
    }
  }, 60_000)

  test('an empty file, as a crash during creation leaves it, is a new store', async () => {
    await mkdir(options().directory)
    await writeFile(join(options().directory, JOURNAL_FILE), '')
    await openAndRecover()
  })
})

describe('a file of another version or store is refused', () => {
  test('a newer format of a value', async () => {
    const file = await filled()
    const db = openEnvironment(file, 'fsynced')
    const value = Buffer.from(db.getBinary(layout.META_KEY)!)
    value[0] = layout.FORMAT + 1
    value.writeUInt32BE(crc32('whatever'), 4)
    await db.put(layout.META_KEY, value)
    await db.close()
    const message = new RegExp(
      `journal.mdb: .*has format ${layout.FORMAT + 1}, this version reads up to ${layout.FORMAT}; run the version that wrote it`,
    )
    await expect(openAndRecover()).rejects.toMatchObject({ fault: 'newerFormat', message: expect.stringMatching(message) as string })
  })

  test('a newer LMDB', async () => {
    const file = await filled()
    await overwrite(file, 28, Buffer.from([3]))
    await expect(openAndRecover()).rejects.toMatchObject({
      fault: 'newerFormat',
      message: expect.stringMatching(/version 3, .* up to 2/) as string,
    })
  })

  test('another number of shards, another cluster', async () => {
    await filled()
    await expect(openAndRecover({ shardCount: 4 })).rejects.toMatchObject({
      fault: 'mismatch',
      message: expect.stringMatching(/shards 3, but 4/) as string,
    })
    await expect(openAndRecover({ clusterName: 'b' })).rejects.toMatchObject({
      fault: 'mismatch',
      message: expect.stringMatching(/cluster test, but b/) as string,
    })
    await openAndRecover()
  })
})

describe('the directory belongs to one process', () => {
  test('a second opener in this process, until the first closes', async () => {
    const first = await openLmdbStore(options())
    await expect(openAndRecover()).rejects.toMatchObject({
      fault: 'locked',
      message: expect.stringMatching(new RegExp(`${options().directory} is in use by process ${process.pid}; stop it`)) as string,
    })
    await first.close()
    await openAndRecover()
  })

  test('a second opener in another process, until that was killed', async () => {
    const child = startFixture(options().directory, 'stored', 10)
    await child.line('opened')
    const refusal = openAndRecover({ shardCount: 4, clusterName: 'fixture' })
    await expect(refusal).rejects.toMatchObject({
      fault: 'locked',
      message: expect.stringMatching(`process ${child.process.pid}`) as string,
    })
    await child.kill()
    await openAndRecover({ shardCount: 4, clusterName: 'fixture' })
  })

  test('a file left behind that names a living process does not lock', async () => {
    await mkdir(options().directory)
    await writeFile(join(options().directory, 'LOCK'), `${process.ppid}\n`)
    await openAndRecover()
  })
})

describe('a store that is full refuses, and keeps what it acknowledged', () => {
  test('at its limit', async () => {
    let store = await openLmdbStore(options({ mapBytesMax: 400_000 }))
    const outcomes: string[] = []
    for (let index = 0; index < 100; index++) outcomes.push(await faultOf(store.commit([{ shard: 0, bytes: Buffer.alloc(10_000) }])))
    const acknowledged = outcomes.indexOf('full')
    expect(acknowledged).toBeGreaterThan(20)
    expect(new Set(outcomes.slice(acknowledged))).toEqual(new Set(['full']))
    await expect(store.commit([entry(0, 'small')])).rejects.toThrow(/journal.mdb has reached its limit of 400000 bytes; raise the limit/)
    await store.close()
    store = await openLmdbStore(options({ mapBytesMax: 800_000 }))
    expect(await recovered(store, 0)).toHaveLength(acknowledged)
    await store.commit([entry(0, 'fits now')])
    await store.close()
  })

  // The shell's limit on file sizes cuts a write short, which LMDB reports as an I/O error.
  test.skipIf(process.platform === 'win32').each(['stored', 'fsynced'] as const)('when a write fails half way, level %s', async level => {
    const { directory } = options()
    const child = startFixture(directory, level, 40_000, 'ulimit -f 4000;')
    const lines = await child.end()
    expect(lines.at(-1)).toBe('refused failed')
    const acknowledged = Number(lines.at(-2))
    const state = await fixtureState(directory)
    expect(state.last).toBeGreaterThanOrEqual(acknowledged)
  })
})

describe('covered entries are removed while commits go on', () => {
  const bytes = Buffer.alloc(10_000)

  async function recordsLeft(directory: string): Promise<number> {
    const file = join(directory, JOURNAL_FILE)
    const db = openEnvironment(file, 'stored')
    let records = 0
    for await (const step of journal(db, file)) records += step.length
    await db.close()
    return records
  }

  test('all shards have snapshots: the space is used again', async () => {
    const store = await openLmdbStore(options({ mapBytesMax: 2_000_000, trimBytesMin: 100_000 }))
    for (let round = 0; round < 300; round++) {
      await store.commit([0, 1, 2].map(shard => ({ shard, bytes })))
      if (round % 5 > 2) continue
      const snapshot = store.beginSnapshot(round % 5)
      await snapshot.write(bytes)
      await snapshot.finish()
    }
    await store.close()
    expect(await recordsLeft(options().directory)).toBeLessThan(60)
  })

  test('one shard never has one: it keeps its own entries, not those of the others', async () => {
    const limited = options({ mapBytesMax: 3_000_000, trimBytesMin: 100_000 })
    let store = await openLmdbStore(limited)
    for (let round = 0; round < 400; round++) {
      await store.commit([entry(2, `${round}`), { shard: 0, bytes }, { shard: 1, bytes }])
      if (round % 5 > 1) continue
      const snapshot = store.beginSnapshot(round % 5)
      await snapshot.write(bytes)
      await snapshot.finish()
    }
    await store.close()
    store = await openLmdbStore(limited)
    expect(await recovered(store, 2)).toEqual(Array.from({ length: 400 }, (_, round) => `log:${round}`))
    await store.close()
  })
})

test('a process that is killed loses nothing acknowledged, tears no commit and keeps the order', async () => {
  const { directory } = options()
  const random = seededRandom(42)
  let acknowledged = 0
  for (let round = 0; round < 20; round++) {
    const child = startFixture(directory, round % 4 === 3 ? 'fsynced' : 'stored', 2000)
    await child.lines(2 + Math.floor(random() * 300))
    await child.kill()
    acknowledged = Math.max(acknowledged, ...child.seen.map(Number).filter(number => number > 0))
    const state = await fixtureState(directory)
    expect(state.last).toBeGreaterThanOrEqual(acknowledged)
  }
  expect(acknowledged).toBeGreaterThan(1000)
}, 120_000)

/** Reads back what commit-until-killed.ts wrote; every shard must have every number up to the same last one, in order. */
async function fixtureState(directory: string): Promise<{ last: number }> {
  const store = await openLmdbStore(options({ directory, shardCount: 4, clusterName: 'fixture' }))
  const lasts = await Promise.all(
    [0, 1, 2, 3].map(async shard => {
      let last = 0
      await store.recover(shard, (kind, bytes) => {
        const number = Buffer.from(bytes).readUInt32BE()
        if (kind === 'log') expect(number).toBe(last + 1)
        last = number
      })
      return last
    }),
  )
  await store.close()
  expect(new Set(lasts).size).toBe(1)
  return { last: lasts[0]! }
}

/** Numbers from 0 to 1, the same for the same seed. */
function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

interface Fixture {
  readonly process: ChildProcess
  readonly seen: string[]
  line(text: string): Promise<void>
  /** Resolves once it has said so many lines. */
  lines(count: number): Promise<void>
  kill(): Promise<void>
  /** Waits for its end; all its lines. */
  end(): Promise<string[]>
}

function startFixture(directory: string, level: string, bytes: number, shell?: string): Fixture {
  const command = [process.execPath, FIXTURE, directory, level, `${bytes}`]
  const [program, ...rest] = shell ? ['sh', '-c', `${shell} exec "$@"`, 'sh', ...command] : command
  const child = spawn(program!, rest, { stdio: ['ignore', 'pipe', 'ignore'] })
  const seen: string[] = []
  const reader = createInterface({ input: child.stdout }).on('line', line => seen.push(line))
  const closed = once(child, 'close')
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await Promise.race([once(reader, 'line'), closed.then(() => expect.unreachable('the fixture ended'))])
  }
  return {
    process: child,
    seen,
    line: text => until(() => seen.includes(text)),
    lines: count => until(() => seen.length >= count),
    kill: async () => {
      child.kill('SIGKILL')
      await closed
    },
    end: async () => {
      await closed
      return seen
    },
  }
}
