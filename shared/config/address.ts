import { isIP, isIPv4 } from 'node:net'

/** Where a port binds. `host` is an IP address without brackets, or a host name. */
export interface Address {
  readonly host: string
  readonly port: number
}

const HOST_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i

/** Reads `HOST:PORT` or `[IPv6]:PORT`; undefined when it is neither. */
export function parseAddress(given: string): Address | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(given)
  if (match === null) return undefined
  const host = match[1] ?? match[2]!
  const port = Number(match[3])
  if (port > 65_535) return undefined
  if (match[1] !== undefined ? isIP(host) !== 6 : !isHost(host)) return undefined
  return { host, port }
}

/** An IPv4 or IPv6 address or a host name. */
export function isHost(given: string): boolean {
  if (isIP(given) !== 0) return true
  // All digits and dots but no address: a mistyped one, not a name.
  return given.length <= 253 && HOST_NAME.test(given) && !/^[\d.]+$/.test(given)
}

/** `127.0.0.1:1883`, `[::1]:1883`. */
export function addressText(address: Address): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** Reachable from this machine alone. A host name other than localhost counts as reachable from outside: fail closed. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}
