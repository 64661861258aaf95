import { SeededRandom } from '#shared/testing/seeded-random.ts'

export const EVENT_KINDS = [
  'kill-frontend',
  'kill-backend',
  'stop-frontend',
  'stop-backend',
  'drain-frontend',
  'drain-backend',
  'add-backend',
  'rolling-restart',
  'cut-links',
  'half-open-links',
  'delay-links',
  'refuse-links',
  'kill-redis',
  'stop-redis',
  'fill-redis',
] as const

/** What is done to the broker. stop is SIGSTOP, later SIGCONT; drain is SIGTERM; links are those to one backend (standalone: of the clients). */
export type EventKind = (typeof EVENT_KINDS)[number]

/** Everything about an event that can be decided beforehand, so that a seed repeats it. */
export interface PlannedEvent {
  readonly kind: EventKind
  /** Load before it. */
  readonly waitMs: number
  /** From the fault to its repair: the restart, SIGCONT, the network whole again. */
  readonly lastsMs: number
  /** From 0 to below 1: which of the processes. */
  readonly target: number
  /** From 0 to below 1: which of the ways. */
  readonly way: number
}

const WAIT_MS = [1_500, 4_000] as const
const LASTS_MS = [500, 8_000] as const

/**
 * The events of a round. All kinds come equally often: they are drawn from a bag that is filled again when it is empty. The plan of a
 * round depends on the seed, the kinds and the round, on nothing that happens.
 */
export function planRound(seed: number, round: number, kinds: readonly EventKind[], eventsPerRound: number): PlannedEvent[] {
  const random = new SeededRandom(seed)
  const events: PlannedEvent[] = []
  let bag: EventKind[] = []
  while (events.length < round * eventsPerRound) {
    if (bag.length === 0) bag = [...kinds]
    const [kind] = bag.splice(random.int(0, bag.length - 1), 1)
    events.push({
      kind: kind!,
      waitMs: random.int(...WAIT_MS),
      lastsMs: random.int(...LASTS_MS),
      target: random.next(),
      way: random.next(),
    })
  }
  return events.slice((round - 1) * eventsPerRound)
}

/** The one of `from` that the plan names. */
export function chosen<T>(from: readonly T[], share: number): T {
  const found = from[Math.min(from.length - 1, Math.floor(share * from.length))]
  if (found === undefined) throw new Error('nothing to choose from')
  return found
}
