import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'

/*
 * What travels sealed with a frontend, because no service remembers it (decision 12). Only services of the cluster write it; still it is read
 * with care: another version of this program may have written it.
 */

/** Which entry of `authenticationMethods` it is about: by its method, and its place among the entries of the same method. */
export interface EntryName {
  readonly method: string
  readonly ordinal: number
}

/** An exchange of several rounds (§4.12) after one of them. */
export interface Exchange {
  readonly entry: EntryName
  /** The round that the challenge answered: 1 for that of CONNECT or of AUTH 0x19. */
  readonly round: number
  /** Authentication Data so far, both directions. */
  readonly dataBytes: number
  /** Wall clock of the service that answered the first round. */
  readonly startedMs: number
  /** The method's own. */
  readonly state: Uint8Array
}

/** How a client was let in: comes back when it re-authenticates, and when its method has changed. */
export interface Proof {
  readonly entry: EntryName
  /** The method's own. */
  readonly evidence: Uint8Array
}

/** First byte; a layout that changes gets another. */
const EXCHANGE_LAYOUT = 1
const PROOF_LAYOUT = 1

/** What is sealed between two rounds. */
export function writeExchange({ entry, round, dataBytes, startedMs, state }: Exchange): Buffer {
  const writer = new ByteWriter()
  writer.u8(EXCHANGE_LAYOUT)
  writeEntryName(writer, entry)
  writer.varint(round)
  writer.varint(dataBytes)
  writer.f64(startedMs)
  writer.bytes(state)
  return writer.take()
}

/** Null: of another version of this program. */
export function readExchange(content: Uint8Array): Exchange | null {
  return read(content, EXCHANGE_LAYOUT, reader => ({
    entry: readEntryName(reader),
    round: reader.varint(),
    dataBytes: reader.varint(),
    startedMs: reader.f64(),
    state: Uint8Array.from(reader.bytes()),
  }))
}

/** What is sealed of a client that was let in. */
export function writeProof({ entry, evidence }: Proof): Buffer {
  const writer = new ByteWriter()
  writer.u8(PROOF_LAYOUT)
  writeEntryName(writer, entry)
  writer.bytes(evidence)
  return writer.take()
}

/** Null: of another version of this program. */
export function readProof(content: Uint8Array): Proof | null {
  return read(content, PROOF_LAYOUT, reader => ({ entry: readEntryName(reader), evidence: Uint8Array.from(reader.bytes()) }))
}

function writeEntryName(writer: ByteWriter, { method, ordinal }: EntryName): void {
  writer.text(method)
  writer.varint(ordinal)
}

function readEntryName(reader: ByteReader): EntryName {
  return { method: reader.text(), ordinal: reader.varint() }
}

function read<T>(content: Uint8Array, layout: number, body: (reader: ByteReader) => T): T | null {
  const reader = new ByteReader(content)
  try {
    if (reader.u8() !== layout) return null
    const found = body(reader)
    return reader.done ? found : null
  } catch (error) {
    if (error instanceof ByteReaderError) return null
    throw error
  }
}
