import { describe, expect, test } from 'vitest'
import { ownersOf } from '#shared/cluster/rendezvous.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { ClusterSim, type SimBackend } from './cluster-sim.contract.ts'

const SHARDS = 16
const BACKENDS_MAX = 5
const ROUNDS = 40
/** Longest lease, backoff of the registry, then all shards two at a time. */
const HEALED_MS = 25_000

/** Two to five backends, and everything that may befall them. */
class Scene {
  readonly sim: ClusterSim
  readonly #random: SeededRandom
  readonly #areEvictedWrongly: boolean
  readonly #draining = new Set<SimBackend>()
  readonly history: string[] = []

  constructor(seed: number, options: { areEvictedWrongly: boolean; isLeaseIgnored?: boolean }) {
    this.#random = new SeededRandom(seed)
    this.sim = new ClusterSim(this.#random, SHARDS)
    this.sim.isLeaseIgnored = options.isLeaseIgnored ?? false
    this.#areEvictedWrongly = options.areEvictedWrongly
  }

  async run(): Promise<void> {
    this.#join()
    this.#join()
    for (let round = 0; round < ROUNDS; round++) {
      this.#disturb()
      await this.sim.run(this.#random.pick([10, 100, 500, 1_500, 4_000]), this.#random.pick([5, 10, 25]))
    }
    await this.#heal()
  }

  get #living(): readonly SimBackend[] {
    return this.sim.backends.filter(each => each.state !== 'dead' && !this.#draining.has(each))
  }

  #join(): void {
    const free = Array.from({ length: BACKENDS_MAX }, (_, index) => `b${index}`).filter(
      id => !this.sim.backends.some(each => each.id === id),
    )
    if (free.length === 0) return
    const id = this.#random.pick(free)
    this.history.push(`join ${id}`)
    this.sim.add(id)
  }

  #disturb(): void {
    const { sim } = this
    const backend = this.#living.length === 0 ? null : this.#random.pick(this.#living)
    const what = this.#random.int(0, 11)
    if (what <= 1 || backend === null) this.#join()
    else if (what === 2) this.#kill(backend)
    else if (what === 3) this.#drain(backend)
    else if (what === 4) this.#note(`pause ${backend.id}`, () => backend.pause())
    else if (what === 5) for (const each of sim.backends) this.#note(`resume ${each.id}`, () => each.resume())
    else if (what === 6) this.#note(`cut off ${backend.id}`, () => sim.cutOff.add(backend.id))
    else if (what === 7) this.#note('registry back', () => sim.cutOff.clear())
    else if (what === 8 && this.#random.chance(0.3)) this.#note('registry gone', () => sim.cutOff.add('*'))
    else if (what === 9 && this.#random.chance(0.4)) this.#note('store gone', () => sim.stopStore())
    else if (what === 10) this.#note('store back', () => sim.startStore())
    else this.#setSpeed()
    if (this.#areEvictedWrongly && backend !== null && this.#random.chance(0.2)) this.#evict(backend)
  }

  #note(what: string, act: () => void): void {
    this.history.push(what)
    act()
  }

  #setSpeed(): void {
    const pick = (): number => this.#random.pick([0, 1, 10, 100, 900])
    this.sim.speed = { registryMs: pick(), storeMs: pick(), hostMs: pick() }
    this.history.push(`speed ${JSON.stringify(this.sim.speed)}`)
  }

  #kill(backend: SimBackend): void {
    if (this.#living.length < 2) return
    this.history.push(`kill ${backend.id}`)
    this.sim.remove(backend)
    if (this.#random.chance(0.5)) this.#evict(backend)
  }

  #evict(backend: SimBackend): void {
    const others = this.#living.filter(each => each !== backend && each.state === 'running')
    if (others.length === 0) return
    this.history.push(`evict ${backend.id}`)
    void this.#random.pick(others).membership.evict(backend.id, backend.instance)
  }

  #drain(backend: SimBackend): void {
    if (this.#living.length < 2) return
    this.history.push(`drain ${backend.id}`)
    this.#draining.add(backend)
    void backend.ownership.drain(this.#random.pick([0, 1_000, 20_000])).then(async () => {
      // What is owned no longer must not be answered for: see check().
      if (backend.ownership.owned().length > 0) this.sim.violate('notDrained', backend.instance)
      await backend.membership.leave()
      this.sim.remove(backend)
      this.#draining.delete(backend)
    })
  }

  async #heal(): Promise<void> {
    const { sim } = this
    this.history.push('heal')
    for (const backend of sim.backends) backend.resume()
    sim.cutOff.clear()
    sim.startStore()
    sim.speed = { registryMs: 5, storeMs: 5, hostMs: 20 }
    await sim.run(HEALED_MS, 10)
  }
}

function expectHealed(scene: Scene): void {
  const { sim } = scene
  const ids = sim.backends.map(backend => backend.id)
  expect(sim.owners()).toEqual(ownersOf(SHARDS, ids))
  for (const backend of sim.backends) {
    expect(backend.ownership.problems()).toEqual([])
    expect(backend.ownership.isReady).toBe(true)
    expect(backend.prepared.size).toBe(0)
    expect([...backend.serving.keys()].sort((a, b) => a - b)).toEqual(backend.ownership.owned().map(({ shard }) => shard))
  }
}

/** Whoever asks for what is not theirs gets nothing, and it stays where it is. */
async function expectNothingGivenAway(scene: Scene): Promise<void> {
  const { sim } = scene
  const owners = sim.owners()
  const answers = sim.backends.flatMap(backend =>
    backend.ownership
      .owned()
      .flatMap(({ shard }) => ['b0', 'b9'].filter(id => id !== backend.id).map(from => backend.ownership.onRequestShard(from, shard))),
  )
  await sim.run(1_000)
  expect(new Set(await Promise.all(answers))).toEqual(new Set([false]))
  expect(sim.owners()).toEqual(owners)
}

const SEEDS = Array.from({ length: 40 }, (_, index) => index + 1)

describe('whatever happens to the processes', () => {
  test.each(SEEDS)('no shard is served twice, epochs grow, and all is owned again: seed %i', async seed => {
    const scene = new Scene(seed, { areEvictedWrongly: false })
    await scene.run()
    expect(scene.sim.violations, scene.history.join('; ')).toEqual([])
    expectHealed(scene)
    await expectNothingGivenAway(scene)
  })

  test.each(SEEDS.slice(0, 10))('wrong evictions: no epoch is served twice, and all is owned again by one: seed %i', async seed => {
    const scene = new Scene(seed, { areEvictedWrongly: true })
    await scene.run()
    expect(scene.sim.violations.filter(({ kind }) => kind !== 'servedTwice' && kind !== 'olderEpoch')).toEqual([])
    expectHealed(scene)
  })

  test('the check notices backends that go on without a lease', async () => {
    let violations = 0
    for (const seed of SEEDS.slice(0, 10)) {
      const scene = new Scene(seed, { areEvictedWrongly: false, isLeaseIgnored: true })
      await scene.run()
      violations += scene.sim.violations.length
    }
    expect(violations).toBeGreaterThan(0)
  })

  test('what must be tried is tried', async () => {
    const events = new Set<string>()
    for (const seed of SEEDS.slice(0, 20)) {
      const scene = new Scene(seed, { areEvictedWrongly: true })
      await scene.run()
      for (const { ownership } of scene.sim.backends) {
        for (const [name, count] of Object.entries(ownership.counters)) if (count > 0) events.add(name)
      }
    }
    expect([...events].sort()).toEqual(['claims', 'failovers', 'fenced', 'lapses', 'moves', 'released'])
  })
})
