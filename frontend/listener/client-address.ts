import { BlockList, isIPv4, isIPv6 } from 'node:net'

const IPV4_MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i
const IPV4_MAPPED_PREFIX = Buffer.from('00000000000000000000ffff', 'hex')

/** IPv4-mapped IPv6 (what a dual-stack socket reports) written as IPv4; everything else as it is. */
export function plainAddress(address: string): string {
  return IPV4_MAPPED.exec(address)?.[1] ?? address
}

/**
 * The same from binary, as the operating system would write it (RFC 5952): one client has one address on every port.
 * @param bytes 4 or 16
 */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.')
  if (bytes.subarray(0, 12).equals(IPV4_MAPPED_PREFIX)) return bytes.subarray(12).join('.')
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16))
  // The URL parser shortens the longest run of zeros.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

/** A set of CIDRs, such as the sources whose PROXY protocol header counts. */
export class AddressRanges {
  readonly #ranges = new BlockList()

  /**
   * @param cidrs `10.0.0.0/8`, `2001:db8::/32`, or a single address
   * @throws {RangeError} one of them is not a CIDR
   */
  constructor(cidrs: readonly string[]) {
    for (const cidr of cidrs) this.#add(cidr)
  }

  #add(cidr: string): void {
    const [address = '', prefix, more] = cidr.split('/')
    const family = isIPv4(address) ? 'ipv4' : isIPv6(address) ? 'ipv6' : null
    const bitsMax = family === 'ipv4' ? 32 : 128
    const bits = prefix === undefined ? bitsMax : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1
    if (family === null || more !== undefined || bits < 0 || bits > bitsMax) throw new RangeError(`'${cidr}' is not a CIDR`)
    this.#ranges.addSubnet(address, bits, family)
  }

  /** @param address as `plainAddress` writes it */
  has(address: string): boolean {
    if (isIPv4(address)) return this.#ranges.check(address, 'ipv4')
    return isIPv6(address) && this.#ranges.check(address, 'ipv6')
  }
}
