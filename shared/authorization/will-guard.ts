import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { readCount } from '#shared/rpc/body-fields.ts'
import { permitFor } from './permit-for.ts'
import type { Policy } from './policy.ts'
import type { Subject } from './template.ts'

/** Who set a Will, and which BrokerAuthorizations its port had. */
export interface WillGuard extends Subject {
  /** Names. Empty: whoever is authenticated may do everything. */
  readonly authorizations: readonly string[]
}

const LAYOUT = 1
const TEXT_BYTES_MIN = 1
const PAIR_BYTES_MIN = 2

/** For SessionRights.willGuard: stored with the Will. */
export function writeWillGuard({ authorizations, clientId, userName, attributes }: WillGuard): Buffer {
  const writer = new ByteWriter()
  writer.u8(LAYOUT)
  writer.varint(authorizations.length)
  for (const name of authorizations) writer.text(name)
  writer.text(clientId)
  writer.text(userName)
  writer.varint(attributes.size)
  for (const [name, value] of attributes) {
    writer.text(name)
    writer.text(value)
  }
  return writer.take()
}

/** @throws {ByteReaderError} `bytes` are no guard */
export function readWillGuard(bytes: Uint8Array): WillGuard {
  const reader = new ByteReader(bytes)
  const layout = reader.u8()
  if (layout !== LAYOUT) throw new ByteReaderError(`layout ${layout} of a will guard`)
  const authorizations: string[] = []
  for (let left = readCount(reader, TEXT_BYTES_MIN); left > 0; left--) authorizations.push(reader.text())
  const clientId = reader.text()
  const userName = reader.text()
  const attributes = new Map<string, string>()
  for (let left = readCount(reader, PAIR_BYTES_MIN); left > 0; left--) {
    const name = reader.text()
    attributes.set(name, reader.text())
  }
  if (!reader.done) throw new ByteReaderError(`${reader.remaining} bytes behind a will guard`)
  return { authorizations, clientId, userName, attributes }
}

/**
 * Says when a Will is due whether its client might publish it now, by the policies of now. What cannot be read or found denies.
 * Nothing is kept: guards differ from client to client, and a permit is made in a few microseconds (permit.bench.ts).
 */
export class WillJudge {
  readonly #policyOf: (name: string) => Policy | null

  /** @param policyOf the BrokerAuthorization of this name that is in force; null: there is none */
  constructor(policyOf: (name: string) => Policy | null) {
    this.#policyOf = policyOf
  }

  mayPublish(guard: Uint8Array, topicName: string): boolean {
    const read = tryRead(guard)
    if (read === null) return false
    if (read.authorizations.length === 0) return true
    const policies = read.authorizations.map(this.#policyOf)
    return policies.every(policy => policy !== null) && permitFor(policies, read).permit.mayPublish(topicName)
  }
}

function tryRead(guard: Uint8Array): WillGuard | null {
  try {
    return readWillGuard(guard)
  } catch (error) {
    if (error instanceof ByteReaderError) return null
    throw error
  }
}
