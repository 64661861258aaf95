import { expect, test } from 'vitest'
import { BackendRig } from '../backend-rig.contract.ts'
import { openKeepingStore } from '../store/memory/memory-store.ts'
import { StoreError, type ShardStore, type SnapshotWriter } from '../store/shard-store.ts'

/** Two shards that are both due; snapshots of the first find the disk full while `isFull`. */
class FullStore implements ShardStore {
  readonly level = 'stored'
  readonly shardCount = 2
  readonly begun: number[] = []
  readonly finished: number[] = []
  isFull = true
  readonly #kept = openKeepingStore({ shardCount: 2 })

  readonly recover: ShardStore['recover'] = (shard, visit) => this.#kept.recover(shard, visit)
  readonly commit: ShardStore['commit'] = entries => this.#kept.commit(entries)
  readonly close: ShardStore['close'] = () => this.#kept.close()

  beginSnapshot(shard: number): SnapshotWriter {
    this.begun.push(shard)
    const writer = this.#kept.beginSnapshot(shard)
    return {
      write: chunk => (this.isFull && shard === 0 ? Promise.reject(new StoreError('full', 'the disk is full')) : writer.write(chunk)),
      finish: () => {
        this.finished.push(shard)
        return writer.finish()
      },
      abandon: () => writer.abandon(),
    }
  }

  logBytes(shard: number): number {
    return this.finished.includes(shard) ? 0 : Number.MAX_SAFE_INTEGER
  }
}

test('a snapshot that fails is tried again after 1 s, 2 s … 60 s, and the other shards have theirs meanwhile', async () => {
  const store = new FullStore()
  const rig = await BackendRig.open({ store })
  await rig.advance(100)
  await rig.advance(100)
  expect(store.begun).toEqual([0, 1])
  expect(store.finished).toEqual([1])

  store.begun.length = 0
  const attemptsAtMs: number[] = []
  const startMs = rig.clock.monotonicMs()
  while (rig.clock.monotonicMs() < startMs + 250_000) {
    await rig.advance(100)
    if (store.begun.length > attemptsAtMs.length) attemptsAtMs.push(rig.clock.monotonicMs())
  }
  const waits = attemptsAtMs.slice(1).map((atMs, i) => atMs - attemptsAtMs[i]!)
  expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000])

  store.isFull = false
  await rig.advance(60_000)
  expect(store.finished).toEqual([1, 0])
})
