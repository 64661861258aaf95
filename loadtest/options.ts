import { availableParallelism } from 'node:os'
import type { ProtocolVersion, Qos } from './frames.ts'

/** Some processes of a broker, with their descendants. */
export interface BrokerPart {
  readonly name: string
  readonly pids: readonly number[]
}

/** Everything that a scenario can be told. Each scenario has its own defaults for some of it. */
export interface LoadOptions {
  readonly host: string
  readonly port: number
  readonly protocol: ProtocolVersion
  /** PEM texts; null: plain TCP. */
  readonly tls: {
    readonly ca?: string | undefined
    readonly cert?: string | undefined
    readonly key?: string | undefined
    /** Scenario `connect`: `cert` is what the clients' own certificates are made like, and this key signs them. */
    readonly issuerKey?: string | undefined
  } | null
  readonly username: string | undefined
  readonly password: string | undefined
  /** Generator processes; 0 runs the load inside this process. By default the broker keeps a core for itself. */
  readonly processes: number
  /** Processes of the broker, whose CPU time and memory are reported, children included. */
  readonly pids: readonly number[]
  /** The same, in parts that are reported one by one. */
  readonly parts: readonly BrokerPart[]
  /** Redis on this machine whose commands are counted; null: none. */
  readonly redisPort: number | null
  /** First level of all topics, first part of all Client Identifiers. */
  readonly prefix: string
  readonly qos: Qos
  readonly sizeBytes: number
  readonly window: number
  readonly publishers: number
  readonly subscribers: number
  /** Topics of each publisher, in turn; only scenario `topics` has several. */
  readonly topics: number
  /** Messages in all; 0: as many as fit into the duration. */
  readonly count: number
  /** Messages per second in all, open loop; 0: closed loop. */
  readonly ratePerS: number
  readonly warmupS: number
  readonly durationS: number
  readonly settleS: number
  readonly stallS: number
  /** Subscribers keep their sessions (Clean Start 0). */
  readonly persistent: boolean
  readonly connections: number
  /** Handshakes under way at once. */
  readonly concurrency: number
  readonly holdS: number
  readonly filters: number
  readonly readers: number
  /** Soak: where the samples go; null: nowhere. */
  readonly csv: string | null
  /** A Prometheus page of the broker: soak reads its heap from there, `connect` and `policies` the delay of its event loop. */
  readonly metricsUrl: string | null
  /** Scenario `policies`: the directory of resources that the broker reads. */
  readonly resources: string | null
}

export const generalDefaults: LoadOptions = {
  host: '127.0.0.1',
  port: 1883,
  protocol: 4,
  tls: null,
  username: undefined,
  password: undefined,
  processes: Math.max(1, Math.min(4, availableParallelism() - 1)),
  pids: [],
  parts: [],
  redisPort: null,
  prefix: 'bench',
  qos: 0,
  sizeBytes: 64,
  window: 20,
  publishers: 1,
  subscribers: 1,
  topics: 1,
  count: 0,
  ratePerS: 0,
  warmupS: 1,
  durationS: 4,
  settleS: 0.3,
  stallS: 5,
  persistent: false,
  connections: 10_000,
  concurrency: 64,
  holdS: 2,
  filters: 100,
  readers: 4,
  csv: null,
  metricsUrl: null,
  resources: null,
}
