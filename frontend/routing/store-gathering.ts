import { newMessage } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { RemoteStoreCall } from '#shared/rpc/owner-port.ts'

/** What one shard is asked of a request that concerns several. */
export interface StorePart {
  readonly gathering: StoreGathering
  readonly shard: number
  /** The values of these are asked for; null: the request itself is carried out. */
  readonly keys: readonly string[] | null
  /** Counted for it while it has no answer, beside the request itself. */
  readonly bytes: number
}

/** What comes when the parts are answered, or no more of them is needed. */
export type AfterParts =
  /** The answer, of one shard; the message is kept. */
  | { readonly is: 'answer'; readonly call: RemoteStoreCall }
  /** What has to be done first. */
  | { readonly is: 'gather'; readonly gathering: StoreGathering }
  | { readonly is: 'refused'; readonly reason: ReasonCode }

/** A request that shards are asked for in parts, whose answers are joined; the answer of all goes to one owner, who publishes it as it would its own. */
export interface StoreGathering {
  /** What parts without keys are asked; its message is kept. */
  readonly call: RemoteStoreCall
  /** Whose owner publishes the answer. */
  readonly shard: number
  readonly parts: readonly StorePart[]
  /** Parts that are not answered, by their numbers. */
  readonly open: Set<number>
  /** Of what has come and is kept. */
  readonly bytes: number
  /** Of `bytes`: counted as unanswered. */
  counted: number
  /** No other part is needed. */
  readonly isOver: boolean
  /** Values are copied. */
  take(part: StorePart, values: readonly (Uint8Array | null)[] | null): void
  /** False: then the whole request is refused, at once. */
  refuse(reason: ReasonCode): boolean
  next(): AfterParts
}

/** What to ask an owner to publish, with the properties of the request. */
export function joinedAnswer(call: RemoteStoreCall, payload: Buffer): RemoteStoreCall {
  const { topic, properties, expirySeconds } = call.message
  const message = newMessage(topic, payload, 1, false, properties)
  message.expirySeconds = expirySeconds
  return { ...call, as: 'answer', message }
}
