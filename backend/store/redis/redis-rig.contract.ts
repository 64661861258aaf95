import { randomUUID } from 'node:crypto'
import { expect } from 'vitest'
import { parseRedisUrl, type RedisUrl } from '#shared/config/redis-url.ts'
import { Refusal } from '#shared/config/setting.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import type { ClusterStore } from '../shard-store.ts'
import { entry } from '../shard-store.contract.ts'
import { openRedisStore, type RedisStore, type RedisStoreOptions } from './redis-store.ts'

export function urlOf(text: string): RedisUrl {
  const url = parseRedisUrl(text)
  if (url instanceof Refusal) throw new Error(url.message)
  return url
}

/** Stores of one cluster for a test, closed together. */
export class RedisRig {
  readonly log = new RecordingLog()
  readonly #common: RedisStoreOptions
  readonly #opened: RedisStore[] = []

  constructor(url: string, options: Partial<RedisStoreOptions> = {}) {
    this.#common = {
      url: urlOf(url),
      shardCount: 3,
      clusterName: `test ${randomUUID()}`,
      level: 'stored',
      redundancyFactor: 1,
      owner: { id: 'a', instance: 'a1' },
      log: this.log,
      closeTimeoutMs: 100,
      ...options,
    }
  }

  async open(options: Partial<RedisStoreOptions> = {}): Promise<RedisStore> {
    const store = await openRedisStore({ ...this.#common, ...options })
    this.#opened.push(store)
    return store
  }

  /** A store that owns all shards, after whoever owned them. */
  async openOwner(options: Partial<RedisStoreOptions> = {}): Promise<RedisStore> {
    const store = await this.open({ owner: { id: 'a', instance: randomUUID() }, ...options })
    const shards = Array.from({ length: store.shardCount }, (_, shard) => shard)
    const epochs = await Promise.all(shards.map(async shard => store.claim(shard, (await store.ownerOf(shard))?.epoch ?? 0)))
    expect(epochs).not.toContain(null)
    return store
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#opened.map(store => store.close()))
  }
}

/** Commits numbered entries to every shard, a few commits at a time, until it is stopped; knows which were answered. */
export class Load {
  readonly #store: ClusterStore
  readonly #lanes: Promise<void>[]
  #next = 0
  #isStopped = false
  /** Numbers of commits that were answered. */
  readonly stored = new Set<number>()
  #changed: (() => void)[] = []

  constructor(store: ClusterStore, lanes = 8) {
    this.#store = store
    this.#lanes = Array.from({ length: lanes }, () => this.#run())
  }

  /** Resolves when `count` more commits were answered than now. */
  async more(count: number): Promise<void> {
    const goal = this.stored.size + count
    while (this.stored.size < goal) await new Promise<void>(resolve => this.#changed.push(resolve))
  }

  /** No more commits; resolves when all are answered. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#lanes)
  }

  /** Every shard holds every commit that was answered, each once and in order; others at most once, at their place. */
  async check(reader: ClusterStore): Promise<void> {
    for (let shard = 0; shard < reader.shardCount; shard++) {
      const found: number[] = []
      expect(await reader.read(shard).readOn((_, bytes) => found.push(Number(Buffer.from(bytes).toString())))).toBe(true)
      for (let at = 1; at < found.length; at++)
        if (found[at]! <= found[at - 1]!) expect.fail(`shard ${shard}: ${found[at]} after ${found[at - 1]}`)
      const present = new Set(found)
      expect([...this.stored].filter(number => !present.has(number))).toEqual([])
    }
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      const number = this.#next++
      await this.#store.commit(Array.from({ length: this.#store.shardCount }, (_, shard) => entry(shard, String(number))))
      this.stored.add(number)
      for (const wake of this.#changed.splice(0)) wake()
    }
  }
}
