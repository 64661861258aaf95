import { check, type Violation } from './checker.ts'
import { checkKept } from './kept-checker.ts'
import { checkStore } from './store-checker.ts'
import { History } from './history.ts'
import { SimClient } from './sim-client.ts'
import type { ClientPort } from './sim-transport.ts'
import { Workload, type WorkloadOptions } from './workload.ts'
import { World } from './world.ts'

/** What is simulated: clients reach it through its ports. */
export interface SystemUnderTest {
  readonly ports: readonly ClientPort[]
  /** How durable it is. */
  readonly level: string
  /** What its processes have counted, summed. */
  figures(): ReadonlyMap<string, number>
  /** One fault at random, of those it knows. */
  breakSomething(): void
  /** Ends all faults: whatever is dead starts again, whatever is cut is whole. */
  heal(): void
}

export interface SimulationOptions extends WorkloadOptions {
  readonly seed: number
  /** Simulated milliseconds with clients at work and faults. */
  readonly busyMs: number
  /** Mean milliseconds between two faults. */
  readonly faultPauseMs: number
  readonly system: (world: World, history: History) => SystemUnderTest
}

export interface Outcome {
  readonly seed: number
  readonly violations: readonly Violation[]
  readonly history: History
  readonly simulatedMs: number
  readonly events: number
  readonly level: string
  readonly figures: ReadonlyMap<string, number>
}

/**
 * The quiet phase ends at the latest after this; who waits for something then is stuck. Over a slow link a client that takes one message at a time
 * needs a minute for what waits for it.
 */
const QUIET_MS_MAX = 300_000
/** It ends when nothing has come for so long. */
const SILENCE_MS = 2_500
const POLL_MS = 250
/** Faults end so long before clients do. */
const RECOVERY_MS = 500
const PROBE = 'probe'

/** One run: clients at work under faults, then without, then a quiet phase in which everything owed must come; then the checker. */
export async function simulate(options: SimulationOptions): Promise<Outcome> {
  const world = new World(options.seed)
  const history = new History(world)
  const system = options.system(world, history)
  const workload = new Workload(world, history, () => system.ports, options)
  let isBreaking = true
  const breakLater = (): void => {
    world.after(world.random.next() * 2 * options.faultPauseMs, () => {
      if (!isBreaking) return
      system.breakSomething()
      breakLater()
    })
  }
  breakLater()
  await world.run(options.busyMs)
  isBreaking = false
  history.add({ is: 'fault', kind: 'note', what: 'no more faults' })
  system.heal()
  await world.run(world.nowMs + RECOVERY_MS)
  history.add({ is: 'fault', kind: 'note', what: 'no more work' })
  workload.settle()
  await untilQuiet(world, history, workload)
  if (workload.readStore()) await world.run(world.nowMs + QUIET_MS_MAX, () => workload.isSettled)
  await probeRetained(world, history, system, workload)
  workload.reportStuck()
  const failures = world.failures.map(({ process, error }) => ({
    rule: 'wrong' as const,
    text: `${process}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    words: [process],
  }))
  return {
    seed: options.seed,
    violations: [...failures, ...check(history.events), ...checkStore(history.events), ...checkKept(history.events)],
    history,
    simulatedMs: world.nowMs,
    events: world.events,
    level: system.level,
    figures: system.figures(),
  }
}

async function untilQuiet(world: World, history: History, workload: Workload): Promise<void> {
  const endMs = world.nowMs + QUIET_MS_MAX
  let lastMs = world.nowMs
  let seen = history.events.length
  while (world.nowMs < endMs && !(workload.isSettled && world.nowMs - lastMs >= SILENCE_MS)) {
    await world.run(world.nowMs + POLL_MS)
    if (history.events.length !== seen) lastMs = world.nowMs
    seen = history.events.length
  }
}

/** A client that has nothing to do with the rest asks what is retained. */
async function probeRetained(world: World, history: History, system: SystemUnderTest, workload: Workload): Promise<void> {
  const port = system.ports.find(({ isReady }) => isReady)
  if (port === undefined) return
  const kind = { clientId: PROBE, version: 5, isPersistent: false, receiveMaximum: 100, ackDelayMsMax: 0, willTopic: null } as const
  const probe = new SimClient(world, history, kind, '192.0.2.200')
  const from = history.events.length
  probe.connect(port, true)
  await world.run(world.nowMs + SILENCE_MS, () => probe.isOnline)
  probe.subscribe('r/+', 1)
  await world.run(world.nowMs + SILENCE_MS)
  const found = new Map<string, string>()
  for (const event of history.events.slice(from)) {
    if (event.is === 'received' && event.client === PROBE) found.set(event.topic, event.message)
  }
  for (const { clientId } of workload.clients) {
    history.add({ is: 'retained', topic: `r/${clientId}`, message: found.get(`r/${clientId}`) ?? null })
  }
}
