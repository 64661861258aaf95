import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeBroker } from '../../client/fake-broker.contract.ts'
import { openStoreUnderTest, type StoreUnderTest } from '../../client/store-under-test.contract.ts'
import { check } from './checker.ts'
import { Workload } from './workload.ts'

const ORDER = { operations: 200, keys: 5 }
const CLIENTS = 8

describe('the store', () => {
  let subject: StoreUnderTest
  let workload: Workload
  beforeAll(async () => {
    subject = await openStoreUnderTest()
    workload = await Workload.open([subject.url], CLIENTS)
  })
  afterAll(async () => {
    await workload[Symbol.asyncDispose]()
    await subject[Symbol.asyncDispose]()
  })

  test.each([1, 2, 3])('is linearizable: seed %i', async seed => {
    const history = await workload.run({ ...ORDER, seed })
    expect(check(history)).toEqual([])
    expect(history.filter(({ result }) => result === null)).toEqual([])
    // A history in which nothing meets shows nothing.
    const kinds = new Set(history.map(({ action, result }) => `${action.is} ${result?.is}`))
    expect([...kinds]).toEqual(expect.arrayContaining(['get value', 'get missing', 'set done', 'set differs', 'del done', 'vdel done']))
  })

  test.each([4, 5, 6])('is linearizable while connections are cut: seed %i', async seed => {
    const history = await workload.run({ ...ORDER, seed, disturbances: 3, disturb: random => workload.cutOne(random) })
    expect(check(history)).toEqual([])
    expect(history.length).toBeGreaterThan(150)
  })
})

describe('a store that is wrong is found out', () => {
  test.each(['stale-read', 'lost-update', 'double-nx', 'no-fencing', 'version-back'] as const)('%s', async defect => {
    await using broker = await FakeBroker.start({ defect })
    await using workload = await Workload.open([broker.url], CLIENTS)
    expect(check(await workload.run({ ...ORDER, seed: 1 }))).not.toEqual([])
  })
})
