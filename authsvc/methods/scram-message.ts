import { saslprep } from '@mongodb-js/saslprep'

/** client-first-message (RFC 5802 section 7). */
export interface ClientFirst {
  readonly gs2Header: string
  /** client-first-message-bare, as the client wrote it. */
  readonly bare: string
  /** As SASLprep has it. */
  readonly userName: string
  readonly nonce: string
}

/** client-final-message. */
export interface ClientFinal {
  /** base64, as the client wrote it. */
  readonly channelBinding: string
  readonly nonce: string
  readonly proof: Uint8Array
  readonly withoutProof: string
}

const MESSAGE_BYTES_MAX = 4_096
const NONCE_LENGTH_MAX = 256
/** printable, without the comma. */
const NONCE = /^[\x21-\x2b\x2d-\x7e]+$/
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/** The message, or why it is none: a text for the audit log. */
export function parseClientFirst(data: Uint8Array): ClientFirst | string {
  const text = textOf(data)
  if (text === null) return 'client-first is not text'
  const [flag, authorizationId, ...rest] = text.split(',')
  if (flag?.startsWith('p=')) return 'channel binding is not offered'
  if (flag !== 'n' && flag !== 'y') return 'client-first without GS2 header'
  if (authorizationId === undefined || rest.length < 2) return 'client-first is cut off'
  const [name, nonce] = rest
  if (name!.startsWith('m=')) return 'a mandatory extension that is not known'
  if (!name!.startsWith('n=') || !nonce!.startsWith('r=')) return 'client-first without user name or nonce'
  const userName = unescaped(name!.slice(2))
  if (userName === null || userName === '') return 'a user name that is none'
  if (authorizationId !== '' && unescaped(authorizationId.slice(2)) !== userName) return 'acting for another user is not offered'
  const clientNonce = nonce!.slice(2)
  if (clientNonce.length > NONCE_LENGTH_MAX || !NONCE.test(clientNonce)) return 'a nonce that is none'
  return { gs2Header: `${flag},${authorizationId},`, bare: rest.join(','), userName, nonce: clientNonce }
}

/** The message, or why it is none. */
export function parseClientFinal(data: Uint8Array): ClientFinal | string {
  const text = textOf(data)
  const proofAt = text?.lastIndexOf(',p=') ?? -1
  if (text === null || proofAt === -1) return 'client-final without proof'
  const [channel, nonce] = text.slice(0, proofAt).split(',')
  if (!channel?.startsWith('c=') || !nonce?.startsWith('r=')) return 'client-final without channel binding or nonce'
  const proof = text.slice(proofAt + 3)
  if (!BASE64.test(proof)) return 'a proof that is not base64'
  return {
    channelBinding: channel.slice(2),
    nonce: nonce.slice(2),
    proof: Buffer.from(proof, 'base64'),
    withoutProof: text.slice(0, proofAt),
  }
}

function textOf(data: Uint8Array): string | null {
  if (data.length > MESSAGE_BYTES_MAX) return null
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data)
  } catch {
    return null
  }
}

/** `=2C` is a comma and `=3D` an equals sign; another `=` is a fault. Null: that, or what SASLprep forbids. */
function unescaped(name: string): string | null {
  if (/=(?!2C|3D)/.test(name)) return null
  try {
    return saslprep(name.replaceAll('=2C', ',').replaceAll('=3D', '='))
  } catch {
    return null
  }
}
