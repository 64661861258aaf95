import { lstat, unlink } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { LinkArrival } from './link-arrival.ts'
import type { AcceptLink, LinkPort } from './link-arrival.ts'
import type { LinkAddress } from './link-address.ts'
import type { LinkHub } from './link-hub.ts'
import { checkLinkSettings } from './link-settings.ts'
import type { LinkSettings } from './link-settings.ts'
import { TlsEntrance } from './link-tls.ts'

/** Connections that the kernel has completed and we not accepted yet. */
const ACCEPT_BACKLOG = 512
const TCP_KEEP_ALIVE_MS = 60_000

/** A port on which other services link to this one. */
export interface LinkListener {
  /** With the port that the system chose where 0 was given. */
  readonly address: LinkAddress
  /** Frees the port and ends what is in a handshake; open links stay (LinkHub.closeAll). Twice is once. */
  close(): Promise<void>
}

/**
 * Listens for links. `accept` is asked once a peer has proven itself; what it sends over the link meanwhile arrives after the handshake.
 * The file of a Unix socket that nobody listens on any more is replaced.
 * @throws {LinkSettingsError} the settings contradict each other, or certificate and key cannot be used
 * @throws the operating system's error (`code`), such as EADDRINUSE: somebody listens there
 */
export async function listenLinks(at: LinkAddress, settings: LinkSettings, hub: LinkHub, accept: AcceptLink): Promise<LinkListener> {
  checkLinkSettings(settings, at)
  const port: LinkPort = { settings, hub, accept, arrivals: new Set() }
  const entrance = settings.tls === null ? null : new TlsEntrance(settings.tls)
  const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS, allowHalfOpen: false })
  server.on('connection', socket => onConnection(socket, port, entrance))
  await ('path' in at ? listenOnPath(server, at.path) : listen(server, { host: at.host, port: at.port }))
  server.on('error', error => hub.log.warn('link_accept_failed', { error }))
  return {
    address: 'path' in at ? at : boundAddress(server.address() as AddressInfo),
    close: async () => {
      if (server.listening) server.close()
      for (const arrival of port.arrivals) arrival.refuse('closed', 'the listener closes')
    },
  }
}

function onConnection(socket: Socket, port: LinkPort, entrance: TlsEntrance | null): void {
  const { hub, arrivals } = port
  if (arrivals.size >= hub.limits.unauthenticatedMax) {
    hub.counters.refused('listener', 'tooMany')
    hub.log.warn('link_refused', { reason: 'tooMany' })
    socket.on('error', ignoreError)
    socket.destroy()
    return
  }
  const arrival = new LinkArrival(socket, port)
  if (entrance === null) arrival.begin(socket, false)
  else entrance.admit(socket, arrival)
}

function boundAddress({ address, port }: AddressInfo): LinkAddress {
  return { host: address, port }
}

function listen(server: Server, options: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...options, backlog: ACCEPT_BACKLOG }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

async function listenOnPath(server: Server, path: string): Promise<void> {
  try {
    await listen(server, { path })
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE' || !(await isAbandoned(path))) throw error
    await unlink(path)
    await listen(server, { path })
  }
}

/** A socket file that outlived its process. A file of another kind is never ours to remove. */
async function isAbandoned(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) return false
  return new Promise(resolve => {
    const probe = connect({ path })
    const answer = (isIt: boolean) => () => {
      probe.destroy()
      resolve(isIt)
    }
    probe.once('connect', answer(false))
    probe.once('error', error => answer(codeOf(error) === 'ECONNREFUSED')())
  })
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

function ignoreError(): void {}
