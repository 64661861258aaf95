import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { Timers } from '#shared/base/timers.ts'
import { Arrivals } from './arrival.ts'
import type { Arrival } from './arrival.ts'
import { ListenError } from './listener.ts'
import type { Listener, ListenerLimits, ListenerSettings, OnRefused } from './listener.ts'
import type { OnTransport } from './transport.ts'

/** Connections the kernel may have completed and we not accepted yet; it refuses or delays more. The kernel's own limit is often lower. */
const ACCEPT_BACKLOG = 4_096

/**
 * Silence after which TCP asks whether the client's machine is still there. A client may have no Keep Alive (0): behind a NAT that forgot it,
 * it would count as connected for ever.
 */
const TCP_KEEP_ALIVE_MS = 60_000

/** Takes one step with a fresh connection (PROXY header, TLS, HTTP upgrade, Transport), then hands it to the next one or refuses it. */
export type Stage = (socket: Socket, arrival: Arrival) => void

/** What everything about one port needs. */
export interface Port {
  readonly settings: ListenerSettings
  readonly arrivals: Arrivals
  readonly timers: Timers
  readonly onTransport: OnTransport
}

export function makePort(
  settings: ListenerSettings,
  limits: ListenerLimits,
  onTransport: OnTransport,
  onRefused: OnRefused,
  timers: Timers,
): Port {
  return { settings, arrivals: new Arrivals(limits, timers, onRefused), timers, onTransport }
}

/**
 * Opens a port whose every engine sits on node:net, and sends each connection through `first`.
 * @throws {ListenError} the operating system refuses the address
 */
export async function listenOnSocket(port: Port, engine: 'net' | 'tls' | 'ws', first: Stage): Promise<Listener> {
  const { settings, arrivals } = port
  // Half-open never helps MQTT: a client that sent its FIN cannot acknowledge any more.
  const options = { noDelay: true, allowHalfOpen: false, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS }
  const server = createServer(options, socket => {
    const arrival = arrivals.accept(socket)
    if (arrival !== null) first(socket, arrival)
  })
  await bind(server, settings)
  // After this an error is a failed accept, such as too few file descriptors: the connection waits, the port stays open.
  server.on('error', error => arrivals.onRefused({ reason: 'acceptFailed', remoteAddress: null, detail: error.message }))
  const { address, port: boundPort } = server.address() as AddressInfo
  const stopAccepting = async (): Promise<void> => {
    // The callback would come when the last connection is gone; the port itself is free when this call returns.
    if (server.listening) server.close()
  }
  return {
    name: settings.name,
    address: { host: address, port: boundPort },
    engine,
    stopAccepting,
    close: async () => {
      await stopAccepting()
      await arrivals.closeAll()
    },
  }
}

/** @throws {ListenError} the operating system refuses the address */
export function bind(server: Server, settings: ListenerSettings): Promise<void> {
  const { host, port, reusePort = false } = settings
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => reject(new ListenError(settings, explain(error), error.code ?? null))
    server.once('error', onError)
    server.listen({ host, port, backlog: ACCEPT_BACKLOG, ...(reusePort && { reusePort }) }, () => {
      server.off('error', onError)
      resolve()
    })
  })
}

function explain(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return 'the port is in use by another process or listener (EADDRINUSE)'
    case 'EADDRNOTAVAIL':
      return 'this machine has no such address (EADDRNOTAVAIL)'
    case 'EACCES':
      return 'not permitted; ports below 1024 need a privilege (EACCES)'
    case 'ENOTFOUND':
      return 'the host name is not known (ENOTFOUND)'
    default:
      return error.message
  }
}
