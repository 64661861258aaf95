import { expect } from 'vitest'
import type { KeyStoreLimits } from './store-limits.ts'
import type { RequestOrigin, WatcherId } from './store-request.ts'

export interface Asked {
  readonly elements: readonly string[]
  readonly ts: string | null
  readonly ft: string | null
  readonly isPersistent: boolean
  readonly watcher: WatcherId
  readonly origin: RequestOrigin | null
}

interface NaiveClock {
  readonly wall: number
  readonly counter: number
  readonly node: string
}

export interface ModelNotification {
  readonly key: string
  readonly payload: string
  readonly clock: NaiveClock
  readonly to: readonly string[]
}

interface NaiveEntry {
  readonly value: string
  readonly version: NaiveClock
  readonly token: NaiveClock | null
  readonly deadlineMs: number
  readonly owner: string
}

/** A watch that outlives connections. */
interface NaiveKept {
  readonly key: string
  readonly clientId: string
  /** The newest last. */
  readonly watchers: readonly WatcherId[]
  readonly keepMs: number
  readonly since: NaiveClock
  readonly begun: NaiveClock
  /** Infinity: it has a connection. */
  readonly deadlineMs: number
}

interface NaiveReply {
  readonly answer: string
  readonly version: NaiveClock | null
  readonly notifications: readonly ModelNotification[]
  readonly isRemembered: boolean
  readonly isRepeat: boolean
}

const DELETE = '*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n'

/** The rules of spec state-store.md word by word, for well-formed requests and small numbers, without a thought for speed. */
export class NaiveStore {
  clock: NaiveClock = { wall: 0, counter: 0, node: 'StateStore' }
  readonly #limits: KeyStoreLimits
  readonly #entries = new Map<string, NaiveEntry>()
  /** `isUnder`: of all keys that begin so. */
  #watches: { readonly key: string; readonly isUnder: boolean; readonly watcher: WatcherId }[] = []
  #kept: NaiveKept[] = []
  /** All that anybody was told of, or was to be, of keys that somebody kept a watch of. */
  readonly #past: { readonly key: string; readonly payload: string; readonly clock: NaiveClock }[] = []
  readonly #answered = new Map<string, NaiveReply>()

  constructor(limits: KeyStoreLimits) {
    this.#limits = limits
  }

  get keys(): number {
    return this.#entries.size
  }

  get watches(): number {
    return this.#watches.length + this.#kept.length
  }

  get watchesAway(): number {
    return this.#kept.filter(({ deadlineMs }) => deadlineMs !== Infinity).length
  }

  /** A watch without connection has ended: it was time. */
  expectEnded(key: string, clientId: string, nowMs: number): void {
    const ended = this.#keptOf(key, clientId)
    expect(ended?.deadlineMs).toBeLessThanOrEqual(nowMs)
    this.#kept = this.#kept.filter(each => each !== ended)
  }

  isPast(key: string, nowMs: number): boolean {
    const entry = this.#entries.get(key)
    return entry !== undefined && nowMs >= entry.deadlineMs
  }

  expire(key: string, nowMs: number): readonly ModelNotification[] {
    this.#entries.delete(key)
    return this.#tellDeleted(key, nowMs)
  }

  /** After a restart: what is recorded is there, whether or not its deadline has come. */
  expectAbsentAgain(nowMs: number, keys: number): void {
    const past = [...this.#entries.keys()].filter(key => this.isPast(key, nowMs)).length
    expect(keys).toBe(this.#entries.size)
    expect(past).toBeLessThanOrEqual(keys)
  }

  /** Nobody was told of anything between these two, of which the second is a change. */
  expectNext(key: string, previous: NaiveClock, clock: NaiveClock): void {
    const past = this.#past.filter(change => change.key === key && order(change.clock, previous) > 0 && order(change.clock, clock) <= 0)
    expect(past.map(change => change.clock)).toEqual([clock])
  }

  forget(frontend: string, connection: number, nowMs: number): void {
    this.#leave(watcher => watcher.frontend === frontend && watcher.connection === connection, nowMs)
    this.#watches = this.#watches.filter(({ watcher }) => watcher.frontend !== frontend || watcher.connection !== connection)
  }

  forgetFrontend(frontend: string, nowMs: number): void {
    this.#leave(watcher => watcher.frontend === frontend, nowMs)
    this.#watches = this.#watches.filter(({ watcher }) => watcher.frontend !== frontend)
    for (const name of this.#answered.keys()) if (name.startsWith(`${frontend} `)) this.#answered.delete(name)
  }

  ask(asked: Asked, nowMs: number): NaiveReply {
    const { origin } = asked
    const name = origin === null ? '' : `${origin.frontend} ${origin.sequence}`
    const before = this.#answered.get(name)
    if (before !== undefined) return { ...before, notifications: [], isRepeat: true, isRemembered: false }
    const { answer, version, notifications } = this.#run(asked, nowMs)
    const reply = { answer, version, notifications, isRemembered: asked.elements[0] !== 'GET' && origin !== null, isRepeat: false }
    if (reply.isRemembered) this.#answered.set(name, reply)
    return reply
  }

  #run(asked: Asked, nowMs: number): Omit<NaiveReply, 'isRepeat' | 'isRemembered'> {
    const [verb, key, third, ...options] = asked.elements as [string, string, string | undefined, ...string[]]
    const reply = (answer: string, version: NaiveClock | null = null) => ({ answer, version, notifications: [] })
    const error = (text: string) => reply(`-ERR ${text}\r\n`)
    const changes = verb === 'SET' || verb === 'DEL' || verb === 'VDEL'
    const { ts, ft } = asked
    if (verb === 'SET' && ts === null) return error('missing timestamp')
    const ahead = (what: string) =>
      error(`the request ${what} is too far in the future; ensure that the client and broker system clocks are synchronized`)
    if (ts === 'malformed') return error('malformed timestamp')
    if (ts !== null && clockOf(ts).wall > nowMs + 60_000) return ahead('timestamp')
    if (ft === 'malformed') return error('malformed timestamp')
    if (ft !== null && changes && clockOf(ft).wall > nowMs + 60_000) return ahead('fencing token timestamp')
    if (verb === 'KEYNOTIFY' && third === 'KEEP') return this.#keep(key, Number(options[0]), options[2] ?? null, asked.watcher, nowMs)
    if (verb === 'KEYNOTIFY' || verb === 'WATCH') return this.#watch(key, verb === 'WATCH', third === 'STOP', asked.watcher)

    const entry = this.isPast(key, nowMs) ? undefined : this.#entries.get(key)
    if (verb === 'GET') return entry === undefined ? reply('$-1\r\n') : reply(blob(entry.value), entry.version)
    if (entry !== undefined && entry.token !== null) {
      if (ft === null) return error('a fencing token is required for this request')
      if (order(clockOf(ft), entry.token) < 0)
        return error('the request fencing token is a lower version than the fencing token protecting the resource')
    }
    if (verb === 'SET') {
      if (entry !== undefined && options.includes('NX')) return reply(':-1\r\n', entry.version)
      if (entry !== undefined && options.includes('NEX') && entry.value !== third) return reply(':-1\r\n', entry.version)
      if (entry === undefined && this.#isFull(asked.watcher.clientId, nowMs)) return error('the quota has been exceeded')
      return this.#set(key, third!, options, asked, nowMs, entry?.owner)
    }
    if (entry === undefined) return reply(':0\r\n')
    if (verb === 'VDEL' && entry.value !== third) return reply(':-1\r\n', entry.version)
    this.#entries.delete(key)
    return { answer: ':1\r\n', version: entry.version, notifications: this.#tellDeleted(key, nowMs) }
  }

  #set(key: string, value: string, options: readonly string[], asked: Asked, nowMs: number, owner = asked.watcher.clientId) {
    const version = this.#tick(clockOf(asked.ts!), nowMs)
    const px = options.indexOf('PX')
    this.#entries.set(key, {
      value,
      version,
      token: asked.ft === null ? null : clockOf(asked.ft),
      deadlineMs: px === -1 ? Infinity : nowMs + Number(options[px + 1]),
      owner,
    })
    const payload = `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n${blob(value)}`
    return { answer: '+OK\r\n', version, notifications: this.#tell(key, payload, version) }
  }

  #isFull(clientId: string, nowMs: number): boolean {
    const live = [...this.#entries].filter(([key]) => !this.isPast(key, nowMs)).map(([, entry]) => entry)
    return live.length >= this.#limits.keysMax || live.filter(({ owner }) => owner === clientId).length >= this.#limits.keysPerClientMax
  }

  #watch(key: string, isUnder: boolean, isStop: boolean, watcher: WatcherId) {
    const reply = (answer: string) => ({ answer, version: null, notifications: [] })
    const isOfWatcher = (id: WatcherId): boolean => id.frontend === watcher.frontend && id.connection === watcher.connection
    const known = this.#watches.find(watch => watch.key === key && watch.isUnder === isUnder && isOfWatcher(watch.watcher))
    if (isStop) {
      this.#watches = this.#watches.filter(watch => watch !== known)
      const wasKept = !isUnder && this.#release(key, watcher)
      return known === undefined && !wasKept ? reply(':0\r\n') : reply('+OK\r\n')
    }
    // A part of WATCH says where it was known.
    if (known !== undefined) {
      if (!isUnder) this.#release(key, watcher)
      return reply(isUnder ? ':0\r\n' : '+OK\r\n')
    }
    const ofConnection = this.#watches.filter(watch => isOfWatcher(watch.watcher))
    const under = new Set(this.#watches.filter(watch => watch.isUnder).map(watch => nameOf(watch.watcher)))
    const ofKey = this.#watches.filter(watch => !watch.isUnder && watch.key === key).length
    const others = isUnder ? (under.has(nameOf(watcher)) ? 0 : under.size) : ofKey
    if (ofConnection.length >= this.#limits.keysPerConnectionMax || others >= this.#limits.watchersPerKeyMax)
      return reply('-ERR the quota has been exceeded\r\n')
    if (!isUnder) this.#release(key, watcher)
    this.#watches.push({ key, isUnder, watcher })
    return reply('+OK\r\n')
  }

  #keep(key: string, keepMs: number, text: string | null, watcher: WatcherId, nowMs: number) {
    const known = this.#keptOf(key, watcher.clientId)
    const ofClient = this.#kept.filter(each => each.clientId === watcher.clientId).length
    const ofKey = this.#kept.filter(each => each.key === key).length
    if (known === undefined && (ofClient >= this.#limits.keysPerConnectionMax || ofKey >= this.#limits.watchersPerKeyMax))
      return { answer: '-ERR the quota has been exceeded\r\n', version: null, notifications: [] }
    const since = text === null ? null : clockOf(text)
    const isAlive = known !== undefined && nowMs < known.deadlineMs
    const missed = isAlive && since !== null ? this.#after(known, since) : null
    this.#watches = this.#watches.filter(watch => watch.key !== key || watch.isUnder || nameOf(watch.watcher) !== nameOf(watcher))
    const now = missed === null ? this.clock : since!
    const from = missed === null && isAlive ? known.since : now
    const others = known?.watchers.filter(each => nameOf(each) !== nameOf(watcher)) ?? []
    const watchers = others.length === (known?.watchers.length ?? 0) ? [...others, watcher] : known!.watchers
    this.#kept = [
      ...this.#kept.filter(each => each !== known),
      { key, clientId: watcher.clientId, watchers, keepMs, since: from, begun: now, deadlineMs: Infinity },
    ]
    if (missed === null) return { answer: '+OK\r\n', version: this.clock, notifications: [] }
    const notifications = missed.map(change => ({ ...change, to: [nameOf(watcher)] }))
    return { answer: `:${missed.length}\r\n`, version: null, notifications }
  }

  /** Null: what came after it is not known for certain. */
  #after({ key, since: from, begun }: NaiveKept, since: NaiveClock) {
    const past = this.#past.filter(change => change.key === key)
    const after = past.filter(({ clock }) => order(clock, since) > 0)
    const isVersion = [from, begun, ...past.map(({ clock }) => clock)].some(clock => order(clock, since) === 0)
    return order(since, from) >= 0 && isVersion && after.length <= this.#limits.pastPerKeyMax ? after : null
  }

  #keptOf(key: string, clientId: string): NaiveKept | undefined {
    return this.#kept.find(each => each.key === key && each.clientId === clientId)
  }

  /** Of this connection; false: it had nothing to do with it. */
  #release(key: string, watcher: WatcherId): boolean {
    const kept = this.#keptOf(key, watcher.clientId)
    if (kept === undefined) return false
    const watchers = kept.watchers.filter(each => nameOf(each) !== nameOf(watcher))
    if (watchers.length === kept.watchers.length && watchers.length > 0) return false
    this.#kept = this.#kept.flatMap(each => (each !== kept ? [each] : watchers.length === 0 ? [] : [{ ...kept, watchers }]))
    return true
  }

  #leave(isGone: (watcher: WatcherId) => boolean, nowMs: number): void {
    this.#kept = this.#kept.map(kept => {
      const watchers = kept.watchers.filter(watcher => !isGone(watcher))
      const isAway = watchers.length === 0 && kept.watchers.length > 0
      return { ...kept, watchers, deadlineMs: isAway ? nowMs + kept.keepMs : kept.deadlineMs }
    })
  }

  #tellDeleted(key: string, nowMs: number): readonly ModelNotification[] {
    if (this.#watchersOf(key).size === 0 && !this.#kept.some(kept => kept.key === key)) return []
    return this.#tell(key, DELETE, this.#tick(null, nowMs))
  }

  #tell(key: string, payload: string, clock: NaiveClock): readonly ModelNotification[] {
    if (this.#kept.some(kept => kept.key === key)) this.#past.push({ key, payload, clock })
    const to = this.#watchersOf(key)
    return to.size === 0 ? [] : [{ key, payload, clock, to: [...to].sort() }]
  }

  /** Each once. */
  #watchersOf(key: string): ReadonlySet<string> {
    const watches = this.#watches.filter(watch => (watch.isUnder ? key.startsWith(watch.key) : watch.key === key))
    const connected = this.#kept.filter(kept => kept.key === key).flatMap(kept => kept.watchers.map(watcher => ({ watcher })))
    return new Set([...watches, ...connected].map(({ watcher }) => nameOf(watcher)))
  }

  #tick(r: NaiveClock | null, now: number): NaiveClock {
    const { wall: w, counter: c, node } = this.clock
    let next = { wall: now, counter: 0, node }
    if (!(now > w && (r === null || now > r.wall))) {
      if (r !== null && w === r.wall) next = { wall: w, counter: Math.max(c, r.counter) + 1, node }
      else if (r === null || w > r.wall) next = { wall: w, counter: c + 1, node }
      else next = { wall: r.wall, counter: r.counter + 1, node }
    }
    return (this.clock = next)
  }
}

/** As the model writes it. */
export function nameOf({ frontend, connection, clientId }: WatcherId): string {
  return `${frontend} ${connection} ${clientId}`
}

function blob(value: string): string {
  return `$${value.length}\r\n${value}\r\n`
}

function clockOf(text: string): NaiveClock {
  const [wall, counter, node] = text.split(':')
  return { wall: Number(wall), counter: Number(counter), node: node! }
}

function order(a: NaiveClock, b: NaiveClock): number {
  return a.wall - b.wall || a.counter - b.counter || (a.node < b.node ? -1 : Number(a.node > b.node))
}
