import { lineOf, type Operation } from './history.ts'
import { CLOCK_SLACK_MS, compareVersions, EMPTY, type KeyState, statesAfter } from './key-model.ts'

/** What a history of the store does not keep. */
export interface Violation {
  /** `undecided`: the search was given up; the history may be right. */
  readonly rule: 'linearizable' | 'versions' | 'undecided'
  readonly key: string
  readonly text: string
  /** The operations that the text is about, a line each. */
  readonly lines: readonly string[]
}

export interface CheckOptions {
  /** So much may the clock that lifetimes are counted by be off. */
  readonly slackMs?: number
  readonly statesMax?: number
}

/** So many states of one key are looked at. Eight clients need some hundreds; what needs more has more operations without answer than a run makes. */
const STATES_MAX = 1_000_000

/**
 * Whether every key of the history is one register that does one operation at a time, each at some point between its invocation and its
 * answer (Wing and Gong, with the memory of Lowe). What has no answer may have been done at any time after its invocation, or never. Keys
 * are independent of each other: a history is right when it is right for each of them.
 */
export function check(operations: readonly Operation[], options: CheckOptions = {}): Violation[] {
  const { slackMs = CLOCK_SLACK_MS, statesMax = STATES_MAX } = options
  const bounds = { slackMs, statesMax }
  return [...byKey(operations)].flatMap(([key, own]) => [...checkKey(key, own, bounds), ...versionViolations(key, own)])
}

function byKey(operations: readonly Operation[]): Map<string, Operation[]> {
  const keys = new Map<string, Operation[]>()
  for (const operation of operations) {
    const own = keys.get(operation.key)
    if (own === undefined) keys.set(operation.key, [operation])
    else own.push(operation)
  }
  for (const own of keys.values()) own.sort((a, b) => a.invokedMs - b.invokedMs)
  return keys
}

function checkKey(key: string, operations: readonly Operation[], bounds: Required<CheckOptions>): Violation[] {
  const verdict = searchFor(operations, bounds)
  if (verdict === 'right') return []
  if (verdict === 'undecided')
    return [
      { rule: 'undecided', key, text: `${key}: given up after ${bounds.statesMax} states, ${operations.length} operations`, lines: [] },
    ]
  const prefix = shortestWrong(operations, bounds)
  const last = prefix.findLast(({ result }) => result !== null)!
  return [
    {
      rule: 'linearizable',
      key,
      text: `${key}: no order of its operations explains ${lineOf(last)}`,
      lines: prefix.map(lineOf),
    },
  ]
}

/** Up to the answer that cannot be: what is right up to a time was right at all times before. */
function shortestWrong(operations: readonly Operation[], bounds: Required<CheckOptions>): readonly Operation[] {
  const ends = operations.filter(({ result }) => result !== null).map(({ returnedMs }) => returnedMs)
  ends.sort((a, b) => a - b)
  let [low, high] = [0, ends.length - 1]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (searchFor(until(operations, ends[middle]!), bounds) === 'wrong') high = middle
    else low = middle + 1
  }
  return until(operations, ends[low]!)
}

function until(operations: readonly Operation[], timeMs: number): readonly Operation[] {
  return operations
    .filter(({ invokedMs }) => invokedMs <= timeMs)
    .map(operation => (operation.returnedMs <= timeMs ? operation : { ...operation, returnedMs: Infinity, result: null }))
}

interface Step {
  readonly state: KeyState
  readonly done: bigint
  /** Of those that are done, the latest invocation: the next one is done no earlier. */
  readonly nowMs: number
}

function searchFor(all: readonly Operation[], { slackMs, statesMax }: Required<CheckOptions>): 'right' | 'wrong' | 'undecided' {
  // What was asked and never told changes nothing.
  const operations = all.filter(({ action, result }) => result !== null || action.is !== 'get')
  const owed = operations.reduce((mask, { result }, index) => (result === null ? mask : mask | (1n << BigInt(index))), 0n)
  const seen = new Set<string>()
  const stack: Step[] = [{ state: EMPTY, done: 0n, nowMs: -Infinity }]
  for (let step = stack.pop(); step !== undefined; step = stack.pop()) {
    if ((step.done & owed) === owed) return 'right'
    if (seen.size > statesMax) return 'undecided'
    for (const next of nextSteps(operations, step, slackMs)) {
      const { entry, floor } = next.state
      const name = `${next.done.toString(36)} ${entry === null ? '' : `${entry.writer} ${entry.version}`} ${floor}`
      if (seen.has(name)) continue
      seen.add(name)
      stack.push(next)
    }
  }
  return 'wrong'
}

/** The best last, as that is looked at first: what is answered first was probably done first, and what never was answered is a last resort. */
function nextSteps(operations: readonly Operation[], { state, done, nowMs }: Step, slackMs: number): Step[] {
  const candidates: number[] = []
  let earliestMs = Infinity
  for (let index = 0; index < operations.length; index++) {
    const { invokedMs, returnedMs } = operations[index]!
    // Begun after another one was answered: that one comes first. So do all that begin later.
    if (invokedMs > earliestMs) break
    if ((done >> BigInt(index)) & 1n) continue
    candidates.push(index)
    earliestMs = Math.min(earliestMs, returnedMs)
  }
  return candidates
    .filter(index => operations[index]!.invokedMs <= earliestMs)
    .toSorted((a, b) => operations[b]!.returnedMs - operations[a]!.returnedMs)
    .flatMap(index => {
      const operation = operations[index]!
      const at = Math.max(nowMs, operation.invokedMs)
      const states = statesAfter(state, operation, index, at, slackMs)
      return states.map(each => ({ state: each, done: done | (1n << BigInt(index)), nowMs: at }))
    })
}

/** No two entries have the same version, and one that was set after another was answered has the greater one. */
function versionViolations(key: string, operations: readonly Operation[]): Violation[] {
  const given = operations.flatMap(operation => {
    const { action, result } = operation
    return action.is === 'set' && result?.is === 'done' && result.version !== null ? [{ operation, version: result.version }] : []
  })
  const byAnswer = given.toSorted((a, b) => a.operation.returnedMs - b.operation.returnedMs)
  const violations: Violation[] = []
  const owners = new Map<string, Operation>()
  let answered = 0
  let greatest: (typeof given)[number] | null = null
  for (const each of given) {
    while (byAnswer[answered] !== undefined && byAnswer[answered]!.operation.returnedMs < each.operation.invokedMs) {
      const earlier = byAnswer[answered++]!
      if (greatest === null || compareVersions(earlier.version, greatest.version) > 0) greatest = earlier
    }
    const before =
      owners.get(each.version) ?? (greatest !== null && compareVersions(each.version, greatest.version) <= 0 ? greatest.operation : null)
    owners.set(each.version, each.operation)
    if (before === null) continue
    const lines = [lineOf(before), lineOf(each.operation)]
    violations.push({ rule: 'versions', key, text: `${key}: version ${each.version} is not greater than one given before`, lines })
  }
  return violations
}
