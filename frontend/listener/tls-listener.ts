import { constants, createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import { createServer } from 'node:tls'
import type { Server, TLSSocket } from 'node:tls'
import { trustedForClients } from '#shared/x509/trust-anchors.ts'
import type { Arrival } from './arrival.ts'
import { errorText } from './arrival.ts'
import { ListenError } from './listener.ts'
import type { TlsSettings } from '#shared/config/port-settings.ts'
import type { ListenerSettings } from './listener.ts'
import { SocketTransport } from './socket-transport.ts'
import type { Port, Stage } from './socket-listener.ts'

/** OpenSSL takes so many bytes at most. */
const SESSION_CONTEXT_LENGTH = 32

/** Takes the TLS handshake, then hands on what comes out of it. */
export type SecureStage = (socket: TLSSocket, arrival: Arrival, peerCertificates: readonly Uint8Array[] | null) => void

/** Last stage of an MQTT port with TLS. */
export function mqttOverTls(port: Port): SecureStage {
  return (socket, arrival, peerCertificates) => {
    new SocketTransport(socket, arrival.settle('tls', peerCertificates), arrival, port.timers).introduce(port.onTransport)
  }
}

/**
 * TLS of one port. Sockets are handed in rather than accepted here: so a PROXY protocol header can go before the handshake, and a
 * new certificate is simply a new `Server` for the handshakes to come.
 */
export class TlsGate {
  readonly #settings: ListenerSettings
  readonly #next: SecureStage
  #server: Server
  #ticketKeys: Buffer | undefined
  /** Sockets in a handshake by their addresses, which are all that TLSSocket's public interface shares with the socket beneath it. */
  readonly #handshakes = new Map<string, Arrival>()
  readonly #presented = new WeakMap<TLSSocket, readonly Uint8Array[] | null>()

  /** @throws {ListenError} certificate or key is not usable */
  constructor(settings: ListenerSettings, tls: TlsSettings, next: SecureStage) {
    this.#settings = settings
    this.#next = next
    this.#ticketKeys = settings.ticketKeys
    this.#server = this.#makeServer(tls)
  }

  /** @throws {ListenError} certificate or key is not usable; the old ones stay */
  replace(tls: TlsSettings): void {
    this.#server = this.#makeServer(tls)
  }

  setTicketKeys(keys: Buffer): void {
    this.#ticketKeys = keys
    this.#server.setTicketKeys(keys)
  }

  readonly stage: Stage = (socket, arrival) => {
    const key = addressesOf(socket)
    this.#handshakes.set(key, arrival)
    socket.once('close', () => this.#forget(key, arrival))
    this.#server.emit('connection', socket)
  }

  #forget(key: string, arrival: Arrival): void {
    if (this.#handshakes.get(key) === arrival) this.#handshakes.delete(key)
  }

  #makeServer(tls: TlsSettings): Server {
    const server = createTlsServer(this.#settings, tls, this.#ticketKeys)
    if (tls.clientCertificate !== 'none') server.on('keylog', (_secret, socket) => this.#keepPresented(socket))
    server.on('secureConnection', socket => this.#onSecure(socket, tls))
    // A failed handshake ends its own connection; most often plain bytes, a probe, or a certificate that is refused.
    server.on('tlsClientError', (error, socket) => this.#onFailed(error, socket))
    return server
  }

  /**
   * Before `secureConnection` Node asks a certificate that it has found good once for itself, and whoever asks again hears of the leaf alone.
   * Only `keylog`, of whose secret nothing is kept, shows the socket of a handshake before its end.
   */
  #keepPresented(socket: TLSSocket): void {
    if (this.#presented.has(socket)) return
    this.#presented.set(socket, null)
    socket.prependOnceListener('secure', () => this.#presented.set(socket, chainAsPresented(socket)))
  }

  #onSecure(socket: TLSSocket, tls: TlsSettings): void {
    socket.on('error', ignoreError)
    const key = addressesOf(socket)
    const arrival = this.#handshakes.get(key)
    this.#handshakes.delete(key)
    if (arrival === undefined || !arrival.isPending) return void socket.destroy()
    const certificates = this.#presented.get(socket) ?? chainAsPresented(socket)
    const objection = objectionTo(socket, certificates, tls)
    if (objection !== null) return arrival.refuse('clientCertificate', objection)
    if (socket.servername) arrival.nameServer(socket.servername)
    this.#next(socket, arrival, certificates)
  }

  #onFailed(error: Error, socket: TLSSocket): void {
    this.#handshakes.get(addressesOf(socket))?.refuse('tlsHandshake', errorText(error))
  }
}

function createTlsServer(settings: ListenerSettings, tls: TlsSettings, ticketKeys: Buffer | undefined): Server {
  const asksCertificate = tls.clientCertificate !== 'none'
  try {
    return createServer({
      cert: tls.cert,
      key: tls.key,
      minVersion: 'TLSv1.2',
      ALPNProtocols: [settings.protocol === 'Mqtt' ? 'mqtt' : 'http/1.1'],
      requestCert: asksCertificate,
      rejectUnauthorized: false, // `objectionTo` does: Node would close without a word of why
      // An anchor may be an intermediate, and clients need not send what stands above it.
      ...(tls.clientCa !== null && { ca: trustedForClients(tls.clientCa) }),
      // The default is made from the command line, which differs between the frontends that share tickets.
      sessionIdContext: createHash('sha256').update(settings.name).digest('hex').slice(0, SESSION_CONTEXT_LENGTH),
      ...(ticketKeys !== undefined && { ticketKeys }),
      // A second handshake inside a connection (TLS 1.2) costs us much and a client nothing, and no MQTT client needs one. Node's
      // `disableRenegotiation` reports it and lets it happen. No tickets: a resumed session knows only the leaf of the chain, and would outlive
      // a trust anchor that was withdrawn.
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (asksCertificate ? constants.SSL_OP_NO_TICKET : 0),
    })
  } catch (error) {
    throw new ListenError(settings, `certificate or key: ${(error as Error).message}`)
  }
}

/** Why the client's certificate, or the lack of one, ends the connection; null when it does not. OpenSSL has judged the chain by now. */
function objectionTo(socket: TLSSocket, certificates: readonly Uint8Array[] | null, tls: TlsSettings): string | null {
  const isRequired = tls.clientCertificate === 'require'
  if (certificates === null) return isRequired ? 'none was sent' : null
  if (socket.authorized || (tls.clientCa === null && !isRequired)) return null
  return String(socket.authorizationError)
}

/** Leaf first, in the order in which the client sent them; null when it sent none. Unlike `getPeerCertificate` without what we trust. */
function chainAsPresented(socket: TLSSocket): readonly Uint8Array[] | null {
  const chain: Uint8Array[] = []
  for (let certificate = socket.getPeerX509Certificate(); certificate !== undefined; certificate = certificate.issuerCertificate) {
    chain.push(certificate.raw)
  }
  return chain.length === 0 ? null : chain
}

function addressesOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`
}

function ignoreError(): void {}
