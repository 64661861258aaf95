import { Answer, DELETE_NOTIFICATION, errorAnswer, resumedAnswer, setNotification } from '#shared/state-store/answer.ts'
import type { Command, KeepCommand, WatchCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { compareClocks, type HybridClock, NO_CLOCK, type StoreClock, tick } from '#shared/state-store/hybrid-clock.ts'
import { keepBytes, sameBytes, type StoredBytes } from '#shared/state-store/stored-bytes.ts'
import { isWatchable } from '#shared/state-store/topics.ts'
import type { EntrySet, RequestAnswered, StoreChange } from './changes.ts'
import { Entries, type Entry, entryBytes } from './entries.ts'
import { KeptWatches } from './kept-watches.ts'
import { KeyStoreCounters } from './key-store-counters.ts'
import type { Moment } from './moment.ts'
import { Repeats } from './repeats.ts'
import { checkedClocks, type Clocks, fencingFault } from './request-clocks.ts'
import { scanPage } from './scan-page.ts'
import type { KeyStoreLimits } from './store-limits.ts'
import {
  type Effects,
  Executed,
  OpenEffects,
  type Reply,
  type RequestOrigin,
  type StoreCommand,
  type StoreNotification,
  type StoreRequest,
  type WatcherId,
} from './store-request.ts'
import { keysUnder, prefixOf, Watchers } from './watchers.ts'

/** A full store looks first whether so many entries are past their deadline. */
const MAKE_ROOM_MAX = 64

type SetCommand = Extract<Command, { is: 'set' }>
type DeleteCommand = Extract<Command, { is: 'del' | 'vdel' }>
type KeyNotifyCommand = Extract<Command, { is: 'keynotify' }>

/**
 * The state store's entries of one shard (spec state-store.md 5 to 9, 13): what a request does, whom it is told, and what has to be
 * recorded of it. No I/O and no timers: whoever owns it hands in the time, records the changes, and answers once they are stored.
 *
 * One clock serves all keys, and only grows: over deletions, restarts and other owners, since every change of it is part of a record.
 */
export class KeyStore {
  readonly counters: KeyStoreCounters
  readonly #limits: KeyStoreLimits
  readonly #entries: Entries
  readonly #watchers: Watchers
  readonly #kept: KeptWatches
  readonly #repeats: Repeats
  #clock: StoreClock = NO_CLOCK

  constructor(limits: KeyStoreLimits, monotonicMs: number, counters: KeyStoreCounters = new KeyStoreCounters()) {
    this.counters = counters
    this.#limits = limits
    this.#entries = new Entries(monotonicMs)
    this.#watchers = new Watchers(limits)
    this.#kept = new KeptWatches(limits, monotonicMs)
    this.#repeats = new Repeats(limits.answersMax)
  }

  /** Entries, those past their deadline included until `due` or a request removes them. */
  get keys(): number {
    return this.#entries.size
  }

  get bytes(): number {
    return this.#entries.bytes
  }

  /** Registrations of watchers, those without connection included. */
  get watches(): number {
    return this.#watchers.size + this.#kept.size
  }

  /** Those that were to be kept, and have no connection. */
  get watchesAway(): number {
    return this.#kept.away
  }

  /** Of all that is held: entries, watches, answers. Each has limits of its own; this is for the watermark. */
  get heldBytes(): number {
    return this.#entries.bytes + this.#watchers.bytes + this.#kept.bytes + this.#kept.pastBytes + this.#repeats.bytes
  }

  /** Of the changes that are remembered for watches that are kept. */
  get pastBytes(): number {
    return this.#kept.pastBytes
  }

  get answersRemembered(): number {
    return this.#repeats.size
  }

  get clock(): StoreClock {
    return this.#clock
  }

  /** The value of a key, null when it is not there. Nobody may know of it before the changes are stored. */
  read(key: string, now: Moment): Effects & { readonly value: StoredBytes | null } {
    const effects = new OpenEffects()
    const value = this.#present(this.#entries.get(key), now, effects)?.value ?? null
    return { value, changes: effects.changes, notifications: effects.notifications }
  }

  /** One request as a whole, at once. Faults are answers; it never throws for anything a client can send. */
  execute(request: StoreRequest, now: Moment): Executed {
    const { origin } = request
    const known = origin === null ? null : this.#repeats.find(origin)
    if (known !== null) return this.#repeated(known)
    const done = new Executed()
    const reply = (done.reply = this.#run(request, now, done))
    // Executed again, what was in vain may come out otherwise, after its client was told; and a KEYNOTIFY would undo the STOP behind it.
    if (origin !== null && !isRead(request.command)) {
      const answered: RequestAnswered = { is: 'answered', origin, answer: reply.answer!, version: reply.version }
      if (this.#repeats.remember(answered)) this.counters.answersForgotten++
      done.change(answered)
    }
    return done
  }

  /** It was executed before: asked again, it takes no more memory. */
  isRepeat(origin: RequestOrigin): boolean {
    return this.#repeats.find(origin) !== null
  }

  /** This connection watches all keys that begin so. */
  watchesUnder(prefix: string, watcher: WatcherId): boolean {
    return this.#watchers.has(keysUnder(prefix), watcher)
  }

  /** Counts a request that was refused before it came here. */
  countRefused(command: Command, now: Moment): void {
    this.#count(command, this.#entries.get(command.key), now)
  }

  /**
   * Removes at most `budget` entries, and watches without connection, whose deadline has come. Called some ten times a second or more, so that
   * watchers hear of it in time; for what requests see, it does not matter when.
   */
  due(now: Moment, budget: number): Effects {
    const effects = new OpenEffects()
    this.#removeDue(now, budget, effects)
    this.#kept.due(now, (key, clientId) => effects.change({ is: 'unkept', key, clientId }), budget - effects.changes.length)
    return effects
  }

  /** A connection is gone, whyever: it watches nothing any more; what is to be kept waits for the next one of its client. */
  forget(frontend: string, connection: number, now: Moment): readonly StoreChange[] {
    const changes: StoreChange[] = []
    if (this.#watchers.forget(frontend, connection)) changes.push({ is: 'connectionGone', frontend, connection })
    if (this.#kept.leave(frontend, connection, now.wallMs, now)) changes.push({ is: 'away', frontend, connection, wallMs: now.wallMs })
    return changes
  }

  /** A frontend is gone for good, with its connections; nobody repeats its requests. */
  forgetFrontend(frontend: string, now: Moment): readonly StoreChange[] {
    const hadWatchers = this.#watchers.forgetFrontend(frontend)
    const changes = this.#leaveAll(frontend, now)
    if (this.#repeats.forget(frontend) || hadWatchers) changes.push({ is: 'frontendGone', frontend })
    return changes
  }

  /**
   * Frontends of which something is remembered, and which of their connections watch something. Whoever takes a shard over asks which of them
   * are still there, and forgets the others: their end may have come while nobody had the shard.
   */
  frontends(): ReadonlyMap<string, readonly number[]> {
    const all = new Map<string, readonly number[]>()
    for (const frontend of this.#repeats.frontends()) all.set(frontend, [])
    for (const frontend of this.#watchers.frontends()) all.set(frontend, this.#watchers.connectionsOf(frontend))
    for (const frontend of this.#kept.frontends()) {
      all.set(frontend, [...new Set([...(all.get(frontend) ?? []), ...this.#kept.connectionsOf(frontend)])])
    }
    return all
  }

  /** All processes were stopped: no connection of before exists. */
  forgetWatchers(now: Moment): readonly StoreChange[] {
    const changes: StoreChange[] = this.#watchers.forgetAll() ? [{ is: 'watchersGone' }] : []
    for (const frontend of this.#kept.frontends()) changes.push(...this.#leaveAll(frontend, now))
    return changes
  }

  /**
   * All processes were stopped: entries that nobody chose to outlive that are dropped, and nobody is told. Who keeps a watch of such a key finds
   * that it has ended, when he comes back; one who is still connected goes on hearing of it until then.
   * @param isKept by key, a character for each byte, and whether the entry was set as persistent
   */
  dropUnchosen(isKept: (key: string, isPersistent: boolean) => boolean): readonly StoreChange[] {
    const changes: StoreChange[] = []
    for (const key of this.#kept.keys()) {
      if (isKept(key, this.#entries.get(key)?.isPersistent === true)) continue
      const connected = this.#kept.connected(key)
      for (const clientId of this.#kept.removeAll(key)) changes.push({ is: 'unkept', key, clientId })
      for (const watcher of connected) {
        this.#watchers.put(key, watcher)
        changes.push(watched(key, watcher))
      }
    }
    for (const entry of this.#entries.values()) {
      if (isKept(entry.key, entry.isPersistent)) continue
      this.#entries.delete(entry)
      changes.push({ is: 'deleted', key: entry.key, clock: null })
    }
    return changes
  }

  /** Whoever asks for the next change may let time pass: what changes meanwhile is recorded besides. The time is that of each step. */
  *snapshot(now: () => Moment): Iterable<StoreChange> {
    yield { is: 'clock', clock: this.#clock }
    for (const answered of this.#repeats.all()) yield answered
    for (const { key, watcher } of this.#watchers.all()) yield watched(key, watcher)
    // Keys that come meanwhile stand behind all others: so many steps reach all of those that are there now.
    let left = this.#entries.size
    for (const entry of this.#entries.values()) {
      if (left-- === 0) break
      yield entry.asChange(now())
    }
    // Behind the entries: a newer one of those would pass for the change that follows the last one remembered.
    yield* this.#kept.snapshot(now)
  }

  /** A recorded change, in the order recorded. Entries that are past their deadline stay until `due`. */
  apply(change: StoreChange, now: Moment): void {
    switch (change.is) {
      case 'set':
        this.#kept.remember(change.key, change.version, this.#entries.put(change, now).value)
        return this.#sawClock(change.version)
      case 'deleted':
        return this.#applyDeleted(change.key, change.clock)
      case 'clock':
        return this.#sawClock(change.clock)
      case 'watched':
        return this.#watchers.put(change.key, change.watcher)
      case 'unwatched':
        return void this.#watchers.remove(change.key, change.watcher)
      case 'watchedUnder':
        return this.#watchers.put(keysUnder(change.prefix), change.watcher)
      case 'unwatchedUnder':
        return void this.#watchers.remove(keysUnder(change.prefix), change.watcher)
      case 'connectionGone':
        return void this.#watchers.forget(change.frontend, change.connection)
      case 'frontendGone':
        this.#watchers.forgetFrontend(change.frontend)
        return void this.#repeats.forget(change.frontend)
      case 'watchersGone':
        return void this.#watchers.forgetAll()
      case 'answered':
        // The answer is a view into what was read.
        return void this.#repeats.remember({ ...change, answer: Buffer.from(change.answer) })
      case 'kept':
        return this.#kept.put(change, now)
      case 'past':
        return void this.#kept.remember(change.key, change.version, change.value === null ? null : keepBytes(change.value))
      case 'unkept':
        return void this.#kept.remove(change.key, change.clientId)
      case 'released':
        return this.#kept.released(change.key, change.watcher)
      case 'away':
        return void this.#kept.leave(change.frontend, change.connection, change.wallMs, now)
    }
  }

  /** The connections of a frontend are gone. */
  #leaveAll(frontend: string, now: Moment): StoreChange[] {
    const { wallMs } = now
    return this.#kept.connectionsOf(frontend).map(connection => {
      this.#kept.leave(frontend, connection, wallMs, now)
      return { is: 'away', frontend, connection, wallMs }
    })
  }

  #applyDeleted(key: string, clock: StoreClock | null): void {
    const entry = this.#entries.get(key)
    if (entry !== undefined) this.#entries.delete(entry)
    if (clock === null) return
    this.#kept.remember(key, clock, null)
    this.#sawClock(clock)
  }

  #sawClock(clock: StoreClock): void {
    if (compareClocks(clock, this.#clock) > 0) this.#clock = clock
  }

  #repeated(known: RequestAnswered | 'stale'): Executed {
    this.counters.repeats++
    const done = new Executed()
    done.is = known === 'stale' ? 'stale' : 'repeated'
    if (known !== 'stale') done.reply = reply(known.answer, known.version)
    return done
  }

  #run(request: StoreRequest, now: Moment, effects: OpenEffects): Reply {
    const { command } = request
    // The figures are of the protocol, which has none of these.
    const isExtension = command.is === 'scan' || command.is === 'watch' || command.is === 'keep' || command.is === 'joined'
    const found = isExtension ? undefined : this.#entries.get(command.key)
    if (!isExtension) this.#count(command, found, now)
    const clocks = checkedClocks(request, now)
    if (typeof clocks === 'string') return refused(clocks)
    switch (command.is) {
      case 'set':
        return this.#set(request, command, this.#present(found, now, effects), clocks, now, effects)
      case 'get': {
        const entry = this.#present(found, now, effects)
        return entry === undefined ? reply(Answer.NoValue, null) : { answer: null, value: entry.value, version: entry.version }
      }
      case 'del':
      case 'vdel':
        return this.#delete(command, this.#present(found, now, effects), clocks.token, now, effects)
      case 'keynotify':
        return this.#watch(request, command, command.key, effects)
      case 'watch':
        return this.#watch(request, command, keysUnder(command.prefix), effects)
      case 'keep':
        return this.#keep(request, command, now, effects)
      case 'scan':
        return reply(scanPage(this.#entries, command, now) ?? errorAnswer(ErrorText.Syntax), null)
      case 'joined':
        return reply(command.answer, null)
    }
  }

  #count(command: Command, found: Entry | undefined, now: Moment): void {
    const { counters } = this
    if (command.is === 'set') {
      if (found?.hasExpired(now.monotonicMs) === false) counters.modifications++
      else counters.insertions++
    } else if (command.is === 'get') counters.retrievals++
    else if (command.is === 'keynotify') counters.keynotifyRequests++
    else counters.deletions++
  }

  #set(request: StoreRequest, command: SetCommand, before: Entry | undefined, clocks: Clocks, now: Moment, effects: OpenEffects): Reply {
    const { key, condition, value, lifetimeMs } = command
    const { token } = clocks
    if (before !== undefined) {
      const fault = fencingFault(before.token, token)
      if (fault !== null) return refused(fault)
      const isMet = condition === null || (condition === 'nex' && sameBytes(before.value, value))
      if (!isMet) return reply(Answer.Differs, before.version)
    }
    const bytes = entryBytes(key, value, token, lifetimeMs !== null)
    if (!this.#hasRoom(before, bytes, request.watcher.clientId, now, effects)) return refused(ErrorText.QuotaExceeded)
    const version = (this.#clock = tick(this.#clock, clocks.timestamp, now.wallMs))
    const set: EntrySet = {
      is: 'set',
      key,
      value: keepBytes(value),
      version,
      token,
      deadlineWallMs: lifetimeMs === null ? Infinity : now.wallMs + lifetimeMs,
      // Once to outlive a stop, always, until it is deleted or expires.
      isPersistent: request.isPersistent || before?.isPersistent === true,
      owner: before === undefined ? this.#ownerOf(request) : (before.owner?.clientId ?? null),
    }
    this.#entries.put(set, now, before)
    effects.change(set)
    this.#tell(key, version, set.value, effects)
    return reply(Answer.Done, version)
  }

  /** In whose quota a new entry counts. */
  #ownerOf({ watcher }: StoreRequest): string | null {
    return this.#limits.keysPerClientMax === Infinity ? null : watcher.clientId
  }

  #delete(command: DeleteCommand, entry: Entry | undefined, token: HybridClock | null, now: Moment, effects: OpenEffects): Reply {
    if (entry === undefined) return reply(Answer.Nothing, null)
    const fault = fencingFault(entry.token, token)
    if (fault !== null) return refused(fault)
    const { version } = entry
    if (command.is === 'vdel' && !sameBytes(entry.value, command.value)) return reply(Answer.Differs, version)
    this.#remove(entry, now, effects)
    return reply(Answer.Deleted, version)
  }

  /** WATCH of what was watched before: `Nothing`, so that whoever joins the answers of all shards knows where there is nothing to give back. */
  #watch({ watcher }: StoreRequest, command: KeyNotifyCommand | WatchCommand, key: string, effects: OpenEffects): Reply {
    if (!isWatchable(watcher.clientId, key.length)) return refused(ErrorText.Syntax)
    if (command.isStop) {
      const wasKept = this.#unkeep(key, watcher, effects)
      return reply(this.#unwatch(key, watcher, effects) || wasKept ? Answer.Done : Answer.Nothing, null)
    }
    const outcome = this.#watchers.add(key, watcher)
    if (outcome === 'full') return refused(ErrorText.QuotaExceeded)
    this.#unkeep(key, watcher, effects)
    if (outcome === 'added') effects.change(watched(key, watcher))
    return reply(outcome === 'known' && command.is === 'watch' ? Answer.Nothing : Answer.Done, null)
  }

  /** What has come before the version that it names, the client has seen; what it has not goes to it before anything newer. */
  #keep({ watcher }: StoreRequest, command: KeepCommand, now: Moment, effects: OpenEffects): Reply {
    const { key, since } = command
    if (!isWatchable(watcher.clientId, key.length)) return refused(ErrorText.Syntax)
    const keeping = this.#kept.keep(command, watcher, this.#clock, now)
    if (keeping === null) return refused(ErrorText.QuotaExceeded)
    // Told by both, it would hear of each change twice.
    this.#unwatch(key, watcher, effects)
    effects.change(keeping.change)
    const { missed } = keeping
    if (since !== null) this.counters[missed === null ? 'gaps' : 'resumed']++
    if (missed === null) return reply(Answer.Done, this.#clock)
    let previous = since
    for (const { version, value } of missed) {
      this.#notify(notificationOf(key, version, value, previous, [watcher]), effects)
      previous = version
    }
    return reply(resumedAnswer(missed.length), null)
  }

  #unwatch(key: string, watcher: WatcherId, effects: OpenEffects): boolean {
    if (!this.#watchers.remove(key, watcher)) return false
    effects.change(unwatched(key, watcher))
    return true
  }

  #unkeep(key: string, watcher: WatcherId, effects: OpenEffects): boolean {
    const outcome = this.#kept.release(key, watcher)
    if (outcome === null) return false
    effects.change(outcome === 'ended' ? { is: 'unkept', key, clientId: watcher.clientId } : { is: 'released', key, watcher })
    return true
  }

  /** Of a change: each connection once, also one that keeps a watch of the key and watches a prefix of it. @param value null: deleted */
  #tell(key: string, clock: StoreClock, value: StoredBytes | null, effects: OpenEffects): void {
    const watchers = this.#watchers.of(key)
    if (!this.#kept.has(key)) {
      if (watchers.length > 0) this.#notify(notificationOf(key, clock, value, null, watchers), effects)
      return
    }
    const previous = this.#kept.remember(key, clock, value)
    const kept = this.#kept.connected(key)
    const names = new Set(kept.map(connectionName))
    const others = watchers.filter(watcher => !names.has(connectionName(watcher)))
    if (others.length > 0) this.#notify(notificationOf(key, clock, value, null, others), effects)
    if (kept.length > 0) this.#notify(notificationOf(key, clock, value, previous, kept), effects)
  }

  /** An entry that is not past its deadline; one that is, is removed now, before what is done next with its key. */
  #present(entry: Entry | undefined, now: Moment, effects: OpenEffects): Entry | undefined {
    if (entry?.hasExpired(now.monotonicMs) !== true) return entry
    this.#expire(entry, now, effects)
    return undefined
  }

  #hasRoom(before: Entry | undefined, bytes: number, clientId: string, now: Moment, effects: OpenEffects): boolean {
    if (this.#fits(before, bytes, clientId)) return true
    this.#removeDue(now, MAKE_ROOM_MAX, effects)
    return this.#fits(before, bytes, clientId)
  }

  #fits(before: Entry | undefined, bytes: number, clientId: string): boolean {
    const { keysMax, keysPerClientMax, bytesMax } = this.#limits
    if (before === undefined) {
      return this.keys < keysMax && this.#entries.keysOf(clientId) < keysPerClientMax && this.bytes + bytes <= bytesMax
    }
    const more = bytes - before.bytes
    return more <= 0 || this.bytes + more <= bytesMax
  }

  #removeDue(now: Moment, max: number, effects: OpenEffects): void {
    this.#entries.due(now.monotonicMs, entry => this.#expire(entry, now, effects), max)
  }

  #expire(entry: Entry, now: Moment, effects: OpenEffects): void {
    this.counters.expirations++
    this.#remove(entry, now, effects)
  }

  #remove(entry: Entry, now: Moment, effects: OpenEffects): void {
    const { key } = entry
    this.#entries.delete(entry)
    // Only what somebody is told of, now or later, needs a time of its own.
    const isTold = this.#kept.has(key) || this.#watchers.of(key).length > 0
    const clock = isTold ? (this.#clock = tick(this.#clock, null, now.wallMs)) : null
    effects.change({ is: 'deleted', key, clock })
    if (clock !== null) this.#tell(key, clock, null, effects)
  }

  #notify(notification: StoreNotification, effects: OpenEffects): void {
    this.counters.notifications += notification.watchers.length
    effects.notify(notification)
  }
}

function watched(key: string, watcher: WatcherId): StoreChange {
  const prefix = prefixOf(key)
  return prefix === null ? { is: 'watched', key, watcher } : { is: 'watchedUnder', prefix, watcher }
}

function unwatched(key: string, watcher: WatcherId): StoreChange {
  const prefix = prefixOf(key)
  return prefix === null ? { is: 'unwatched', key, watcher } : { is: 'unwatchedUnder', prefix, watcher }
}

function connectionName({ frontend, connection }: WatcherId): string {
  return `${connection} ${frontend}`
}

function notificationOf(
  key: string,
  clock: StoreClock,
  value: StoredBytes | null,
  previous: StoreClock | null,
  watchers: readonly WatcherId[],
): StoreNotification {
  return { key, payload: value === null ? DELETE_NOTIFICATION : setNotification(value), clock, previous, watchers }
}

/** It may be executed again. */
function isRead({ is }: StoreCommand): boolean {
  return is === 'get' || is === 'scan' || is === 'joined'
}

function refused(text: ErrorText): Reply {
  return reply(errorAnswer(text), null)
}

function reply(answer: Buffer, version: StoreClock | null): Reply {
  return { answer, value: null, version }
}
