import { ByteReader, ByteReaderError } from '../base/byte-reader.ts'
import { ByteWriter } from '../base/byte-writer.ts'
import type { PeerIdentity, Role } from './link.ts'

/** Bytes of a nonce, and of a proof. */
export const PROOF_BYTES = 32

/** Order is the wire's: append only. */
const PROOFS = ['none', 'key', 'mtls'] as const
export type HelloProof = (typeof PROOFS)[number]
const ROLES = ['frontend', 'backend', 'authsvc'] as const satisfies readonly Role[]

/** 'MRLK': tells a service that somebody speaks something else. */
const MAGIC = 0x4b_4c_52_4d
/** Of id, instance and cluster each. */
export const HELLO_TEXT_BYTES_MAX = 255

/** First frame of each side. Magic and versions stay where they are in every version; a later one may append, which earlier ones ignore. */
export interface Hello extends Pick<PeerIdentity, 'role' | 'id' | 'instance'> {
  readonly version: number
  readonly versionLowest: number
  readonly proof: HelloProof
  readonly nonce: Buffer
  readonly windowBytes: number
  readonly cluster: string
  readonly shards: number
}

/** @throws {RangeError} a text that is empty or longer than 255 bytes: of our own settings */
export function encodeHello(hello: Hello): Buffer {
  const writer = new ByteWriter()
  writer.u32(MAGIC)
  writer.varint(hello.version)
  writer.varint(hello.versionLowest)
  writer.u8(PROOFS.indexOf(hello.proof))
  writer.raw(hello.nonce)
  writer.varint(hello.windowBytes)
  writer.u8(ROLES.indexOf(hello.role))
  for (const text of [hello.id, hello.instance, hello.cluster]) {
    const bytes = Buffer.from(text, 'utf8')
    if (bytes.length === 0 || bytes.length > HELLO_TEXT_BYTES_MAX)
      throw new RangeError(`id, instance and cluster have 1 to 255 bytes, not ${bytes.length}`)
    writer.bytes(bytes)
  }
  writer.varint(hello.shards)
  return writer.take()
}

/** @throws {ByteReaderError} not a Hello of any version */
export function helloVersions(body: Buffer): Pick<Hello, 'version' | 'versionLowest'> {
  const reader = new ByteReader(body)
  if (reader.u32() !== MAGIC) throw new ByteReaderError('not a Hello')
  return { version: reader.varint(), versionLowest: reader.varint() }
}

/** @throws {ByteReaderError} */
export function decodeHello(body: Buffer): Hello {
  const reader = new ByteReader(body)
  if (reader.u32() !== MAGIC) throw new ByteReaderError('not a Hello')
  const version = reader.varint()
  const versionLowest = reader.varint()
  const proof = oneOf(PROOFS, reader.u8())
  const nonceAt = reader.skip(PROOF_BYTES)
  const nonce = Buffer.from(body.subarray(nonceAt, nonceAt + PROOF_BYTES))
  const windowBytes = reader.varint()
  if (windowBytes === 0) throw new ByteReaderError('a window of nothing')
  const role = oneOf(ROLES, reader.u8())
  const [id, instance, cluster] = [shortText(reader), shortText(reader), shortText(reader)]
  return { version, versionLowest, proof, nonce, windowBytes, role, id, instance, cluster, shards: reader.varint() }
}

function oneOf<T>(all: readonly T[], index: number): T {
  const found = all[index]
  if (found === undefined) throw new ByteReaderError('unknown value')
  return found
}

function shortText(reader: ByteReader): string {
  const bytes = reader.bytes()
  if (bytes.length === 0 || bytes.length > HELLO_TEXT_BYTES_MAX) throw new ByteReaderError('a text that is empty or too long')
  return bytes.toString('utf8')
}
