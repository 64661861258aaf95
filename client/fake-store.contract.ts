import { compareHybridTimes, formatHybridTime, type HybridTime, parseHybridTime } from './hybrid-clock.ts'
import { encodeParts, parseAnswer } from './resp.ts'

/** A request, as the fake broker hands it over. */
export interface StoreRequest {
  readonly clientId: string
  readonly payload: Uint8Array
  readonly ts: string | undefined
  readonly ft: string | undefined
}

export interface StoreResponse {
  readonly payload: Buffer
  readonly version: HybridTime | null
}

interface FakeEntry {
  readonly value: Buffer
  readonly version: HybridTime
  readonly token: HybridTime | null
  readonly deadlineMs: number
}

/** A watch that outlives connections. */
interface FakeKept {
  readonly id: string
  readonly clientId: string
  readonly keepMs: number
  readonly since: HybridTime
  /** Infinity: it has a connection. */
  readonly deadlineMs: number
}

/** Wrong on purpose, so that a test can show that it would be noticed. */
export type Defect = 'stale-read' | 'lost-update' | 'double-nx' | 'no-fencing' | 'version-back'

/** What the fake broker asks: the fake store, or another one that a test puts there. */
export interface StoreEngine {
  /** The connection is gone, and with it what it watched. */
  forget(clientId: string): void
  execute(request: StoreRequest): StoreResponse
  /** Milliseconds until the next entry ends; null when none does. Ends those whose time is over. */
  expire(): number | null
}

/** @param previous to a watch that is kept: the change before it */
export type Notify = (clientId: string, key: Buffer, payload: Buffer, version: HybridTime, previous?: HybridTime) => void

/** Before a watched prefix; no key has it. */
const UNDER = '\u0100'

const SKEW_MAX_MS = 60_000
const CONDITIONS = ['NX', 'NEX']
const AHEAD = 'is too far in the future; ensure that the client and broker system clocks are synchronized'

class Refusal extends Error {}

/** The store, as plainly as it can be said: one map, one clock, one command at a time. */
export class FakeStore implements StoreEngine {
  readonly #entries = new Map<string, FakeEntry>()
  readonly #watchers = new Map<string, Set<string>>()
  readonly #now: () => number
  readonly #notify: Notify
  readonly #defect: Defect | null
  readonly #before = new Map<string, FakeEntry>()
  #clock: HybridTime = { wallMs: 0, counter: 0, node: 'StateStore' }
  #changes = 0
  #kept: readonly FakeKept[] = []
  /** All that anybody was told, or would have been. */
  readonly #past: { readonly id: string; readonly payload: Buffer; readonly version: HybridTime }[] = []

  constructor(now: () => number, notify: Notify, defect: Defect | null = null) {
    this.#now = now
    this.#notify = notify
    this.#defect = defect
  }

  forget(clientId: string): void {
    for (const watchers of this.#watchers.values()) watchers.delete(clientId)
    this.#kept = this.#kept.map(kept =>
      kept.clientId === clientId && kept.deadlineMs === Infinity ? { ...kept, deadlineMs: this.#now() + kept.keepMs } : kept,
    )
  }

  execute(request: StoreRequest): StoreResponse {
    try {
      const answer = parseAnswer(request.payload)
      const parts = answer.is === 'list' ? answer.items.map(each => (each.is === 'value' ? Buffer.from(each.value) : Buffer.alloc(0))) : []
      return this.#run(parts, request)
    } catch (error) {
      return { payload: Buffer.from(`-ERR ${error instanceof Refusal ? error.message : 'syntax error'}\r\n`), version: null }
    }
  }

  expire(): number | null {
    let next: number | null = null
    for (const [key, { deadlineMs }] of this.#entries) {
      const leftMs = deadlineMs - this.#now()
      if (leftMs <= 0) this.#remove(key)
      else if (deadlineMs !== Infinity) next = Math.min(next ?? Infinity, leftMs)
    }
    return next
  }

  #run([verb, key, ...rest]: readonly Buffer[], { clientId, ts, ft }: StoreRequest): StoreResponse {
    const name = verb?.toString('latin1') ?? ''
    if (name === 'SCAN') return this.#scan(key, rest)
    if (name === 'WATCH') return this.#watchUnder(key, clientId, rest)
    const words = name === 'KEYNOTIFY' ? rest.map(each => each.toString('latin1')) : []
    const isKeep = words[0] === 'KEEP'
    const [min, max] = { SET: [1, 9], GET: [0, 0], DEL: [0, 0], VDEL: [1, 1], KEYNOTIFY: isKeep ? [2, 4] : [0, 1] }[name] ?? [-1, -1]
    if (min! < 0) throw new Refusal('unknown command')
    if (key === undefined || rest.length < min! || rest.length > max!) throw new Refusal('wrong number of arguments')
    if (key.length === 0) throw new Refusal('the key length is zero')
    const id = key.toString('latin1')
    const at = this.#clockOf(ts, 'the request timestamp')
    if (name === 'SET' && at === null) throw new Refusal('missing timestamp')
    const token = this.#clockOf(ft, 'the request fencing token timestamp')
    this.expire()
    if (isKeep) return this.#keep(id, clientId, words)
    if (name === 'KEYNOTIFY') return this.#watch(id, clientId, words[0])
    const entry = this.#entries.get(id)
    if (name === 'GET') return this.#get(id, entry)
    const kept = this.#checkToken(entry, token)
    if (name === 'SET') return this.#set(id, rest, entry, at!, kept)
    if (entry === undefined) return { payload: Buffer.from(':0\r\n'), version: null }
    if (name === 'VDEL' && !rest[0]!.equals(entry.value)) return { payload: Buffer.from(':-1\r\n'), version: entry.version }
    this.#remove(id)
    return { payload: Buffer.from(':1\r\n'), version: entry.version }
  }

  #get(id: string, current: FakeEntry | undefined): StoreResponse {
    const before = this.#before.get(id)
    const entry = this.#defect === 'stale-read' && before !== undefined && this.#changes % 7 === 0 ? before : current
    if (entry === undefined) return { payload: Buffer.from('$-1\r\n'), version: null }
    return { payload: Buffer.concat([Buffer.from(`$${entry.value.length}\r\n`), entry.value, Buffer.from('\r\n')]), version: entry.version }
  }

  #set(
    id: string,
    [value, ...options]: readonly Buffer[],
    entry: FakeEntry | undefined,
    at: HybridTime,
    token: HybridTime | null,
  ): StoreResponse {
    const words = options.map(option => option.toString('latin1'))
    const px = words.indexOf('PX')
    const pxMs = px === -1 ? Infinity : Number(/^\d+$/.exec(words[px + 1] ?? '')?.[0])
    const conditions = words.filter((word, index) => CONDITIONS.includes(word) && (px === -1 || index !== px + 1))
    if (!(pxMs >= 1) || conditions.length > 1 || words.length !== conditions.length + (px === -1 ? 0 : 2)) throw new Refusal('syntax error')
    const isSame = entry?.value.equals(value!) === true
    const isMet = conditions.length === 0 || entry === undefined || (conditions[0] === 'NEX' && isSame)
    this.#changes++
    if (!isMet && !(this.#defect === 'double-nx' && this.#changes % 5 === 0))
      return { payload: Buffer.from(':-1\r\n'), version: entry!.version }
    const version = this.#tick(at)
    const isLost = this.#defect === 'lost-update' && this.#changes % 9 === 0
    if (entry !== undefined) this.#before.set(id, entry)
    if (!isLost) this.#entries.set(id, { value: value!, version, token, deadlineMs: this.#now() + pxMs })
    this.#tell(id, encodeParts([Buffer.from('NOTIFY'), Buffer.from('SET'), Buffer.from('VALUE'), value!]), version)
    return { payload: Buffer.from('+OK\r\n'), version }
  }

  #checkToken(entry: FakeEntry | undefined, token: HybridTime | null): HybridTime | null {
    if (entry === undefined || entry.token === null || this.#defect === 'no-fencing') return token
    if (token === null) throw new Refusal('a fencing token is required for this request')
    if (compareHybridTimes(token, entry.token) >= 0) return token
    throw new Refusal('the request fencing token is a lower version than the fencing token protecting the resource')
  }

  #watch(id: string, clientId: string, word: string | undefined): StoreResponse {
    const watchers = this.#watchers.get(id) ?? new Set<string>()
    this.#watchers.set(id, watchers)
    if (word !== undefined && word !== 'STOP') throw new Refusal('syntax error')
    const others = this.#kept.filter(kept => kept.id !== id || kept.clientId !== clientId)
    const wasKept = others.length < this.#kept.length
    this.#kept = others
    const isDone = word === undefined ? watchers.add(clientId).has(clientId) : watchers.delete(clientId) || wasKept
    return { payload: Buffer.from(isDone ? '+OK\r\n' : ':0\r\n'), version: null }
  }

  /** `KEYNOTIFY key KEEP ms [SINCE version]` */
  #keep(id: string, clientId: string, [, ms, word, version]: readonly string[]): StoreResponse {
    const since = word === 'SINCE' ? this.#clockOf(version, 'the version') : null
    const known = this.#kept.find(kept => kept.id === id && kept.clientId === clientId && this.#now() < kept.deadlineMs)
    const goesOn = known !== undefined && since !== null && compareHybridTimes(since, known.since) >= 0
    this.#watchers.get(id)?.delete(clientId)
    this.#kept = [
      ...this.#kept.filter(kept => kept !== known),
      { id, clientId, keepMs: Number(ms), since: goesOn ? since : this.#clock, deadlineMs: Infinity },
    ]
    if (!goesOn) return { payload: Buffer.from('+OK\r\n'), version: this.#clock }
    const missed = this.#past.filter(each => each.id === id && compareHybridTimes(each.version, since) > 0)
    let previous = since
    for (const each of missed) {
      this.#notify(clientId, Buffer.from(id, 'latin1'), each.payload, each.version, previous)
      previous = each.version
    }
    return { payload: Buffer.from(`:${missed.length}\r\n`), version: null }
  }

  #watchUnder(prefix: Buffer | undefined, clientId: string, [word, ...rest]: readonly Buffer[]): StoreResponse {
    if (prefix === undefined || rest.length > 0) throw new Refusal('wrong number of arguments')
    if (prefix.length > 256) throw new Refusal('syntax error')
    return this.#watch(UNDER + prefix.toString('latin1'), clientId, word?.toString('latin1'))
  }

  /** `SCAN prefix cursor [COUNT n]`: the cursor is the last key of the page before. */
  #scan(prefix: Buffer | undefined, [cursor, ...rest]: readonly Buffer[]): StoreResponse {
    this.expire()
    if (prefix === undefined || cursor === undefined) throw new Refusal('wrong number of arguments')
    const countMax = rest.length === 2 ? Number(rest[1]!.toString()) : 100
    const left = [...this.#entries.keys()]
      .filter(key => key.startsWith(prefix.toString('latin1')))
      .sort()
      .filter(key => cursor.length === 0 || key > cursor.toString('latin1'))
    const page = left.slice(0, countMax).map(key => Buffer.from(key, 'latin1'))
    const next = left.length > countMax ? page.at(-1)! : Buffer.alloc(0)
    const head = Buffer.from(`*2\r\n$${next.length}\r\n`)
    return { payload: Buffer.concat([head, next, Buffer.from('\r\n'), encodeParts(page)]), version: null }
  }

  #remove(id: string): void {
    this.#entries.delete(id)
    this.#tell(id, encodeParts([Buffer.from('NOTIFY'), Buffer.from('DELETE')]), this.#tick(null))
  }

  #tell(id: string, payload: Buffer, version: HybridTime): void {
    const watching = [...this.#watchers].filter(
      ([watched]) => watched === id || (watched.startsWith(UNDER) && id.startsWith(watched.slice(1))),
    )
    const previous = this.#past.findLast(each => each.id === id)?.version
    this.#past.push({ id, payload, version })
    const kept = this.#kept.filter(each => each.id === id && each.deadlineMs === Infinity).map(({ clientId }) => clientId)
    for (const clientId of new Set([...watching.flatMap(([, clients]) => [...clients]), ...kept]))
      this.#notify(clientId, Buffer.from(id, 'latin1'), payload, version, kept.includes(clientId) ? previous : undefined)
  }

  #clockOf(text: string | undefined, what: string): HybridTime | null {
    if (text === undefined) return null
    let time: HybridTime
    try {
      time = parseHybridTime(text)
    } catch {
      throw new Refusal('malformed timestamp')
    }
    if (time.wallMs > this.#now() + SKEW_MAX_MS) throw new Refusal(`${what} ${AHEAD}`)
    return time
  }

  #tick(request: HybridTime | null): HybridTime {
    const now = Math.floor(this.#now())
    const { wallMs, counter } = this.#clock
    const r = request ?? { wallMs: 0, counter: 0 }
    const [wall, count] =
      now > wallMs && now > r.wallMs
        ? [now, 0]
        : wallMs === r.wallMs
          ? [wallMs, Math.max(counter, r.counter) + 1]
          : wallMs > r.wallMs
            ? [wallMs, counter + 1]
            : [r.wallMs, r.counter + 1]
    this.#clock = { wallMs: wall, counter: count, node: 'StateStore' }
    if (this.#defect === 'version-back' && this.#changes % 11 === 0) return { ...this.#clock, wallMs: wall - 1_000 }
    return this.#clock
  }
}

/** As responses and notifications carry it. */
export function textOf(version: HybridTime | null): string | undefined {
  return version === null ? undefined : formatHybridTime(version)
}
