import { describe, expect, test } from 'vitest'
import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { FakeCluster } from './fake-cluster.contract.ts'

const SHARDS = 5
const BACKENDS = 3
const PUBLISHERS = 3
const STEPS = 600
const SEEDS = Number(process.env['MODEL_SEEDS'] ?? 25)

const TOPICS = ['a/1', 'a/2', 'b/1', 'c']
const FILTERS = ['a/1', 'a/+', 'b/#', '#', 'c', '+/1']

interface Chances {
  readonly crash: number
  readonly close: number
  readonly claim: number
}

function act(cluster: FakeCluster, random: SeededRandom, chances: Chances): void {
  const backend = random.pick(cluster.backends)
  const shard = random.int(0, SHARDS - 1)
  if (random.chance(chances.crash)) return cluster.crash(backend)
  if (random.chance(chances.close) && backend.link !== null) return cluster.closeLink(backend.link)
  if (random.chance(chances.claim)) return cluster.claim(shard, backend)
  switch (random.int(0, 11)) {
    case 0:
      return cluster.openLink(backend)
    case 1:
      return cluster.shards[shard]!.owner === null ? cluster.claim(shard, backend) : undefined
    case 2:
      return random.chance(0.3) ? cluster.move(shard, backend) : undefined
    case 3:
      return cluster.subscribe(shard, random.pick(FILTERS))
    case 4:
      return random.chance(0.3) ? cluster.unsubscribe(shard, random.pick(FILTERS)) : undefined
    case 5:
      if (backend.link !== null) backend.link.isSilent = random.chance(0.2)
      if (backend.link !== null) cluster.router.onCongestion(backend.link.link, random.chance(0.3))
      return cluster.pass(random.pick([10, 50, 250, 600]), random.chance(0.8))
    default:
      return cluster.publish(random.int(1, PUBLISHERS), random.pick(TOPICS), random.chance(0.8) ? 1 : 0)
  }
}

/** No more faults: everything comes to its end. */
function settle(cluster: FakeCluster): void {
  for (let round = 0; round < 30; round++) {
    for (const backend of cluster.backends) {
      cluster.openLink(backend)
      backend.link!.isSilent = false
      cluster.router.onCongestion(backend.link!.link, false)
    }
    cluster.shards.forEach((state, shard) => {
      if (state.owner === null || state.owner.owns.get(shard) !== state.epoch) cluster.claim(shard, cluster.backends[0]!)
    })
    cluster.pass(250, true)
    while (cluster.step());
  }
}

function checkAll(cluster: FakeCluster, seed: number): void {
  for (const one of cluster.published) {
    expect(one.answers.length, `seed ${seed}: answers to ${one.text}`).toBe(1)
    if (isFailure(one.answers[0]!)) continue
    const reached = cluster.shards.flatMap((state, shard) =>
      state.log.some(arrival => arrival.isMatch && arrival.text === one.text) ? [shard] : [],
    )
    for (const { shard, subscription } of one.mustReach) {
      if (!subscription.isGone) expect(reached, `seed ${seed}: shard ${shard} for ${one.text}`).toContain(shard)
    }
    if (one.answers[0] === ReasonCode.Success) expect(reached.length).toBeGreaterThan(0)
  }
  for (const state of cluster.shards) {
    const last = new Map<string, number>()
    const seen = new Set<string>()
    for (const { text } of state.log) {
      if (seen.has(text)) continue
      seen.add(text)
      const [publisher, topic, qos, number] = text.split(' ') as [string, string, string, string]
      const key = `${publisher} ${topic} ${qos}`
      expect(Number(number), `seed ${seed}: order of ${text}`).toBeGreaterThanOrEqual(last.get(key) ?? 0)
      last.set(key, Number(number))
    }
  }
  expect(cluster.router.pendingBytes, `seed ${seed}: bytes`).toBe(0)
}

function run(seed: number, chances: Chances): FakeCluster {
  const random = new SeededRandom(seed)
  const cluster = new FakeCluster(random, { shards: SHARDS, backends: BACKENDS, limits: { flushBytesPerTurn: 2_000 } })
  for (const backend of cluster.backends) cluster.openLink(backend)
  cluster.shards.forEach((_, shard) => cluster.claim(shard, random.pick(cluster.backends)))
  // Some clients publish again as soon as they are answered.
  cluster.onAcknowledged = publisher => {
    if (publisher === 1 && cluster.published.length < 1_000 && random.chance(0.3)) cluster.publish(1, random.pick(TOPICS), 1)
  }
  for (let step = 0; step < STEPS; step++) {
    act(cluster, random, chances)
    for (let steps = random.int(0, 6); steps > 0; steps--) cluster.step()
  }
  settle(cluster)
  return cluster
}

describe('publishes through shards that move', () => {
  test.each([
    ['planned moves', { crash: 0, close: 0, claim: 0 }],
    ['links that break', { crash: 0, close: 0.02, claim: 0 }],
    ['crashes', { crash: 0.01, close: 0.01, claim: 0 }],
    ['owners that are replaced without knowing', { crash: 0.005, close: 0.01, claim: 0.02 }],
  ] as const)('%s: answered once, no subscriber missed, in order', (_name, chances) => {
    for (let seed = 1; seed <= SEEDS; seed++) checkAll(run(seed, chances), seed)
  })

  test('the scenarios do move, hold and repeat messages', () => {
    const counters = run(3, { crash: 0.005, close: 0.01, claim: 0.02 }).router.counters
    expect(counters.publishesHeld).toBeGreaterThan(0)
    expect(counters.publishesResent).toBeGreaterThan(0)
    let moved = 0
    for (let seed = 1; seed <= 10; seed++) moved += run(seed, { crash: 0, close: 0, claim: 0 }).router.counters.publishesMoved
    expect(moved).toBeGreaterThan(0)
  })
})
