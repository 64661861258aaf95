import type { Socket } from 'node:net'
import type { Arrival } from './arrival.ts'
import { AddressRanges } from './client-address.ts'
import { ListenError } from './listener.ts'
import type { ListenerSettings } from './listener.ts'
import { ProxyHeaderError, parseProxyHeader } from './proxy-protocol.ts'
import type { ProxyHeader } from './proxy-protocol.ts'
import type { Stage } from './socket-listener.ts'

/**
 * First stage of a port behind a balancer: takes the PROXY protocol header off and hands the rest to `next`. Without one, or from
 * somebody else than the balancer, the connection ends: its address would be whatever the client likes.
 * @throws {ListenError} a trusted source is not a CIDR
 */
export function proxyStage(settings: ListenerSettings, trustedSources: readonly string[], next: Stage): Stage {
  const trusted = parseRanges(settings, trustedSources)
  return (socket, arrival) => {
    if (trusted.has(arrival.remoteAddress)) readHeader(socket, arrival, next)
    else arrival.refuse('proxySource', 'PROXY protocol headers are not taken from this address')
  }
}

function parseRanges(settings: ListenerSettings, cidrs: readonly string[]): AddressRanges {
  try {
    return new AddressRanges(cidrs)
  } catch (error) {
    throw new ListenError(settings, `trusted sources of PROXY protocol headers: ${(error as RangeError).message}`)
  }
}

function readHeader(socket: Socket, arrival: Arrival, next: Stage): void {
  // At most a header's worth is ever copied again: longer ones are refused by the parser.
  let received: Buffer = Buffer.alloc(0)
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
    const header = parseOrRefuse(received, arrival)
    if (header === null) return
    socket.off('readable', onReadable)
    if (header.headerBytes < received.length) socket.unshift(received.subarray(header.headerBytes))
    if (header.source !== null) arrival.rename(header.source.address, header.source.port)
    if (header.serverName !== null) arrival.nameServer(header.serverName)
    // Node leaves the 'readable' way of reading one tick after the listener; a 'data' listener before that could not be paused.
    process.nextTick(() => {
      if (arrival.isPending) next(socket, arrival)
    })
  }
  socket.on('readable', onReadable)
}

function parseOrRefuse(received: Buffer, arrival: Arrival): ProxyHeader | null {
  try {
    return parseProxyHeader(received)
  } catch (error) {
    if (!(error instanceof ProxyHeaderError)) throw error
    arrival.refuse('proxyHeader', error.message)
    return null
  }
}
