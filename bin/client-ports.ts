import type { ListenerStatus } from '../frontend/admin/broker-status.ts'
import { ClientPort } from '../frontend/client-port.ts'
import type { Frontend } from '../frontend/frontend.ts'
import { listen } from '../frontend/listener/listen.ts'
import { hostAndPort, type Listener } from '../frontend/listener/listener.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { OPEN_TO_ALL } from '#shared/rpc/port-rules.ts'
import type { BrokerSettings, ListenerSettings } from '#shared/config/broker-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'

/** Where clients come in: the ports of a process that has a frontend. */
export class ClientPorts {
  readonly #settings: Pick<BrokerSettings, 'listeners' | 'closedListeners' | 'limits'>
  readonly #frontend: Frontend
  readonly #log: Log
  readonly #reusePort: boolean
  readonly #open: { readonly listener: Listener; readonly settings: ListenerSettings }[] = []

  /** @param log rate-limited: clients can cause its lines. @param reusePort other processes bind to the same ports */
  constructor(
    settings: Pick<BrokerSettings, 'listeners' | 'closedListeners' | 'limits'>,
    frontend: Frontend,
    log: Log,
    reusePort: boolean,
  ) {
    this.#settings = settings
    this.#frontend = frontend
    this.#log = log
    this.#reusePort = reusePort
  }

  /** @throws {ListenError} a port cannot be opened */
  async open(): Promise<void> {
    for (const settings of this.#settings.listeners) await this.#listen(settings)
    for (const { name, reason } of this.#settings.closedListeners) this.#log.warn('port_closed', { listener: name, reason })
  }

  get addresses(): readonly ListenerStatus[] {
    const open = this.#open.map(({ listener, settings }) => ({
      name: listener.name,
      address: hostAndPort(listener.address.host, listener.address.port),
      protocol: settings.protocol,
      tls: settings.tls !== null,
      engine: listener.engine,
      closedReason: null,
    }))
    const closed = this.#settings.closedListeners.map(({ name, host, port, reason }) => ({
      name,
      address: hostAndPort(host, port),
      protocol: 'Mqtt' as const,
      tls: false,
      engine: null,
      closedReason: reason,
    }))
    return [...open, ...closed]
  }

  /** Ports that stay closed, and why (docs/listeners.md). */
  impaired(): readonly string[] {
    return this.#settings.closedListeners.map(({ name, reason }) => `${name}: ${reason}`)
  }

  async stopAccepting(): Promise<void> {
    await Promise.all(this.#open.map(({ listener }) => listener.stopAccepting()))
  }

  async close(): Promise<void> {
    await Promise.all(this.#open.map(({ listener }) => listener.close()))
  }

  async #listen(settings: ListenerSettings): Promise<void> {
    const { limits } = this.#settings
    const port = new ClientPort(settings.name, OPEN_TO_ALL)
    const listener = await listen(
      { ...settings, packetBytesMax: limits.packetBytesMax, reusePort: this.#reusePort },
      {
        connectionsMax: limits.connectionsMax,
        unauthenticatedPerAddressMax: limits.unauthenticatedPerAddressMax,
        upgradeDeadlineMs: limits.connectDeadlineMs,
      },
      transport => this.#frontend.onTransport(transport, port),
      ({ reason, remoteAddress, detail }) => {
        // The frontend refused it: counted and logged there.
        if (reason === 'handlerRefused') return
        this.#frontend.counters.connectionsRefused++
        this.#log.warn('connection_refused', { listener: settings.name, remote: remoteAddress, reason, detail })
      },
      systemTimers,
    )
    this.#open.push({ listener, settings })
    this.#log.info('listening', {
      listener: settings.name,
      address: hostAndPort(listener.address.host, listener.address.port),
      engine: listener.engine,
    })
  }
}
