import { thrownText } from '#shared/base/thrown.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { BrokerLimits } from '#shared/config/broker-settings.ts'
import type { PlannedPort } from '#shared/config/port-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { ListenerStatus } from './admin/broker-status.ts'
import type { AuditedAction } from './audit.ts'
import { ClientPort } from './client-port.ts'
import type { Frontend } from './frontend.ts'
import { listen } from './listener/listen.ts'
import { hostAndPort, type Listener, type OnRefused } from './listener/listener.ts'

/** A port that could not be opened or not be given its certificate is tried again so often. */
const RETRY_MS = 5_000
/** Above the time over which the connections of a port that is gone are disconnected: sockets still have to close. */
const CLOSE_GRACE_MS = 5_000

export interface ClientPortsParts {
  readonly frontend: Frontend
  readonly limits: BrokerLimits
  readonly timers: Timers
  /** Rate-limited: clients can cause its lines. */
  readonly log: Log
  /** Other processes bind to the same ports. */
  readonly reusePort: boolean
  /** 48 bytes that the frontends of a cluster share (TLS session tickets); null: of this process. */
  readonly ticketKeys: () => Buffer | null
  /** Ports have opened, closed or changed. */
  readonly onChanged?: () => void
}

/** One that is asked for: it is open, or it is closed and says why. */
interface Entry {
  planned: PlannedPort
  open: { readonly listener: Listener; readonly port: ClientPort } | null
  /** Why it is closed, or does not have what was planned last. */
  fault: string | null
}

/**
 * Where clients come in: the ports of a process that has a frontend. What is planned may change: a port keeps its connections as long as its
 * address and protocol stay, whatever becomes of its certificate and rules.
 */
export class ClientPorts {
  readonly #parts: ClientPortsParts
  readonly #entries = new Map<string, Entry>()
  /** Ports that are gone, and whose connections are being disconnected. */
  readonly #leaving = new Set<Listener>()
  #wanted: readonly PlannedPort[] = []
  #changes: Promise<void> = Promise.resolve()
  #cancelRetry: (() => void) | null = null
  #isStopped = false

  constructor(parts: ClientPortsParts) {
    this.#parts = parts
  }

  /**
   * For the first time: what cannot be opened is the operator's to repair.
   * @throws {ListenError}
   */
  async open(planned: readonly PlannedPort[]): Promise<void> {
    this.#wanted = planned
    const opened = this.#openAll(planned)
    // What is planned may change meanwhile: that comes after.
    this.#changes = opened.catch(() => undefined)
    await opened
  }

  async #openAll(planned: readonly PlannedPort[]): Promise<void> {
    for (const [key, one] of keyed(planned)) {
      const entry = this.#enter(key, one)
      if (one.closed === null) await this.#open(entry)
      else this.#parts.log.warn('port_closed', { listener: one.name, reason: one.closed.reason })
    }
    this.#parts.onChanged?.()
  }

  /** What is planned has changed. Never fails: what cannot be done is in `impaired` and tried again. */
  apply(planned: readonly PlannedPort[]): Promise<void> {
    this.#wanted = planned
    this.#changes = this.#changes.then(() => this.#reconcile())
    return this.#changes
  }

  get addresses(): readonly ListenerStatus[] {
    const all = [...this.#entries.values()].map(({ planned, open, fault }) => ({
      name: planned.name,
      address: hostAndPort(planned.host, open?.listener.address.port ?? planned.port),
      protocol: planned.protocol,
      tls: planned.closed?.isTls ?? planned.tls !== null,
      engine: open?.listener.engine ?? null,
      closedReason: open === null ? fault : null,
    }))
    return [...all.filter(({ closedReason }) => closedReason === null), ...all.filter(({ closedReason }) => closedReason !== null)]
  }

  /** Ports that stay closed, or that do not have what was planned for them, and why (docs/listeners.md). */
  impaired(): readonly string[] {
    return [...this.#entries.values()].flatMap(({ planned, fault }) => (fault === null ? [] : [`${planned.name}: ${fault}`]))
  }

  /** What is wrong with the ports of each BrokerListener; empty for one whose ports are all as planned. */
  faultsByResource(): ReadonlyMap<string, readonly string[]> {
    const faults = new Map<string, readonly string[]>()
    for (const { planned, fault } of this.#entries.values()) {
      if (planned.resource === null) continue
      const known = faults.get(planned.resource) ?? []
      faults.set(planned.resource, fault === null ? known : [...known, `port ${planned.port}: ${fault}`])
    }
    return faults
  }

  /** New keys for TLS session tickets. */
  setTicketKeys(keys: Buffer): void {
    for (const { open } of this.#entries.values()) open?.listener.setTicketKeys?.(keys)
  }

  async stopAccepting(): Promise<void> {
    this.#isStopped = true
    this.#cancelRetry?.()
    await this.#changes
    await Promise.all(this.#listeners().map(listener => listener.stopAccepting()))
  }

  async close(): Promise<void> {
    await Promise.all(this.#listeners().map(listener => listener.close()))
  }

  #listeners(): readonly Listener[] {
    return [...this.#leaving, ...[...this.#entries.values()].flatMap(({ open }) => (open === null ? [] : [open.listener]))]
  }

  #enter(key: string, planned: PlannedPort): Entry {
    const entry: Entry = { planned, open: null, fault: planned.closed?.reason ?? null }
    this.#entries.set(key, entry)
    return entry
  }

  /** Ports that go make room before others are opened at their addresses. */
  async #reconcile(): Promise<void> {
    if (this.#isStopped) return
    const wanted = keyed(this.#wanted)
    for (const [key, entry] of this.#entries) if (!wanted.has(key)) await this.#remove(key, entry)
    for (const [key, planned] of wanted) {
      const entry = this.#entries.get(key) ?? this.#enter(key, planned)
      await this.#bring(entry, planned)
    }
    this.#retryLater()
    this.#parts.onChanged?.()
  }

  async #bring(entry: Entry, planned: PlannedPort): Promise<void> {
    const before = entry.planned
    const { closed } = planned
    if (closed !== null) {
      // A certificate that went away is no reason to send clients away: the one in use is as good as it was.
      const staysOpen = closed.because === 'certificate' && entry.open !== null
      const reason = staysOpen ? `${closed.reason}; the port goes on with the certificate that it has` : closed.reason
      const event = staysOpen ? 'certificate_refused' : 'port_closed'
      if (entry.fault !== reason) this.#parts.log.warn(event, { listener: planned.name, reason })
      entry.fault = reason
      if (closed.because === 'policy') await this.#shut(entry)
      else if (entry.open !== null) this.#changeRules(entry.open.port, planned)
      return
    }
    entry.planned = planned
    entry.fault = null
    if (entry.open === null) return this.#tryOpen(entry)
    this.#changeRules(entry.open.port, planned)
    if (JSON.stringify(before.tls) !== JSON.stringify(planned.tls)) this.#changeTls(entry, entry.open.listener, before)
  }

  #changeRules(port: ClientPort, { rules }: PlannedPort): void {
    this.#parts.frontend.changeRules(port, rules)
  }

  #changeTls(entry: Entry, listener: Listener, before: PlannedPort): void {
    try {
      listener.setSecureContext?.(entry.planned.tls!)
      this.#parts.log.info('certificate_changed', { listener: entry.planned.name })
    } catch (error) {
      entry.fault = thrownText(error)
      entry.planned = { ...entry.planned, tls: before.tls }
      this.#parts.log.warn('certificate_refused', { listener: entry.planned.name, reason: entry.fault })
    }
  }

  async #tryOpen(entry: Entry): Promise<void> {
    try {
      await this.#open(entry)
    } catch (error) {
      entry.fault = thrownText(error)
      this.#parts.log.warn('port_closed', { listener: entry.planned.name, reason: entry.fault })
    }
  }

  async #remove(key: string, entry: Entry): Promise<void> {
    this.#entries.delete(key)
    await this.#shut(entry)
  }

  /** The port is free when this is done; its connections go at the pace of its rules. */
  async #shut(entry: Entry): Promise<void> {
    const { open } = entry
    if (open === null) return
    entry.open = null
    const { listener, port } = open
    await listener.stopAccepting()
    this.#parts.log.info('port_shut', { listener: port.name })
    this.#parts.frontend.portClosed(port)
    this.#leaving.add(listener)
    this.#parts.timers.after(port.rules.disconnectWithinMs + CLOSE_GRACE_MS, () => {
      this.#leaving.delete(listener)
      void listener.close()
    })
  }

  #retryLater(): void {
    this.#cancelRetry?.()
    this.#cancelRetry = null
    const isFailed = [...this.#entries.values()].some(({ fault, planned }) => fault !== null && planned.closed === null)
    if (isFailed) this.#cancelRetry = this.#parts.timers.after(RETRY_MS, () => void this.apply(this.#wanted))
  }

  /** @throws {ListenError} */
  async #open(entry: Entry): Promise<void> {
    const { frontend, limits, timers, log, reusePort, ticketKeys } = this.#parts
    const { planned } = entry
    const port = new ClientPort(planned.name, planned.rules)
    const keys = ticketKeys()
    const listener = await listen(
      { ...planned, packetBytesMax: limits.packetBytesMax, reusePort, ...(keys !== null && { ticketKeys: keys }) },
      {
        connectionsMax: limits.connectionsMax,
        unauthenticatedPerAddressMax: limits.unauthenticatedPerAddressMax,
        upgradeDeadlineMs: limits.connectDeadlineMs,
      },
      transport => frontend.onTransport(transport, port),
      this.#onRefused(planned.name),
      timers,
    )
    entry.open = { listener, port }
    const address = hostAndPort(listener.address.host, listener.address.port)
    log.info('listening', { listener: planned.name, address, engine: listener.engine })
  }

  #onRefused(listener: string): OnRefused {
    return ({ reason, remoteAddress, detail }) => {
      // The frontend refused it: counted and logged there.
      if (reason === 'handlerRefused') return
      this.#parts.frontend.counters.connectionsRefused++
      this.#parts.log.warn('connection_refused', { listener, remote: remoteAddress, reason, detail })
      if (reason === 'clientCertificate') this.#auditHandshake(listener, remoteAddress, detail)
    }
  }

  /** Who is refused by TLS is refused by X509, though no method was asked. */
  #auditHandshake(listener: string, remoteAddress: string | null, detail: string): void {
    const action: AuditedAction = 'handshake'
    const cause = `client certificate: ${detail}`
    this.#parts.frontend.audit.refused({
      action,
      listener,
      remoteAddress: remoteAddress ?? '',
      clientId: '',
      userName: '',
      cause,
    })
  }
}

/** What cannot be changed while a port is open; with another of these it is another port. */
function keyOf({ name, host, port, protocol, tls, closed, proxyProtocol, websocketEngine }: PlannedPort): string {
  return JSON.stringify([name, host, port, protocol, proxyProtocol, websocketEngine, closed?.isTls ?? tls !== null])
}

/** Ports that have the same key, which is port 0 several times, are told apart by their order. */
function keyed(all: readonly PlannedPort[]): ReadonlyMap<string, PlannedPort> {
  const found = new Map<string, PlannedPort>()
  for (const planned of all) {
    let key = keyOf(planned)
    while (found.has(key)) key += '+'
    found.set(key, planned)
  }
  return found
}
