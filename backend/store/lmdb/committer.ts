import { deferred } from './deferred.ts'
import type { Environment } from './environment.ts'

/** One write of a transaction; `value` undefined removes the key. The bytes must not change until the group has ended. */
interface Write {
  readonly key: Buffer
  readonly value: Buffer | undefined
  readonly append: boolean
}

/**
 * Writes that become one LMDB transaction. `ended` settles for all of them.
 * `arena` holds the values; it is used again once the group has ended, which keeps the address that lmdb looks up per buffer.
 */
interface Group {
  readonly writes: Write[]
  readonly arena: Buffer
  arenaUsed: number
  readonly ended: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

const ARENA_BYTES = 1 << 18
/** The package's types know options of `putSync` only. */
type PutWithOptions = (key: Buffer, value: Buffer, options?: { append: true }) => Promise<boolean>
const APPEND = { append: true } as const

/**
 * Group commit on one LMDB environment: while a transaction is under way, further writes gather and become the next
 * one. So a slow disk makes transactions larger, not more numerous, and one thread of the pool is busy at most.
 * After a failed transaction every further write fails the same way: what came later must not be stored without it.
 * The memory held is that of writes whose `ended` is pending; callers limit it by waiting.
 */
export class Committer {
  readonly #db: Environment
  readonly #describe: (error: unknown) => Promise<Error>
  readonly #arenas: Buffer[] = []
  #gathering: Group | undefined
  #running: Group | undefined
  #failure: Error | undefined

  /** @param describe turns the error of a failed transaction into the one that callers get */
  constructor(db: Environment, describe: (error: unknown) => Promise<Error>) {
    this.#db = db
    this.#describe = describe
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** Nothing is stored from now on; writes that gather are refused too. */
  fail(error: Error): Error {
    this.#failure ??= error
    this.#gathering?.reject(this.#failure)
    this.#gathering = undefined
    return this.#failure
  }

  /** Memory for a value of the next write. */
  allocate(bytes: number): Buffer {
    const group = this.#group()
    const start = group.arenaUsed
    if (start + bytes > group.arena.length) return Buffer.allocUnsafeSlow(bytes)
    group.arenaUsed = start + bytes
    return group.arena.subarray(start, start + bytes)
  }

  /** Adds a write to the transaction that starts next; the promise is common to all writes of it. */
  put(key: Buffer, value: Buffer, order: 'append' | 'anywhere'): Promise<void> {
    return this.#add({ key, value, append: order === 'append' })
  }

  remove(key: Buffer): Promise<void> {
    return this.#add({ key, value: undefined, append: false })
  }

  /** Resolves once nothing gathers or runs; also after a failure. */
  async idle(): Promise<void> {
    for (let group = this.#gathering ?? this.#running; group; group = this.#gathering ?? this.#running) {
      await group.ended.catch(() => {})
    }
  }

  #add(write: Write): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure)
    const group = this.#group()
    group.writes.push(write)
    // At the end of this step of the turn, so that what is written with this write travels with it.
    if (!this.#running && group.writes.length === 1) queueMicrotask(this.#start)
    return group.ended
  }

  #group(): Group {
    return (this.#gathering ??= newGroup(this.#arenas.pop()))
  }

  readonly #start = (): void => {
    const group = this.#gathering
    if (this.#running || !group || group.writes.length === 0) return
    this.#gathering = undefined
    this.#running = group
    this.#transaction(group).then(
      () => {
        this.#running = undefined
        this.#arenas.push(group.arena)
        group.resolve()
        this.#start()
      },
      async (error: unknown) => {
        const failure = this.fail(await this.#describe(await causeOf(error)))
        this.#running = undefined
        group.reject(failure)
      },
    )
  }

  async #transaction(group: Group): Promise<void> {
    const db: Environment & { put: PutWithOptions } = this.#db
    const appended: Promise<boolean>[] = []
    const ended = db.batch(() => {
      for (const { key, value, append } of group.writes) {
        if (!value) void db.remove(key)
        else if (append) appended.push(db.put(key, value, APPEND))
        else void db.put(key, value)
      }
    })
    const results = await Promise.all([ended, ...appended])
    // lmdb skips such a write and stores the others. Only a second writer, which the lock did not stop, can cause it.
    if (results.includes(false)) throw new Error('another process writes to it')
  }
}

function newGroup(arena: Buffer = Buffer.allocUnsafeSlow(ARENA_BYTES)): Group {
  const { promise, resolve, reject } = deferred()
  // Whoever waits gets the error from their own `then`; background work may not wait at all.
  promise.catch(() => {})
  return { writes: [], arena, arenaUsed: 0, ended: promise, resolve, reject }
}

/** lmdb rejects with a general error that carries a promise, which in turn rejects with the cause. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error && 'commitError' in error)) return error
  try {
    await error.commitError
    return error
  } catch (cause) {
    return cause
  }
}
