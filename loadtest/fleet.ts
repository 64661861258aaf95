import type { ChildProcess } from 'node:child_process'
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Engine } from './engine.ts'
import { Histogram } from './histogram.ts'
import type { LoadOptions } from './options.ts'
import { programBeside } from './program.ts'
import { clientCommands, OWN_COMMANDS } from './redis-commands.ts'
import type { Scenario, StepArguments, StepReport, Steps } from './scenario.ts'
import type { CpuUse } from './usage.ts'
import { cpuBetween, cpuOf, cpuSeconds } from './usage.ts'

/** A generator process gets this long to say that it is there. */
const START_TIMEOUT_MS = 20_000

/** What the coordinator sends to a generator process. */
export type ToWorker =
  | {
      readonly kind: 'start'
      readonly scenario: string
      readonly options: LoadOptions
      readonly index: number
      readonly processes: number
      readonly runId: number
      readonly linkDirectory: string | null
    }
  | { readonly kind: 'step'; readonly name: string; readonly given: StepArguments }

export type FromWorker = { readonly kind: 'done'; readonly report: StepReport } | { readonly kind: 'failed'; readonly message: string }

/** The merged answers of all processes to one step. */
export interface MergedReport {
  readonly numbers: Readonly<Record<string, number>>
  readonly seconds: number
  readonly latency: Histogram
}

/** A step, and what the broker and the generator used while it ran. */
export interface MeasuredReport extends MergedReport {
  readonly cpu: CpuUse | null
  /** CPU seconds of each part of the broker. */
  readonly partCpuS: Readonly<Record<string, number>>
  readonly redisCommands: number | null
  readonly generatorCpuS: number
}

interface Member {
  step(name: string, given: StepArguments): Promise<StepReport>
  close(): Promise<void>
  readonly pid: number
}

/** The generator processes of one run. Every step runs in all of them at once, and is over when all have answered. */
export class Fleet {
  readonly #members: readonly Member[]
  readonly #options: LoadOptions
  readonly #linkDirectory: string | null

  private constructor(members: readonly Member[], options: LoadOptions, linkDirectory: string | null) {
    this.#members = members
    this.#options = options
    this.#linkDirectory = linkDirectory
  }

  /** @throws {Error} a process did not start, or could not join */
  static async start(scenario: Scenario, options: LoadOptions): Promise<Fleet> {
    const runId = Math.floor(Math.random() * 0xffff_ffff)
    if (options.processes === 0) {
      const steps = await scenario.join({ engine: new Engine(), options, index: 0, processes: 1, runId, linkDirectory: null })
      return new Fleet([inlineMember(steps)], options, null)
    }
    const linkDirectory = scenario.linked && options.processes > 1 ? mkdtempSync(path.join(tmpdir(), 'loadtest-')) : null
    const starts = Array.from({ length: options.processes }, (_, index) =>
      forkMember({ kind: 'start', scenario: scenario.name, options, index, processes: options.processes, runId, linkDirectory }),
    )
    const settled = await Promise.allSettled(starts)
    const members = settled.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
    const fleet = new Fleet(members, options, linkDirectory)
    const failed = settled.find(result => result.status === 'rejected')
    if (failed) {
      await fleet.close()
      throw failed.reason
    }
    if (linkDirectory) await fleet.step('link')
    return fleet
  }

  /** @throws {Error} the first failure of any process */
  async step(name: string, given: StepArguments = {}): Promise<MergedReport> {
    const reports = await Promise.all(this.#members.map(member => member.step(name, given)))
    const numbers: Record<string, number> = {}
    const latency = new Histogram()
    let seconds = 0
    for (const report of reports) {
      for (const [key, value] of Object.entries(report.numbers ?? {})) numbers[key] = (numbers[key] ?? 0) + value
      seconds = Math.max(seconds, report.seconds ?? 0)
      if (report.latency) latency.merge(report.latency)
    }
    return { numbers, seconds, latency }
  }

  /** A step, with the CPU time that the broker's processes used meanwhile. */
  async measure(name: string, given: StepArguments = {}): Promise<MeasuredReport> {
    const own = this.#members.map(member => member.pid)
    const { pids, parts, redisPort } = this.#options
    const commandsBefore = redisPort === null ? 0 : await clientCommands(redisPort)
    const before = cpuOf(pids)
    const partsBefore = parts.map(part => cpuOf(part.pids))
    const ownBefore = cpuOf(own)
    const report = await this.step(name, given)
    const cpu = cpuBetween(before, cpuOf(pids))
    const partsCpu = parts.map((part, at) => cpuBetween(partsBefore[at]!, cpuOf(part.pids)))
    const generator = cpuBetween(ownBefore, cpuOf(own))
    return {
      ...report,
      cpu,
      partCpuS: Object.fromEntries(parts.map((part, at) => [part.name, secondsOf(partsCpu[at]!)])),
      redisCommands: redisPort === null ? null : (await clientCommands(redisPort)) - commandsBefore - OWN_COMMANDS,
      generatorCpuS: secondsOf(generator),
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map(member => member.close()))
    if (this.#linkDirectory) rmSync(this.#linkDirectory, { recursive: true, force: true })
  }
}

function secondsOf(use: CpuUse | null): number {
  return use ? cpuSeconds(use) : 0
}

function inlineMember(steps: Steps): Member {
  return {
    pid: process.pid,
    step: (name, given) => steps[name]!(given),
    close: async () => {
      await steps['close']?.({})
    },
  }
}

async function forkMember(start: ToWorker): Promise<Member> {
  const child = fork(programBeside(import.meta.url, 'worker'), [], { serialization: 'advanced' })
  let failed: Error | null = null
  let waiting: { resolve: (report: StepReport) => void; reject: (cause: Error) => void } | null = null
  const fail = (cause: Error): void => {
    failed ??= cause
    waiting?.reject(cause)
    waiting = null
  }
  child.on('error', fail)
  child.on('exit', code => fail(new Error(`a generator process ended with code ${String(code)}`)))
  child.on('message', (message: FromWorker) => {
    if (message.kind === 'done') waiting?.resolve(message.report)
    else waiting?.reject(new Error(message.message))
    waiting = null
  })
  const ask = (message: ToWorker): Promise<StepReport> =>
    new Promise((resolve, reject) => {
      if (failed) return reject(failed)
      waiting = { resolve, reject }
      child.send(message)
    })
  const deadline = setTimeout(() => {
    fail(new Error('a generator process did not start in time'))
    child.kill()
  }, START_TIMEOUT_MS)
  try {
    await ask(start)
  } finally {
    clearTimeout(deadline)
  }
  return { pid: child.pid!, step: (name, given) => ask({ kind: 'step', name, given }), close: () => endChild(child) }
}

/** A generator process leaves when its channel closes. */
function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise(resolve => {
    child.once('exit', () => resolve())
    if (child.connected) child.disconnect()
    else child.kill()
  })
}
