import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { auth } from '../conformance/packets.ts'
import type { Properties } from '../conformance/properties.ts'
import type { RawClient } from '../conformance/raw-client.ts'

const MECHANISM = 'SCRAM-SHA-256'

/** A client's side of one SCRAM-SHA-256 exchange (RFC 5802 section 3), written from the RFC and not with the server's code. */
export class ScramExchange {
  readonly #password: string
  readonly #bare: string

  constructor(user: string, password: string) {
    this.#password = password
    this.#bare = `n=${user},r=nonce-of-${user}`
  }

  /** Of CONNECT, or of the AUTH 0x19 that begins a re-authentication. */
  get first(): Properties {
    return { authenticationMethod: MECHANISM, authenticationData: Buffer.from(`n,,${this.#bare}`) }
  }

  /** AUTH that answers the server's challenge. */
  final(challenge: Buffer): Buffer {
    const text = challenge.toString()
    const [nonce, salt, iterations] = text.split(',').map(part => part.slice(2)) as [string, string, string]
    const salted = pbkdf2Sync(this.#password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256')
    const clientKey = createHmac('sha256', salted).update('Client Key').digest()
    const withoutProof = `c=biws,r=${nonce}`
    const storedKey = createHash('sha256').update(clientKey).digest()
    const signature = createHmac('sha256', storedKey).update(`${this.#bare},${text},${withoutProof}`).digest()
    const proof = Buffer.from(clientKey.map((byte, at) => byte ^ signature[at]!)).toString('base64')
    return auth(0x18, { authenticationMethod: MECHANISM, authenticationData: Buffer.from(`${withoutProof},p=${proof}`) })
  }

  /** Takes the challenge that the broker sends and answers the packet that ends the exchange. */
  async challenged(client: RawClient): Promise<Buffer> {
    const { reason, properties } = await client.take('auth')
    if (reason !== 0x18 || properties.authenticationData === undefined)
      throw new Error(`no challenge but 0x${reason.toString(16)} ${properties.reasonString ?? ''}`)
    return this.final(properties.authenticationData)
  }
}
