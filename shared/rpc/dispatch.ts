import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { TopicCache } from '#shared/mqtt/topic.ts'
import { methodName } from './methods.ts'

/** What the decoding of frames needs to know. */
export interface DispatchParts {
  readonly topics: TopicCache
  /** Shards of the cluster: numbers from there on are refused. */
  readonly shardCount: number
  /** Topic levels of a Topic Filter. No lower than what any frontend of the cluster admits: more levels end the link. */
  readonly levelsMax: number
  /** The peer may make calls that we do not know and need not answer: they are skipped and counted. Otherwise they are errors. */
  readonly isPeerNewer: boolean
}

/** The body must have been read to its end, before anything is done about it. */
export function expectEnd(method: number, body: ByteReader): void {
  if (!body.done) throw new ByteReaderError(`${body.remaining} bytes behind the body of ${methodName(method)}`)
}
