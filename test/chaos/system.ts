import type { Address, LostConnection } from '../cast/client.ts'
import { wallClock } from '../cast/ledger.ts'
import type { EventKind, PlannedEvent } from './events.ts'

/** A broker of real processes that things are done to. */
export interface System {
  /** What can be done to it. */
  readonly kinds: readonly EventKind[]
  readonly disturbances: Disturbances
  /** Processes that ended although nobody here ended them, since the start. */
  readonly deaths: readonly string[]
  start(): Promise<void>
  /** Where a client connects next: as a load balancer would, not to what is known to be down. */
  address(clientId: string): Address
  /** Resolves when the fault is repaired, which is not when everything has recovered. Answers whom it met. */
  perform(event: PlannedEvent): Promise<string>
  /** Waits until every process says that it is ready; answers those that do not in time. */
  unready(timeoutMs: number): Promise<string[]>
  close(): Promise<void>
}

/** After a fault is repaired, so long may its consequences show. */
const GRACE_MS = 5_000

interface Disturbance {
  /** Null: of every frontend. */
  readonly port: number | null
  readonly fromMs: number
  toMs: number
  readonly what: 'process' | 'links'
}

/** Which ports that clients connect to were touched, and when: what happens there then is no surprise. */
export class Disturbances {
  readonly #all: Disturbance[] = []

  /** Call the answer when the fault is repaired. */
  begin(port: number | null, what: 'process' | 'links'): () => void {
    const disturbance: Disturbance = { port, fromMs: performance.now(), toMs: Infinity, what }
    this.#all.push(disturbance)
    return () => {
      disturbance.toMs = performance.now()
    }
  }

  /** Whether the port, or its links to backends, met something between the two times. */
  met(port: number, fromMs: number, toMs: number, what: readonly Disturbance['what'][]): boolean {
    return this.#all.some(
      each =>
        (each.port === null || each.port === port) && what.includes(each.what) && each.fromMs <= toMs && each.toMs + GRACE_MS >= fromMs,
    )
  }
}

/** How connections ended that clients did not end. */
export class Disconnects {
  /** Of connections to frontends that nobody touched. */
  readonly unexpected: string[] = []
  /** Their frontend was killed, stopped or drained. */
  touched = 0
  /** The links of their frontend were half-open, slow or refused for a while. */
  partitioned = 0
  /** A CONNECT that a stopped or slow frontend read late takes over the connection that the client opened meanwhile (DISCONNECT 0x8e). */
  takenOver = 0
  /** Connections that never got a CONNACK of Success. */
  refused = 0
  readonly #disturbances: Disturbances

  constructor(disturbances: Disturbances) {
    this.#disturbances = disturbances
  }

  lost(clientId: string, { port, openedMs, closedMs, reason, mayBeTakenOver }: LostConnection): void {
    if (openedMs === null) this.refused++
    else if (this.#disturbances.met(port, closedMs, closedMs, ['process'])) this.touched++
    else if (reason === 0x8e || (reason === null && mayBeTakenOver)) this.takenOver++
    else if (this.#disturbances.met(port, closedMs, closedMs, ['links'])) this.partitioned++
    else {
      const how = reason === null ? 'without DISCONNECT' : `DISCONNECT 0x${reason.toString(16)}`
      this.unexpected.push(`${clientId} on port ${port}, ${how}, ${wallClock(openedMs)} to ${wallClock(closedMs)}`)
    }
  }
}
