import { createServer } from 'node:net'
import { addressText } from './client-address.ts'
import type { TransportHome } from './guarded-transport.ts'
import { ListenError } from './listener.ts'
import type { Listener, RefusalReason } from './listener.ts'
import { bind } from './socket-listener.ts'
import type { Port } from './socket-listener.ts'
import type { Transport } from './transport.ts'
import type { Uws, UwsContext, UwsListenSocket, UwsRequest, UwsResponse, UwsSocket } from './uws-loading.ts'
import { UwsTransport } from './uws-transport.ts'
import type { UwsGuest } from './uws-transport.ts'
import { SUBPROTOCOL_REFUSAL, UPGRADE_REQUIRED, chooseSubprotocol, messageBytesMax } from './websocket-rules.ts'

/** Without it the engine lets any process of ours share the port, and a second listener on it goes unnoticed. */
const EXCLUSIVE_PORT = 1
const NO_COMPRESSION = 0
/**
 * The longest the engine can count. A client that is silent so long is pinged and has 16 s to answer; MQTT's Keep Alive is the usual
 * judge. Not 0: that would also switch off the engine's deadline for a client that never answers our Close frame with its FIN.
 */
const IDLE_TIMEOUT_S = 960

/**
 * Plain WebSocket on uWebSockets.js. What differs from the other engines, because the engine has no way to do it:
 * `remotePort` is 0; `connectionsMax` counts upgraded connections only; the deadline before the upgrade is the engine's own, about
 * 10 s; `pause` keeps what arrives (see PAUSED_BYTES_MAX); a first message that is too long is refused when all of it is there, until then
 * the engine holds up to `maxPayloadLength`; after `end` the peer has 16 s for its FIN.
 * It also understands PROXY protocol version 2 from anyone, therefore the address in such a header is never asked for.
 * @throws {ListenError} the operating system refuses the address
 */
export async function listenOnUws(port: Port, uws: Uws): Promise<Listener> {
  const { settings } = port
  const room = new UwsRoom(port)
  const app = uws.App()
  app.ws<UwsGuest>('/*', {
    compression: NO_COMPRESSION,
    maxPayloadLength: messageBytesMax(settings.packetBytesMax),
    idleTimeout: IDLE_TIMEOUT_S,
    maxBackpressure: 0, // whoever writes looks at `bufferedBytes`; dropping a message in silence is not for an engine to decide
    sendPingsAutomatically: true,
    upgrade: (response, request, context) => room.onUpgrade(response, request, context),
    open: websocket => room.onOpen(websocket),
    message: (websocket, message, isBinary) => websocket.getUserData().transport?.onMessage(message, isBinary),
    drain: websocket => websocket.getUserData().transport?.onWritable(),
    close: (websocket, code) => websocket.getUserData().transport?.onClosedByEngine(code),
  })
  app.any('/*', response => room.refuse(response, '426 Upgrade Required', 'httpRequest', UPGRADE_REQUIRED))
  const listenSocket = await new Promise<UwsListenSocket | false>(resolve => {
    app.listen(settings.host, settings.port, settings.reusePort ? 0 : EXCLUSIVE_PORT, resolve)
  })
  if (listenSocket === false) throw await whyNot(port)
  let isListening = true
  const stopAccepting = async (): Promise<void> => {
    if (isListening) uws.us_listen_socket_close(listenSocket)
    isListening = false
  }
  return {
    name: settings.name,
    address: { host: settings.host, port: uws.us_socket_local_port(listenSocket) },
    engine: 'uws',
    stopAccepting,
    close: async () => {
      await stopAccepting()
      await room.closeAll()
    },
  }
}

/** The engine does not tell, so the same address is tried once more where the operating system's error can be seen. */
async function whyNot(port: Port): Promise<ListenError> {
  const probe = createServer()
  try {
    await bind(probe, port.settings)
  } catch (error) {
    return error as ListenError
  }
  probe.close()
  return new ListenError(port.settings, 'uWebSockets.js cannot listen there')
}

/** The connections of one port. */
class UwsRoom {
  readonly #port: Port
  readonly #live = new Set<Transport>()
  #whenEmpty: (() => void) | null = null

  constructor(port: Port) {
    this.#port = port
  }

  onUpgrade(response: UwsResponse, request: UwsRequest, context: UwsContext): void {
    const { connectionsMax } = this.#port.arrivals.limits
    const subprotocol = chooseSubprotocol(request.getHeader('sec-websocket-protocol'))
    if (this.#live.size >= connectionsMax) {
      return this.refuse(response, '503 Service Unavailable', 'connectionsMax', `${connectionsMax} connections\n`)
    }
    if (subprotocol === null) return this.refuse(response, '400 Bad Request', 'subprotocol', SUBPROTOCOL_REFUSAL)
    const remoteAddress = addressOf(response)
    const guest: UwsGuest = {
      facts: { kind: 'ws', remoteAddress, remotePort: 0, peerCertificates: null, serverName: null, acceptedMs: this.#port.timers.nowMs() },
      transport: null,
    }
    // No extension is ever answered.
    response.upgrade(guest, request.getHeader('sec-websocket-key'), subprotocol, '', context)
  }

  onOpen(websocket: UwsSocket<UwsGuest>): void {
    const { arrivals, timers, settings, onTransport } = this.#port
    const guest = websocket.getUserData()
    const home: TransportHome = {
      onRefused: arrivals.onRefused,
      entered: () => this.#live.add(transport),
      left: () => this.#remove(transport),
    }
    const transport = new UwsTransport(websocket, guest.facts, home, timers, settings.packetBytesMax)
    guest.transport = transport
    transport.introduce(onTransport)
  }

  refuse(response: UwsResponse, status: string, reason: RefusalReason, text: string): void {
    const remoteAddress = addressOf(response) || null
    response.writeStatus(status).writeHeader('Content-Type', 'text/plain; charset=utf-8')
    response.writeHeader('Sec-WebSocket-Version', '13').end(text, true)
    this.#port.arrivals.onRefused({ reason, remoteAddress, detail: text.trimEnd() })
  }

  async closeAll(): Promise<void> {
    if (this.#live.size === 0) return
    const empty = new Promise<void>(resolve => (this.#whenEmpty = resolve))
    for (const transport of this.#live) transport.destroy()
    await empty
  }

  #remove(transport: Transport): void {
    this.#live.delete(transport)
    if (this.#live.size === 0) this.#whenEmpty?.()
  }
}

function addressOf(response: UwsResponse): string {
  return addressText(Buffer.from(response.getRemoteAddress()))
}
