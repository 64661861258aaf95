import type { Timers } from '#shared/base/timers.ts'
import { ListenError } from './listener.ts'
import type { Listener, ListenerLimits, ListenerSettings, OnRefused } from './listener.ts'
import { proxyStage } from './proxy-stage.ts'
import { listenOnSocket, makePort } from './socket-listener.ts'
import type { Port, Stage } from './socket-listener.ts'
import { tcpStage } from './tcp-listener.ts'
import { TlsGate, mqttOverTls } from './tls-listener.ts'
import type { OnTransport } from './transport.ts'
import { listenOnUws } from './uws-listener.ts'
import { loadUws } from './uws-loading.ts'
import type { Uws } from './uws-loading.ts'
import { WebSocketGate } from './ws-listener.ts'

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
  timers: Timers,
): Promise<Listener> {
  const port = makePort(settings, limits, onTransport, onRefused, timers)
  const uws = settings.protocol === 'WebSockets' ? await chooseUws(settings) : null
  return uws === null ? listenOnNode(port) : listenOnUws(port, uws)
}

/** uWebSockets.js when it is to serve this port, null for `ws`. */
async function chooseUws(settings: ListenerSettings): Promise<Uws | null> {
  const { websocketEngine } = settings
  if (websocketEngine === 'ws') return null
  // The engine can neither show a client's certificate, nor be told whose PROXY protocol header to believe.
  const unable = settings.tls !== null ? 'TLS' : settings.proxyProtocol !== null ? 'the PROXY protocol' : null
  if (unable !== null && websocketEngine === 'auto') return null
  if (unable !== null) throw new ListenError(settings, `the WebSocket engine uws does not serve ports with ${unable}; use auto or ws`)
  const loading = await loadUws()
  if (loading.is === 'loaded') return loading.uws
  if (websocketEngine === 'auto') return null
  throw new ListenError(settings, `the WebSocket engine uws is not available: ${loading.why}`)
}

async function listenOnNode(port: Port): Promise<Listener> {
  const { settings } = port
  const gate = settings.tls === null ? null : new TlsGate(settings, settings.tls, secureStage(port))
  const inner = gate === null ? clearStage(port) : gate.stage
  const isStream = settings.protocol === 'Mqtt'
  // A bare TCP port makes its Transport in the same call: no handshake, no deadline.
  const handshake = isStream && gate === null ? inner : counted(inner)
  const { proxyProtocol } = settings
  const afterProxy = proxyProtocol === null ? handshake : proxyStage(settings, proxyProtocol.trustedSources, handshake)
  const first = afterProxy === inner ? inner : timed(afterProxy)
  const listener = await listenOnSocket(port, isStream ? (gate === null ? 'net' : 'tls') : 'ws', first)
  return gate === null
    ? listener
    : { ...listener, setSecureContext: tls => gate.replace(tls), setTicketKeys: keys => gate.setTicketKeys(keys) }
}

function clearStage(port: Port): Stage {
  if (port.settings.protocol === 'Mqtt') return tcpStage(port)
  const gate = new WebSocketGate(port)
  return (socket, arrival) => gate.enter(socket, arrival, 'ws', null)
}

function secureStage(port: Port): ReturnType<typeof mqttOverTls> {
  if (port.settings.protocol === 'Mqtt') return mqttOverTls(port)
  const gate = new WebSocketGate(port)
  return (socket, arrival, peerCertificates) => gate.enter(socket, arrival, 'wss', peerCertificates)
}

/** The deadline runs from accept. */
function timed(next: Stage): Stage {
  return (socket, arrival) => {
    arrival.startDeadline()
    next(socket, arrival)
  }
}

/** A handshake counts for the client's address, once that is known. */
function counted(next: Stage): Stage {
  return (socket, arrival) => {
    if (arrival.countPending()) next(socket, arrival)
  }
}
