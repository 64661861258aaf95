import { isIP } from 'node:net'

/** A network in CIDR notation (`10.0.0.0/8`, `fd00::/8`) or a single IP address. */
export function isNetwork(given: string): boolean {
  const [address, length, ...rest] = given.split('/')
  const family = isIP(address ?? '')
  if (family === 0 || rest.length > 0) return false
  if (length === undefined) return true
  return /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128)
}
