import { check } from '../linearizability/checker.ts'
import type { Action, Operation, Result } from '../linearizability/history.ts'
import { compareVersions } from '../linearizability/key-model.ts'
import { LOCK_KEY } from '../linearizability/random-action.ts'
import type { Rule, Violation } from './checker.ts'
import type { HistoryEvent, StoreAction } from './history.ts'
import { NEVER, type Place } from './session-model.ts'
import { WALL_SKEW_MS_MAX } from './world.ts'

/** Two backends may differ by so much about when an entry ends. */
const SLACK_MS = 2 * WALL_SKEW_MS_MAX + 5
/** Histories here are short; one with so many requests without answer that this is not enough counts as right. */
const STATES_MAX = 50_000

/** A request of the history. */
interface Asked {
  readonly client: string
  readonly key: string
  readonly action: StoreAction
  readonly at: Place
  readonly ms: number
  answeredMs: number
  result: Result | null
}

/** One connection that watched a key, or was told of it. */
interface Watching {
  readonly client: string
  readonly key: string
  readonly connectedAt: Place
  /** KEYNOTIFY went out, and was answered. */
  askedAt: Place
  heldAt: Place
  /** KEYNOTIFY STOP went out, and was answered: from here on nothing that is asked for later may be told. */
  endingAt: Place
  endedAt: Place
  isOpen: boolean
  /** There was no STOP on this connection before. */
  readonly isFirst: boolean
  readonly told: Told[]
}

interface Told {
  readonly version: string
  /** Null: deleted. */
  readonly value: string | null
  readonly at: Place
}

/**
 * Whether a history keeps what the state store promises: each key is a register that does one operation at a time, and who watches one is told of
 * every change once, in their order, and of nothing else. What a failover of Redis may lose at level `stored` ends what is looked at.
 */
export function checkStore(events: readonly HistoryEvent[]): Violation[] {
  return new StoreChecker(events).run()
}

class StoreChecker {
  readonly #events: readonly HistoryEvent[]
  /** What comes later may have been undone, or not. */
  readonly #untilMs: number
  readonly #violations: Violation[] = []
  readonly #asked = new Map<string, Asked>()
  /** Of the present connection of each client, by client and key. */
  readonly #present = new Map<string, Map<string, Watching>>()
  /** CONNACK: until then nobody knows that the connection before has ended. */
  readonly #connectedAt = new Map<string, Place>()
  /** When a backend said that it owns a shard. */
  readonly #takeovers: Place[] = []
  readonly #all: Watching[] = []

  constructor(events: readonly HistoryEvent[]) {
    this.#events = events
    this.#untilMs = Math.min(...events.map(event => (event.is === 'mayForget' ? event.sinceMs : Infinity)))
  }

  run(): Violation[] {
    for (const [place, event] of this.#events.entries()) if (event.ms <= this.#untilMs) this.#take(event, place)
    this.#checkOperations()
    this.#checkTwice()
    for (const watching of this.#all) {
      this.#checkOrder(watching)
      this.#checkKnown(watching)
      this.#checkAsked(watching)
      if (this.#untilMs === Infinity) this.#checkMissed(watching)
    }
    return this.#violations
  }

  #take(event: HistoryEvent, at: Place): void {
    switch (event.is) {
      case 'connect':
      case 'closed':
        for (const watching of this.#present.get(event.client)?.values() ?? []) watching.isOpen = false
        this.#present.set(event.client, new Map())
        this.#connectedAt.set(event.client, NEVER)
        return
      case 'connack':
        return void this.#connectedAt.set(event.client, at)
      case 'owned':
        return void this.#takeovers.push(at)
      case 'storeAsked': {
        const { client, key, action, ms } = event
        this.#asked.set(event.request, { client, key, action, at, ms, answeredMs: Infinity, result: null })
        for (const each of watchedBy(action, key)) {
          if (action.is === 'watch') this.#begin(client, each, at)
          else this.#watching(client, each).endingAt = at
        }
        return
      }
      case 'storeAnswered':
        return this.#onAnswer(event, at)
      case 'notified': {
        const { client, key, version, value } = event
        this.#watching(client, key).told.push({ version, value, at })
        return
      }
      default:
    }
  }

  #onAnswer({ client, request, result, ms }: HistoryEvent & { is: 'storeAnswered' }, at: Place): void {
    const asked = this.#asked.get(request)!
    asked.answeredMs = ms
    asked.result = result
    const { action, key } = asked
    // One of an earlier connection says nothing about this one.
    if (asked.at < (this.#connectedAt.get(client) ?? 0)) return
    for (const each of watchedBy(action, key)) {
      const watching = this.#watching(client, each)
      if (action.is === 'unwatch' && watching.endingAt === asked.at) watching.endedAt = at
      if (action.is === 'watch' && watching.askedAt === asked.at) watching.heldAt = at
    }
  }

  /** Watched already, that goes on. */
  #begin(client: string, key: string, at: Place): void {
    const known = this.#present.get(client)?.get(key)
    if (known !== undefined && known.askedAt !== NEVER && known.endingAt === NEVER) return
    if (known !== undefined) known.isOpen = false
    const watching = this.#new(client, key)
    watching.askedAt = at
  }

  #watching(client: string, key: string): Watching {
    return this.#present.get(client)?.get(key) ?? this.#new(client, key)
  }

  #new(client: string, key: string): Watching {
    const connectedAt = this.#connectedAt.get(client) ?? 0
    const times = { askedAt: NEVER, heldAt: NEVER, endingAt: NEVER, endedAt: NEVER }
    const own = this.#present.get(client) ?? new Map<string, Watching>()
    const watching: Watching = { client, key, connectedAt, ...times, isOpen: true, isFirst: !own.has(key), told: [] }
    this.#present.set(client, own.set(key, watching))
    this.#all.push(watching)
    return watching
  }

  // ---- rules

  #checkOperations(): void {
    const operations = [...this.#asked.values()].flatMap(({ client, key, action, ms, answeredMs, result }): Operation[] =>
      isOperation(action) ? [{ client, key, action, invokedMs: ms, returnedMs: answeredMs, result }] : [],
    )
    for (const { rule, key, text, lines } of check(operations, { slackMs: SLACK_MS, statesMax: STATES_MAX })) {
      if (rule !== 'undecided') this.#violate('store', `${rule}: ${text}\n    ${lines.join('\n    ')}`, [key])
    }
  }

  /** A request is done once: each value is written by one, but for those of the lock. */
  #checkTwice(): void {
    const versions = new Map<string, string>()
    for (const { client, key, told } of this.#all) {
      for (const { value, version } of told) {
        if (value === null || isLock(key)) continue
        const name = `${key} ${value}`
        const known = versions.get(name) ?? version
        if (known !== version)
          this.#violate('store-order', `${client} is told of ${name} as of ${version}, and it was of ${known}`, [client, value])
        versions.set(name, version)
      }
    }
  }

  /**
   * On one connection nothing comes twice, or late. Where a shard got another owner, what may not have come, as nobody knows better, comes again
   * from there on (QoS 1).
   */
  #checkOrder({ client, key, told, isFirst, heldAt, endingAt }: Watching): void {
    const firsts = new Map<string, Told>()
    let last: Told | undefined
    for (const next of told) {
      const known = firsts.get(next.version)
      const isRepeat = known !== undefined && this.#takeovers.some(at => known.at < at && at < next.at)
      if (isRepeat) continue
      if (last !== undefined && compareVersions(next.version, last.version) <= 0)
        this.#violate('store-order', `${client} is told of ${key} at ${next.version} after ${last.version}`, [client, next.version])
      // What comes before the answer to KEYNOTIFY may be left over from an earlier connection, of which some was not told.
      if (isFirst && next.value === null && last?.value === null && last.at > heldAt && next.at < endingAt)
        this.#violate('store-order', `${client} is told twice that ${key} is gone: ${last.version}, ${next.version}`, [client, key])
      firsts.set(next.version, next)
      last = next
    }
  }

  #checkKnown({ client, key, told }: Watching): void {
    for (const { value, version, at } of told) {
      if (value === null) continue
      const writers = this.#writersOf(key, value)
      const isPossible = writers.some(
        ({ at: asked, result }) => asked < at && (result === null || (result.is === 'done' && result.version === version)),
      )
      if (!isPossible)
        this.#violate('store-unknown', `${client} is told that ${key} is ${value} at ${version}, which nobody did`, [client, value])
    }
  }

  /** What it is told of was done while it watched; what was under way when the connection before ended may follow. */
  #checkAsked({ client, key, told, connectedAt, askedAt, endedAt }: Watching): void {
    for (const { value, at } of told) {
      if (value === null) continue
      const writers = this.#writersOf(key, value)
      const isEarly = askedAt > at && writers.every(each => each.at > connectedAt)
      const isLate = writers.every(each => each.at > endedAt)
      if (isEarly || isLate) this.#violate('store-unasked', `${client} does not watch ${key} and is told of ${value}`, [client, value])
    }
  }

  /** Who watches until the end is told of everything that was asked for since. */
  #checkMissed({ client, key, told, heldAt, endingAt, isOpen }: Watching): void {
    if (!isOpen || heldAt === NEVER || endingAt !== NEVER) return
    for (const { key: changed, action, at, result } of this.#asked.values()) {
      if (changed !== key || !isOperation(action) || at < heldAt || result?.is !== 'done' || result.version === null) continue
      const { version } = result
      const next = told.filter(each => compareVersions(each.version, version) >= (action.is === 'set' ? 0 : 1))[0]
      const isTold = action.is === 'set' ? next?.version === version && next.value === action.value : next?.value === null
      if (!isTold)
        this.#violate('store-missed', `${client} watches ${key} and is not told of ${action.is} at ${version}`, [client, version])
    }
  }

  #writersOf(key: string, value: string): readonly Asked[] {
    return [...this.#asked.values()].filter(({ key: own, action }) => own === key && action.is === 'set' && action.value === value)
  }

  #violate(rule: Rule, text: string, words: readonly string[]): void {
    this.#violations.push({ rule, text, words })
  }
}

function isOperation(action: StoreAction): action is Action {
  return action.is !== 'watch' && action.is !== 'unwatch' && action.is !== 'keep'
}

/** Keys that a request begins or ends to watch. */
function watchedBy(action: StoreAction, key: string): readonly string[] {
  if (isOperation(action) || action.is === 'keep') return []
  return action.under ?? [key]
}

/** Its values are names of holders, which are written again and again. */
function isLock(key: string): boolean {
  return key === `k${LOCK_KEY}`
}
