import { expect, test } from 'vitest'
import type { ShardStore } from '../shard-store.ts'
import { type StoreUnderTest, describeShardStore, entry, faultOf, recovered } from '../shard-store.contract.ts'
import { type KeepingStore, openKeepingStore, openMemoryStore } from './memory-store.ts'

function keeping(): StoreUnderTest {
  let store: KeepingStore | undefined
  const crash = async (): Promise<ShardStore> => (store = store!.crashCopy())
  return {
    open: async options => (store = openKeepingStore({ shardCount: options?.shardCount ?? 3 })),
    restart: async () => {
      await store!.close()
      return crash()
    },
    crash,
    dispose: async () => {},
  }
}

describeShardStore('memory, keeping', keeping)

test('what happens after a crash copy was taken is not in it', async () => {
  const store = openKeepingStore({ shardCount: 1 })
  await store.commit([entry(0, 'before')])
  const copy = store.crashCopy()
  await store.commit([entry(0, 'after')])
  await store.beginSnapshot(0).finish()
  expect(await recovered(copy, 0)).toEqual(['log:before'])
})

test('the memory store takes everything and keeps nothing', async () => {
  const store = openMemoryStore({ shardCount: 2 })
  expect([store.level, store.shardCount]).toEqual(['memory', 2])
  await store.commit([entry(0, 'a')])
  const snapshot = store.beginSnapshot(0)
  await snapshot.write(Buffer.from('b'))
  await snapshot.finish()
  expect(await recovered(store, 0)).toEqual([])
  expect(store.logBytes(0)).toBe(0)
  await store.close()
  expect(await faultOf(store.commit([entry(0, 'a')]))).toBe('closed')
  expect(await faultOf(store.recover(0, () => {}))).toBe('closed')
})
