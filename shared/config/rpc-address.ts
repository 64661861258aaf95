import { type Address, addressText, parseAddress } from './address.ts'

/** Where a backend takes the links of other processes. */
export type RpcAddress = ({ readonly kind: 'tcp' } & Address) | { readonly kind: 'unix'; readonly path: string }

const UNIX = 'unix:'
/** What the kernel takes (`sun_path`), without its final zero byte. */
const UNIX_PATH_BYTES_MAX = 107

/** Reads `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`; undefined when it is none of them. */
export function parseRpcAddress(given: string): RpcAddress | undefined {
  if (given.startsWith(UNIX)) {
    const path = given.slice(UNIX.length)
    return path !== '' && !path.includes('\0') && Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX ? { kind: 'unix', path } : undefined
  }
  const address = parseAddress(given)
  return address === undefined ? undefined : { kind: 'tcp', ...address }
}

/** As members register it: `127.0.0.1:7883`, `unix:/run/millrace/b-0.sock`. */
export function rpcAddressText(address: RpcAddress): string {
  return address.kind === 'unix' ? `${UNIX}${address.path}` : addressText(address)
}
