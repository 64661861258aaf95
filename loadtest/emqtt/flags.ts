import { pem, UsageError } from '../flags.ts'
import type { ProtocolVersion, Qos } from '../frames.ts'
import type { LoadClient, Target } from '../client.ts'

/** One flag of emqtt-bench: short and long name, what it takes, its default. */
interface Flag {
  readonly short?: string
  readonly long: string
  readonly takes: 'text' | 'number' | 'boolean'
  readonly default?: string
  readonly help: string
}

const connectionFlags: readonly Flag[] = [
  { short: 'h', long: 'host', takes: 'text', default: '127.0.0.1', help: 'address of the broker' },
  { short: 'p', long: 'port', takes: 'number', default: '1883', help: 'port of the broker' },
  { short: 'V', long: 'version', takes: 'number', default: '5', help: 'protocol: 3 (3.1), 4 (3.1.1) or 5' },
  { short: 'c', long: 'count', takes: 'number', default: '200', help: 'number of clients' },
  { short: 'R', long: 'connrate', takes: 'number', default: '0', help: 'connections per second; 0: use --interval' },
  { short: 'n', long: 'startnumber', takes: 'number', default: '0', help: 'number of the first client' },
  { short: 'i', long: 'interval', takes: 'number', default: '10', help: 'milliseconds between connections' },
  { short: 'u', long: 'username', takes: 'text', help: 'user name; %i becomes the client’s number' },
  { short: 'P', long: 'password', takes: 'text', help: 'password' },
  { short: 'k', long: 'keepalive', takes: 'number', default: '300', help: 'Keep Alive, seconds' },
  { short: 'C', long: 'clean', takes: 'boolean', default: 'true', help: 'Clean Start' },
  { short: 'x', long: 'session-expiry', takes: 'number', default: '0', help: 'Session Expiry Interval, seconds (version 5)' },
  { short: 'S', long: 'ssl', takes: 'boolean', default: 'false', help: 'TLS' },
  { long: 'cacertfile', takes: 'text', help: 'PEM file to check the server with' },
  { long: 'certfile', takes: 'text', help: 'PEM file, client certificate' },
  { long: 'keyfile', takes: 'text', help: 'PEM file, its private key' },
  { long: 'prefix', takes: 'text', default: 'bench', help: 'start of Client Identifiers' },
]

const topicFlags: readonly Flag[] = [
  { short: 't', long: 'topic', takes: 'text', help: 'topic, with %u (user name), %c (Client Identifier), %i (client’s number)' },
  { short: 'q', long: 'qos', takes: 'number', default: '0', help: 'QoS' },
]

const publishFlags: readonly Flag[] = [
  {
    short: 'I',
    long: 'interval_of_msg',
    takes: 'number',
    default: '1000',
    help: 'milliseconds between two messages of a client; 0: no pause',
  },
  { short: 's', long: 'size', takes: 'number', default: '256', help: 'payload bytes' },
  { short: 'm', long: 'message', takes: 'text', help: 'payload itself, in place of --size' },
  { short: 'r', long: 'retain', takes: 'boolean', default: 'false', help: 'retain' },
  { short: 'F', long: 'inflight', takes: 'number', default: '1', help: 'QoS 1 and 2: messages of a client not acknowledged at most' },
  { short: 'L', long: 'limit', takes: 'number', default: '0', help: 'messages in all, then stop; 0: no end' },
  { short: 'w', long: 'wait-before-publishing', takes: 'boolean', default: 'false', help: 'publish when all clients are connected' },
]

const flagsOf: Readonly<Record<EmqttCommand, readonly Flag[]>> = {
  conn: connectionFlags,
  sub: [...connectionFlags, ...topicFlags],
  pub: [...connectionFlags, ...topicFlags, ...publishFlags],
}

export type EmqttCommand = 'conn' | 'sub' | 'pub'

/** The values of a command line, each checked. */
export interface EmqttFlags {
  readonly target: Target
  readonly count: number
  readonly startNumber: number
  /** Milliseconds between the starts of two connections. */
  readonly connectIntervalMs: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly keepAliveS: number
  readonly clean: boolean
  readonly sessionExpiryS: number
  readonly prefix: string
  readonly topic: string
  readonly qos: Qos
  readonly messageIntervalMs: number
  readonly payload: string | number
  readonly retain: boolean
  readonly inflightMax: number
  readonly limit: number
  readonly waitBeforePublishing: boolean
}

/** @throws {UsageError} unknown flag, missing or bad value. @returns null when help was asked for */
export function parseEmqttFlags(command: EmqttCommand, argv: readonly string[]): EmqttFlags | null {
  const given = readFlags(command, argv)
  if (!given) return null
  const text = (name: string): string | undefined => given.get(name)
  const number = (name: string, min: number, max: number): number => {
    const value = Number(given.get(name) ?? 0)
    if (!Number.isInteger(value) || value < min || value > max)
      throw new UsageError(`--${name} ${given.get(name)}: a whole number from ${min} to ${max}`)
    return value
  }
  const yes = (name: string): boolean => given.get(name) === 'true'
  const topic = text('topic') ?? ''
  if (command !== 'conn' && topic === '') throw new UsageError(`${command} needs --topic`)
  const connectionsPerS = number('connrate', 0, 1_000_000)
  return {
    target: {
      host: text('host')!,
      port: number('port', 1, 65_535),
      protocol: number('version', 3, 5) as ProtocolVersion,
      tls: yes('ssl') ? { ca: pem(text('cacertfile')), cert: pem(text('certfile')), key: pem(text('keyfile')) } : null,
    },
    count: number('count', 1, 1_000_000),
    startNumber: number('startnumber', 0, 1_000_000_000),
    connectIntervalMs: connectionsPerS > 0 ? 1_000 / connectionsPerS : number('interval', 0, 3_600_000),
    username: text('username'),
    password: text('password'),
    keepAliveS: number('keepalive', 0, 65_535),
    clean: yes('clean'),
    sessionExpiryS: number('session-expiry', 0, 0xffff_ffff),
    prefix: text('prefix')!,
    topic,
    qos: number('qos', 0, 2) as Qos,
    messageIntervalMs: number('interval_of_msg', 0, 86_400_000),
    payload: text('message') ?? number('size', 0, 16_777_216),
    retain: yes('retain'),
    inflightMax: Math.max(1, number('inflight', 0, 65_535)),
    limit: number('limit', 0, Number.MAX_SAFE_INTEGER),
    waitBeforePublishing: yes('wait-before-publishing'),
  }
}

/** Long names to texts, defaults included; null when help was asked for. */
function readFlags(command: EmqttCommand, argv: readonly string[]): Map<string, string> | null {
  const flags = flagsOf[command]
  const values = new Map(flags.flatMap(flag => (flag.default === undefined ? [] : [[flag.long, flag.default] as const])))
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!
    if (word === '--help') return null
    const flag = flags.find(one => word === `-${one.short}` || word === `--${one.long}` || word.startsWith(`--${one.long}=`))
    if (!flag) throw new UsageError(`unknown flag ${word}; ${command} --help lists them`)
    if (word.includes('=') && word.startsWith('--')) values.set(flag.long, word.slice(word.indexOf('=') + 1))
    else if (flag.takes === 'boolean' && !/^(true|false)$/.test(argv[at + 1] ?? '')) values.set(flag.long, 'true')
    else {
      const value = argv[++at]
      if (value === undefined) throw new UsageError(`${word} needs a value`)
      values.set(flag.long, value)
    }
  }
  return values
}

export function emqttHelp(command: EmqttCommand): string {
  const rows = flagsOf[command].map(({ short, long, help, default: preset }) => {
    const names = `${short ? `-${short}, ` : '    '}--${long}`
    return `  ${names.padEnd(30)} ${help}${preset === undefined ? '' : ` (default ${preset})`}`
  })
  return [`usage: millrace bench ${command} [flags]`, '', ...rows, '      --help'.padEnd(33) + 'this text', ''].join('\n')
}

/** A client of one of the commands: its number is `startNumber` and up. */
export interface NumberedClient {
  readonly client: LoadClient
  readonly number: number
  readonly clientId: string
}

/** Puts a client's own values into a topic, a user name or a Client Identifier. */
export function fillIn(
  pattern: string,
  of: { readonly number: number; readonly clientId: string; readonly username?: string | undefined },
): string {
  return pattern.replaceAll(/%[uci]/g, found =>
    found === '%u' ? (of.username ?? 'undefined') : found === '%c' ? of.clientId : String(of.number),
  )
}
