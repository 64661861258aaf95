import { ClientPort as FrontendPort } from '../../frontend/client-port.ts'
import { Backend } from '../../backend/backend.ts'
import { Frontend } from '../../frontend/frontend.ts'
import { noAuthentication } from '#shared/rpc/no-authentication.ts'
import { OPEN_TO_ALL } from '#shared/rpc/port-rules.ts'
import type { Turn } from '#shared/base/turn.ts'
import { TopicCache } from '#shared/mqtt/topic.ts'
import type { History } from './history.ts'
import { SimRedis } from './sim-redis.ts'
import { SimStore, type SimStoreOptions } from './sim-store.ts'
import type { ClientPort } from './sim-transport.ts'
import type { SystemUnderTest } from './simulation.ts'
import { LIMITS, SILENT_LOG } from './surroundings.ts'
import { SimProcess, type World } from './world.ts'

const SHARDS_MAX = 4
const TICK_MS = 100

/** Frontend and backend in one process, as `millrace start` has them, on a store that outlives it. */
export class SimStandalone implements SystemUnderTest {
  readonly level = 'standalone'
  readonly #world: World
  readonly #history: History
  readonly #redis: SimRedis
  readonly #storeOptions: Partial<SimStoreOptions>
  #running: { readonly process: SimProcess; readonly port: ClientPort | null }
  #runs = 0

  constructor(world: World, history: History, storeOptions: Partial<SimStoreOptions>) {
    this.#world = world
    this.#history = history
    this.#storeOptions = storeOptions
    this.#redis = new SimRedis(world, world.random.int(1, SHARDS_MAX))
    this.#running = { process: this.#begin(), port: null }
  }

  get ports(): readonly ClientPort[] {
    return this.#running.port === null ? [] : [this.#running.port]
  }

  figures(): ReadonlyMap<string, number> {
    return new Map([['processes', this.#runs]])
  }

  breakSomething(): void {
    const { random } = this.#world
    const { process } = this.#running
    const ms = random.int(10, 1_200)
    switch (random.pick(['kill', 'pause', 'outage'] as const)) {
      case 'kill':
        this.#history.add({ is: 'fault', kind: 'kill', what: `kill ${process.instance}` })
        process.kill()
        this.#world.after(ms, () => this.#restart())
        return
      case 'pause':
        this.#history.add({ is: 'fault', kind: 'pause', what: `${process.instance} stands still for ${ms} ms` })
        process.pause()
        this.#world.after(ms, () => process.resume())
        return
      case 'outage':
        this.#history.add({ is: 'fault', kind: 'redisOutage', what: `the store is out of reach for ${ms} ms` })
        this.#redis.goDown(ms)
    }
  }

  heal(): void {
    this.#running.process.resume()
    if (this.#running.process.isDead) this.#restart()
  }

  #restart(): void {
    if (!this.#running.process.isDead) return
    this.#running = { process: this.#begin(), port: null }
  }

  #begin(): SimProcess {
    const process = new SimProcess(this.#world, 'standalone', `standalone-${++this.#runs}`)
    process.arrive(1, () => {
      this.#open(process).catch((error: unknown) => this.#world.failures.push({ process: process.instance, error }))
    })
    return process
  }

  async #open(process: SimProcess): Promise<void> {
    const store = new SimStore(this.#redis, process, { level: 'stored', memberId: 'standalone', ...this.#storeOptions })
    for (let shard = 0; shard < store.shardCount; shard++) await store.claim(shard, (await store.ownerOf(shard))?.epoch ?? 0)
    const steps: (() => void)[] = []
    const turn: Turn = process.turn(steps)
    const topics = new TopicCache({ topicsMax: 1_000, levelsMax: 128 })
    const parts = { settings: LIMITS, clock: process.clock, turn, topics, log: SILENT_LOG }
    const backend = await Backend.open({
      ...parts,
      store,
      onFailure: error => this.#world.failures.push({ process: process.instance, error }),
    })
    const frontend = new Frontend({ ...parts, backend, authentication: noAuthentication, random: process.random })
    steps.push(backend.endTurn, frontend.endTurn)
    process.every(TICK_MS, () => {
      backend.tick()
      frontend.deadlines.tick()
    })
    const port: ClientPort = {
      process,
      isReady: true,
      onTransport: transport => frontend.onTransport(transport, new FrontendPort('simulated', OPEN_TO_ALL)),
    }
    this.#running = { process, port }
  }
}
