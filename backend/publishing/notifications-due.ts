import type { StoreNotification, WatcherId } from '../statestore/store-request.ts'

/**
 * Notifications that one turn sends, some 5 to 10 ms. A change of a key that 10,000 connections watch would keep all other clients waiting for 0.1 s,
 * and the hundred of them that one client may have under way for many seconds.
 */
const TOLD_PER_TURN_MAX = 500
/** So many watchers of one change are told as soon as it is made: no more than a publish to as many subscribers. */
const FEW = 20
/** What waits may hold so much; beyond, it is sent at once, however long the turn takes: whoever makes changes cannot fill the memory. */
const BYTES_MAX = 64 * 1024 * 1024
const BYTES_PER_WATCHER = 16

/** A change that not all of its watchers were told of. */
interface Due {
  readonly notification: StoreNotification
  untold: number
  readonly whenTold: () => void
}

/** What one connection is to be told of. */
interface Waiting {
  readonly watcher: WatcherId
  readonly own: Due[]
}

/**
 * Notifications that go to their watchers in the next turns, a connection at a time: what waits for one goes together, in the order of the
 * changes, as a write for each of them would cost five times as much.
 */
export class NotificationsDue {
  readonly #tell: (notification: StoreNotification, watcher: WatcherId) => void
  /** By connection, of which there is one frontend's: in the order in which they began to wait. */
  readonly #waiting = new Map<number, Waiting>()
  #bytes = 0
  #left = TOLD_PER_TURN_MAX
  #isRunning = false

  /** @param tell sends one notification */
  constructor(tell: (notification: StoreNotification, watcher: WatcherId) => void) {
    this.#tell = tell
  }

  /** Some wait. */
  get isBehind(): boolean {
    return this.#waiting.size > 0
  }

  /**
   * Tells all watchers at once when it may be, none of them then ahead of an earlier change. A change that few watch does not wait for the
   * watchers of others.
   * @param whenTold called when all were told
   */
  add(notification: StoreNotification, whenTold: () => void): void {
    const { watchers } = notification
    if (this.#isRunning || !this.#mayTell(watchers)) return this.#wait({ notification, untold: watchers.length, whenTold })
    this.#left -= watchers.length
    for (const watcher of watchers) this.#tell(notification, watcher)
    whenTold()
  }

  #mayTell(watchers: readonly WatcherId[]): boolean {
    if (watchers.length <= FEW) return watchers.every(({ connection }) => !this.#waiting.has(connection))
    return !this.isBehind && watchers.length <= this.#left
  }

  /** A new turn: as many again. */
  renew(): void {
    this.#left = TOLD_PER_TURN_MAX
    if (this.isBehind) this.#run()
  }

  #wait(due: Due): void {
    const { watchers } = due.notification
    for (const watcher of watchers) {
      const waiting = this.#waiting.get(watcher.connection)
      if (waiting === undefined) this.#waiting.set(watcher.connection, { watcher, own: [due] })
      else waiting.own.push(due)
    }
    this.#bytes += bytesOf(due)
    if (!this.#isRunning) this.#run()
  }

  #run(): void {
    // Whoever is told that all were told may make another change: it has to wait behind the others.
    this.#isRunning = true
    try {
      for (const [connection, { watcher, own }] of this.#waiting) {
        if (this.#left <= 0 && this.#bytes <= BYTES_MAX) break
        this.#waiting.delete(connection)
        this.#left -= own.length
        for (const due of own) this.#tellOne(due, watcher)
      }
    } finally {
      this.#isRunning = false
    }
  }

  #tellOne(due: Due, watcher: WatcherId): void {
    this.#tell(due.notification, watcher)
    if (--due.untold > 0) return
    this.#bytes -= bytesOf(due)
    due.whenTold()
  }
}

function bytesOf({ notification: { payload, watchers } }: Due): number {
  return payload.length + watchers.length * BYTES_PER_WATCHER
}
