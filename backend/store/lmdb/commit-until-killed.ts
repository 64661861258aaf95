import { openLmdbStore } from './lmdb-store.ts'

/**
 * Run by lmdb-store.test.ts as a process of its own, to be killed or to meet a limit of the operating system:
 *
 *   node commit-until-killed.ts DIRECTORY LEVEL BYTES
 *
 * Commits 1, 2, 3, … to all of four shards, several at a time, each entry padded to about BYTES; continues where the
 * directory ends. A snapshot of a shard holds the last number it covers. Says `opened`, then each number once its
 * commit is acknowledged, then `refused FAULT` when one is not, and ends.
 */
const SHARDS = [0, 1, 2, 3]
const UNDER_WAY_MAX = 5
const SNAPSHOT_EVERY = 40

const [directory, level, bytes] = process.argv.slice(2)
const store = await openLmdbStore({
  directory: directory!,
  shardCount: SHARDS.length,
  clusterName: 'fixture',
  level: level as 'stored' | 'fsynced',
  trimBytesMin: 10_000,
})

let last = 0
await Promise.all(SHARDS.map(shard => store.recover(shard, (_, entry) => (last = Math.max(last, Buffer.from(entry).readUInt32BE())))))
process.stdout.write('opened\n')

function padded(number: number): Buffer {
  const entry = Buffer.alloc(4 + ((number * 7919) % (2 * Number(bytes))), number)
  entry.writeUInt32BE(number)
  return entry
}

let underWay = 0
let refused = false

function refuse(error: unknown): void {
  if (refused) return
  refused = true
  process.stdout.write(`refused ${(error as { fault?: string }).fault}\n`, () => process.exit())
}

async function snapshot(shard: number): Promise<void> {
  const writer = store.beginSnapshot(shard)
  await writer.write(padded(last))
  await writer.finish()
}

function commitSome(): void {
  while (underWay < UNDER_WAY_MAX && !refused) {
    const number = ++last
    underWay++
    const ended = (): void => {
      underWay--
      process.stdout.write(`${number}\n`)
      setImmediate(commitSome)
    }
    store.commit(SHARDS.map(shard => ({ shard, bytes: padded(number) }))).then(ended, refuse)
    if (number % SNAPSHOT_EVERY < SHARDS.length) snapshot(number % SNAPSHOT_EVERY).catch(refuse)
  }
}

commitSome()
