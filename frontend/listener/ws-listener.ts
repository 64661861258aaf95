import { STATUS_CODES, createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import type { WebSocket } from 'ws'
import type { Arrival } from './arrival.ts'
import { errorText } from './arrival.ts'
import type { RefusalReason } from './listener.ts'
import type { Port } from './socket-listener.ts'
import { LINGER_MS } from './transport.ts'
import { SUBPROTOCOL_REFUSAL, UPGRADE_REQUIRED, chooseSubprotocol, messageBytesMax } from './websocket-rules.ts'
import { WsTransport } from './ws-transport.ts'

/** An upgrade request has a few hundred bytes of headers; browsers add cookies. More is answered with 431. */
const HTTP_HEADER_BYTES_MAX = 8_192

/** A connection between its handshakes and its upgrade. */
interface Guest {
  readonly arrival: Arrival
  readonly kind: 'ws' | 'wss'
  readonly peerCertificates: readonly Uint8Array[] | null
}

/** HTTP upgrade of one port to WebSocket, by `ws`. Sockets are handed in, in the clear or out of a TLS handshake. */
export class WebSocketGate {
  readonly #port: Port
  readonly #http: Server
  readonly #websockets: WebSocketServer
  readonly #guests = new WeakMap<object, Guest>()

  constructor(port: Port) {
    this.#port = port
    this.#http = createServer({ maxHeaderSize: HTTP_HEADER_BYTES_MAX, keepAlive: false })
    this.#http.on('upgrade', (request, socket, head) => this.#onUpgrade(request, socket, head))
    this.#http.on('request', (request, response) => this.#onRequest(request, response))
    this.#http.on('clientError', (error, socket) => this.#onClientError(error, socket))
    const options = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: messageBytesMax(port.settings.packetBytesMax),
      closeTimeout: LINGER_MS,
      skipUTF8Validation: true, // text frames are refused unread
      handleProtocols: (names: Set<string>) => chooseSubprotocol([...names].join(',')) ?? false,
    } as const
    this.#websockets = new WebSocketServer(options)
    this.#websockets.on('wsClientError', (error, socket, request) =>
      this.#refuse(request.socket, socket, 400, 'httpRequest', `${error.message}\n`),
    )
  }

  enter(socket: Socket, arrival: Arrival, kind: 'ws' | 'wss', peerCertificates: readonly Uint8Array[] | null): void {
    this.#guests.set(socket, { arrival, kind, peerCertificates })
    this.#http.emit('connection', socket)
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (chooseSubprotocol(request.headers['sec-websocket-protocol'] ?? '') === null) {
      return this.#refuse(request.socket, socket, 400, 'subprotocol', SUBPROTOCOL_REFUSAL)
    }
    this.#websockets.handleUpgrade(request, socket, head, websocket => this.#onWebSocket(websocket, request.socket))
  }

  #onWebSocket(websocket: WebSocket, socket: Socket): void {
    const guest = this.#guests.get(socket)
    if (guest === undefined || !guest.arrival.isPending) return websocket.terminate()
    const { arrival, kind, peerCertificates } = guest
    const facts = arrival.settle(kind, peerCertificates)
    new WsTransport(websocket, socket, facts, arrival, this.#port.timers).introduce(this.#port.onTransport)
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    this.#guests.get(request.socket)?.arrival.refuseWithAnswer('httpRequest', 'HTTP request without an upgrade')
    response.writeHead(426, { Connection: 'close', Upgrade: 'websocket', 'Content-Type': 'text/plain; charset=utf-8' })
    response.end(UPGRADE_REQUIRED)
  }

  #onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400
    this.#refuse(socket, socket, status, 'httpRequest', `${errorText(error)}\n`)
  }

  /** Answers over the bare socket: there is no response object for an upgrade, nor for what is not HTTP. */
  #refuse(key: object, socket: Duplex, status: 400 | 431, reason: RefusalReason, text: string): void {
    this.#guests.get(key)?.arrival.refuseWithAnswer(reason, text.trimEnd())
    const headers = `Connection: close\r\nSec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${text.length}`
    socket.once('finish', () => socket.destroy())
    socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers}\r\n\r\n${text}`)
  }
}
