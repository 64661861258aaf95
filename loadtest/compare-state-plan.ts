import type { AuthRow } from './compare-auth-plan.ts'

const MEMORY_MAX = 2.5
const STORED_MAX = 4

/** What one standalone broker does in turn in each round, by the store that it has. */
export const memoryPeers = ['memory-publish', 'memory-set', 'memory-get'] as const
export const storedPeers = ['lmdb-publish', 'lmdb-set', 'lmdb-get'] as const

export const statePlan: readonly AuthRow[] = [
  {
    key: 'state',
    title: '100 clients, 20 in flight, values of 128 B',
    scenario: 'pairs',
    set: { protocol: 5, qos: 1, sizeBytes: 128 },
    scenarioFor: { 'memory-set': 'state-set', 'lmdb-set': 'state-set', 'memory-get': 'state-get', 'lmdb-get': 'state-get' },
    goals: [
      { figure: 'cost', subject: 'memory-set', reference: 'memory-publish', max: MEMORY_MAX },
      { figure: 'cost', subject: 'memory-get', reference: 'memory-publish', max: MEMORY_MAX },
      { figure: 'cost', subject: 'lmdb-set', reference: 'memory-publish', max: STORED_MAX },
      { figure: 'cost', subject: 'lmdb-get', reference: 'memory-publish', max: STORED_MAX },
      { figure: 'cost', subject: 'lmdb-set', reference: 'lmdb-publish' },
      { figure: 'cost', subject: 'lmdb-get', reference: 'lmdb-publish' },
    ],
  },
]
