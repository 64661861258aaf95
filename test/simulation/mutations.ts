import type { CallerPort } from '#shared/rpc/caller-port.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import type { OwnerPort, RemoteStoreCall } from '#shared/rpc/owner-port.ts'
import { parseExtendedCommand, watchStopRequest } from '#shared/state-store/command.ts'
import type { SimStoreOptions } from './sim-store.ts'
import type { DurabilityLevel } from '../../backend/store/shard-store.ts'
import type { FaultName } from './faults.ts'
import type { SimProcess } from './world.ts'

/** What a run is like, where that is not left to chance. */
export interface Scenario {
  readonly level?: DurabilityLevel
  readonly faults?: readonly FaultName[]
  readonly frontends?: number
  readonly backends?: number
  /** Faults and clients go on for so many times as long. */
  readonly length?: number
  readonly publishersShare?: number
  /** Some only publish, by the first frontend, which loses sight of all backends but the one that the others lose sight of. */
  readonly isDivided?: boolean
  /** Clients use the state store. */
  readonly usesStore?: boolean
}

/** A way to break the cluster on purpose, from outside its code: the checker must notice. */
export interface Mutation {
  readonly store?: Partial<SimStoreOptions>
  /** A process believes that its lease never ends. */
  readonly isLeaseIgnored?: boolean
  /** A backend forgets which hand-overs it has had. */
  readonly areHandOversForgotten?: boolean
  /** In what kind of run it matters. */
  readonly scenario?: Scenario
  /** Between a frontend and what it calls. */
  readonly wrapOwner?: (calls: OwnerPort, process: SimProcess) => OwnerPort
  /** Between a backend's calls and the frontend that they come to. */
  readonly wrapCaller?: (port: CallerPort, calls: OwnerPort, process: SimProcess) => CallerPort
}

/** Longer than a SUBACK takes, shorter than anybody would notice. */
const LATE_MS = 300

/** One backend and its clients on one side, on the other whoever takes its shards meanwhile. */
const SPLIT: Scenario = {
  level: 'replicated',
  faults: ['island'],
  frontends: 2,
  backends: 2,
  length: 1.5,
  publishersShare: 0.5,
  isDivided: true,
}

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  /** The store refuses what a replaced owner appends, who takes no notice: one that others took for dead by mistake acknowledges what nobody has. */
  'fencing-ignored': {
    store: { isFencingIgnored: true },
    scenario: { ...SPLIT, faults: ['evict'] },
  },
  /** Nobody minds the end of a lease, and fencing alone is left: not enough for what needs no write. */
  'lease-ignored': { isLeaseIgnored: true, scenario: SPLIT },
  /** Neither. */
  'fencing-and-lease-ignored': {
    isLeaseIgnored: true,
    store: { isFencingIgnored: true },
    scenario: { ...SPLIT, faults: ['island', 'evict'] },
  },
  /** Acknowledged before it is stored. */
  'commit-answered-early': { store: { isAnsweredEarly: true }, scenario: { faults: ['killInOutage'], backends: 2 } },
  /** The last entry of the journal is not read by the next owner. */
  'last-entry-unread': { store: { isLastEntryUnread: true }, scenario: { faults: ['kill'], backends: 2 } },
  /** Routes are confirmed before they are applied: what is published right after a SUBACK is missed. */
  'routes-confirmed-early': {
    wrapCaller: (port, calls, process) =>
      wrap(port, {
        routes: (shard, barrier, isWhole, added, removed) => {
          if (barrier !== 0) calls.routesApplied(barrier)
          process.timers.after(LATE_MS, () => port.routes(shard, 0, isWhole, added, removed))
        },
      }),
  },
  /** A hand-over that comes again, as its answer was lost, is taken again. */
  'hand-overs-forgotten': { areHandOversForgotten: true, scenario: { faults: ['cutLinks', 'slowNetwork'], backends: 3 } },
  /** After a fail-over everything is delivered again that the client has had. */
  'resumed-from-the-beginning': {
    scenario: { faults: ['cutLinks', 'drain'], backends: 2 },
    wrapOwner: calls =>
      wrap(calls, {
        resume: (shard, sessions, isLast) =>
          calls.resume(
            shard,
            sessions.map(session => ({ ...session, lastSequence: 0, outstanding: [] })),
            isLast,
          ),
      }),
  },
  /** What a frontend asks again after a failover passes for something new. */
  'retries-unmarked': {
    scenario: { level: 'replicated', faults: ['cutLinks', 'partition', 'slowNetwork'] },
    wrapOwner: calls =>
      wrap(calls, {
        attach: (request, attach) => calls.attach(request, attach, false),
        release: (session, connection, ticket, packetId) => calls.release(session, connection, ticket, packetId, false),
      }),
  },
  /** A request to the state store that is asked again passes for a new one, and is done again. */
  'store-requests-renumbered': {
    scenario: { level: 'replicated', faults: ['cutLinks', 'redisSlow'], backends: 2, usesStore: true },
    wrapOwner: (calls, process) => wrap(calls, renumbering(calls, process)),
    wrapCaller: port => wrap(port, { storeAsked: (sequence, reason) => port.storeAsked(sequence % RENUMBERED, reason) }),
  },
  /** Every other shard is told to end what it is to begin: the watch of a prefix is answered and is not whole. */
  'prefix-watched-in-part': {
    scenario: { level: 'replicated', backends: 2, usesStore: true },
    wrapOwner: calls =>
      wrap(calls, {
        askStore: (shard, sequence, settledBefore, connection, call) =>
          calls.askStore(shard, sequence, settledBefore, connection, call.as === 'part' && shard % 2 === 0 ? stopping(call) : call),
      }),
  },
  /** Now and then a publish overtakes the one before it. */
  'publish-overtakes': {
    wrapOwner: calls =>
      wrap(
        calls,
        overtaking(calls, () => true),
      ),
  },
  /** The same, only of what was held for a shard or is sent again to its next owner. */
  'held-publishes-reordered': {
    scenario: { faults: ['drain', 'cutLinks'], backends: 2 },
    wrapOwner: calls =>
      wrap(
        calls,
        overtaking(calls, publisher => publisher !== '', 2),
      ),
  },
}

function stopping(call: RemoteStoreCall): RemoteStoreCall {
  const { topic, properties } = call.message
  const command = parseExtendedCommand(call.message.payload)
  if (typeof command === 'string' || command.is !== 'watch') return call
  return { ...call, message: newMessage(topic, watchStopRequest(command.prefix), 1, false, properties) }
}

/** Above the numbers of all requests of a run. */
const RENUMBERED = 1_000_000

/** How often each frontend has asked each of its requests. */
const timesAsked = new WeakMap<SimProcess, Map<number, number>>()

function renumbering(calls: OwnerPort, process: SimProcess): Partial<OwnerPort> {
  const times = timesAsked.get(process) ?? new Map<number, number>()
  timesAsked.set(process, times)
  return {
    askStore: (shard, sequence, settledBefore, connection, call) => {
      const before = times.get(sequence) ?? 0
      times.set(sequence, before + 1)
      calls.askStore(shard, sequence + before * RENUMBERED, settledBefore, connection, call)
    },
  }
}

/** `target` with some of its methods replaced. */
function wrap<T extends object>(target: T, replaced: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const own = (replaced as Record<string | symbol, unknown>)[name]
      if (own !== undefined) return own
      const value = Reflect.get(target, name, target) as unknown
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value
    },
  })
}

/** Every so many of those that `isMeant` says yes to. */
function overtaking(calls: OwnerPort, isMeant: (publisher: string) => boolean, every = 5): Partial<OwnerPort> {
  let held: (() => void) | null = null
  let count = 0
  return {
    publish: (sequence, connection, isRefusable, shards, message, publisher = '') => {
      if (held === null && isMeant(publisher) && sequence !== 0 && ++count % every === 0) {
        const kept = message.keep()
        const copy = new (shards.constructor as new () => typeof shards)()
        for (let at = 0; at < shards.count; at++) copy.add(shards.numbers[at]!)
        held = () => calls.publish(sequence, connection, isRefusable, copy, kept, publisher)
        return
      }
      calls.publish(sequence, connection, isRefusable, shards, message, publisher)
      const late = held
      held = null
      late?.()
    },
  }
}
