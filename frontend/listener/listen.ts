import type { Timers } from '#shared/base/timers.ts'
import type { Listener, ListenerLimits, ListenerSettings, OnRefused } from './listener.ts'
import { listenOnSocket, makePort } from './socket-listener.ts'
import { tcpStage } from './tcp-listener.ts'
import type { OnTransport } from './transport.ts'

/**
 * Opens one port. `onTransport` is called for each client whose byte stream begins, `onRefused` for each connection that does not get
 * that far, and for a handler that throws.
 * @throws {ListenError} the address is taken or not ours, the certificate is not usable, the WebSocket engine cannot serve these settings
 */
export async function listen(
  settings: ListenerSettings,
  limits: ListenerLimits,
  onTransport: OnTransport,
  onRefused: OnRefused,
  timers: Timers
): Promise<Listener> {
  const port = makePort(settings, limits, onTransport, onRefused, timers)
  return listenOnSocket(port, 'net', tcpStage(port))
}
