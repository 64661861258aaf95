import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { deriveKey } from '#shared/base/derive-key.ts'

/** What a seal is for. One kind never opens as another. */
export type SealKind = 'exchange' | 'proof'

/** First byte: the layout of what follows. */
const LAYOUT = 1
const SALT_BYTES = 16
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** A seal is so much longer than what it holds. */
export const SEAL_BYTES = 1 + SALT_BYTES + NONCE_BYTES + TAG_BYTES
const CIPHER = 'aes-256-gcm'

/** Keys of other processes that are remembered, so that each is derived once. Beyond, the one that was derived first goes. */
const DERIVED_MAX = 256
/** Secrets that open besides the newest: a Redis that forgot the first one gave us another. */
const SECRETS_MAX = 4

/**
 * Puts away with others what this service would otherwise have to remember: encrypted and authenticated (AES-256-GCM), so that whoever keeps
 * it can neither read nor change it, and bound to `context`, so that it opens for nobody else. Every process seals with a key of its own,
 * derived from the secret of the cluster and a random salt that stands in the seal, and counts its nonces: none comes twice under one key,
 * however much is sealed. Whoever has the secret can open it: all authentication services of the cluster, in any order.
 *
 * A seal says nothing of how often it was opened. The same holder may present it again while what is in it says that its time has not
 * passed; for an exchange that gives the answer that was given before, or another attempt at the same challenge.
 */
export class Sealing {
  /** The first one seals. */
  #secrets: readonly Uint8Array[]
  /** By secret and salt. */
  readonly #derived = new Map<string, Buffer>()
  #salt = randomBytes(SALT_BYTES)
  #own: Buffer
  #sealed = 0

  /** @param secret of the cluster: 32 bytes that only its processes know */
  constructor(secret: Uint8Array) {
    this.#secrets = [Buffer.from(secret)]
    this.#own = ownKey(secret, this.#salt)
  }

  /** Seals with another secret from now on. What was sealed with earlier ones still opens, with the last few of them. */
  use(secret: Uint8Array): void {
    if (Buffer.compare(this.#secrets[0]!, secret) === 0) return
    const others = this.#secrets.filter(known => Buffer.compare(known, secret) !== 0)
    this.#secrets = [Buffer.from(secret), ...others].slice(0, SECRETS_MAX)
    this.#derived.clear()
    this.#salt = randomBytes(SALT_BYTES)
    this.#own = ownKey(secret, this.#salt)
    this.#sealed = 0
  }

  /** @param context whom and what it is for: the same texts must be given to open it */
  seal(kind: SealKind, context: readonly string[], content: Uint8Array): Buffer {
    const nonce = Buffer.alloc(NONCE_BYTES)
    nonce.writeUIntLE(++this.#sealed, 0, 6)
    const cipher = createCipheriv(CIPHER, this.#own, nonce, { authTagLength: TAG_BYTES })
    cipher.setAAD(boundTo(kind, context))
    const head = Buffer.from([LAYOUT])
    return Buffer.concat([head, this.#salt, nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()])
  }

  /** What was sealed; null for anything that was not sealed by this cluster, of this kind and for this context. */
  open(kind: SealKind, context: readonly string[], sealed: Uint8Array): Buffer | null {
    if (sealed.length < SEAL_BYTES || sealed[0] !== LAYOUT) return null
    const salt = sealed.subarray(1, 1 + SALT_BYTES)
    const bound = boundTo(kind, context)
    for (const [index, secret] of this.#secrets.entries()) {
      const content = openWith(this.#keyOf(index, secret, salt), bound, sealed)
      if (content !== null) return content
    }
    return null
  }

  #keyOf(index: number, secret: Uint8Array, salt: Uint8Array): Buffer {
    const name = `${index}/${Buffer.from(salt.buffer, salt.byteOffset, salt.length).toString('latin1')}`
    const known = this.#derived.get(name)
    if (known !== undefined) return known
    const key = ownKey(secret, salt)
    if (this.#derived.size >= DERIVED_MAX) this.#derived.delete(this.#derived.keys().next().value!)
    this.#derived.set(name, key)
    return key
  }
}

function ownKey(secret: Uint8Array, salt: Uint8Array): Buffer {
  return deriveKey(secret, 'sealing of authentication', salt)
}

function openWith(key: Buffer, bound: Buffer, sealed: Uint8Array): Buffer | null {
  const contentAt = 1 + SALT_BYTES + NONCE_BYTES
  const tagAt = sealed.length - TAG_BYTES
  const decipher = createDecipheriv(CIPHER, key, sealed.subarray(1 + SALT_BYTES, contentAt), { authTagLength: TAG_BYTES })
  decipher.setAAD(bound)
  decipher.setAuthTag(sealed.subarray(tagAt))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(contentAt, tagAt)), decipher.final()])
  } catch {
    // The only thing that fails here is the tag.
    return null
  }
}

/** Each text with its length before it, so that no two lists of texts are the same bytes. */
function boundTo(kind: SealKind, context: readonly string[]): Buffer {
  const parts = [kind, ...context].flatMap(text => {
    const bytes = Buffer.from(text, 'utf8')
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    return [length, bytes]
  })
  return Buffer.concat(parts)
}
