import type { HandshakeSettings, LinkIdentity, LinkProof } from './handshake.ts'
import { HELLO_TEXT_BYTES_MAX } from './hello.ts'
import type { LinkAddress } from './link-address.ts'
import type { LinkLimits } from './link-limits.ts'

/** PEM. Both ends show a certificate of the one authority. */
export interface LinkTls {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca: Buffer
  /** Name that a listener's certificate must hold; unset: the host that was dialed. */
  readonly serverName?: string
}

/** How a service presents itself on links, and what it asks of others. */
export interface LinkSettings {
  readonly self: LinkIdentity
  readonly proof: LinkProof
  /** Required for proof `mtls`, possible with every other; for TCP alone. */
  readonly tls: LinkTls | null
  /** For tests of versions; default: what this program speaks. */
  readonly version?: number
  readonly versionLowest?: number
}

/** Settings of links that cannot work together: the operator's to repair. */
export class LinkSettingsError extends Error {
  override readonly name = 'LinkSettingsError'
}

/** Shortest shared key, bytes: what is shorter can be guessed. */
const KEY_BYTES_MIN = 16

/** @throws {LinkSettingsError} */
export function checkLinkSettings({ self, proof, tls }: LinkSettings, address: LinkAddress): void {
  for (const name of ['cluster', 'id', 'instance'] as const) {
    const bytes = Buffer.byteLength(self[name])
    if (bytes === 0 || bytes > HELLO_TEXT_BYTES_MAX) {
      throw new LinkSettingsError(`${name} of a service has 1 to ${HELLO_TEXT_BYTES_MAX} bytes, not ${bytes}`)
    }
  }
  if (proof.is === 'mtls' && tls === null) throw new LinkSettingsError('proof by certificate (mtls) needs certificate, key and CA')
  if (proof.is === 'key' && proof.key.length < KEY_BYTES_MIN)
    throw new LinkSettingsError(`the shared key has less than ${KEY_BYTES_MIN} bytes`)
  if (tls !== null && 'path' in address) throw new LinkSettingsError('a Unix socket has no TLS')
}

export function handshakeSettings({ self, proof, version, versionLowest }: LinkSettings, { windowBytes }: LinkLimits): HandshakeSettings {
  return { self, proof, windowBytes, ...(version !== undefined && { version }), ...(versionLowest !== undefined && { versionLowest }) }
}
