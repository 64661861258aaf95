import { isIPv6 } from 'node:net'

/** Groups of an IPv6 address that name a network: whoever has one has all the addresses in it. */
const NETWORK_GROUPS = 4
const GROUPS = 8

/** Whom a request counts for where clients take turns: an address, or its network of 64 bits. Behind a proxy that tells no addresses all are one. */
export function requestSource(remoteAddress: string): string {
  const [address] = remoteAddress.split('%', 1) as [string]
  if (!isIPv6(address)) return remoteAddress
  const [head, tail] = address.split('::') as [string, string?]
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const missing = Math.max(0, GROUPS - before.length - after.length)
  const groups = [...before, ...Array.from({ length: missing }, () => '0'), ...after]
  return groups
    .slice(0, NETWORK_GROUPS)
    .map(group => group.replace(/^0+(?=.)/, '').toLowerCase())
    .join(':')
}
