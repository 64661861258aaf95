import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { compareHybridTimes, type HybridTime, parseHybridTime } from '../../client/hybrid-clock.ts'
import { StateStore } from '../../client/state-store.ts'
import { freshName } from '../../client/store-under-test.contract.ts'
import type { KeyEvent, Watch } from '../../client/watch.ts'
import { CLOCK_SLACK_MS } from '../linearizability/key-model.ts'
import { StoreCluster } from '../linearizability/store-cluster.ts'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'

const TIMEOUT_MS = 90_000
const TTL_MS = 4_000
/** Longer than any failover takes. */
const LONG_TTL_MS = 30_000
const SHARDS = 32
const CONTENDER = fileURLToPath(import.meta.resolve('./contender.ts'))

let cluster: StoreCluster
beforeAll(async () => {
  cluster = await StoreCluster.start()
}, TIMEOUT_MS)
afterAll(() => cluster[Symbol.asyncDispose]())

const running = new Set<ChildProcess>()
afterEach(() => {
  for (const child of running) child.kill('SIGKILL')
  running.clear()
})

/** A process that wants the lock. */
class Contender {
  readonly #child: ChildProcessByStdio<null, Readable, null>
  readonly #lines: AsyncIterator<string>

  constructor(frontend: number, lock: string, protectedKey: string, ttlMs = TTL_MS) {
    const args = [CONTENDER, cluster.urls[frontend]!, lock, protectedKey, `${ttlMs}`]
    this.#child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    running.add(this.#child)
  }

  /** The next thing that it says, which is this. @returns the token with it */
  async says(word: string): Promise<string> {
    const { value } = await this.#lines.next()
    const [said, token] = String(value).split(' ')
    expect(said).toBe(word)
    return token ?? ''
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

/** The next event that is no renewal by `holder`. */
async function nextBut(watch: Watch, holder: string | null): Promise<{ readonly event: KeyEvent; readonly lastSet: HybridTime | null }> {
  let lastSet: HybridTime | null = null
  for (let event = await watch.next(); event !== null; event = await watch.next()) {
    if (event.is !== 'set' || Buffer.from(event.value).toString() !== holder) return { event, lastSet }
    lastSet = event.version
  }
  throw new Error('the watch has ended')
}

function keyOfShard(shard: number): string {
  for (;;) {
    const key = freshName('marker')
    if (storeShardOf(key, SHARDS) === shard) return key
  }
}

test('the lock of a holder that was killed passes on when its lease ends, and its token writes nothing any more', {
  timeout: TIMEOUT_MS,
}, async () => {
  const [lock, protectedKey] = [freshName('lock'), freshName('protected')]
  await using store = await StateStore.connect(cluster.urls[0]!)
  using watch = await store.watch(lock)
  const first = new Contender(0, lock, protectedKey)
  await first.says('waits')
  const firstToken = await first.says('holds')
  await first.says('wrote')
  const holder = (await store.get(lock))!.text
  const second = new Contender(1, lock, protectedKey)
  await second.says('waits')

  await first.kill()
  // A lease that began after the last renewal of the lock, in the same shard: it ends later than the lock may be held.
  const marker = keyOfShard(storeShardOf(lock, SHARDS))
  using markerWatch = await store.watch(marker)
  await store.set(marker, 'x', { pxMs: TTL_MS })
  const ends: string[] = []
  const markerEnds = nextBut(markerWatch, 'x').then(() => ends.push('marker'))
  const { event: end, lastSet } = await nextBut(watch, holder)
  ends.push('lease')
  expect(end.is).toBe('deleted')
  const { event: next } = await nextBut(watch, null)
  const secondToken = await second.says('holds')
  await markerEnds
  expect(ends, 'the lease ends within its time after the kill').toEqual(['lease', 'marker'])

  // Nobody had it in between, and nobody before its time was over.
  expect(next).toMatchObject({ is: 'set', version: parseHybridTime(secondToken) })
  expect((end as { version: HybridTime }).version.wallMs - lastSet!.wallMs).toBeGreaterThanOrEqual(TTL_MS - CLOCK_SLACK_MS)
  expect(compareHybridTimes(parseHybridTime(secondToken), lastSet!)).toBeGreaterThan(0)

  await second.says('wrote')
  for (const token of [parseHybridTime(firstToken), lastSet!]) {
    await expect(store.set(protectedKey, 'too late', { fencingToken: token })).rejects.toMatchObject({
      name: 'FencingTokenOutdatedError',
      message: 'the request fencing token is a lower version than the fencing token protecting the resource',
    })
  }
  await expect(store.set(protectedKey, 'without')).rejects.toThrow(/^a fencing token is required for this request$/)
  const kept = await store.get(protectedKey)
  expect(kept!.text).not.toBe('too late')
  expect(kept!.text).toBe(Buffer.from((next as { value: Uint8Array }).value).toString())
})

test('a lock is held through the deaths of backends', { timeout: TIMEOUT_MS }, async () => {
  const [lock, protectedKey] = [freshName('lock'), freshName('protected')]
  await using store = await StateStore.connect(cluster.urls[1]!)
  using watch = await store.watch(lock)
  const holder = new Contender(0, lock, protectedKey, LONG_TTL_MS)
  await holder.says('waits')
  const token = await holder.says('holds')
  await holder.says('wrote')
  const before = await store.get(lock)
  expect(before).toMatchObject({ version: parseHybridTime(token) })
  for (const seed of [1, 2, 3]) await cluster.kill('backends', new SeededRandom(seed))
  await cluster.isBack()
  expect(await store.get(lock)).toMatchObject({ text: before!.text })
  expect(await store.set(lock, 'another', { condition: 'NEX' })).toMatchObject({ isSet: false })
  await expect(store.set(protectedKey, 'without')).rejects.toThrow(/^a fencing token is required for this request$/)
  await store.delete(lock)
  const { event } = await nextBut(watch, before!.text)
  expect(event.is, 'what was watched before the failovers').toBe('deleted')
})
