import { ByteReader } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { PROTOCOL_VERSION } from '#shared/rpc/handshake.ts'
import type { Link, LinkHandler, PeerIdentity, Role } from '#shared/rpc/link.ts'
import type { SimProcess, World } from './world.ts'

/** As the real links have it: heartbeats so often, closed after so long a silence. */
const HEARTBEAT_MS = 200
const SILENCE_MS = 3_000
/** A dialer waits so long for the other end's handshake. */
const DIAL_TIMEOUT_MS = 2_000

/** Who dials or listens. */
export interface Station {
  readonly process: SimProcess
  readonly role: Role
  readonly id: string
}

export interface Dialing {
  /** Runs at the dialer when the handshake is done. */
  onOpen(link: Link): LinkHandler
  /** refused: nobody listens there. timeout: nothing was heard. another: not the instance that was wanted. */
  onFailed(reason: 'refused' | 'timeout' | 'another'): void
}

/** Called at the listener when the handshake is done. */
export type Accept = (link: Link) => LinkHandler

/** Wraps what a station does with its links, for mutations. */
export type WrapLink = (link: Link) => Link

/**
 * The network between processes: links with delays of their own, FIFO each way, whose frames are copied as bytes. It can lose links, cut
 * two processes off from each other in silence, and fill up.
 */
export class SimNetwork {
  readonly world: World
  readonly #listening = new Map<string, { readonly station: Station; readonly accept: Accept }>()
  readonly #cut = new Set<string>()
  readonly links = new Set<Connected>()
  /** Milliseconds one way. */
  delayMsMax = 2
  /** Unread bytes at which a link is congested. */
  creditBytes = 256 * 1024
  wrap: WrapLink = link => link

  constructor(world: World) {
    this.world = world
  }

  listen(station: Station, address: string, accept: Accept): void {
    this.#listening.set(address, { station, accept })
    station.process.onEnd(() => {
      if (this.#listening.get(address)?.station === station) this.#listening.delete(address)
    })
  }

  /** Exactly one of `dialing`'s methods runs, later, unless the dialer ends before. */
  dial(from: Station, address: string, instance: string, dialing: Dialing): void {
    const { world } = this
    const delayMs = world.between(0.1, this.delayMsMax)
    const startMs = world.nowMs
    const found = this.#listening.get(address)
    if (found === undefined) return from.process.arrive(2 * delayMs, () => dialing.onFailed('refused'))
    const { station: to, accept } = found
    let isOver = false
    from.process.timers.after(DIAL_TIMEOUT_MS, () => {
      if (isOver) return
      isOver = true
      dialing.onFailed('timeout')
    })
    // The listener's kernel answers also for a process that stands still; only its handshake waits.
    to.process.arrive(2 * delayMs, () => {
      if (isOver || this.isCut(from.process.name, to.process.name) || world.nowMs - startMs > DIAL_TIMEOUT_MS) return
      isOver = true
      if (to.process.instance !== instance) return from.process.arrive(delayMs, () => dialing.onFailed('another'))
      if (!from.process.isDead) this.links.add(new Connected(this, from, to, dialing, accept, delayMs))
    })
    to.process.onEnd(() => {
      if (isOver) return
      isOver = true
      from.process.arrive(delayMs, () => dialing.onFailed('refused'))
    })
  }

  isCut(a: string, b: string): boolean {
    return this.#cut.has(pairOf(a, b))
  }

  /** From now on nothing passes between the two, in silence. */
  cut(a: string, b: string): void {
    this.#cut.add(pairOf(a, b))
    for (const link of this.links) if (link.isBetween(a, b)) link.onReachability()
  }

  /** What was on its way passes again, unless an end has given up meanwhile. */
  heal(a: string, b: string): void {
    if (!this.#cut.delete(pairOf(a, b))) return
    for (const link of this.links) if (link.isBetween(a, b)) link.onReachability()
  }

  healAll(): void {
    for (const pair of this.#cut) {
      const [a, b] = pair.split('|')
      this.heal(a!, b!)
    }
  }
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`
}

interface Frame {
  readonly method: number
  readonly bytes: Buffer
}

/** Both ends of one open connection. */
export class Connected {
  readonly network: SimNetwork
  readonly ends: readonly [End, End]

  constructor(network: SimNetwork, dialer: Station, listener: Station, dialing: Dialing, accept: Accept, delayMs: number) {
    this.network = network
    const near = new End(this, dialer, listener, delayMs, link => dialing.onOpen(link))
    const far = new End(this, listener, dialer, delayMs, accept)
    near.other = far
    far.other = near
    this.ends = [near, far]
    // The listener has done its handshake now; the dialer is about to learn it.
    far.open()
    near.station.process.arrive(delayMs, () => {
      // It may have broken meanwhile: to the dialer it is one that never was.
      if (!near.open()) dialing.onFailed('timeout')
    })
    for (const end of this.ends) end.station.process.onEnd(() => end.onProcessEnded())
    this.onReachability()
  }

  isBetween(a: string, b: string): boolean {
    const [x, y] = this.ends
    return pairOf(a, b) === pairOf(x.station.process.name, y.station.process.name)
  }

  get isCut(): boolean {
    const [near, far] = this.ends
    return this.network.isCut(near.station.process.name, far.station.process.name)
  }

  /** The path was cut or is there again. */
  onReachability(): void {
    for (const end of this.ends) end.onReachability(!this.isCut)
  }

  /** The connection breaks: what is on its way is lost, and each end notices at its own time. */
  break(): void {
    for (const end of this.ends) end.breakOff(this.network.world.between(0, 50))
  }
}

/** One end of a connection: what its process sees as a Link. */
class End implements Link {
  readonly connected: Connected
  readonly station: Station
  readonly peer: PeerIdentity
  other!: End
  readonly #delayMs: number
  readonly #start: Accept
  readonly #phaseMs: number
  readonly #writer = new ByteWriter(64)
  #method = -1
  #handler: LinkHandler | null = null
  /** opening → open → closing (told to close, or noticed it) → closed (the handler knows). */
  #phase: 'opening' | 'open' | 'closing' | 'closed' = 'opening'
  /** Frames of the turn that runs. */
  #gathered: Frame[] = []
  #isFlushing = false
  /** Frames on their way to this end, in order; held up while the path is cut. */
  #incoming: { readonly sentMs: number; readonly dueMs: number; readonly frames: readonly Frame[] | 'end' }[] = []
  #isReceiving = false
  #lastDueMs = 0
  #unreadBytes = 0
  #isCongested = false
  #heardMs: number
  /** When the path was cut, else Infinity. */
  #cutSinceMs = Infinity

  constructor(connected: Connected, station: Station, peer: Station, delayMs: number, start: Accept) {
    this.connected = connected
    this.station = station
    this.peer = { role: peer.role, id: peer.id, instance: peer.process.instance, protocolVersion: PROTOCOL_VERSION }
    this.#delayMs = delayMs
    this.#start = start
    this.#phaseMs = connected.network.world.between(0, HEARTBEAT_MS)
    this.#heardMs = connected.network.world.nowMs
  }

  get #world(): World {
    return this.connected.network.world
  }

  // ---- Link

  beginFrame(method: number): ByteWriter {
    if (this.#method !== -1) throw new Error(`frame ${this.#method} was not ended`)
    this.#method = method
    this.#writer.length = 0
    return this.#writer
  }

  endFrame(): void {
    if (this.#method === -1) throw new Error('no frame was begun')
    const bytes = Buffer.from(this.#writer.take())
    const frame = { method: this.#method, bytes }
    this.#method = -1
    if (this.#phase !== 'open') return
    this.#gathered.push(frame)
    this.#unreadBytes += bytes.length
    if (this.#isFlushing) return
    this.#isFlushing = true
    this.station.process.arrive(0, () => this.#flush())
  }

  get isCongested(): boolean {
    return this.#unreadBytes > this.connected.network.creditBytes
  }

  /** Heartbeats make no events: when the last one came follows from who stood still, and since when. */
  get heardMs(): number {
    const { process } = this.other.station
    const peerMs = this.other.#phase === 'open' ? process.readMs : 0
    // A heartbeat does not overtake what was sent before it.
    const waitingMs = this.#incoming[0]?.sentMs ?? Infinity
    const sentMs = Math.min(peerMs, this.#cutSinceMs, waitingMs, this.station.process.readMs - this.#delayMs)
    const beats = Math.floor((sentMs - this.#phaseMs) / HEARTBEAT_MS)
    this.#heardMs = Math.max(this.#heardMs, this.#phaseMs + beats * HEARTBEAT_MS + this.#delayMs)
    return this.#heardMs + this.#monotonicOffsetMs
  }

  get #monotonicOffsetMs(): number {
    return this.station.process.clock.monotonicMs() - this.#world.nowMs
  }

  close(reason: string): void {
    if (this.#phase === 'closing' || this.#phase === 'closed') return
    if (this.#phase === 'open') {
      this.#flush()
      this.other.#send('end', this.#delayMs)
    }
    this.#closed(reason, 0)
  }

  // ---- life

  /** False: it is closed already. */
  open(): boolean {
    if (this.#phase !== 'opening') return false
    this.#phase = 'open'
    this.#heardMs = Math.max(this.#heardMs, this.#world.nowMs)
    this.#handler = this.#start(this.connected.network.wrap(this))
    this.#receive()
    this.#watchSilence()
    return true
  }

  /** The kernel of an ended process closes: what it sent before still arrives, then the end. */
  onProcessEnded(): void {
    this.connected.network.links.delete(this.connected)
    if (this.#phase === 'closed') return
    this.#phase = 'closed'
    this.other.#send('end', this.#delayMs)
  }

  onReachability(isReachable: boolean): void {
    this.#cutSinceMs = isReachable ? Infinity : Math.min(this.#cutSinceMs, this.#world.nowMs)
    if (isReachable) this.#receive()
  }

  breakOff(afterMs: number): void {
    this.#incoming = []
    this.#gathered = []
    if (this.#phase === 'closing' || this.#phase === 'closed') return
    this.#closed('connection lost', afterMs)
  }

  /** `phase` closes at once, so that nothing more is sent or received; the handler hears of it later. */
  #closed(reason: string, afterMs: number): void {
    this.#phase = 'closing'
    this.#incoming = []
    this.connected.network.links.delete(this.connected)
    this.station.process.arrive(afterMs, () => {
      if (this.#phase === 'closed') return
      this.#phase = 'closed'
      this.#handler?.onClosed(reason)
    })
  }

  #watchSilence(): void {
    this.station.process.timers.after(HEARTBEAT_MS, () => {
      if (this.#phase !== 'open') return
      if (this.station.process.clock.monotonicMs() - this.heardMs > SILENCE_MS) this.close('silence')
      else this.#watchSilence()
    })
  }

  // ---- frames

  #flush(): void {
    this.#isFlushing = false
    if (this.#phase !== 'open' || this.#gathered.length === 0) return
    const frames = this.#gathered
    this.#gathered = []
    const { network } = this.connected
    this.other.#send(frames, this.#delayMs + this.#world.random.next() * network.delayMsMax * 0.2)
    if (this.isCongested && !this.#isCongested) {
      this.#isCongested = true
      this.#handler?.onCongestion(true)
    }
  }

  /** On its way to this end. */
  #send(frames: readonly Frame[] | 'end', delayMs: number): void {
    if (this.#phase === 'closing' || this.#phase === 'closed') return
    this.#lastDueMs = Math.max(this.#lastDueMs, this.#world.nowMs + delayMs)
    this.#incoming.push({ sentMs: this.#world.nowMs, dueMs: this.#lastDueMs, frames })
    this.#receive()
  }

  /** The next of `incoming` arrives when it is due, unless the path is cut. */
  #receive(): void {
    const next = this.#incoming[0]
    if (next === undefined || this.#isReceiving || this.#phase !== 'open' || this.connected.isCut) return
    this.#isReceiving = true
    this.station.process.arrive(next.dueMs - this.#world.nowMs, () => {
      this.#isReceiving = false
      if (this.#incoming[0] !== next || this.#phase !== 'open') return
      if (this.connected.isCut) return
      this.#incoming.shift()
      if (next.frames === 'end') return this.#closed('closed by the peer', 0)
      this.#heardMs = Math.max(this.#heardMs, this.#world.nowMs)
      for (const frame of next.frames) this.#hand(frame)
      this.#credit(next.frames.reduce((sum, { bytes }) => sum + bytes.length, 0))
      this.#receive()
    })
  }

  /** As a socket's memory, a frame's is used again at once: whoever kept a view of it reads rubbish. */
  #hand({ method, bytes }: Frame): void {
    if (this.#phase !== 'open') return
    try {
      this.#handler!.onFrame(method, new ByteReader(bytes))
    } catch (error) {
      this.#world.failures.push({ process: this.station.process.name, error })
      this.close(`frame refused: ${String(error)}`)
    }
    bytes.fill(0xee)
  }

  /** The peer is told that what it sent was taken. */
  #credit(bytes: number): void {
    const { other } = this
    // While there is credit to spare nobody can tell when it comes back, and an event less is to run.
    if (!other.#isCongested) {
      other.#unreadBytes -= bytes
      return
    }
    other.station.process.arrive(this.#delayMs, () => {
      other.#unreadBytes -= bytes
      if (!other.#isCongested || other.#unreadBytes > this.connected.network.creditBytes / 2 || other.#phase !== 'open') return
      other.#isCongested = false
      other.#handler?.onCongestion(false)
    })
  }
}
