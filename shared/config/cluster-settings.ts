import { type BrokerSettings, configSetting, limitSettings, portSettings, processSettings } from './broker-settings.ts'
import type { Surroundings } from './load-broker-settings.ts'
import { flagName, type GivenFlags, mistypedVariables, readFlags, resolveSettings } from './read-settings.ts'
import type { RedisUrl } from './redis-url.ts'
import { frontendSettings, linkSettings, memberSettings, type Persistence, persistenceSettings } from './role-settings.ts'
import { int, path, toggle } from './setting.ts'
import { SettingsError } from './settings-error.ts'
import type { SettingsGroup } from './settings-page.ts'

/** So many ports of one kind lie between the first frontend, the first backend, the first authsvc and the first Redis (docs/cluster.md). */
export const PORTS_OF_ROLE = { frontends: 0, backends: 500, authsvcs: 800, redis: 900 } as const
export const PORTS_OF_PROCESS = 10
const PORTS_OF_CLUSTER = 1_000
const FRONTENDS_MAX = 50
const BACKENDS_MAX = 30
const AUTHSVCS_MAX = 10

const clusterSettings = {
  frontends: int({ default: 2, min: 1, max: FRONTENDS_MAX, unit: 'processes', help: 'Frontends.' }),
  backends: int({ default: 2, min: 1, max: BACKENDS_MAX, unit: 'processes', help: 'Backends.' }),
  authsvcs: int({ default: 1, min: 0, max: AUTHSVCS_MAX, unit: 'processes', help: 'Authentication services.' }),
  ...configSetting,
  redis: memberSettings.redis,
  data: path({
    default: null,
    placeholder: 'DIR',
    help: 'Directory of the redis-server that is started when --redis is not given; made when missing. Without it a temporary one, which goes with the cluster.',
  }),
  basePort: int({
    default: 20_000,
    min: 0,
    max: 65_536 - PORTS_OF_CLUSTER,
    help: 'First of the ports: frontend N has MQTT on this + 10 N, WebSocket, admin and metrics on the three after it. 0: the system chooses every port.',
  }),
  noRestart: toggle({ help: 'A process that ends stays gone, and its last line is in the log; for tests that kill.' }),
  clusterName: memberSettings.clusterName,
  workers: frontendSettings.workers,
  ...persistenceSettings,
  proxyProtocol: portSettings.proxyProtocol,
  allowAnonymousRemote: portSettings.allowAnonymousRemote,
  websocketEngine: portSettings.websocketEngine,
  redisPassword: memberSettings.redisPassword,
  redisPasswordFile: memberSettings.redisPasswordFile,
  redisTlsCa: memberSettings.redisTlsCa,
  redisTlsCert: memberSettings.redisTlsCert,
  redisTlsKey: memberSettings.redisTlsKey,
  rpcTlsCert: linkSettings.rpcTlsCert,
  rpcTlsKey: linkSettings.rpcTlsKey,
  rpcTlsCa: linkSettings.rpcTlsCa,
  rpcTlsName: linkSettings.rpcTlsName,
  encryptInternalTraffic: linkSettings.encryptInternalTraffic,
  logLevel: processSettings.logLevel,
  logLinesPerSecond: processSettings.logLinesPerSecond,
} as const

const declared = { ...clusterSettings, ...limitSettings }

/** The flags of `millrace cluster`, as help and docs list them. */
export const CLUSTER_SETTINGS: readonly SettingsGroup[] = [
  { title: 'Processes, ports and state', settings: clusterSettings },
  { title: 'Limits and behaviour, passed on to every process', settings: limitSettings },
]

/** What no role has. */
export const CLUSTER_ONLY: readonly (keyof typeof clusterSettings)[] = [
  'frontends',
  'backends',
  'authsvcs',
  'data',
  'basePort',
  'noRestart',
]

/** Which of the flags each role is given as they were given to the cluster; the others are made by the cluster. */
const FOR_FRONTENDS = ['proxyProtocol', 'allowAnonymousRemote', 'websocketEngine']
const FOR_ALL = [
  'config',
  'kubernetes',
  'namespace',
  'clusterName',
  'redisPasswordFile',
  'redisTlsCa',
  'redisTlsCert',
  'redisTlsKey',
  'rpcTlsCert',
  'rpcTlsKey',
  'rpcTlsCa',
  'rpcTlsName',
  'encryptInternalTraffic',
  'logLevel',
  'logLinesPerSecond',
  ...Object.keys(limitSettings),
]

export interface ClusterSettings {
  readonly frontends: number
  readonly backends: number
  readonly authsvcs: number
  /** Null: redis-server is started. */
  readonly redis: RedisUrl | null
  /** The same as it was given on the command line: may hold a password. Null: not there. */
  readonly redisText: string | null
  /** Directory of that redis-server; null: a temporary one. */
  readonly dataDirectory: string | null
  /** 0: the system chooses every port. */
  readonly basePort: number
  readonly restarts: boolean
  readonly workers: number
  readonly redundancyFactor: number
  readonly persistence: Persistence
  readonly logLevel: BrokerSettings['logLevel']
  readonly drainDelayMs: number
  readonly drainTimeoutMs: number
  /** Ports of resources: all frontends shall open the same ones. */
  readonly hasConfig: boolean
  /** Command line of every role, of the frontends besides. */
  readonly flagsForAll: readonly string[]
  readonly flagsForFrontends: readonly string[]
}

/**
 * All that `millrace cluster` is told. The processes check for themselves what is only passed on.
 * @throws {SettingsError} with one line for every fault of flags, environment and files
 */
export function loadClusterSettings(
  args: readonly string[],
  surroundings: Surroundings,
): { readonly settings: ClusterSettings; readonly warnings: readonly string[] } {
  const { environment } = surroundings
  const flags = readFlags(declared, args)
  const values = resolveSettings(declared, flags, environment, surroundings.snapshot?.values)
  const { frontends, backends, authsvcs, redis, data, basePort, noRestart, workers, redundancyFactor, persistence, logLevel } = values
  if (redis !== null && data !== null)
    throw new SettingsError(['flag --data: belongs to a redis-server that the cluster starts; --redis names another'])
  const settings: ClusterSettings = {
    frontends,
    backends,
    authsvcs,
    redis,
    redisText: flags.get('redis')?.[0] ?? null,
    dataDirectory: data,
    basePort,
    restarts: !noRestart,
    workers,
    redundancyFactor,
    persistence: persistence ?? (redundancyFactor >= 2 ? 'replicated' : 'stored'),
    logLevel,
    drainDelayMs: values.drainDelayMs,
    drainTimeoutMs: values.drainTimeoutMs,
    hasConfig: surroundings.snapshot !== null,
    flagsForAll: passedOn(FOR_ALL, flags),
    flagsForFrontends: passedOn(FOR_FRONTENDS, flags),
  }
  return { settings, warnings: mistypedVariables(declared, environment) }
}

function passedOn(names: readonly string[], flags: GivenFlags): readonly string[] {
  return names.flatMap(name => (flags.get(name) ?? []).map(value => `${flagName(name)}=${value}`))
}
