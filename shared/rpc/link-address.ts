import { isAbsolute } from 'node:path'
import { addressText, parseAddress } from '../config/address.ts'
import type { Address } from '../config/address.ts'

/** Where a service listens for links: TCP, or a Unix socket. */
export type LinkAddress = Address | { readonly path: string }

const UNIX = 'unix:'
/** What the kernel takes as the path of a Unix socket, with its end mark. */
const UNIX_PATH_BYTES_MAX = 107

/** Reads `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH` with an absolute path; undefined when it is none of them. */
export function parseLinkAddress(given: string): LinkAddress | undefined {
  if (!given.startsWith(UNIX)) return parseAddress(given)
  const path = given.slice(UNIX.length)
  return isAbsolute(path) && Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX ? { path } : undefined
}

/** The same text again. */
export function linkAddressText(address: LinkAddress): string {
  return 'path' in address ? `${UNIX}${address.path}` : addressText(address)
}
