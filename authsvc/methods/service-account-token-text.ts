import { JWT_ALGORITHMS } from '#shared/resources/broker-authentication.ts'
import { z } from 'zod'

/** Tokens of Kubernetes have one or two thousand bytes; a longer one is refused unread. */
export const TOKEN_BYTES_MAX = 16_384

/** Three parts in base64url, none of them empty: a token without a signature is none. */
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/

const header = z.object({ alg: z.enum(JWT_ALGORITHMS) })
const claims = z.object({ exp: z.number().positive().max(Number.MAX_SAFE_INTEGER), iss: z.string() })

/** A text that looks like a token. What it claims is worth nothing until somebody has verified the token. */
export interface TokenText {
  readonly text: string
  /** Of `exp`. */
  readonly expiresMs: number
  readonly issuer: string
}

/** The token that a client sent, or why it is none. */
export function readToken(bytes: Uint8Array): TokenText | { readonly fault: string } {
  if (bytes.length > TOKEN_BYTES_MAX) return { fault: `a token of ${bytes.length} bytes` }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  if (!COMPACT.test(text)) return { fault: 'not a signed JSON Web Token' }
  const [head, body] = text.split('.') as [string, string]
  if (!header.safeParse(fromBase64Url(head)).success) return { fault: 'a token whose header cannot be read or whose alg is not allowed' }
  const parsed = claims.safeParse(fromBase64Url(body))
  // Tokens of Secrets never end and are bound to nothing.
  if (!parsed.success) return { fault: 'a token without exp and iss: only bound service account tokens are taken' }
  return { text, expiresMs: parsed.data.exp * 1_000, issuer: parsed.data.iss }
}

function fromBase64Url(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
  } catch {
    return null
  }
}
