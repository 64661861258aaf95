import { type LinkAddress, parseLinkAddress } from '../rpc/link-address.ts'
import type { Address } from './address.ts'
import type { BrokerLimits, BrokerSettings } from './broker-settings.ts'
import { configSetting, portSettings, processSettings } from './broker-settings.ts'
import { parseRedisUrl, REDIS_URL_FORMS, type RedisUrl } from './redis-url.ts'
import { choice, int, parsed, path, Refusal, secret, text, toggle } from './setting.ts'

/** Parts of the keys in Redis and names of processes in logs and metrics: nothing in them that either could take for something else. */
const CLUSTER_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const MEMBER_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
/** Range of the original's cardinality fields. */
const WORKERS_MAX = 16
const REDUNDANCY_MAX = 5
export const CLUSTER_KEY_LENGTH_MIN = 16

function redisUrl(help: string) {
  return parsed<RedisUrl, null>({
    default: null,
    allowed: REDIS_URL_FORMS,
    placeholder: 'URL',
    read: parseRedisUrl,
    help,
  })
}

function rpcAddress<D extends LinkAddress | null>(options: { readonly default: D; readonly defaultText: string; readonly help: string }) {
  const allowed = 'HOST:PORT or unix:PATH with an absolute path'
  return parsed<LinkAddress, D>({
    ...options,
    allowed,
    placeholder: 'ADDRESS',
    read: text => parseLinkAddress(text) ?? new Refusal(`expected ${allowed} such as 10.0.0.7:7883 or unix:/run/millrace/b-0.sock`),
  })
}

/** What the internal links are protected by. */
export const linkSettings = {
  clusterKey: secret({
    help: `Key that the processes of a cluster share: each proves to the other that it has it, without sending it. At least ${CLUSTER_KEY_LENGTH_MIN} characters; or --cluster-key-file, or --rpc-tls-cert.`,
  }),
  clusterKeyFile: path({ default: null, placeholder: 'FILE', help: 'File with that key; a line end after it does not count.' }),
  rpcTlsCert: path({
    default: null,
    placeholder: 'FILE',
    help: 'PEM: certificate that this process shows on internal links, to backends and as a backend. With it and the next two, links are mutual TLS.',
  }),
  rpcTlsKey: path({ default: null, placeholder: 'FILE', help: 'PEM: private key of that certificate.' }),
  rpcTlsCa: path({
    default: null,
    placeholder: 'FILE',
    help: 'PEM: the authority of the cluster. Only processes with a certificate of it are members: use one that issues nothing else.',
  }),
  rpcTlsName: text({
    default: '',
    defaultText: 'the host that is dialed',
    placeholder: 'NAME',
    maxLength: 253,
    help: 'Name that the certificate of every backend holds, where it does not hold the address.',
  }),
  encryptInternalTraffic: choice({
    values: ['Auto', 'Enabled', 'Disabled'],
    default: 'Auto',
    help: 'Auto: mutual TLS when --rpc-tls-cert, --rpc-tls-key and --rpc-tls-ca are given. Enabled: does not start without them. Disabled: in the clear, whatever is given. YAML: spec.advanced.encryptInternalTraffic.',
  }),
} as const

/** What every process of a cluster is told. */
export const memberSettings = {
  ...configSetting,
  redis: redisUrl(
    'Redis or Valkey that holds the state of the cluster. Others on this machine can read a command line: give a URL with a password as MILLRACE_REDIS, or the password by itself.',
  ),
  redisPassword: secret({ help: 'Password for Redis, in place of the one in the URL.' }),
  redisPasswordFile: path({ default: null, placeholder: 'FILE', help: 'File with that password; a line end after it does not count.' }),
  redisTlsCa: path({
    default: null,
    placeholder: 'FILE',
    help: 'PEM: authority of the certificate of a rediss:// server. Without it the authorities that Node trusts.',
  }),
  redisTlsCert: path({ default: null, placeholder: 'FILE', help: 'PEM: certificate to show to Redis, where it asks for one.' }),
  redisTlsKey: path({ default: null, placeholder: 'FILE', help: 'PEM: private key of that certificate.' }),
  clusterName: parsed<string, string>({
    default: 'millrace',
    defaultText: 'millrace',
    allowed: 'small letters, digits and hyphens, at most 63',
    placeholder: 'NAME',
    read: text => (CLUSTER_NAME.test(text) ? text : new Refusal('expected small letters, digits and hyphens, at most 63')),
    help: 'Clusters of different names may share a Redis and know nothing of each other.',
  }),
  id: parsed<string, null>({
    default: null,
    defaultText: 'the host name',
    allowed: 'letters, digits, dots, hyphens and underscores, at most 128',
    placeholder: 'NAME',
    read: text =>
      MEMBER_ID.test(text)
        ? text
        : new Refusal('expected letters, digits, dots, hyphens and underscores, at most 128, a letter or digit first'),
    help: 'Name of this process in the cluster: unique in its role, the same after a restart.',
  }),
  ...linkSettings,
  ...processSettings,
} as const

/** Millrace frontend: where clients come in, and how many processes serve them. */
export const frontendSettings = {
  ...portSettings,
  workers: int({
    default: 1,
    min: 1,
    max: WORKERS_MAX,
    unit: 'processes',
    help: 'Worker processes that share the ports. More than one: this process starts and watches them, and speaks for them on the metrics and admin ports. YAML: spec.cardinality.frontend.workers.',
  }),
  reusePort: toggle({
    help: 'Other frontends of the same user on this machine may bind to the same ports; the kernel spreads the connections.',
  }),
} as const

const PERSISTENCE = ['memory', 'stored', 'replicated', 'fsynced'] as const
/** Weakest first; the same words as the store's. */
export type Persistence = (typeof PERSISTENCE)[number]

/** How safely state is kept. */
export const persistenceSettings = {
  redundancyFactor: int({
    default: 1,
    min: 1,
    max: REDUNDANCY_MAX,
    unit: 'copies',
    help: 'Copies of the state, the primary Redis included, that --persistence replicated waits for. YAML: spec.cardinality.backendChain.redundancyFactor.',
  }),
  persistence: parsed<Persistence, null>({
    default: null,
    defaultText: 'replicated when --redundancy-factor is 2 or more, else stored',
    allowed: 'memory, stored, replicated, fsynced',
    placeholder: 'memory|stored|replicated|fsynced',
    read: text => PERSISTENCE.find(level => level === text.toLowerCase()) ?? new Refusal(`expected one of ${PERSISTENCE.join(', ')}`),
    help: 'What an acknowledgement promises. memory: the backend has it. stored: Redis has it. replicated: --redundancy-factor copies of Redis have it. fsynced: it is on the disk of Redis.',
  }),
} as const

/** Millrace backend: where it takes links, and how safely it keeps state. */
export const backendSettings = {
  rpc: rpcAddress({
    default: { host: '127.0.0.1', port: 7_883 },
    defaultText: '127.0.0.1:7883',
    help: 'Where frontends and other backends reach this one. Internal: never open it to clients.',
  }),
  advertise: rpcAddress({
    default: null,
    defaultText: 'that of --rpc',
    help: 'The address that others dial, where it is not the one that is bound: the address of a pod, say. Port 0 stands for the port that was bound.',
  }),
  ...persistenceSettings,
} as const

/** Millrace authsvc: where it takes links. */
export const authsvcSettings = {
  rpc: rpcAddress({
    default: { host: '127.0.0.1', port: 7_884 },
    defaultText: '127.0.0.1:7884',
    help: 'Where frontends reach this authentication service. Internal: never open it to clients.',
  }),
  advertise: backendSettings.advertise,
} as const

/** PEM texts of mutual TLS. */
export interface RpcTls {
  readonly cert: string
  readonly key: string
  readonly ca: string
  /** Name that a backend's certificate must hold; empty: the host that was dialed. */
  readonly serverName: string
}

/** PEM texts for Redis; null for what is not given. */
export interface RedisTlsFiles {
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
}

/** What every role is told, checked and resolved. */
export interface MemberSettings {
  readonly clusterName: string
  readonly id: string
  /** Holds the password, wherever it came from. Print it with `redisUrlText` only. */
  readonly redis: RedisUrl
  readonly redisTls: RedisTlsFiles
  /** Null: mutual TLS alone proves who is a member. */
  readonly clusterKey: string | null
  readonly rpcTls: RpcTls | null
  readonly metrics: Address | null
  readonly logLevel: BrokerSettings['logLevel']
  readonly logLinesPerSecond: number
  readonly limits: BrokerLimits
}

export interface FrontendRoleSettings extends MemberSettings, Pick<BrokerSettings, 'ports' | 'admin'> {
  readonly workers: number
  /** Ports are shared: with the other workers, or because `--reuse-port` says so. */
  readonly reusePort: boolean
}

/** Where a role takes links. */
export interface RpcSettings {
  readonly rpc: LinkAddress
  /** Null: the address that was bound. Port 0: the port that was bound. */
  readonly advertise: LinkAddress | null
}

export interface BackendRoleSettings extends MemberSettings, RpcSettings {
  readonly redundancyFactor: number
  readonly persistence: Persistence
}

export interface AuthsvcRoleSettings extends MemberSettings, RpcSettings {}
