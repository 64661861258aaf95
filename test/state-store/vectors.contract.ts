import { readFileSync } from 'node:fs'
import { type Command, parseCommand } from '#shared/state-store/command.ts'
import { compareClocks, formatClock, type HybridClock, parseClock } from '#shared/state-store/hybrid-clock.ts'

/** What a clock must be: absent, whatever it is, a clock, later than one, that of another step, later than that. */
export type ExpectedClock = null | 'any' | { readonly is?: string; readonly gt?: string; readonly same?: string; readonly gtStep?: string }

export interface ExpectedNotification {
  readonly to: string
  readonly topic: string
  readonly payload: string
  readonly ts: ExpectedClock
}

export interface Step {
  readonly id: string
  readonly client?: string
  readonly clockMs: number
  readonly props?: Readonly<Record<string, string | { readonly tsOf: string }>>
  /** One character for each byte. Absent: time passes. */
  readonly request?: string
  readonly response?: string
  readonly ts?: ExpectedClock
  /** Absent: nobody watches in this scenario. */
  readonly notify?: readonly ExpectedNotification[]
}

export interface Scenario {
  readonly name: string
  readonly steps: readonly Step[]
}

const FILE = new URL('../../shared/state-store/vectors.json', import.meta.url)
export const { scenarios } = JSON.parse(readFileSync(FILE, 'utf8')) as { readonly scenarios: readonly Scenario[] }

/** Of a client that a step does not name. */
export const USUAL_CLIENT = 'Client1'

/** Null where the request is none. */
export function commandOf({ request }: Step): Command | null {
  const command = parseCommand(Buffer.from(request ?? '', 'latin1'))
  return typeof command === 'string' ? null : command
}

/** How long after its SET the entry is gone, in the time of the vectors. */
export function lifetimeOf(step: Step): number | null {
  const command = commandOf(step)
  return command?.is === 'set' ? command.lifetimeMs : null
}

/** The request with another lifetime; no other byte is touched. */
export function withLifetime(request: string, ms: number): string {
  return request.replace(/\$2\r\nPX\r\n\$\d+\r\n\d+\r\n$/, `$2\r\nPX\r\n$${String(ms).length}\r\n${ms}\r\n`)
}

/** The clock so much later, with as many digits as it had; what is no clock stays what it is. */
export function shifted(clock: string, byMs: number): string {
  return clock.replace(/^\d+(?=:)/, wall => String(Number(wall) + byMs).padStart(wall.length, '0'))
}

/** Whole milliseconds of a clock; null when it is none. */
export function wallOf(clock: string): number | null {
  const read = parseClock(clock)
  return read === null ? null : Number(read.wall)
}

/**
 * What is wrong with a clock.
 * @param given the clocks that the steps before were answered with, by step
 * @returns null when it is as expected
 */
export function clockFault(
  actual: string | null,
  expected: ExpectedClock,
  given: ReadonlyMap<string, string>,
  byMs: number,
): string | null {
  if (expected === 'any') return null
  if (expected === null) return actual === null ? null : `__ts is ${actual} and should be absent`
  if (actual === null) return '__ts is absent'
  const clock = read(actual)
  if (clock === null || formatClock(clock) !== actual) return `__ts is ${actual}`
  const { is, gt, same, gtStep } = expected
  const order = (other: string): number => compareClocks(clock, read(other)!)
  if (is !== undefined && order(shifted(is, byMs)) !== 0) return `__ts is ${actual}, not ${shifted(is, byMs)}`
  if (gt !== undefined && order(shifted(gt, byMs)) <= 0) return `__ts is ${actual}, not after ${shifted(gt, byMs)}`
  if (same !== undefined && actual !== given.get(same)) return `__ts is ${actual}, not ${given.get(same)} as in ${same}`
  if (gtStep !== undefined && order(given.get(gtStep)!) <= 0) return `__ts is ${actual}, not after ${given.get(gtStep)} of ${gtStep}`
  return null
}

function read(text: string): HybridClock | null {
  return parseClock(text)
}
