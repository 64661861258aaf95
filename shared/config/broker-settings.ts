import type { Address } from './address.ts'
import type { PlannedPort } from './port-settings.ts'
import { address, addresses, bytes, choice, int, networks, optionalInt, path, text, toggle, type ValuesOf } from './setting.ts'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB
const NEVER_SECONDS = 0xffff_ffff

/**
 * Largest Control Packet of each memory profile, bytes. The profile also names the memory budget of a Kubernetes pod;
 * standalone sizes itself by `memoryBytesMax`.
 */
export const PACKET_BYTES_BY_PROFILE = { Tiny: 4 * MIB, Low: 16 * MIB, Medium: 64 * MIB, High: 256 * MIB } as const

/** Every limit and behaviour of the broker that does not say where it listens or stores. The engine and the frontend read these. */
export const limitSettings = {
  connectionsMax: int({
    default: 100_000,
    min: 1,
    max: 10_000_000,
    unit: 'connections',
    help: 'Network Connections at one time, over all ports; the next one is closed on accept. The process also needs as many open files (ulimit -n).',
  }),
  unauthenticatedConnectionsMax: int({
    default: 10_000,
    min: 1,
    max: 1_000_000,
    unit: 'connections',
    help: 'Connections whose CONNECT has not been accepted yet; the next one is closed on accept.',
  }),
  unauthenticatedPerAddressMax: int({
    default: 5_000,
    min: 1,
    max: 1_000_000,
    unit: 'connections',
    help: 'The same from one client address.',
  }),
  unauthenticatedBytesPerConnection: bytes({
    default: 256 * KIB,
    min: KIB,
    max: 16 * MIB,
    help: 'What one connection may send before its CONNECT is accepted; more closes it.',
  }),
  unauthenticatedBytesTotal: bytes({
    default: 64 * MIB,
    min: MIB,
    max: 16 * GIB,
    help: 'The same over all connections; when reached, the connection that asks for more is closed.',
  }),
  connectDeadlineMs: int({
    default: 10_000,
    min: 100,
    max: 600_000,
    unit: 'ms',
    help: 'From accept to a complete CONNECT, TLS handshake and WebSocket upgrade included; then the connection is closed.',
  }),
  serverKeepAliveSeconds: int({
    default: 60,
    min: 0,
    max: 65_535,
    unit: 'seconds',
    help: 'Ceiling for Keep Alive: an MQTT 5 client that asks for more, or for 0 (none), is given this as Server Keep Alive. 0 means no ceiling. YAML: clients.maxKeepAliveSeconds.',
  }),
  writeBufferBytesMax: bytes({
    default: MIB,
    min: 16 * KIB,
    max: GIB,
    help: 'Bytes waiting for one socket that does not take them; beyond, QoS 0 messages to it are dropped and counted, others stay in the session.',
  }),

  packetBytesMax: bytes({
    default: 256 * MIB,
    min: 1,
    max: 256 * MIB,
    defaultText: "the memory profile's",
    help: 'Largest Control Packet that is accepted, header included, announced as Maximum Packet Size; never above what the memory profile allows. Larger ones end the connection with 0x95. YAML: clients.maxPacketSizeBytes.',
  }),
  topicLevelsMax: int({
    default: 128,
    min: 1,
    max: 65_536,
    unit: 'levels',
    help: 'Levels of a Topic Name or Topic Filter; deeper ones are refused (0x90, 0x8F).',
  }),
  filtersPerPacketMax: int({
    default: 10_000,
    min: 1,
    max: 1_000_000,
    unit: 'Topic Filters',
    help: 'Topic Filters in one SUBSCRIBE or UNSUBSCRIBE; more end the connection with 0x97.',
  }),
  userPropertiesPerPacketMax: int({
    default: 10_000,
    min: 1,
    max: 1_000_000,
    unit: 'User Properties',
    help: 'User Properties in one packet; more end the connection with 0x97.',
  }),
  receiveMaximum: int({
    default: 100,
    min: 1,
    max: 65_535,
    unit: 'messages',
    help: 'QoS 1 and 2 messages in flight from one client, announced as Receive Maximum; more end the connection with 0x93.',
  }),
  inflightMax: int({
    default: 1_024,
    min: 1,
    max: 65_535,
    unit: 'messages',
    help: "QoS 1 and 2 messages in flight to one client: ceiling for the client's Receive Maximum. YAML: clients.maxReceiveMaximum.",
  }),
  topicAliasMaximum: int({
    default: 32,
    min: 0,
    max: 65_535,
    unit: 'aliases',
    help: 'Topic Aliases that a client may use towards us, announced as Topic Alias Maximum. 0 turns them off.',
  }),
  topicAliasesOutMax: int({
    default: 32,
    min: 0,
    max: 65_535,
    unit: 'aliases',
    help: "Topic Aliases that we use towards one client: ceiling for the client's Topic Alias Maximum. 0 turns them off.",
  }),

  sessionsMax: int({
    default: 1_000_000,
    min: 1,
    max: 100_000_000,
    unit: 'sessions',
    help: 'Sessions, offline ones included; a CONNECT that would start one more is refused with 0x97.',
  }),
  subscriptionsPerSessionMax: int({
    default: 100_000,
    min: 1,
    max: 10_000_000,
    unit: 'subscriptions',
    help: 'Subscriptions of one session; one more is refused with 0x97.',
  }),
  maxSessionExpirySeconds: optionalInt({
    min: 1,
    max: NEVER_SECONDS,
    unit: 'seconds',
    help: 'Ceiling for Session Expiry Interval; MQTT 3.1.1 sessions with Clean Session 0 get exactly this. Without it they never expire. YAML: clients.maxSessionExpirySeconds.',
  }),
  maxMessageExpirySeconds: optionalInt({
    min: 1,
    max: NEVER_SECONDS,
    unit: 'seconds',
    help: 'Ceiling for Message Expiry Interval, Retained Messages included, imposed also on messages that carry none. YAML: clients.maxMessageExpirySeconds.',
  }),
  queueMessagesMax: int({
    default: 100_000,
    min: 1,
    max: Number.MAX_SAFE_INTEGER,
    unit: 'messages',
    help: 'Messages waiting for one session, without those in flight; queueStrategy says what happens then. YAML: clients.subscriberQueueLimit.length.',
  }),
  queueBytesMax: bytes({
    default: 256 * MIB,
    min: KIB,
    max: Number.MAX_SAFE_INTEGER,
    help: 'Bytes waiting for one session; queueStrategy says what happens then.',
  }),
  queueStrategy: choice({
    values: ['None', 'DropOldest'],
    default: 'None',
    help: 'When a queue is full. None: nothing is dropped, the new message is refused to its publisher with 0x97. DropOldest: the oldest is dropped and counted. YAML: clients.subscriberQueueLimit.strategy.',
  }),
  retainedMessagesMax: int({
    default: 1_000_000,
    min: 0,
    max: 1_000_000_000,
    unit: 'messages',
    help: 'Retained Messages; one for a further topic is refused with 0x97 (QoS 0: not retained, counted). 0 turns Retained Messages off, announced as Retain Available 0.',
  }),
  retainedBytesMax: bytes({
    default: GIB,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: 'Memory of all Retained Messages: payload and properties, 240 bytes for each, its Topic Name twice (five times over 1,024 bytes) and 120 bytes for each level of it; beyond, as retainedMessagesMax.',
  }),

  stateStoreKeysPerShardMax: int({
    default: 250_000,
    min: 0,
    max: 100_000_000,
    unit: 'keys',
    help: 'Keys of the state store in one shard; a SET of a further key fails with "the quota has been exceeded", overwriting and deleting always work.',
  }),
  stateStoreKeysPerClientMax: int({
    default: 0,
    min: 0,
    max: 100_000_000,
    unit: 'keys',
    help: 'The same for the keys of one shard that one Client Identifier has created. 0: no limit for one client.',
  }),
  stateStoreBytesPerShardMax: bytes({
    default: 256 * MIB,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: 'Memory of the state store in one shard: keys, values and some 200 to 400 bytes for each; a SET that needs more fails with "the quota has been exceeded".',
  }),
  stateStoreWatchesPerClientMax: int({
    default: 10_000,
    min: 0,
    max: 10_000_000,
    unit: 'keys',
    help: 'Keys of one shard that one connection may watch, prefixes included; a further KEYNOTIFY or WATCH fails with "the quota has been exceeded".',
  }),
  stateStoreWatchersPerKeyMax: int({
    default: 10_000,
    min: 0,
    max: 10_000_000,
    unit: 'connections',
    help: 'Connections that may watch one key, and those that may watch prefixes: each change makes so many messages. Beyond, as stateStoreWatchesPerClientMax.',
  }),
  stateStoreWatchBytesPerShardMax: bytes({
    default: 64 * MIB,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: 'Memory of all watches of one shard, keys or prefixes and 300 bytes for each, and 300 for each connection. Beyond, as stateStoreWatchesPerClientMax.',
  }),
  stateStoreKeepSecondsMax: int({
    default: 3_600,
    min: 1,
    max: 604_800,
    unit: 'seconds',
    help: 'For so long KEYNOTIFY with KEEP keeps a watch without a connection; who asks for more gets this.',
  }),
  stateStoreKeptChangesPerKeyMax: int({
    default: 100,
    min: 0,
    max: 10_000,
    unit: 'changes',
    help: 'Changes remembered of a key that somebody watches with KEEP, the newest. A client that has missed more is told that there is a gap.',
  }),
  stateStoreKeptBytesPerShardMax: bytes({
    default: 16 * MIB,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    help: 'Memory of those changes in one shard, values and 120 bytes for each; a change beyond drops older ones of its own key.',
  }),

  memoryBytesMax: bytes({
    default: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    defaultText: '75 % of the memory of the machine or the control group',
    help: 'Memory that the process is sized for (resident). 0 chooses the default.',
  }),
  memoryWatermarkPercent: int({
    default: 75,
    min: 10,
    max: 100,
    unit: 'percent',
    help: 'Share of memoryBytesMax at which PUBLISH packets are refused: QoS 1 and 2 with 0x97, QoS 0 dropped and counted; reading from publishers pauses. New sessions and new Subscriptions are refused with 0x97. Messages, sessions, Subscriptions and unstored records count.',
  }),
  memoryProfile: choice({
    values: ['Tiny', 'Low', 'Medium', 'High'],
    default: 'Medium',
    help: 'Bounds the largest packet: 4, 16, 64 or 256 MiB. YAML: spec.memoryProfile.',
  }),
  highPriorityMessagesBackpressureHandling: choice({
    values: ['Accept', 'Reject'],
    default: 'Accept',
    help: 'Above the watermark, PUBLISH packets with the User Property $high_priority are still taken, or treated like any other.',
  }),

  shards: int({
    default: 32,
    min: 1,
    max: 1_024,
    unit: 'shards',
    help: 'Units of state and ownership. Fixed when the store is first created.',
  }),
  sysTopicIntervalSeconds: int({
    default: 10,
    min: 0,
    max: 86_400,
    unit: 'seconds',
    help: 'How often the $SYS topics are published. 0 turns them off.',
  }),
  responseInformation: text({
    default: 'response/',
    placeholder: 'TOPIC',
    maxLength: 1_024,
    help: 'Answer to Request Response Information: this, then the Client Identifier; the start of topics that the client may use for responses. Empty: none is sent.',
  }),
  serverReference: text({
    default: '',
    placeholder: 'HOST:PORT',
    maxLength: 1_024,
    help: 'Server Reference: where MQTT 5 clients are sent (0x9C) when this broker drains. Empty: they are disconnected with 0x8B.',
  }),
  drainTimeoutMs: int({
    default: 20_000,
    min: 0,
    max: 600_000,
    unit: 'ms',
    help: 'From the begin of the drain (SIGTERM, then drainDelayMs) to exit at the latest.',
  }),
  drainDelayMs: int({
    default: 0,
    min: 0,
    max: 600_000,
    unit: 'ms',
    help: 'From SIGTERM to the drain. Meanwhile /readyz says no and everything else goes on: time for a load balancer to send new clients elsewhere before the ports close. Backends do not wait.',
  }),
  drainDisconnectsPerSecond: int({
    default: 5_000,
    min: 1,
    max: 1_000_000,
    unit: 'connections/s',
    help: 'How fast clients are disconnected while draining, so that they do not all arrive elsewhere at once; faster when drainTimeoutMs demands it.',
  }),
  authWorkerThreads: int({
    default: 0,
    min: 0,
    max: 64,
    unit: 'threads',
    help: 'Threads of an authentication service for certificates, password hashes and tokens. 0: one less than there are processors, at least 1, at most 4.',
  }),
  authWorkerQueueMax: int({
    default: 2_000,
    min: 1,
    max: 1_000_000,
    unit: 'tasks',
    help: 'Tasks that wait for one of them; for the next one its client is told to come back later (0x88).',
  }),
  authRequestsMax: int({
    default: 1_000,
    min: 1,
    max: 100_000,
    unit: 'requests',
    help: 'Authentications that run at a time in one authentication service; five times as many wait, beyond that clients are told to come back later (0x88).',
  }),
  compatibility: choice({
    values: ['None', 'AzureIoTOperations'],
    default: 'None',
    help: 'AzureIoTOperations announces the smaller set of features of that broker: QoS 1, no Topic Aliases, no Subscription Identifiers.',
  }),
} as const

/** Where clients come in. */
export const portSettings = {
  mqtt: addresses({
    default: [],
    defaultText: '127.0.0.1:1883',
    help: 'MQTT over TCP. Repeatable. The default does not apply with --config.',
  }),
  ws: addresses({
    default: [],
    defaultText: '127.0.0.1:8083',
    help: 'MQTT over WebSocket. Repeatable. The default does not apply with --config.',
  }),
  mqtts: addresses({ default: [], defaultText: 'none', help: 'MQTT over TLS; needs --tls-cert and --tls-key. Repeatable.' }),
  wss: addresses({ default: [], defaultText: 'none', help: 'MQTT over WebSocket over TLS; needs --tls-cert and --tls-key. Repeatable.' }),
  tlsCert: path({ default: null, placeholder: 'FILE', help: 'PEM: certificate of the --mqtts and --wss ports, then its intermediates.' }),
  tlsKey: path({ default: null, placeholder: 'FILE', help: 'PEM: private key of that certificate.' }),
  tlsClientCa: path({
    default: null,
    placeholder: 'FILE',
    help: 'PEM: clients of --mqtts and --wss must present a certificate that one of these authorities issued.',
  }),
  proxyProtocol: networks({
    help: 'The ports given by flags expect a PROXY protocol header (v1 or v2) and take it from these sources alone.',
  }),
  websocketEngine: choice({
    values: ['auto', 'uws', 'ws'],
    default: 'auto',
    help: 'WebSocket implementation; auto takes uWebSockets.js where its native module loads, else ws.',
  }),
  admin: address({
    default: { host: '127.0.0.1', port: 8080 },
    defaultText: '127.0.0.1:8080',
    help: 'Admin API and status page.',
  }),
  allowAnonymousRemote: toggle({
    help: 'Lets ports without authentication (MQTT, and the admin API) bind to other addresses than loopback.',
  }),
} as const

/** What every process has. */
export const processSettings = {
  metrics: address({
    default: { host: '127.0.0.1', port: 9600 },
    defaultText: '127.0.0.1:9600',
    help: '/metrics, /livez and /readyz.',
  }),
  logLevel: choice({
    values: ['trace', 'debug', 'info', 'warn', 'error'],
    default: 'info',
    help: 'Least severe log line that is written.',
  }),
  logLinesPerSecond: int({
    default: 10,
    min: 1,
    max: 100_000,
    unit: 'lines/s',
    help: 'Log lines of one event that clients can cause; further ones are counted and summed up in one line.',
  }),
} as const

export const configSetting = {
  config: path({
    default: null,
    placeholder: 'DIR',
    help: 'Directory of YAML resources (Broker, BrokerListener, BrokerAuthentication, BrokerAuthorization, ConfigMap, Secret). Ports then come from there; flags add to them. Changes are picked up while the process runs.',
  }),
  kubernetes: toggle({
    help: 'The same resources, read and watched through the Kubernetes API: that of the cluster the process runs in, or the one that KUBECONFIG names.',
  }),
  namespace: text({
    default: '',
    defaultText: 'that of the pod, else azure-iot-operations',
    placeholder: 'NAME',
    maxLength: 63,
    help: 'Namespace of the resources with --kubernetes.',
  }),
} as const

/** Where a standalone broker listens, what it stores where, and what it says. */
export const standaloneSettings = {
  ...configSetting,
  data: path({ default: './data', placeholder: 'DIR', help: 'Directory of the lmdb store; made when missing.' }),
  store: choice({
    values: ['lmdb', 'memory'],
    default: 'lmdb',
    explain: given => (/^rediss?:/i.test(given) ? 'redis is not available in this version' : null),
    help: 'lmdb keeps sessions, queues and Retained Messages on disk; memory forgets them when the process ends.',
  }),
  durability: choice({
    values: ['stored', 'fsynced'],
    default: 'fsynced',
    help: 'What an acknowledgement promises with lmdb. stored: the message survives the process. fsynced: it survives the machine.',
  }),
  ...portSettings,
  ...processSettings,
} as const

/** Limits as the engine reads them: `packetBytesMax` is within its profile, `memoryBytesMax` is never 0. */
export type BrokerLimits = ValuesOf<typeof limitSettings>

/** All that a standalone broker is told, checked and resolved. */
export interface BrokerSettings {
  /** Directory of the lmdb store. */
  readonly dataDirectory: string
  readonly store: 'lmdb' | 'memory'
  readonly durability: 'stored' | 'fsynced'
  readonly ports: readonly PlannedPort[]
  readonly admin: Address | null
  readonly metrics: Address | null
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error'
  readonly logLinesPerSecond: number
  readonly limits: BrokerLimits
}
