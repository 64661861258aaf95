import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { ClusterSystem } from './cluster-system.ts'
import type { EventKind } from './events.ts'
import { LiveLoad } from './live-load.ts'
import { fill, inspect, type ManySessions } from './many-sessions.ts'
import { ReturningClients } from './returning-clients.ts'
import { StandaloneSystem } from './standalone-system.ts'
import type { System } from './system.ts'

const USAGE = `Measures what clients notice of a failover: npm run failover -- FLAGS

  --sessions N          persistent sessions of absent clients; default 100000
  --subscriptions N     of each; default 10
  --queued N            messages waiting for each; default 10
  --pairs N             connected publishers of QoS 1, each with a subscriber; default 100
  --clients N           connected to the frontend that is killed; default 5000
  --only LIST           of backend, move, frontend; default all
  --frontends N         default 2
  --backends N          default 2
  --persistence LEVEL   stored or replicated (default)
  --standalone          one process, killed and restarted: tries the load by itself
  --json FILE
  -- FLAGS              given to every process

Exit code 1 when a figure is missed.
`
/** How long the dead backend stays away: others must have taken over by then. */
const ABSENT_MS = 20_000
const SETTLE_MS = 3_000
const AFTERWARDS_MS = 10_000
const SAMPLE = 200
const GAP_FAILOVER_MS = 5_000
const GAP_MOVE_MS = 300
const ALL_BACK_MS = 10_000

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      sessions: { type: 'string', default: '100000' },
      subscriptions: { type: 'string', default: '10' },
      queued: { type: 'string', default: '10' },
      pairs: { type: 'string', default: '100' },
      clients: { type: 'string', default: '5000' },
      only: { type: 'string', default: 'backend,move,frontend' },
      frontends: { type: 'string', default: '2' },
      backends: { type: 'string', default: '2' },
      persistence: { type: 'string', default: 'replicated' },
      standalone: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  return { ...values, flags: positionals }
}

type Arguments = ReturnType<typeof readArguments>

/** One line of the table. */
interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** At most; null: for information. */
  readonly goal: number | null
}

/** Figures (a) and (b) under the same live load, (c) by itself. */
class Figures {
  readonly #given: Arguments
  readonly #system: System
  readonly #only: readonly string[]
  readonly figures: Figure[] = []

  constructor(given: Arguments, system: System) {
    this.#given = given
    this.#system = system
    this.#only = given.only.split(',')
  }

  async measure(): Promise<void> {
    if (this.#only.includes('backend') || this.#only.includes('move')) await this.#measureBackends()
    if (this.#only.includes('frontend') && this.#system instanceof ClusterSystem) await this.#measureFrontend(this.#system)
    this.#add('processes that ended by themselves', this.#system.deaths.length, '', 0)
  }

  async #measureBackends(): Promise<void> {
    const { sessions, subscriptions, queued, pairs } = this.#given
    const plan: ManySessions = {
      sessions: Number(sessions),
      subscriptions: Number(subscriptions),
      queued: Number(queued),
      sessionsPerGroup: 1_000,
    }
    const address = (clientId: string) => this.#system.address(clientId)
    const took = await fill(plan, address)
    print(`${sessions} sessions after ${took.sessionsMs} ms, ${queued} messages queued for each after ${took.queuesMs} ms`)
    const live = new LiveLoad()
    await live.start(Number(pairs), address)
    await sleep(SETTLE_MS)
    const calm = live.take()
    this.#add('calm: median wait for PUBACK', calm.medianMs, 'ms', null)
    this.#add('calm: longest wait for PUBACK', calm.longestMs, 'ms', null)
    if (this.#only.includes('backend')) await this.#disturb(live, 'backend killed', 'kill-backend', GAP_FAILOVER_MS)
    if (this.#only.includes('move')) await this.#disturb(live, 'planned move', 'drain-backend', GAP_MOVE_MS)
    this.#add('acknowledged and not delivered', await live.finish(AFTERWARDS_MS), 'messages', 0)
    const wrong = await inspect(plan, SAMPLE, address)
    for (const each of wrong.slice(0, 10)) print(each)
    this.#add(`of ${Math.min(SAMPLE, plan.sessions)} sessions looked at, wrong`, wrong.length, 'sessions', 0)
  }

  async #disturb(live: LiveLoad, name: string, kind: EventKind, goalMs: number): Promise<void> {
    live.take()
    const startMs = performance.now()
    const who = await this.#system.perform({ kind, waitMs: 0, lastsMs: 2 * ABSENT_MS, target: 0, way: 0 })
    print(`${name}: ${who}, repaired after ${Math.round(performance.now() - startMs)} ms`)
    const unready = await this.#system.unready(60_000)
    for (const each of unready) print(`not ready: ${each}`)
    await sleep(AFTERWARDS_MS)
    const waits = live.take()
    this.#add(`${name}: longest PUBACK gap`, waits.longestMs, 'ms', goalMs)
    this.#add(`${name}: median wait for PUBACK`, waits.medianMs, 'ms', null)
    this.#add(`${name}: publishers that waited 100 ms`, waits.delayedPublishers, '', null)
    this.#add(`${name}: clients disconnected`, waits.disconnects, '', 0)
  }

  async #measureFrontend(system: ClusterSystem): Promise<void> {
    const [first, second] = system.frontends
    if (first === undefined || second === undefined) throw new Error('--frontends: the clients need another to go to')
    const clients = new ReturningClients(Number(this.#given.clients))
    const at = (port: number) => ({ host: '127.0.0.1', port })
    await clients.connect(
      () => at(first.mqttPort),
      () => at(second.mqttPort),
    )
    clients.lost()
    const killed = system.perform({ kind: 'kill-frontend', waitMs: 0, lastsMs: 4 * ABSENT_MS, target: 0, way: 0 })
    const { clients: count, allBackMs, medianBackMs, sessionsMissing } = await clients.returned()
    this.#add(`frontend killed: all ${count} clients back`, allBackMs, 'ms', ALL_BACK_MS)
    this.#add('frontend killed: half of them back', medianBackMs, 'ms', null)
    this.#add('frontend killed: without their session', sessionsMissing, 'clients', 0)
    await killed
  }

  #add(name: string, value: number, unit: string, goal: number | null): void {
    this.figures.push({ name, value, unit, goal })
    print(row({ name, value, unit, goal }))
  }
}

function isMissed({ value, goal }: Figure): boolean {
  return goal !== null && value > goal
}

function row(figure: Figure): string {
  const { name, value, unit, goal } = figure
  const verdict = goal === null ? '' : `goal ${goal === 0 ? '0' : `≤ ${goal}`}${isMissed(figure) ? ': MISSED' : ''}`
  return `${name.padEnd(52)} ${`${value}`.padStart(9)} ${unit.padEnd(9)} ${verdict}`.trimEnd()
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function openSystem({ standalone, frontends, backends, persistence, flags }: Arguments, folder: string): System {
  if (standalone) return new StandaloneSystem(folder, flags)
  if (persistence !== 'stored' && persistence !== 'replicated') throw new Error('--persistence: stored or replicated')
  const counts = { frontends: Number(frontends), backends: Number(backends) }
  return new ClusterSystem({ folder, ...counts, persistence, flags: ['--log-level', 'info', ...flags], clusterName: 'failover' })
}

async function main(): Promise<void> {
  const given = readArguments()
  if (given.help) return print(USAGE)
  const folder = await mkdtemp(join(tmpdir(), 'millrace-failover-'))
  const system = openSystem(given, folder)
  const figures = new Figures(given, system)
  let isGood = false
  try {
    await system.start()
    await figures.measure()
    isGood = !figures.figures.some(isMissed)
  } catch (error) {
    print((error as Error).stack ?? String(error))
  } finally {
    await system.close()
  }
  print(['', ...figures.figures.map(row)].join('\n'))
  if (given.json !== undefined) await writeFile(given.json, JSON.stringify({ arguments: given, figures: figures.figures }, null, 2))
  if (isGood) await rm(folder, { recursive: true })
  else print(`logs: ${folder}`)
  process.exit(isGood ? 0 : 1)
}

await main()
