import { systemClock } from '#shared/base/clock.ts'
import { formatClock, givenClock } from '#shared/state-store/hybrid-clock.ts'
import { parseCommand } from '#shared/state-store/command.ts'
import { KeyStore } from './key-store.ts'
import { momentOf } from './moment.ts'
import type { Executed } from './store-request.ts'

/**
 * Memory of a key and time of a request: `node --expose-gc backend/statestore/key-store.bench.ts [keys]`. What ENTRY_BYTES in entries.ts stands for
 * is the column `beside`.
 */
const KEYS = Number(process.argv[2] ?? 1_000_000)
const KEY_BYTES = 128
const NO_MAX = Infinity
const LIMITS = {
  keysMax: NO_MAX,
  keysPerClientMax: NO_MAX,
  bytesMax: NO_MAX,
  answersMax: 1_000,
  keysPerConnectionMax: NO_MAX,
  watchersPerKeyMax: NO_MAX,
  watchedBytesMax: NO_MAX,
  keepMsMax: 3_600_000,
  pastPerKeyMax: 100,
  pastBytesMax: 1_000_000,
}
const WATCHER = { frontend: 'f', connection: 1, clientId: 'c' }

function usedBytes(): number {
  globalThis.gc?.()
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

function keyOf(index: number): string {
  return `sensors/${String(index).padStart(KEY_BYTES - 8, '0')}`
}

function payload(...elements: readonly string[]): Buffer {
  return Buffer.from(`*${elements.length}\r\n${elements.map(element => `$${element.length}\r\n${element}\r\n`).join('')}`, 'latin1')
}

function ask(store: KeyStore, bytes: Buffer, token: string | null): Executed {
  const command = parseCommand(bytes)
  if (typeof command === 'string') throw new Error(command)
  const now = momentOf(systemClock)
  const timestamp = { wall: now.wallMs, counter: 0 }
  const fencingToken = givenClock(token)
  return store.execute({ command, timestamp, fencingToken, isPersistent: false, watcher: WATCHER, origin: null }, now)
}

function measure(what: string, valueBytes: number, options: readonly string[], token: string | null): void {
  const before = usedBytes()
  const store = new KeyStore(LIMITS, systemClock.monotonicMs())
  const value = 'v'.repeat(valueBytes)
  const setMs = performance.now()
  for (let index = 0; index < KEYS; index++) ask(store, payload('SET', keyOf(index), value, ...options), token)
  const getMs = performance.now()
  const total = (usedBytes() - before) / KEYS
  const beside = total - KEY_BYTES - valueBytes
  const readMs = performance.now()
  for (let index = 0; index < KEYS; index++) ask(store, payload('GET', keyOf(index)), null)
  const endMs = performance.now()
  const perSet = ((getMs - setMs) * 1e6) / KEYS
  const perGet = ((endMs - readMs) * 1e6) / KEYS
  console.log(
    `${what.padEnd(36)}${total.toFixed(0).padStart(6)} B a key, beside key and value ${beside.toFixed(0).padStart(4)} B (counted ${(store.bytes / KEYS - KEY_BYTES - valueBytes).toFixed(0)});  SET ${perSet.toFixed(0)} ns, GET ${perGet.toFixed(0)} ns`,
  )
}

measure('64 B values', 64, [], null)
measure('64 B values that expire', 64, ['PX', '600000'], null)
measure('64 B values with a token', 64, [], formatClock({ wall: 1, counter: 0, node: 'client-1' }))
if (KEYS <= 200_000) measure('2,000 B values', 2_000, [], null)
