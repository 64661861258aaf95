import { isIPv4, isIPv6 } from 'node:net'
import { addressText, plainAddress } from './client-address.ts'

/** Longest header of version 1, `\r\n` included. */
const V1_BYTES_MAX = 107
/** Longest header of version 2 that is taken, bytes; 64 KiB would be legal, but no balancer sends more than a few hundred. */
export const PROXY_HEADER_BYTES_MAX = 4_096
const V2_FIXED_BYTES = 16
const V1_SIGNATURE = Buffer.from('PROXY ', 'latin1')
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
const AUTHORITY = 0x02
const SERVER_NAME_BYTES_MAX = 255

export interface ProxyHeader {
  /** Length of the header; the client's own bytes follow. */
  readonly headerBytes: number
  /** Null when the balancer speaks for itself (LOCAL, a health check) or does not know: then the socket's address counts. */
  readonly source: { /** As `plainAddress` writes it. */ readonly address: string; readonly port: number } | null
  /** Server name that the client asked the balancer for (TLV PP2_TYPE_AUTHORITY). */
  readonly serverName: string | null
}

/** The bytes are not a PROXY protocol header. */
export class ProxyHeaderError extends Error {
  override readonly name = 'ProxyHeaderError'
}

/**
 * PROXY protocol header, version 1 (text) or 2 (binary), at the start of `bytes`; null while it is not complete.
 * Costs linear time in the header alone; call it again with more bytes as they come.
 * @throws {ProxyHeaderError} not a header, broken, or longer than `PROXY_HEADER_BYTES_MAX`; as soon as the bytes at hand show it
 */
export function parseProxyHeader(bytes: Buffer): ProxyHeader | null {
  if (startsLike(bytes, V2_SIGNATURE)) return bytes.length < V2_FIXED_BYTES ? null : parseV2(bytes)
  if (startsLike(bytes, V1_SIGNATURE)) return parseV1(bytes)
  throw new ProxyHeaderError('no PROXY protocol header')
}

/** As far as the bytes at hand go. */
function startsLike(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length)
  return bytes.compare(signature, 0, length, 0, length) === 0
}

/** `PROXY TCP4 192.0.2.1 198.51.100.1 40000 1883\r\n`, or `PROXY UNKNOWN` with anything after it. */
function parseV1(bytes: Buffer): ProxyHeader | null {
  const lineEnd = bytes.subarray(0, V1_BYTES_MAX).indexOf('\r\n', 0, 'latin1')
  if (lineEnd < 0) {
    if (bytes.length >= V1_BYTES_MAX) throw new ProxyHeaderError(`version 1: no line end in ${V1_BYTES_MAX} bytes`)
    return null
  }
  const words = bytes.toString('latin1', 0, lineEnd).split(' ')
  const headerBytes = lineEnd + 2
  if (words[1] === 'UNKNOWN') return { headerBytes, source: null, serverName: null }
  const [, family, address = '', destination = '', port = '', destinationPort = ''] = words
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isIPv6 : null
  if (isAddress === null || words.length !== 6) throw new ProxyHeaderError('version 1: neither TCP4, TCP6 nor UNKNOWN with its five fields')
  if (!isAddress(address) || !isAddress(destination)) throw new ProxyHeaderError('version 1: an address is not of its family')
  if (!isPort(port) || !isPort(destinationPort)) throw new ProxyHeaderError('version 1: a port is not a number up to 65535')
  return { headerBytes, source: { address: plainAddress(address), port: Number(port) }, serverName: null }
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}

/** Bytes that the address block of each family takes: unspecified, IPv4, IPv6, Unix. */
const ADDRESS_BYTES = [0, 12, 36, 216] as const

function parseV2(bytes: Buffer): ProxyHeader | null {
  const versionAndCommand = bytes[12]!
  const family = bytes[13]! >> 4
  const headerBytes = V2_FIXED_BYTES + bytes.readUInt16BE(14)
  const addressBytes = ADDRESS_BYTES[family]
  // Values that the specification does not define must end the connection, not be guessed at.
  if (versionAndCommand !== 0x20 && versionAndCommand !== 0x21) throw new ProxyHeaderError('version 2: unknown version or command')
  if (addressBytes === undefined || (bytes[13]! & 0x0f) > 2) throw new ProxyHeaderError('version 2: unknown address family or transport')
  if (headerBytes > PROXY_HEADER_BYTES_MAX) throw new ProxyHeaderError(`version 2: ${headerBytes} bytes`)
  if (bytes.length < headerBytes) return null
  const isLocal = versionAndCommand === 0x20
  if (isLocal) return { headerBytes, source: null, serverName: null }
  if (headerBytes < V2_FIXED_BYTES + addressBytes) throw new ProxyHeaderError('version 2: shorter than its addresses')
  const values = bytes.subarray(V2_FIXED_BYTES + addressBytes, headerBytes)
  return { headerBytes, source: sourceOf(bytes, family), serverName: authorityOf(values) }
}

function sourceOf(bytes: Buffer, family: number): ProxyHeader['source'] {
  if (family === 1) return { address: addressText(bytes.subarray(16, 20)), port: bytes.readUInt16BE(24) }
  if (family === 2) return { address: addressText(bytes.subarray(16, 32)), port: bytes.readUInt16BE(48) }
  return null
}

/** Walks the type-length-value list; of all types only the authority matters here. */
function authorityOf(values: Buffer): string | null {
  let authority: string | null = null
  for (let at = 0; at < values.length; ) {
    const end = at + 3 <= values.length ? at + 3 + values.readUInt16BE(at + 1) : Infinity
    if (end > values.length) throw new ProxyHeaderError('version 2: a value reaches past the header')
    if (values[at] === AUTHORITY) authority = serverNameOf(values.subarray(at + 3, end))
    at = end
  }
  return authority
}

function serverNameOf(bytes: Buffer): string | null {
  const name = bytes.toString('utf8')
  const isName = bytes.length <= SERVER_NAME_BYTES_MAX && /^[^\s\p{C}\ufffd]+$/u.test(name)
  return isName ? name : null
}
