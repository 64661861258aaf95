import { ByteWriter } from '#shared/base/byte-writer.ts'
import type { Turn } from '#shared/base/turn.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { ShardEntry, ShardStore } from '../store/shard-store.ts'

/** Commits under way at once. At the limit records collect in the open one, which so grows: group commit by load. */
const COMMITS_UNDER_WAY_MAX = 4

/** Who is told that a publish or a request is stored. */
export type Acknowledger = Pick<FrontendPort, 'acknowledged'>

/** What waits for one commit: acknowledgements as parallel arrays, since there is one for each message. */
class Commit {
  readonly number: number
  readonly ports: Acknowledger[] = []
  readonly connections: ConnectionId[] = []
  readonly tickets: number[] = []
  readonly reasons: ReasonCode[] = []
  readonly actions: (() => void)[] = []
  bytes = 0
  isStored = false

  constructor(number: number) {
    this.number = number
  }

  get isAwaited(): boolean {
    return this.tickets.length > 0 || this.actions.length > 0
  }
}

/**
 * Group commit (ARCHITECTURE.md): the records of one event-loop turn, of all shards, go to the store in one call at
 * the end of the turn; what waits for them runs when the store has answered. Commits complete in the order made.
 */
export class Journal {
  readonly #store: ShardStore
  readonly #turn: Turn
  readonly #onFailure: (error: Error) => void
  readonly #writers: (ByteWriter | null)[]
  readonly #dirty: number[] = []
  readonly #underWay: Commit[] = []
  #open = new Commit(1)
  #committed = 0
  #failed = false
  #idle: (() => void)[] = []
  readonly #storedWaits = new Set<(isStored: boolean) => void>()
  #underWayBytes = 0
  #openBytes = 0
  #isCompleting = false
  commits = 0
  records = 0

  constructor(store: ShardStore, turn: Turn, onFailure: (error: Error) => void) {
    this.#store = store
    this.#turn = turn
    this.#onFailure = onFailure
    this.#writers = Array.from({ length: store.shardCount }, () => null)
  }

  /**
   * Bytes of records that the store has not answered for. Those of the open commit are counted when it has to wait because the store is
   * slow: at the end of each turn, since until then it is a turn's worth.
   */
  get pendingBytes(): number {
    return this.#underWayBytes + this.#openBytes
  }

  /** False when nothing outlives the process: then no record need be made. */
  get isDurable(): boolean {
    return this.#store.level !== 'memory'
  }

  /** Number of the commit that records made now will belong to. */
  get open(): number {
    return this.#open.number
  }

  /** Every record of the commits up to this number is stored. */
  get committed(): number {
    return this.#committed
  }

  /** Where to append the next record of `shard`; the record belongs to the open commit. After a failure it goes nowhere. */
  writer(shard: number): ByteWriter {
    this.records++
    if (this.#failed) return new ByteWriter()
    let writer = this.#writers[shard]
    if (!writer) this.#writers[shard] = writer = new ByteWriter()
    if (writer.length === 0) {
      this.#dirty.push(shard)
      // A marker byte keeps `length` above zero from here on, and lets a reader refuse foreign bytes.
      writer.u8(ENTRY_FORMAT_PLAIN)
      this.#turn.request()
    }
    return writer
  }

  /**
   * The shard is not ours any more: what was recorded of it and not passed to the store yet is dropped. Should it be ours again before the
   * open commit goes, those records would be written in the name of the new ownership, without what came before them.
   */
  discard(shard: number): void {
    const writer = this.#writers[shard]
    if (!writer || writer.length === 0) return
    if (this.#openBytes > 0) this.#openBytes -= Math.min(this.#openBytes, writer.length)
    writer.take()
    this.#dirty.splice(this.#dirty.indexOf(shard), 1)
  }

  /** Sends the acknowledgement when the records made so far are stored. */
  acknowledgeWhenStored(port: Acknowledger, connection: ConnectionId, ticket: number, reason: ReasonCode): void {
    this.#open.ports.push(port)
    this.#open.connections.push(connection)
    this.#open.tickets.push(ticket)
    this.#open.reasons.push(reason)
    this.#turn.request()
  }

  /** Runs `action` when the records made so far are stored; at once when they already are. */
  whenStored(action: () => void): void {
    if (this.#dirty.length === 0 && this.#underWay.length === 0 && !this.#open.isAwaited) return action()
    this.#open.actions.push(action)
    this.#turn.request()
  }

  /** Resolves when the records made so far are stored; false: the store failed, they never will be. */
  async stored(): Promise<boolean> {
    if (this.#failed) return false
    return new Promise(resolve => {
      this.#storedWaits.add(resolve)
      this.whenStored(() => {
        this.#storedWaits.delete(resolve)
        resolve(true)
      })
    })
  }

  /** End of a turn: hands the open commit to the store, unless enough are under way. */
  readonly flush = (): void => {
    if (this.#failed) return
    if (this.#underWay.length >= COMMITS_UNDER_WAY_MAX) {
      this.#openBytes = this.#dirty.reduce((bytes, shard) => bytes + this.#writers[shard]!.length, 0)
      return
    }
    if (this.#dirty.length === 0 && !this.#open.isAwaited) return
    const commit = this.#open
    this.#open = new Commit(commit.number + 1)
    this.#underWay.push(commit)
    const entries = this.#takeEntries(commit)
    if (entries.length === 0) {
      commit.isStored = true
      return this.#completeStored()
    }
    this.commits++
    this.#underWayBytes += commit.bytes
    this.#store.commit(entries).then(
      () => {
        commit.isStored = true
        this.#completeStored()
      },
      (error: unknown) => this.#fail(error instanceof Error ? error : new Error(String(error))),
    )
  }

  /** Resolves when everything recorded so far is stored; at once after a failure. */
  async settled(): Promise<void> {
    for (this.flush(); !this.#failed && this.#isBusy; this.flush()) {
      if (this.#underWay.length > 0) await new Promise<void>(resolve => this.#idle.push(resolve))
    }
  }

  get #isBusy(): boolean {
    return this.#underWay.length > 0 || this.#dirty.length > 0 || this.#open.isAwaited
  }

  #takeEntries(commit: Commit): ShardEntry[] {
    const entries: ShardEntry[] = []
    for (const shard of this.#dirty) {
      const bytes = this.#writers[shard]!.take()
      commit.bytes += bytes.length
      entries.push({ shard, bytes })
    }
    this.#dirty.length = 0
    this.#openBytes = 0
    return entries
  }

  /** In the order made. What completes may ask for more: that waits for the end of its turn, however long the chain is. */
  #completeStored(): void {
    if (this.#isCompleting) return
    this.#isCompleting = true
    try {
      while (this.#underWay[0]?.isStored) this.#complete(this.#underWay.shift()!)
    } finally {
      this.#isCompleting = false
    }
    if (this.#dirty.length > 0 || this.#open.isAwaited) this.#turn.request()
    if (this.#underWay.length === 0) for (const resolve of this.#idle.splice(0)) resolve()
  }

  #complete(commit: Commit): void {
    this.#committed = commit.number
    this.#underWayBytes -= commit.bytes
    for (let i = 0; i < commit.tickets.length; i++) {
      commit.ports[i]!.acknowledged(commit.connections[i]!, commit.tickets[i]!, commit.reasons[i]!)
    }
    for (const action of commit.actions) action()
  }

  /** Fails closed: nothing that waits is ever acknowledged; the backend stops serving. */
  #fail(error: Error): void {
    if (this.#failed) return
    this.#failed = true
    for (const resolve of this.#idle.splice(0)) resolve()
    for (const resolve of this.#storedWaits) resolve(false)
    this.#storedWaits.clear()
    this.#onFailure(error)
  }
}

/** First byte of every journal entry and snapshot chunk: the layout of records.ts. Older ones down to ENTRY_FORMAT_MIN are read. */
export const ENTRY_FORMAT = 3
/** Of entries without anything that the version before would have to pass over (`markEntry`): it still takes over their shards. */
export const ENTRY_FORMAT_PLAIN = 2
export const ENTRY_FORMAT_MIN = 1

/** The entry or chunk that `writer` began with a format is for readers of ENTRY_FORMAT alone. */
export function markEntry(writer: ByteWriter): void {
  writer.room(0)[0] = ENTRY_FORMAT
}
