import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { deriveKey } from '#shared/base/derive-key.ts'

/** What a seal is for. One kind never opens as another. */
export type SealKind = 'exchange' | 'proof'

/** First byte: the layout of what follows. */
const LAYOUT = 1
const SALT_BYTES = 16
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** Before each text of a context. */
const LENGTH_BYTES = 4
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
  readonly #derived = new Map<string, KeyObject>()
  #salt = randomBytes(SALT_BYTES)
  #own: KeyObject
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

  #keyOf(index: number, secret: Uint8Array, salt: Uint8Array): KeyObject {
    const name = `${index}/${Buffer.from(salt.buffer, salt.byteOffset, salt.length).toString('latin1')}`
    const known = this.#derived.get(name)
    if (known !== undefined) return known
    const key = ownKey(secret, salt)
    if (this.#derived.size >= DERIVED_MAX) this.#derived.delete(this.#derived.keys().next().value!)
    this.#derived.set(name, key)
    return key
  }
}

/** As an object: Node makes one of bytes for every seal, which took two thirds of its 19 µs together with `boundTo` in many pieces. */
function ownKey(secret: Uint8Array, salt: Uint8Array): KeyObject {
  return createSecretKey(deriveKey(secret, 'sealing of authentication', salt))
}

function openWith(key: KeyObject, bound: Buffer, sealed: Uint8Array): Buffer | null {
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
  const texts = [kind, ...context]
  const lengths = texts.map(text => Buffer.byteLength(text))
  const bound = Buffer.allocUnsafe(lengths.reduce((sum, length) => sum + LENGTH_BYTES + length, 0))
  let at = 0
  for (const [index, text] of texts.entries()) {
    at = bound.writeUInt32LE(lengths[index]!, at)
    at += bound.write(text, at, 'utf8')
  }
  return bound
}
