import type { ScenarioRow } from './compare-rounds.ts'

/** One line of the comparison: a scenario, its settings, and what Millrace promises. */
export interface PlanRow extends ScenarioRow {
  /** CPU per message, Millrace to Mosquitto, at most; null: only shown. */
  readonly ratioMax: number | null
  /** Bytes of RSS per connection of Millrace, at most. */
  readonly bytesMax?: number
}

export const plan: readonly PlanRow[] = [
  { key: 'fanout', title: 'fan-out 1 → 500, QoS 0, 16 B, 10 in flight', scenario: 'fanout', set: { window: 10 }, ratioMax: 0.25 },
  { key: 'fanout-1', title: 'the same, one at a time', scenario: 'fanout', set: { window: 1 }, ratioMax: 1.3 },
  { key: 'pairs-q0', title: '100 → 100 pairs, QoS 0, 64 B, 20 in flight', scenario: 'pairs', set: { qos: 0 }, ratioMax: 0.35 },
  { key: 'pairs-q0-1', title: 'the same, one in flight', scenario: 'pairs', set: { qos: 0, window: 1 }, ratioMax: 1.4 },
  { key: 'pairs-q1', title: 'the same, QoS 1, 20 in flight', scenario: 'pairs', set: { qos: 1 }, ratioMax: 0.35 },
  { key: 'pairs-q2', title: 'the same, QoS 2, 20 in flight', scenario: 'pairs', set: { qos: 2 }, ratioMax: 0.35 },
  { key: 'shared', title: '200 → shared group of 5, QoS 1, 64 B, 20 in flight', scenario: 'shared', set: {}, ratioMax: 0.4 },
  { key: 'durable', title: '50 → 50 pairs, QoS 1, persistent sessions, on disk', scenario: 'durable', set: {}, ratioMax: 1, durable: true },
  { key: 'retained', title: '50,000 retained messages read back through #', scenario: 'retained', set: {}, ratioMax: 1 },
  { key: 'offline', title: '20,000 queued messages of 50 sessions drained', scenario: 'offline', set: {}, ratioMax: null, durable: true },
  { key: 'subscribe', title: 'SUBSCRIBE and UNSUBSCRIBE, wildcards', scenario: 'subscribe', set: {}, ratioMax: null },
  {
    key: 'idle',
    title: 'idle connection with one subscription, plain',
    scenario: 'idle',
    set: { holdS: 1.5 },
    ratioMax: null,
    bytesMax: 15 * 1_024,
    fresh: true,
  },
]
