import { type Permit, readPermit } from '#shared/authorization/permit.ts'
import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { SessionRights } from '#shared/rpc/backend-port.ts'

/** The Permit in `rights`, or null when it cannot be read: nothing is allowed then, and its connection must not go on. */
export function permitOf(rights: SessionRights): Permit | null {
  const reader = new ByteReader(rights.permit)
  try {
    const permit = readPermit(reader)
    return reader.done ? permit : null
  } catch (error) {
    if (error instanceof ByteReaderError) return null
    throw error
  }
}
