import type { ScenarioRow } from './compare-rounds.ts'
import { mosquitto } from './peers/mosquitto.ts'
import { standalone } from './peers/millrace.ts'
import { clusterMemory, clusterReplicated } from './peers/cluster.ts'

/**
 * What a goal is about. CPU is in microseconds per delivered message: of the frontends and backends, or of every process, Redis and its
 * replica included. Redis commands are those of clients, per message.
 */
export type Figure = 'millraceUs' | 'totalUs' | 'redisCommands' | 'p99Ms'

/** What the cluster promises in a row: a figure of `subject`, divided by that of `reference` if there is one, is at most `max`. */
export interface Goal {
  readonly figure: Figure
  readonly subject: string
  readonly reference?: string
  readonly max: number
}

export interface ClusterRow extends ScenarioRow {
  readonly goals: readonly Goal[]
}

const IN_MEMORY = [standalone.name, clusterMemory.name, mosquitto.name]

function timesStandalone(max: number): Goal[] {
  return [{ figure: 'millraceUs', subject: clusterMemory.name, reference: standalone.name, max }]
}

/** Sessions that Mosquitto does not keep: the row says what QoS 1 costs there at least. */
const MOSQUITTO_PLAIN = { [mosquitto.name]: { persistent: false } }

export const clusterPlan: readonly ClusterRow[] = [
  {
    key: 'fanout',
    title: 'fan-out 1 → 500, QoS 0, 16 B, 10 in flight',
    scenario: 'fanout',
    set: { window: 10 },
    peers: IN_MEMORY,
    goals: timesStandalone(2.5),
  },
  {
    key: 'pairs-q0',
    title: '100 → 100 pairs, QoS 0, 64 B, 20 in flight',
    scenario: 'pairs',
    set: { qos: 0 },
    peers: IN_MEMORY,
    goals: timesStandalone(2.5),
  },
  {
    key: 'pairs-q1',
    title: '100 → 100 pairs, QoS 1, 64 B, 20 in flight',
    scenario: 'pairs',
    set: { qos: 1 },
    peers: IN_MEMORY,
    goals: timesStandalone(2.5),
  },
  {
    key: 'durable',
    title: '50 → 50 pairs, QoS 1, persistent sessions, 20 in flight',
    scenario: 'durable',
    set: {},
    setFor: MOSQUITTO_PLAIN,
    peers: [clusterReplicated.name, mosquitto.name],
    goals: [
      { figure: 'totalUs', subject: clusterReplicated.name, reference: mosquitto.name, max: 1.6 },
      { figure: 'redisCommands', subject: clusterReplicated.name, max: 0.5 },
    ],
  },
  {
    key: 'durable-half',
    title: '50 → 50 pairs, the same at half of the full rate',
    scenario: 'durable',
    // Room for what is due while the broker is late: a message that finds no slot would not be measured.
    set: { window: 1_000 },
    peers: [clusterReplicated.name],
    atHalfRate: true,
    goals: [{ figure: 'p99Ms', subject: clusterReplicated.name, max: 25 }],
  },
  { key: 'pairs-q2', title: '100 → 100 pairs, QoS 2, 64 B, 20 in flight', scenario: 'pairs', set: { qos: 2 }, peers: IN_MEMORY, goals: [] },
  {
    key: 'shared',
    title: '200 → shared group of 5, QoS 1, 64 B, 20 in flight',
    scenario: 'shared',
    set: {},
    peers: IN_MEMORY,
    goals: [],
  },
  { key: 'retained', title: '50,000 retained messages read back through #', scenario: 'retained', set: {}, peers: IN_MEMORY, goals: [] },
  {
    key: 'idle',
    title: 'idle connection with one subscription',
    scenario: 'idle',
    set: { holdS: 1.5 },
    fresh: true,
    peers: IN_MEMORY,
    goals: [],
  },
]
