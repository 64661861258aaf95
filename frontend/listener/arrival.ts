import type { Socket } from 'node:net'
import type { Timers } from '#shared/base/timers.ts'
import { plainAddress } from './client-address.ts'
import type { TransportFacts, TransportHome } from './guarded-transport.ts'
import type { ListenerLimits, OnRefused, RefusalReason } from './listener.ts'
import type { Transport, TransportKind } from './transport.ts'

/**
 * The connections of one port: counts them, holds those in a handshake to their limits, and lets go of a connection
 * only when nobody will hear of it any more.
 */
export class Arrivals {
  readonly limits: ListenerLimits
  readonly timers: Timers
  readonly onRefused: OnRefused
  readonly #live = new Set<Arrival>()
  readonly #pendingPerAddress = new Map<string, number>()
  #whenEmpty: (() => void) | null = null

  constructor(limits: ListenerLimits, timers: Timers, onRefused: OnRefused) {
    this.limits = limits
    this.timers = timers
    this.onRefused = onRefused
  }

  /** Null: the port is full, and `socket` is destroyed. */
  accept(socket: Socket): Arrival | null {
    if (this.#live.size < this.limits.connectionsMax) {
      const arrival = new Arrival(socket, this)
      this.#live.add(arrival)
      return arrival
    }
    const remoteAddress = plainAddress(socket.remoteAddress ?? '') || null
    socket.on('error', ignoreError)
    socket.destroy()
    this.onRefused({ reason: 'connectionsMax', remoteAddress, detail: `${this.limits.connectionsMax} connections` })
    return null
  }

  /** False when `address` has its share of pending connections already. */
  countPending(address: string): boolean {
    const max = this.limits.unauthenticatedPerAddressMax
    if (max === undefined) return true
    const count = this.#pendingPerAddress.get(address) ?? 0
    if (count >= max) return false
    this.#pendingPerAddress.set(address, count + 1)
    return true
  }

  uncountPending(address: string): void {
    const count = this.#pendingPerAddress.get(address)
    if (count === undefined) return
    if (count > 1) this.#pendingPerAddress.set(address, count - 1)
    else this.#pendingPerAddress.delete(address)
  }

  remove(arrival: Arrival): void {
    this.#live.delete(arrival)
    if (this.#live.size === 0) this.#whenEmpty?.()
  }

  /** Destroys all; done when every Transport has had its `onClose`. */
  async closeAll(): Promise<void> {
    if (this.#live.size === 0) return
    const empty = new Promise<void>(resolve => (this.#whenEmpty = resolve))
    for (const arrival of this.#live) arrival.destroy()
    await empty
  }
}

/**
 * One connection from accept on. Pending until its byte stream begins, and closed when that takes longer than the deadline.
 *   pending ─settle→ settled ─left→ gone      pending ─refuse→ refused ─socket closed→ gone
 */
export class Arrival implements TransportHome {
  readonly #socket: Socket
  readonly #port: Arrivals
  #transport: Transport | null = null
  #phase: 'pending' | 'settled' | 'refused' | 'gone' = 'pending'
  #remoteAddress: string
  #remotePort: number
  readonly #acceptedMs: number
  #serverName: string | null = null
  #counted: string | null = null
  #cancelDeadline: (() => void) | null = null
  #error: string | null = null

  constructor(socket: Socket, port: Arrivals) {
    this.#socket = socket
    this.#port = port
    this.#remoteAddress = plainAddress(socket.remoteAddress ?? '')
    this.#remotePort = socket.remotePort ?? 0
    this.#acceptedMs = port.timers.nowMs()
    socket.on('error', error => (this.#error = errorText(error)))
    socket.on('close', () => this.#socketClosed())
  }

  get isPending(): boolean {
    return this.#phase === 'pending'
  }

  get remoteAddress(): string {
    return this.#remoteAddress
  }

  get onRefused(): OnRefused {
    return this.#port.onRefused
  }

  /** Called first when the connection is not at once a Transport. */
  startDeadline(): void {
    const { upgradeDeadlineMs } = this.#port.limits
    this.#cancelDeadline = this.#port.timers.after(upgradeDeadlineMs, () => {
      this.refuse('upgradeDeadline', `not ready after ${upgradeDeadlineMs} ms`)
      this.#socket.destroy()
    })
  }

  /** The PROXY protocol header's word on who the client is; the address as `plainAddress` writes it. */
  rename(remoteAddress: string, remotePort: number): void {
    this.#remoteAddress = remoteAddress
    this.#remotePort = remotePort
  }

  nameServer(serverName: string): void {
    this.#serverName = serverName
  }

  /** Called when the client's address is known and a handshake follows. False: refused, the address has too many of these. */
  countPending(): boolean {
    if (!this.#port.countPending(this.#remoteAddress)) {
      this.refuse('unauthenticatedPerAddressMax', `${this.#port.limits.unauthenticatedPerAddressMax} connections in a handshake`)
      return false
    }
    this.#counted = this.#remoteAddress
    return true
  }

  /** Closes a pending connection and reports why; does nothing later. */
  refuse(reason: RefusalReason, detail: string): void {
    if (this.#phase !== 'pending') return
    this.refuseWithAnswer(reason, detail)
    this.#socket.destroy()
  }

  /** The same, but the caller has written an answer and ended the socket; the deadline still holds for what the client does then. */
  refuseWithAnswer(reason: RefusalReason, detail: string): void {
    if (this.#phase !== 'pending') return
    this.#phase = 'refused'
    this.#port.onRefused({ reason, remoteAddress: this.#remoteAddress || null, detail })
  }

  /** The byte stream begins: what is known of the client so far. */
  settle(kind: TransportKind, peerCertificates: readonly Uint8Array[] | null): TransportFacts {
    this.#phase = 'settled'
    this.#release()
    return {
      kind,
      remoteAddress: this.#remoteAddress,
      remotePort: this.#remotePort,
      peerCertificates,
      serverName: this.#serverName,
      acceptedMs: this.#acceptedMs,
    }
  }

  entered(transport: Transport): void {
    this.#transport = transport
  }

  destroy(): void {
    if (this.#transport === null) this.#socket.destroy()
    else this.#transport.destroy()
  }

  left(): void {
    if (this.#phase === 'gone') return
    this.#phase = 'gone'
    this.#release()
    this.#port.remove(this)
  }

  #socketClosed(): void {
    if (this.#phase === 'pending') this.refuse('closedEarly', this.#error ?? 'closed by the client')
    // A Transport says for itself when it is done; it may still have bytes to deliver.
    if (this.#phase === 'refused') this.left()
  }

  #release(): void {
    this.#cancelDeadline?.()
    this.#cancelDeadline = null
    if (this.#counted !== null) this.#port.uncountPending(this.#counted)
    this.#counted = null
  }
}

/** Errors have a code for the log; a few of OpenSSL's have only a message. */
export function errorText(error: Error & { readonly code?: unknown }): string {
  return typeof error.code === 'string' ? error.code : error.message
}

function ignoreError(): void {}
