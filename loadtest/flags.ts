import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { LoadOptions } from './options.ts'
import { generalDefaults } from './options.ts'
import { MESSAGE_HEADER_BYTES, SLOTS_MAX } from './message.ts'
import type { Scenario } from './scenario.ts'
import { scenarios } from './scenarios.ts'

/** What was typed cannot be run; the message is for the person who typed it. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

interface NumberFlag {
  readonly field: keyof LoadOptions
  readonly min: number
  readonly max: number
  readonly integer?: boolean
  readonly help: string
}

const LARGE = Number.MAX_SAFE_INTEGER

const numberFlags: Readonly<Record<string, NumberFlag>> = {
  port: { field: 'port', min: 1, max: 65_535, integer: true, help: 'port of the broker' },
  protocol: { field: 'protocol', min: 4, max: 5, integer: true, help: '4 (MQTT 3.1.1) or 5' },
  processes: { field: 'processes', min: 0, max: 64, integer: true, help: 'generator processes; 0 runs the load in this one' },
  qos: { field: 'qos', min: 0, max: 2, integer: true, help: 'QoS of messages and subscriptions' },
  size: { field: 'sizeBytes', min: MESSAGE_HEADER_BYTES, max: 1_048_576, integer: true, help: 'payload bytes' },
  window: { field: 'window', min: 1, max: SLOTS_MAX - 1, integer: true, help: 'messages in flight per publisher (closed loop)' },
  pubs: { field: 'publishers', min: 1, max: 100_000, integer: true, help: 'publishers' },
  subs: { field: 'subscribers', min: 1, max: 100_000, integer: true, help: 'subscribers' },
  count: { field: 'count', min: 0, max: LARGE, integer: true, help: 'messages in all; 0: as many as the duration allows' },
  rate: { field: 'ratePerS', min: 0, max: 10_000_000, help: 'messages per second in all (open loop); 0: closed loop' },
  warmup: { field: 'warmupS', min: 0, max: 3_600, help: 'seconds before measuring' },
  duration: { field: 'durationS', min: 0, max: 30 * 86_400, help: 'seconds' },
  settle: { field: 'settleS', min: 0, max: 3_600, help: 'seconds between subscribing and publishing' },
  stall: { field: 'stallS', min: 0.1, max: 3_600, help: 'seconds without progress after which messages count as lost' },
  connections: { field: 'connections', min: 1, max: 1_000_000, integer: true, help: 'connections (idle)' },
  concurrency: { field: 'concurrency', min: 1, max: 10_000, integer: true, help: 'handshakes under way at once' },
  hold: { field: 'holdS', min: 0, max: 86_400, help: 'seconds that idle connections are left alone before memory is read' },
  filters: { field: 'filters', min: 0, max: 1_000_000, integer: true, help: 'filters per client beforehand (subscribe)' },
  readers: { field: 'readers', min: 1, max: 10_000, integer: true, help: 'readers (retained)' },
}

const textFlags: Readonly<Record<string, string>> = {
  host: 'address of the broker',
  username: 'user name of all clients',
  password: 'password of all clients',
  prefix: 'first level of topics and first part of Client Identifiers',
  pids: 'process identifiers of the broker, comma-separated: report its CPU time and memory, children included',
  ca: 'PEM file: check the server certificate with it (with --tls)',
  cert: 'PEM file: client certificate',
  key: 'PEM file: its private key',
  csv: 'soak: file for the samples',
  metrics: 'soak: URL of the broker’s Prometheus page, to follow its heap',
}

const booleanFlags: Readonly<Record<string, string>> = {
  tls: 'TLS',
  persistent: 'subscribers keep their sessions',
  json: 'print the result as one JSON object',
  help: 'this text',
}

/** @throws {UsageError} unknown flag, or a value outside its range */
export function parseLoadFlags(
  scenario: Scenario,
  argv: readonly string[],
): { readonly options: LoadOptions; readonly json: boolean; readonly help: boolean } {
  const values = parse(argv)
  const options: Record<string, unknown> = { ...generalDefaults, ...scenario.defaults }
  for (const [name, flag] of Object.entries(numberFlags)) {
    const given = values[name]
    if (typeof given === 'string') options[flag.field] = numberOf(name, given, flag)
  }
  for (const name of ['host', 'username', 'password', 'prefix', 'csv'] as const)
    if (values[name] !== undefined) options[name] = values[name]
  if (typeof values['metrics'] === 'string') options['metricsUrl'] = values['metrics']
  if (typeof values['pids'] === 'string') {
    options['pids'] = values['pids'].split(',').map(text => numberOf('pids', text, { min: 1, max: LARGE, integer: true }))
  }
  if (values['persistent'] === true) options['persistent'] = true
  if (values['tls'] === true) options['tls'] = { ca: pem(values['ca']), cert: pem(values['cert']), key: pem(values['key']) }
  return { options: options as unknown as LoadOptions, json: values['json'] === true, help: values['help'] === true }
}

function parse(argv: readonly string[]): Readonly<Record<string, string | boolean | undefined>> {
  const options: Record<string, { type: 'string' | 'boolean' }> = {}
  for (const name of [...Object.keys(numberFlags), ...Object.keys(textFlags)]) options[name] = { type: 'string' }
  for (const name of Object.keys(booleanFlags)) options[name] = { type: 'boolean' }
  try {
    return parseArgs({ args: [...argv], options, strict: true }).values as Record<string, string | boolean | undefined>
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** @throws {UsageError} not a number, or outside the range */
export function numberOf(
  name: string,
  text: string,
  range: { readonly min: number; readonly max: number; readonly integer?: boolean },
): number {
  const value = Number(text)
  const fits = text.trim() !== '' && Number.isFinite(value) && value >= range.min && value <= range.max
  if (!fits || (range.integer && !Number.isInteger(value))) {
    throw new UsageError(
      `--${name} ${text}: ${range.integer ? 'a whole number' : 'a number'} from ${range.min} to ${range.max === LARGE ? '…' : range.max}`,
    )
  }
  return value
}

/** @throws {UsageError} the file cannot be read */
export function pem(file: string | boolean | undefined): string | undefined {
  if (typeof file !== 'string') return undefined
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

export function loadHelp(): string {
  const row = (name: string, help: string, value: LoadOptions[keyof LoadOptions] | undefined): string => {
    const shown = typeof value === 'string' || typeof value === 'number' ? ` (default ${value})` : ''
    return `  --${name.padEnd(12)} ${help}${shown}`
  }
  return [
    'usage: millrace bench SCENARIO [flags]        one of the scenarios below',
    '       millrace bench conn|pub|sub [flags]    flags of emqtt-bench; --help after the command explains',
    '',
    'scenarios, each with its own defaults:',
    ...scenarios.map(
      ({ name, help, defaults }) =>
        `  ${name.padEnd(10)} ${help}\n             ${JSON.stringify(defaults).replaceAll('"', '').slice(1, -1).replaceAll(',', ', ')}`,
    ),
    '',
    'flags:',
    ...Object.entries(numberFlags).map(([name, flag]) => row(name, flag.help, generalDefaults[flag.field])),
    ...Object.entries(textFlags).map(([name, help]) =>
      row(name, help, name === 'host' || name === 'prefix' ? generalDefaults[name] : undefined),
    ),
    ...Object.entries(booleanFlags).map(([name, help]) => row(name, help, undefined)),
    '',
  ].join('\n')
}
