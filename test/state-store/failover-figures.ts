/** `node test/state-store/failover-figures.ts`: how long keys of a shard are out of reach when the process that has it is killed (docs/benchmarks.md). */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { Keys } from '../../backend/store/redis/keys.ts'
import { StateStore } from '../../client/state-store.ts'

const PROGRAM = join(import.meta.dirname, '../../bin/millrace.js')
const KEYS = 100_000
const VALUE = 'v'.repeat(128)
export const SHARDS = 32
const BACKENDS = 3
const CLUSTER_NAME = 'state-failover'
const GOAL_MS = 3_000
/** Between an answer and the next kill: others may still be taking over. */
const SETTLE_MS = 5_000
const TIMEOUT_MS = 60_000
const INFLIGHT_MAX = 64
/** Connections that make the keys. */
const FILLERS = 8

interface FirstLine {
  readonly frontends: readonly { readonly mqtt: string }[]
  readonly backends: readonly { readonly pid: number }[]
  readonly redis: readonly { readonly address: string }[]
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function startCluster(directory: string): Promise<{ readonly command: ChildProcess; readonly first: FirstLine }> {
  const counts = ['--frontends', '2', '--backends', String(BACKENDS), '--authsvcs', '0', '--shards', String(SHARDS), '--no-restart']
  const flags = ['cluster', '--base-port', '0', '--cluster-name', CLUSTER_NAME, '--log-level', 'error', ...counts]
  const command = spawn(process.execPath, [PROGRAM, ...flags], { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface({ input: command.stdout })
  const [line] = (await once(lines, 'line')) as [string]
  return { command, first: JSON.parse(line) as FirstLine }
}

/** So many keys of 16 bytes that lie in one shard. */
export function keysOf(shard: number, count: number): readonly Buffer[] {
  const keys: Buffer[] = []
  for (let number = 0; keys.length < count; number++) {
    const key = String(number).padStart(16, '0')
    if (storeShardOf(key, SHARDS) === shard) keys.push(Buffer.from(key))
  }
  return keys
}

/** Asks again and again, one request at a time. Answers how long the first one took that was asked after `fromMs`, and the longest of all. */
class Asking {
  firstMs: number | null = null
  longestMs = 0
  failed = 0
  fromMs = Infinity
  isOver = false

  async run(ask: (turn: number) => Promise<unknown>): Promise<void> {
    for (let turn = 0; !this.isOver; turn++) {
      const startMs = performance.now()
      try {
        await ask(turn)
      } catch {
        this.failed++
        continue
      }
      const endMs = performance.now()
      this.longestMs = Math.max(this.longestMs, endMs - startMs)
      if (startMs >= this.fromMs) this.firstMs ??= endMs - this.fromMs
    }
  }
}

async function killOnce(stores: readonly StateStore[], keys: readonly Buffer[], kill: () => Promise<string>): Promise<number> {
  const asks = stores.flatMap(store => {
    const keyAt = (turn: number): Buffer => keys[(turn * 7_919) % keys.length]!
    return [(turn: number) => store.get(keyAt(turn)), (turn: number) => store.set(keyAt(turn), VALUE)]
  })
  const asking = asks.map(() => new Asking())
  const running = asking.map((one, at) => one.run(asks[at]!))
  await sleep(1_000)
  const killed = await kill()
  const killedMs = performance.now()
  for (const one of asking) one.fromMs = killedMs
  while (asking.some(one => one.firstMs === null) && performance.now() - killedMs < TIMEOUT_MS) await sleep(5)
  await sleep(SETTLE_MS)
  for (const one of asking) one.isOver = true
  await Promise.all(running)
  const worstMs = Math.max(...asking.map(({ longestMs }) => longestMs))
  const firsts = asking.map(({ firstMs }) => (firstMs === null ? 'never' : Math.round(firstMs)))
  const failed = asking.reduce((sum, one) => sum + one.failed, 0)
  print(
    `${killed} killed: GET and SET at two frontends answered after ${firsts.join(', ')} ms; longest wait ${Math.round(worstMs)} ms; failed ${failed}`,
  )
  return failed > 0 || asking.some(({ firstMs }) => firstMs === null) ? Infinity : worstMs
}

async function missing(store: StateStore, keys: readonly Buffer[]): Promise<number> {
  let wrong = 0
  await inParts(keys, async key => {
    if ((await store.get(key))?.text !== VALUE) wrong++
  })
  return wrong
}

async function inParts(keys: readonly Buffer[], work: (key: Buffer) => Promise<void>): Promise<void> {
  for (let at = 0; at < keys.length; at += INFLIGHT_MAX) await Promise.all(keys.slice(at, at + INFLIGHT_MAX).map(work))
}

async function measure(first: FirstLine): Promise<boolean> {
  const shard = storeShardOf('any', SHARDS)
  const keys = keysOf(shard, KEYS)
  const options = { timeoutMs: TIMEOUT_MS, inflightMax: INFLIGHT_MAX }
  const stores = await Promise.all(first.frontends.map(({ mqtt }) => StateStore.connect(`mqtt://${mqtt}`, options)))
  const [host, port] = first.redis[0]!.address.split(':')
  const redis = new Redis({ host: host!, port: Number(port) })
  const startMs = performance.now()
  const fillers = await Promise.all(
    Array.from({ length: FILLERS }, (_, at) => StateStore.connect(`mqtt://${first.frontends[at % 2]!.mqtt}`, options)),
  )
  await Promise.all(
    fillers.map((store, part) =>
      inParts(
        keys.filter((_, at) => at % FILLERS === part),
        async key => void (await store.set(key, VALUE)),
      ),
    ),
  )
  await Promise.all(fillers.map(store => store.close()))
  print(`${KEYS} keys of 16 bytes with values of 128 in shard ${shard}, after ${((performance.now() - startMs) / 1_000).toFixed(1)} s`)
  let worstMs = 0
  for (let round = 1; round < BACKENDS; round++) {
    const waitMs = await killOnce(stores, keys, async () => {
      const owner = (await redis.hget(new Keys(CLUSTER_NAME).meta(shard), 'id'))!
      process.kill(first.backends[Number(owner.slice('backend-'.length))]!.pid, 'SIGKILL')
      return owner
    })
    worstMs = Math.max(worstMs, waitMs)
  }
  const wrong = await missing(stores[1]!, keys)
  print(
    `longest wait ${Math.round(worstMs)} ms, goal ${GOAL_MS} ms: ${worstMs <= GOAL_MS ? 'reached' : 'MISSED'}; of ${KEYS} keys lost ${wrong}`,
  )
  redis.disconnect()
  await Promise.all(stores.map(store => store.close()))
  return worstMs <= GOAL_MS && wrong === 0
}

async function main(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-failover-'))
  const { command, first } = await startCluster(directory)
  try {
    process.exitCode = (await measure(first)) ? 0 : 1
  } catch (error) {
    print((error as Error).stack ?? String(error))
    process.exitCode = 1
  } finally {
    command.kill('SIGTERM')
    await once(command, 'exit')
    rmSync(directory, { recursive: true, force: true })
  }
}

if (import.meta.main) await main()
