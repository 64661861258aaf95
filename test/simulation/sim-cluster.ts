import { FAULTS, type FaultName, ISLAND_PAUSE_MS } from './faults.ts'
import type { History } from './history.ts'
import type { Mutation, Scenario } from './mutations.ts'
import { SimBackend } from './sim-backend.ts'
import { SimFrontend } from './sim-frontend.ts'
import { SimNetwork } from './sim-network.ts'
import { SimRedis } from './sim-redis.ts'
import type { ClientPort } from './sim-transport.ts'
import type { SystemUnderTest } from './simulation.ts'
import type { Surroundings } from './surroundings.ts'
import { SimProcess, type World } from './world.ts'

/** A member of the cluster over its runs: a pod. */
export interface Pod {
  readonly role: 'frontend' | 'backend'
  readonly id: string
  process: SimProcess | null
  frontend: SimFrontend | null
  backend: SimBackend | null
  runs: number
}

/** As often as they are here. */
const LEVELS = ['replicated', 'replicated', 'replicated', 'stored', 'memory'] as const
const HARMLESS: readonly FaultName[] = ['drain', 'slowNetwork', 'cutLinks']

/** Frontends, backends and their Redis, of a random number and speed. */
export class SimCluster implements SystemUnderTest {
  readonly world: World
  readonly history: History
  readonly network: SimNetwork
  readonly redis: SimRedis
  readonly surroundings: Surroundings
  readonly pods: Pod[] = []
  /** From then on there may be another island. */
  islandFromMs = ISLAND_PAUSE_MS
  readonly isDivided: boolean
  readonly #faults: readonly FaultName[]
  /** Of all runs. */
  readonly #processes: (SimFrontend | SimBackend)[] = []

  constructor(world: World, history: History, mutation: Mutation, scenario: Scenario = {}) {
    const { random } = world
    this.world = world
    this.isDivided = scenario.isDivided ?? false
    this.history = history
    this.network = new SimNetwork(world)
    this.network.delayMsMax = random.pick([0.5, 2, 10])
    this.network.creditBytes = random.pick([2_000, 20_000, 1_000_000])
    const shardCount = random.int(4, 8)
    this.redis = new SimRedis(world, shardCount)
    this.redis.delayMsMax = random.pick([0.5, 2, 10])
    this.redis.lagMsMax = random.pick([1, 5, 50])
    const level = scenario.level ?? random.pick(LEVELS)
    this.surroundings = { world, history, network: this.network, redis: this.redis, shardCount, level, mutation }
    for (let number = scenario.frontends ?? random.int(1, 3); number > 0; number--) this.#add('frontend', `f${number}`)
    for (let number = scenario.backends ?? random.int(1, 4); number > 0; number--) this.#add('backend', `b${number}`)
    // Not every kind in every run, so that runs differ. Without a store only planned moves keep what is acknowledged.
    const possible = level === 'memory' ? HARMLESS : (Object.keys(FAULTS) as FaultName[])
    const names = possible.filter(name => scenario.faults?.includes(name) ?? true)
    const chosen = names.filter(() => random.chance(0.5))
    this.#faults = chosen.length > 0 ? chosen : names.length > 0 ? names : possible
    history.add({
      is: 'fault',
      kind: 'note',
      what: `${this.pods.map(({ id }) => id).join(' ')}, ${shardCount} shards, ${level}, faults: ${this.#faults.join(', ')}`,
    })
    for (const pod of this.pods) world.after(world.between(0, random.chance(0.2) ? 4_000 : 100), () => this.start(pod))
  }

  get level(): string {
    return this.surroundings.level
  }

  figures(): ReadonlyMap<string, number> {
    const figures = new Map<string, number>()
    for (const process of this.#processes) {
      for (const [name, value] of process.figures) figures.set(name, (figures.get(name) ?? 0) + value)
    }
    return figures
  }

  get ports(): readonly ClientPort[] {
    return this.pods.flatMap(({ frontend }) => (frontend === null ? [] : [frontend]))
  }

  #add(role: Pod['role'], id: string): void {
    this.pods.push({ role, id, process: null, frontend: null, backend: null, runs: 0 })
  }

  start(pod: Pod): void {
    if (pod.process !== null && !pod.process.isDead) return
    const process = new SimProcess(this.world, pod.id, `${pod.id}-${++pod.runs}`)
    pod.process = process
    process.arrive(1, () => {
      if (pod.role === 'frontend') pod.frontend = new SimFrontend(this.surroundings, process, pod.id)
      else pod.backend = new SimBackend(this.surroundings, process, pod.id)
      this.#processes.push((pod.role === 'frontend' ? pod.frontend : pod.backend)!)
    })
  }

  breakSomething(): void {
    const { random } = this.world
    FAULTS[random.pick(this.#faults)](this)
  }

  note(kind: FaultName, what: string): void {
    this.history.add({ is: 'fault', kind, what })
  }

  heal(): void {
    this.network.healAll()
    this.redis.delayMsMax = Math.min(this.redis.delayMsMax, 10)
    for (const { id } of this.pods) for (const name of [id, `registry ${id}`]) this.redis.letIn(name)
    for (const pod of this.pods) {
      pod.process?.resume()
      this.start(pod)
    }
  }
}
