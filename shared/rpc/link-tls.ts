import { constants } from 'node:crypto'
import { isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect, createSecureContext, createServer } from 'node:tls'
import type { SecureContext, Server, TLSSocket } from 'node:tls'
import type { Address } from '../config/address.ts'
import { socketErrorText } from './framed-socket.ts'
import { LinkSettingsError } from './link-settings.ts'
import type { LinkTls } from './link-settings.ts'
import type { LinkRefusal } from './handshake.ts'

/** What waits for a TLS handshake. */
export interface TlsArrival {
  begin(socket: Socket, isCertified: boolean): void
  refuse(reason: LinkRefusal, detail: string): void
}

/** TLS of a listener. Sockets are handed in, so that they count and have their deadline before the TLS handshake. */
export class TlsEntrance {
  readonly #server: Server
  /** By their addresses, which are all that TLSSocket's public interface shares with the socket beneath it. */
  readonly #waiting = new Map<string, TlsArrival>()

  /** @throws {LinkSettingsError} */
  constructor(tls: LinkTls) {
    this.#server = makeServer(tls)
    this.#server.on('secureConnection', socket => this.#onSecure(socket))
    this.#server.on('tlsClientError', (error, socket) => this.#waiting.get(addressesOf(socket))?.refuse('tls', socketErrorText(error)))
  }

  admit(socket: Socket, arrival: TlsArrival): void {
    const key = addressesOf(socket)
    this.#waiting.set(key, arrival)
    socket.once('close', () => {
      if (this.#waiting.get(key) === arrival) this.#waiting.delete(key)
    })
    this.#server.emit('connection', socket)
  }

  #onSecure(socket: TLSSocket): void {
    const key = addressesOf(socket)
    const arrival = this.#waiting.get(key)
    this.#waiting.delete(key)
    socket.on('error', () => undefined)
    if (arrival === undefined) socket.destroy()
    else arrival.begin(socket, socket.authorized)
  }
}

/** What a dialer shows and trusts. */
export interface TlsDialing {
  readonly context: SecureContext
  readonly serverName: string | undefined
}

/** @throws {LinkSettingsError} */
export function tlsDialing({ cert, key, ca, serverName }: LinkTls): TlsDialing {
  return { context: usable(() => createSecureContext({ cert, key, ca, minVersion: 'TLSv1.3' })), serverName }
}

/** Begins a TLS connection; 'secureConnect' follows once the listener's certificate is found to be of our authority and for its name. */
export function connectTls({ host, port }: Address, { context, serverName }: TlsDialing): TLSSocket {
  const name = serverName ?? (isIP(host) === 0 ? host : undefined)
  const socket = connect({ host, port, secureContext: context, ...(name !== undefined && { servername: name }) })
  return socket.setNoDelay(true)
}

function makeServer({ cert, key, ca }: LinkTls): Server {
  return usable(() =>
    createServer({
      cert,
      key,
      ca,
      minVersion: 'TLSv1.3',
      requestCert: true,
      rejectUnauthorized: true,
      // A resumed session would outlive an authority that was withdrawn.
      secureOptions: constants.SSL_OP_NO_TICKET,
    }),
  )
}

function usable<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    throw new LinkSettingsError(`certificate, key or CA of links: ${(error as Error).message}`)
  }
}

function addressesOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`
}
