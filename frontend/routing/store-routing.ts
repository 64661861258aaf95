import type { Directory } from '#shared/cluster/directory.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { RemoteStoreCall } from '#shared/rpc/owner-port.ts'
import { type StoreCall, storeCallShard } from '#shared/rpc/store-call.ts'
import type { RouterLimits } from './limits.ts'
import type { OwnerLink } from './owner-link.ts'
import type { Pressure } from './pressure.ts'
import type { RouterCounters } from './router-counters.ts'
import type { StoreGathering, StorePart } from './store-gathering.ts'
import { isScattered, ValueGathering } from './value-gathering.ts'
import { WatchGathering } from './watch-gathering.ts'
import { WatchTurns } from './watch-turns.ts'

interface StoreRoutingParts {
  readonly shardCount: number
  readonly directory: Directory<OwnerLink>
  readonly limits: RouterLimits
  readonly counters: RouterCounters
  readonly pressure: Pressure
}

/** A request without an answer. */
interface Asked {
  readonly shard: number
  readonly connection: ConnectionId
  readonly ticket: number
  readonly call: RemoteStoreCall
  bytes: number
  readonly sinceMs: number
  /** By its Message Expiry Interval; Infinity: never. */
  readonly expiresAtMs: number
  readonly isWatch: boolean
  /** WATCH whose turn has not come: nobody is asked. */
  readonly isHeld: boolean
  /** What of it this shard does; null: the request as a whole. */
  readonly part: StorePart | null
  /** Whose answer counts; null while nobody owns the shard. */
  owner: OwnerLink | null
}

/** What a connection has in the store. */
interface Asker {
  readonly sequences: Set<number>
  /** Shards that it has asked to be told of changes. */
  watched: Set<number> | null
}

/**
 * Requests to the state store, to the owners of their keys' shards. Each is kept until it is answered, and asked again, under the same number
 * and in its order, of whoever owns the shard next.
 */
export class StoreRouting {
  readonly #parts: StoreRoutingParts
  /** By number, which only grows. */
  readonly #asked = new Map<number, Asked>()
  readonly #askers = new Map<ConnectionId, Asker>()
  /** Connections that are gone and that the shard may still take for watchers. */
  readonly #unwatching = new Map<number, Set<ConnectionId>>()
  readonly #turns = new WatchTurns()
  /** Connections whose WATCH has ended. */
  readonly #ended: ConnectionId[] = []
  #lastSequence = 0
  /** Of the call under way. */
  #nowMs = 0
  #frontend: FrontendPort | null = null

  constructor(parts: StoreRoutingParts) {
    this.#parts = parts
  }

  bind(frontend: FrontendPort): void {
    this.#frontend = frontend
  }

  /** BackendPort.askStore. */
  ask(connection: ConnectionId, ticket: number, storeCall: StoreCall, nowMs: number): void {
    this.#nowMs = nowMs
    const { clientId, fault, message, isWatch, command } = storeCall
    const { directory, pressure, counters, shardCount } = this.#parts
    const shard = storeCallShard(storeCall, shardCount)
    const owner = directory.ownerOf(shard)
    if (pressure.refuses(true) || (owner?.isCongested === true && !this.#fits(owner, message.storedBytes))) {
      counters.publishesRefusedFull++
      return this.#frontend!.acknowledged(connection, ticket, ReasonCode.QuotaExceeded)
    }
    const kept = message.keep()
    const expiresAtMs = message.expirySeconds < 0 ? Infinity : nowMs + message.expirySeconds * 1_000
    const call: RemoteStoreCall = { clientId, fault, as: 'request', message: kept }
    const bytes = kept.storedBytes
    const times = { sinceMs: nowMs, expiresAtMs }
    const asked: Asked = { shard, connection, ticket, call, bytes, ...times, isWatch, isHeld: false, part: null, owner: null }
    if (fault === null && command?.is === 'watch') this.#watch(asked)
    else if (fault === null && command?.is === 'mget' && isScattered(command, shardCount)) {
      this.#gather(asked, new ValueGathering(call, shardCount))
    } else this.#sendToOwner(this.#keep(asked))
  }

  #watch(asked: Asked): void {
    const { connection, shard, call } = asked
    if (this.#turns.begin(connection)) this.#gather(asked, WatchGathering.of(call, shard, this.#parts.shardCount))
    else this.#turns.wait(connection, this.#keep({ ...asked, isHeld: true }))
  }

  /** What ends within is taken by whoever is at it already: a connection may have many that end at once. */
  #watchEnded(connection: ConnectionId): void {
    if (this.#ended.push(connection) > 1) return
    for (let at = 0; at < this.#ended.length; at++) this.#watchNext(this.#ended[at]!)
    this.#ended.length = 0
  }

  #watchNext(connection: ConnectionId): void {
    for (let sequence = this.#turns.next(connection); sequence !== null; sequence = this.#turns.next(connection)) {
      const asked = this.#asked.get(sequence)
      // It was refused while it waited.
      if (asked === undefined || this.#isLate(sequence, asked) || this.#isExpired(sequence, asked, this.#nowMs)) continue
      this.#forget(sequence, asked)
      const { shard, call } = asked
      return this.#gather({ ...asked, isHeld: false, sinceMs: this.#nowMs }, WatchGathering.of(call, shard, this.#parts.shardCount))
    }
  }

  #gather(whole: Asked, { call, parts, open }: StoreGathering): void {
    let { bytes } = whole
    for (const part of parts) {
      open.add(this.#keep({ ...whole, shard: part.shard, call, part, bytes: bytes + part.bytes }))
      bytes = 0
    }
    for (const sequence of open) this.#sendToOwner(sequence)
  }

  /** CallerPort.storeRead. */
  read(owner: OwnerLink, sequence: number, values: readonly (Uint8Array | null)[] | null, nowMs: number): void {
    this.#nowMs = nowMs
    const asked = this.#asked.get(sequence)
    if (asked === undefined || asked.owner !== owner || asked.part === null) return
    asked.part.gathering.take(asked.part, values)
    this.#came(sequence, asked, asked.part)
  }

  /** A part has its answer. */
  #came(sequence: number, asked: Asked, part: StorePart): void {
    const { gathering } = part
    const { connection, ticket, isWatch } = asked
    if (gathering.open.size > 1 && !gathering.isOver) return this.#waitForOthers(sequence, asked, part)
    this.#forgetWhole(sequence, asked)
    const next = gathering.next()
    if (next.is === 'refused') this.#frontend!.acknowledged(connection, ticket, next.reason)
    else {
      const { call } = next.is === 'gather' ? next.gathering : next
      const bytes = call.message.storedBytes
      // In the order of their times, which `tick` relies on.
      const whole = { ...asked, shard: gathering.shard, call, bytes, sinceMs: this.#nowMs, part: null, owner: null }
      if (next.is === 'gather') return this.#gather(whole, next.gathering)
      const answer = this.#keep(whole)
      if (!this.#isExpired(answer, whole, this.#nowMs)) this.#sendToOwner(answer)
    }
    if (isWatch) this.#watchEnded(connection)
  }

  /** What has come counts with what has not. Where it has no room the request is refused, as it would have been if that had been known. */
  #waitForOthers(sequence: number, asked: Asked, { gathering, bytes }: StorePart): void {
    const { pressure, counters } = this.#parts
    if (gathering.bytes > gathering.counted && pressure.refuses(true)) {
      counters.publishesRefusedFull++
      return this.#settle(sequence, asked, ReasonCode.QuotaExceeded)
    }
    this.#forget(sequence, asked)
    const [next] = gathering.open
    const other = this.#asked.get(next!)!
    const more = asked.bytes - bytes + gathering.bytes - gathering.counted
    gathering.counted = gathering.bytes
    other.bytes += more
    pressure.add(more)
  }

  #keep(asked: Asked): number {
    const sequence = ++this.#lastSequence
    this.#parts.pressure.add(asked.bytes)
    this.#asked.set(sequence, asked)
    this.#askerOf(asked.connection).sequences.add(sequence)
    return sequence
  }

  /** Nothing if it was refused meanwhile. */
  #sendToOwner(sequence: number): void {
    const asked = this.#asked.get(sequence)
    const owner = asked === undefined ? null : this.#parts.directory.ownerOf(asked.shard)
    if (asked !== undefined && owner !== null) this.#send(owner, sequence, asked)
  }

  /** CallerPort.storeAsked. */
  answered(owner: OwnerLink, sequence: number, reason: ReasonCode, nowMs: number): void {
    this.#nowMs = nowMs
    const asked = this.#asked.get(sequence)
    if (asked === undefined || asked.owner !== owner) return
    const { part } = asked
    if (part?.gathering.refuse(reason) === true) this.#came(sequence, asked, part)
    else this.#settle(sequence, asked, reason)
  }

  /** CallerPort.unwatched. */
  unwatched(shard: number, connection: ConnectionId): void {
    const unwatching = this.#unwatching.get(shard)
    if (unwatching?.delete(connection) === true && unwatching.size === 0) this.#unwatching.delete(shard)
  }

  /** The owner knows the connections that are open (OwnerPort.resume): now what it or another one before it has not answered. */
  onOwned(shard: number, owner: OwnerLink, nowMs: number): void {
    this.#nowMs = nowMs
    for (const connection of this.#unwatching.get(shard) ?? []) this.#unwatch(owner, shard, connection)
    // One that an answer here lets in goes to the owner by itself.
    const newest = this.#lastSequence
    for (const [sequence, asked] of this.#asked) {
      if (sequence > newest) return
      if (asked.shard !== shard || asked.isHeld) continue
      if (this.#isExpired(sequence, asked, nowMs)) continue
      this.#parts.counters.storeRequestsRepeated++
      this.#send(owner, sequence, asked)
    }
  }

  onLost(shard: number): void {
    for (const asked of this.#asked.values()) if (asked.shard === shard) asked.owner = null
  }

  /** BackendPort.detach. What it asked and nobody answered is not asked again: its client asks it anew. */
  detached(connection: ConnectionId): void {
    const asker = this.#askers.get(connection)
    this.#turns.forget(connection)
    if (asker === undefined) return
    for (const sequence of asker.sequences) {
      const asked = this.#asked.get(sequence)!
      this.#asked.delete(sequence)
      this.#parts.pressure.remove(asked.bytes)
    }
    this.#askers.delete(connection)
    for (const shard of asker.watched ?? []) {
      const unwatching = this.#unwatching.get(shard)
      if (unwatching === undefined) this.#unwatching.set(shard, new Set([connection]))
      else unwatching.add(connection)
      const owner = this.#parts.directory.ownerOf(shard)
      if (owner !== null) this.#unwatch(owner, shard, connection)
    }
  }

  /** Refuses what has waited for too long; whether it was done, nobody knows, as with any publish that is refused late. */
  tick(nowMs: number): void {
    this.#nowMs = nowMs
    for (const [sequence, asked] of this.#asked) if (!this.#isLate(sequence, asked)) return
  }

  #isLate(sequence: number, asked: Asked): boolean {
    if (asked.sinceMs > this.#nowMs - this.#parts.limits.publishWaitMs) return false
    this.#parts.counters.publishesRefusedLate++
    this.#settle(sequence, asked, ReasonCode.QuotaExceeded)
    return true
  }

  /** A Message Expiry Interval goes on while the request waits (§3.3.2.3.3). Nobody is answered; it counts as done, as other publishes do. */
  #isExpired(sequence: number, asked: Asked, nowMs: number): boolean {
    const { expiresAtMs, call, part } = asked
    // What other shards have done already is done in all.
    if (expiresAtMs > nowMs || part?.keys === null) {
      if (expiresAtMs > nowMs && expiresAtMs !== Infinity) call.message.expirySeconds = Math.ceil((expiresAtMs - nowMs) / 1_000)
      return false
    }
    this.#parts.counters.heldMessagesExpired++
    this.#settle(sequence, asked, ReasonCode.Success)
    return true
  }

  #send(owner: OwnerLink, sequence: number, asked: Asked): void {
    if (!owner.knowsStore) return this.#settle(sequence, asked, ReasonCode.ImplementationSpecificError)
    asked.owner = owner
    const { shard, connection, call, isWatch } = asked
    const keys = asked.part?.keys ?? null
    if (keys !== null) return owner.calls.readStore(shard, sequence, keys)
    if (isWatch) (this.#askerOf(connection).watched ??= new Set()).add(shard)
    owner.calls.askStore(shard, sequence, this.#settledBefore(), connection, call)
  }

  #unwatch(owner: OwnerLink, shard: number, connection: ConnectionId): void {
    if (owner.knowsStore) owner.calls.unwatch(shard, connection)
  }

  /** Numbers are given in order, so the first that is kept is the lowest. */
  #settledBefore(): number {
    for (const sequence of this.#asked.keys()) return sequence
    return this.#lastSequence + 1
  }

  /** Its client is told; the other parts of the same request wait for nothing any more. */
  #settle(sequence: number, asked: Asked, reason: ReasonCode): void {
    this.#forgetWhole(sequence, asked)
    this.#frontend!.acknowledged(asked.connection, asked.ticket, reason)
    if (asked.part !== null && asked.isWatch) this.#watchEnded(asked.connection)
  }

  #forgetWhole(sequence: number, asked: Asked): void {
    this.#forget(sequence, asked)
    for (const other of asked.part?.gathering.open ?? []) this.#forget(other, this.#asked.get(other)!)
  }

  #forget(sequence: number, { connection, bytes, part }: Asked): void {
    this.#asked.delete(sequence)
    part?.gathering.open.delete(sequence)
    this.#parts.pressure.remove(bytes)
    const asker = this.#askers.get(connection)
    if (asker === undefined) return
    asker.sequences.delete(sequence)
    if (asker.sequences.size === 0 && asker.watched === null) this.#askers.delete(connection)
  }

  #askerOf(connection: ConnectionId): Asker {
    const known = this.#askers.get(connection)
    if (known !== undefined) return known
    const asker: Asker = { sequences: new Set(), watched: null }
    this.#askers.set(connection, asker)
    return asker
  }

  #fits(owner: OwnerLink, bytes: number): boolean {
    if (owner.congestedBytes >= this.#parts.limits.congestedBytesMax) return false
    owner.congestedBytes += bytes
    return true
  }
}
