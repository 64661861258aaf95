import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { type Message, propertyValue } from '#shared/mqtt/message.ts'
import { Property } from '#shared/mqtt/property.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import type { Topic } from '#shared/mqtt/topic.ts'
import type { ExtendedCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import type { RequestProperties } from '#shared/state-store/request-properties.ts'

/** A request to the state store as a frontend passes it on (docs/state-store.md). */
export interface StoreCall {
  readonly clientId: string
  /** Decides the shard: the key, of several the first, or the Client Identifier where there is none; a character for each byte. */
  readonly shardKey: string
  /** Of SCAN, whose cursor says it, whether or not there is such a shard; null: `shardKey` decides. */
  readonly shard: number | null
  /** Asks to be told of changes. */
  readonly isWatch: boolean
  /** Found by the frontend: nothing is executed, and this is the answer. */
  readonly fault: ErrorText | null
  /** The payload as it was read; null, also where frontend and backend are not one process: to be read. So are the two below it. */
  readonly command?: ExtendedCommand | null
  /** As they were read of `message`. */
  readonly properties?: RequestProperties
  /** Of the Response Topic. */
  readonly responseTopic?: Topic
  /** QoS 1, with Response Topic and Correlation Data. */
  readonly message: Message
}

/** The shard that is asked; any, when there is none such: it says so in its answer. */
export function storeCallShard({ shard, shardKey }: StoreCall, shardCount: number): number {
  return shard !== null && shard < shardCount ? shard : storeShardOf(shardKey, shardCount)
}

const FAULTS: ReadonlySet<string> = new Set(Object.values(ErrorText))

/** Empty for none. @throws {ByteReaderError} a text that the store does not answer with */
export function readFault(reader: ByteReader): ErrorText | null {
  const text = reader.text()
  if (text === '') return null
  if (!FAULTS.has(text)) throw new ByteReaderError('a fault that the state store does not know')
  return text as ErrorText
}

/** @throws {ByteReaderError} it could not be answered */
export function checkStoreRequest(message: Message): void {
  if (message.qos !== 1 || !hasAddress(message))
    throw new ByteReaderError('a request to the state store without QoS 1, Response Topic or Correlation Data')
}

function hasAddress(message: Message): boolean {
  try {
    return propertyValue(message, Property.ResponseTopic) !== undefined && propertyValue(message, Property.CorrelationData) !== undefined
  } catch (error) {
    if (error instanceof ProtocolError) return false
    throw error
  }
}
