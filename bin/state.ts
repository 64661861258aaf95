import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { readFlags, resolveSettings } from '#shared/config/read-settings.ts'
import { optionalInt, parsed, path, Refusal, secret, text, toggle, type ValuesOf } from '#shared/config/setting.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { SettingsError } from '#shared/config/settings-error.ts'
import type { HybridTime } from '../client/hybrid-clock.ts'
import type { StateStore } from '../client/state-store.ts'
import type { KeptKeyEvent, Watch } from '../client/watch.ts'
import { type Command, ExitCode, print } from './command.ts'

const TEXT_MAX = 65_535

const stateSettings = {
  url: parsed<string, string>({
    default: 'mqtt://127.0.0.1:1883',
    defaultText: 'mqtt://127.0.0.1:1883',
    allowed: 'mqtt://, mqtts://, ws:// or wss:// and HOST:PORT',
    placeholder: 'URL',
    read: given =>
      /^(mqtts?|wss?):\/\/[^/@]+(\/\S*)?$/.test(given) ? given : new Refusal('expected mqtt://HOST:PORT, or mqtts, ws, wss; no user name'),
    help: 'The broker.',
  }),
  clientId: text({ default: '', placeholder: 'ID', maxLength: TEXT_MAX, help: 'Client Identifier; a fresh one when it is not given.' }),
  user: text({ default: '', placeholder: 'NAME', maxLength: TEXT_MAX, help: 'User name. Its password: MILLRACE_STATE_PASSWORD.' }),
  statePassword: secret({ help: 'Password of the user.' }),
  ca: path({ default: null, placeholder: 'FILE', help: 'PEM file: check the certificate of the broker with it.' }),
  cert: path({ default: null, placeholder: 'FILE', help: 'PEM file: client certificate.' }),
  certKey: path({ default: null, placeholder: 'FILE', help: 'PEM file: its private key.' }),
  hex: toggle({ help: 'Keys and values are bytes in hexadecimal, both ways.' }),
  nx: toggle({ help: 'set: only if the key does not exist.' }),
  nex: toggle({ help: 'set: only if the key does not exist or has this value already.' }),
  px: optionalInt({ min: 1, max: Number.MAX_SAFE_INTEGER, unit: 'ms', help: 'set: it lives so long.' }),
  persist: toggle({ help: 'set: ask that it be kept on disk.' }),
  token: text({ default: '', placeholder: 'VERSION', maxLength: TEXT_MAX, help: 'set, del: fencing token, as a version is printed.' }),
  prefix: toggle({ help: 'watch: all keys that begin so.' }),
  keep: optionalInt({
    min: 1,
    max: Number.MAX_SAFE_INTEGER,
    unit: 'ms',
    help: 'watch: a connection that is lost for less hides no change, unless it says so; an extension.',
  }),
  count: optionalInt({ min: 1, max: Number.MAX_SAFE_INTEGER, help: 'watch: end after so many changes.' }),
  timeout: optionalInt({ min: 1, max: 3_600_000, unit: 'ms', help: 'How long to wait for an answer; 10 000 when it is not given.' }),
} as const

type Given = ValuesOf<typeof stateSettings>

/** What the words of the command line come to: as bytes, whichever way they were written. */
interface Call {
  readonly store: StateStore
  readonly key: Buffer
  readonly value: Buffer | null
  readonly given: Given
  readonly token: HybridTime | null
}

interface Verb {
  /** How many words follow it, at least and at most. */
  readonly words: readonly [min: number, max: number]
  run(call: Call): Promise<number>
}

const VERBS = new Map<string, Verb>([
  ['get', { words: [1, 1], run: get }],
  ['set', { words: [2, 2], run: set }],
  ['del', { words: [1, 2], run: del }],
  ['watch', { words: [0, 1], run: watch }],
  ['ls', { words: [0, 1], run: ls }],
])

/** `millrace state` */
export const state: Command = {
  help: () => `Usage: millrace state get KEY [FLAGS]
       millrace state set KEY VALUE [--nx | --nex] [--px MS] [FLAGS]     VALUE - reads standard input
       millrace state del KEY [VALUE] [FLAGS]      with VALUE: only if it has that
       millrace state watch KEY [--keep MS] [--count N] [FLAGS]
       millrace state watch [PREFIX] --prefix [--count N] [FLAGS]   all keys that begin so; an extension, as ls
       millrace state ls [PREFIX] [FLAGS]          the broker must have the extensions of the store

Reads and changes the state store of a broker, as an MQTT client like any other: what its policies do not allow is refused. Exit code 0: done.
1: there is no such key, the condition was not met, or the broker refuses or cannot be reached. 2: the command was called wrongly.

${flagsHelp([{ title: 'Flags', settings: stateSettings }])}`,
  run: async args => {
    const end = args.findIndex(arg => arg.startsWith('--'))
    const [name, ...words] = end === -1 ? args : args.slice(0, end)
    const variables = { MILLRACE_STATE_PASSWORD: process.env['MILLRACE_STATE_PASSWORD'] }
    const given = resolveSettings(stateSettings, readFlags(stateSettings, end === -1 ? [] : args.slice(end)), variables)
    const verb = VERBS.get(name ?? '')
    if (verb === undefined) throw new SettingsError([`expected one of ${[...VERBS.keys()].join(', ')}; see --help`])
    const [min, max] = verb.words
    if (words.length < min || words.length > max)
      throw new SettingsError([`${name}: expected ${min === max ? min : `${min} to ${max}`} words; see --help`])
    if (name === 'watch' && words.length === 0 && !given.prefix) throw new SettingsError(['watch: expected a key, or --prefix'])
    if (given.prefix && given.keep !== null) throw new SettingsError(['flags --prefix, --keep: one of them'])
    if (given.nx && given.nex) throw new SettingsError(['flags --nx, --nex: one of them'])
    return await call(verb, words, given)
  },
}

async function call(verb: Verb, [keyWord, valueWord]: readonly string[], given: Given): Promise<number> {
  const key = bytesOf(keyWord ?? '', given)
  const value = valueWord === undefined ? null : valueWord === '-' ? await buffer(process.stdin) : bytesOf(valueWord, given)
  const mqtt = mqttOptionsOf(given)
  // Only now: nobody else needs the client, and it takes a while to load.
  const [{ StateStore }, { StateStoreError }, { parseHybridTime }] = await Promise.all([
    import('../client/state-store.ts'),
    import('../client/errors.ts'),
    import('../client/hybrid-clock.ts'),
  ])
  let store: StateStore | null = null
  try {
    const token = given.token === '' ? null : parseHybridTime(given.token)
    store = await StateStore.connect(given.url, { mqtt, ...(given.timeout !== null && { timeoutMs: given.timeout }) })
    return await verb.run({ store, key, value, given, token })
  } catch (error) {
    // Without a store it was the network, or the CONNACK.
    if (store !== null && !(error instanceof StateStoreError)) throw error
    process.stderr.write(`millrace state: ${messageOf(error)}\n`)
    return ExitCode.Failure
  } finally {
    await store?.close()
  }
}

function mqttOptionsOf({ clientId, user, statePassword, ca, cert, certKey }: Given): Record<string, unknown> {
  return {
    clientId: clientId === '' ? `millrace-state-${randomBytes(6).toString('hex')}` : clientId,
    ...(user !== '' && { username: user }),
    ...(statePassword !== null && { password: statePassword }),
    ...(ca !== null && { ca: read('--ca', ca) }),
    ...(cert !== null && { cert: read('--cert', cert) }),
    ...(certKey !== null && { key: read('--cert-key', certKey) }),
  }
}

async function get({ store, key, given }: Call): Promise<number> {
  const entry = await store.get(key)
  if (entry === null) return failed('there is no such key')
  // Into a file or a pipe goes the value and nothing else.
  if (process.stdout.isTTY || given.hex) print(shown(entry.value, given))
  else process.stdout.write(entry.value)
  return ExitCode.Success
}

async function set({ store, key, value, given, token }: Call): Promise<number> {
  const { nx, nex, px, persist } = given
  const { isSet, version } = await store.set(key, value!, {
    ...((nx || nex) && { condition: nx ? 'NX' : 'NEX' }),
    ...(px !== null && { pxMs: px }),
    ...(token !== null && { fencingToken: token }),
    persist,
  })
  if (!isSet) return failed(`the condition was not met: the key has version ${versionText(version)}`)
  print(versionText(version))
  return ExitCode.Success
}

async function del({ store, key, value, token }: Call): Promise<number> {
  const options = token === null ? {} : { fencingToken: token }
  const deleted = value === null ? await store.delete(key, options) : await store.compareAndDelete(key, value, options)
  if (deleted.is === 'deleted') return ExitCode.Success
  return failed(deleted.is === 'missing' ? 'there is no such key' : 'the key has another value')
}

async function watch({ store, key, given }: Call): Promise<number> {
  const stop = new AbortController()
  const onSignal = (): void => stop.abort()
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  const changes = await watchOf(store, key, given)
  try {
    for (let told = 0; told < (given.count ?? Infinity); told++) {
      const event = await changes.next(stop.signal)
      if (event === null) break
      if (event.is === 'gap') print('gap: changes may have been missed')
      else if (event.is === 'resumed') print(`resumed: ${event.missed} changes while there was no connection`)
      else {
        const name = given.prefix ? `${shown(event.key, given)} ` : ''
        print(`${versionText(event.version)} ${name}${event.is === 'set' ? `set ${shown(event.value, given)}` : 'deleted'}`)
      }
    }
    return ExitCode.Success
  } finally {
    changes.close()
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}

function watchOf(store: StateStore, key: Buffer, { prefix, keep }: Given): Promise<Watch<KeptKeyEvent>> {
  if (prefix) return store.watchPrefix(key)
  return keep === null ? store.watch(key) : store.watch(key, { keepMs: keep })
}

async function ls({ store, key, given }: Call): Promise<number> {
  for await (const found of store.scan(key)) print(shown(found, given))
  return ExitCode.Success
}

function failed(what: string): number {
  process.stderr.write(`millrace state: ${what}\n`)
  return ExitCode.Failure
}

function messageOf(error: unknown): string {
  // Of several addresses each failed for a reason of its own.
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error ? first.message : String(first)
}

function versionText({ wallMs, counter, node }: HybridTime): string {
  return `${wallMs}:${counter}:${node}`
}

/** What a terminal can show without doing what it says: other bytes in hexadecimal. */
function shown(bytes: Uint8Array, { hex }: Given): string {
  const raw = Buffer.from(bytes)
  const words = raw.toString('utf8')
  const isPlain = !/[\p{Cc}\p{Cf}\uFFFD]/u.test(words)
  if (hex) return raw.toString('hex')
  return isPlain ? words : `hex:${raw.toString('hex')}`
}

/** @throws {SettingsError} no hexadecimal */
function bytesOf(word: string, { hex }: Given): Buffer {
  if (!hex) return Buffer.from(word, 'utf8')
  if (!/^([\da-f]{2})*$/i.test(word)) throw new SettingsError([`argument ${JSON.stringify(word)}: expected bytes in hexadecimal`])
  return Buffer.from(word, 'hex')
}

/** @throws {SettingsError} it cannot be read */
function read(flag: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new SettingsError([`flag ${flag}: cannot read ${file}: ${messageOf(error)}`])
  }
}
