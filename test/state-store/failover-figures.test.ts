import { expect, test } from 'vitest'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { keysOf, SHARDS } from './failover-figures.ts'

test('keys of one shard, each another, of 16 bytes', () => {
  const keys = keysOf(3, 200)
  expect(new Set(keys.map(key => key.toString())).size).toBe(200)
  expect(keys.every(key => key.length === 16 && storeShardOf(key.toString('latin1'), SHARDS) === 3)).toBe(true)
})
