import { connectAsync, type MqttClient } from 'mqtt'
import { FencingTokenOutdatedError, FencingTokenRequiredError, StateStoreError } from '../../client/errors.ts'
import { formatHybridTime, type HybridTime, parseHybridTime } from '../../client/hybrid-clock.ts'
import { type FencedOptions, StateStore } from '../../client/state-store.ts'
import { freshName } from '../../client/store-under-test.contract.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import type { Action, Operation, Result, Version } from './history.ts'
import { compareVersions } from './key-model.ts'
import { randomAction } from './random-action.ts'

export interface HistoryOrder {
  readonly seed: number
  readonly operations: number
  readonly keys: number
  /**
   * Called at `disturbances` places of the history, which the seed chooses, one after the other, while the clients go on: what they do before it
   * has resolved does not count as part of `operations`, up to as many again.
   */
  readonly disturb?: (random: SeededRandom) => void | Promise<void>
  readonly disturbances?: number
}

interface Worker {
  readonly name: string
  readonly mqtt: MqttClient
  readonly store: StateStore
}

/** What a history needs while it is made. */
interface Making {
  readonly random: SeededRandom
  readonly operations: Operation[]
  /** Versions that answers told of: tokens are taken from among them. */
  readonly versions: string[]
  values: number
  left: number
}

const REQUEST_TIMEOUT_MS = 15_000
const PX_MAX_MS = 60
const RECONNECT_MS = 20
const VERSIONS_KEPT = 12

/** Clients of one broker that do random operations all at once. */
export class Workload implements AsyncDisposable {
  readonly #workers: readonly Worker[]

  private constructor(workers: readonly Worker[]) {
    this.#workers = workers
  }

  /** @param urls of one broker; clients take turns, and one whose connection is lost tries the next */
  static async open(urls: readonly string[], clients: number): Promise<Workload> {
    const addresses = urls.map(url => new URL(url)).map(({ hostname, port }) => ({ host: hostname, port: Number(port) }))
    const workers = Array.from({ length: clients }, async (_, index): Promise<Worker> => {
      const clientId = freshName(`lin${index}`)
      const home = index % addresses.length
      const servers = [...addresses.slice(home), ...addresses.slice(0, home)]
      const options = { protocol: 'mqtt', protocolVersion: 5, clientId, reconnectPeriod: RECONNECT_MS } as const
      const mqtt = await connectAsync({ ...options, servers })
      return { name: `c${index}`, mqtt, store: await StateStore.connect(mqtt, { timeoutMs: REQUEST_TIMEOUT_MS }) }
    })
    return new Workload(await Promise.all(workers))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mqtt, store } of this.#workers) {
      await store.close()
      await mqtt.endAsync(true)
    }
  }

  /** Cuts the connection of one client; it comes back by itself. */
  cutOne(random: SeededRandom): void {
    random.pick(this.#workers).mqtt.stream.destroy()
  }

  /**
   * A history on keys of its own; at the end every key is read and deleted. What is drawn depends on the seed alone; which client draws
   * next, and what it has been told by then, does not.
   */
  async run({ seed, operations, keys, disturb, disturbances = 0 }: HistoryOrder): Promise<Operation[]> {
    const random = new SeededRandom(seed)
    const making: Making = { random, operations: [], versions: [], values: 0, left: operations }
    const names = Array.from({ length: keys }, (_, index) => freshName(`lin-${seed}-${index}`))
    const places = Array.from({ length: disturbances }, () => random.int(1, operations)).toSorted((a, b) => a - b)
    let disturbing = Promise.resolve()
    let [underWay, extra] = [0, operations]
    const begin = (): void => {
      underWay++
      disturbing = disturbing.then(() => disturb?.(random)).finally(() => underWay--)
    }
    const perWorker = this.#workers.map(async worker => {
      while (underWay > 0 && extra > 0 ? extra-- > 0 : making.left-- > 0) {
        for (; places[0] !== undefined && places[0] <= operations - making.left; places.shift()) begin()
        const index = random.int(0, keys - 1)
        await perform(worker, names[index]!, actionOf(worker, index, making), making)
      }
    })
    await Promise.all(perWorker)
    await disturbing
    for (const name of names) await this.#clear(name, making)
    return making.operations
  }

  async #clear(key: string, making: Making): Promise<void> {
    const worker = making.random.pick(this.#workers)
    await perform(worker, key, { is: 'get' }, making)
    await perform(worker, key, { is: 'del', token: making.versions.toSorted(compareVersions).at(-1) ?? null }, making)
  }
}

function actionOf({ name }: Worker, key: number, making: Making): Action {
  const { random, versions } = making
  const freshValue = (): string => `${name}-${making.values++}`
  return randomAction({ random, key, name, versions, pxMsMax: PX_MAX_MS, freshValue, seenValue: () => lastValueOf(making) })
}

/** That some answer has told of. */
function lastValueOf({ operations, random }: Making): string {
  const seen = operations
    .slice(-VERSIONS_KEPT)
    .flatMap(({ result, action }) => (result?.is === 'value' ? [result.value] : action.is === 'set' ? [action.value] : []))
  return seen.length === 0 ? 'none' : random.pick(seen)
}

async function perform({ name, store }: Worker, key: string, action: Action, making: Making): Promise<void> {
  const invokedMs = performance.now()
  const result = await resultOf(store, key, action)
  if (result === 'not done') return
  const returnedMs = result === 'unknown' ? Infinity : performance.now()
  making.operations.push({ client: name, key, action, invokedMs, returnedMs, result: result === 'unknown' ? null : result })
  const version = result !== 'unknown' && result.is === 'done' ? result.version : null
  if (version === null) return
  making.versions.push(version)
  if (making.versions.length > VERSIONS_KEPT) making.versions.shift()
}

async function resultOf(store: StateStore, key: string, action: Action): Promise<Result | 'unknown' | 'not done'> {
  try {
    return await answerOf(store, key, action)
  } catch (error) {
    if (error instanceof FencingTokenRequiredError) return { is: 'tokenRequired' }
    if (error instanceof FencingTokenOutdatedError) return { is: 'tokenOutdated' }
    if (error instanceof StateStoreError) return error.isUncertain ? 'unknown' : 'not done'
    throw error
  }
}

async function answerOf(store: StateStore, key: string, action: Action): Promise<Result> {
  if (action.is === 'get') {
    const entry = await store.get(key)
    return entry === null ? { is: 'missing' } : { is: 'value', value: entry.text, version: formatHybridTime(entry.version) }
  }
  const options: FencedOptions = action.token === null ? {} : { fencingToken: parseHybridTime(action.token) }
  if (action.is === 'set') {
    const { condition, pxMs } = action
    const more = { ...(condition !== null && { condition }), ...(pxMs !== null && { pxMs }) }
    const { isSet, version } = await store.set(key, action.value, { ...options, ...more })
    return { is: isSet ? 'done' : 'differs', version: formatHybridTime(version) }
  }
  const deleted = action.is === 'del' ? await store.delete(key, options) : await store.compareAndDelete(key, action.value, options)
  if (deleted.is === 'missing') return deleted
  return { is: deleted.is === 'deleted' ? 'done' : 'differs', version: textOf(deleted.version) }
}

function textOf(version: HybridTime | null): Version {
  return version === null ? null : formatHybridTime(version)
}
