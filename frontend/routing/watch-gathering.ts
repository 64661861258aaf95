import { newMessage } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { RemoteStoreCall } from '#shared/rpc/owner-port.ts'
import { Answer } from '#shared/state-store/answer.ts'
import { parseExtendedCommand, type WatchCommand, watchStopRequest } from '#shared/state-store/command.ts'
import { type AfterParts, joinedAnswer, type StoreGathering, type StorePart } from './store-gathering.ts'

/** Memory of a part that waits for its answer, about: one request makes as many as there are shards. */
const PART_BYTES = 200

/** Payload of the answer, or what PUBACK says: nothing was done where that came from. */
type Refusal = Buffer | ReasonCode

/**
 * WATCH, in all shards. When one refuses, those that had not watched before give it back, and then the refusal is answered. What is refused because a shard
 * had no owner for too long is given back nowhere, as nobody knows whether it was done there.
 */
export class WatchGathering implements StoreGathering {
  readonly call: RemoteStoreCall
  readonly shard: number
  readonly parts: readonly StorePart[]
  readonly open = new Set<number>()
  readonly bytes = 0
  readonly isOver = false
  counted = 0
  readonly #command: WatchCommand
  /** Shards that something changed in. */
  readonly #changed = new Set<number>()
  /** This gives back what was refused elsewhere. */
  readonly #isUndoing: boolean
  #refusal: Refusal | null

  private constructor(call: RemoteStoreCall, shard: number, command: WatchCommand, shards: Iterable<number>, refusal: Refusal | null) {
    this.call = { ...call, as: 'part' }
    this.shard = shard
    this.#command = command
    this.#isUndoing = refusal !== null
    this.#refusal = refusal
    this.parts = Array.from(shards, part => ({ gathering: this, shard: part, keys: null, bytes: PART_BYTES }))
  }

  /** @param call is a WATCH */
  static of(call: RemoteStoreCall, shard: number, shardCount: number): WatchGathering {
    const command = parseExtendedCommand(call.message.payload) as WatchCommand
    return new WatchGathering(call, shard, command, Array(shardCount).keys(), null)
  }

  take({ shard }: StorePart, answers: readonly (Uint8Array | null)[] | null): void {
    const answer = answers?.[0]
    if (answer === null || answer === undefined) this.refuse(ReasonCode.ImplementationSpecificError)
    else if (Answer.Done.equals(answer)) this.#changed.add(shard)
    else if (!Answer.Nothing.equals(answer)) this.#refusal ??= Buffer.from(answer)
  }

  refuse(reason: ReasonCode): boolean {
    this.#refusal ??= reason
    return true
  }

  next(): AfterParts {
    const { isStop, prefix } = this.#command
    if (this.#refusal === null) return this.#answered(isStop && this.#changed.size === 0 ? Answer.Nothing : Answer.Done)
    if (this.#isUndoing || isStop || this.#changed.size === 0) return this.#answered(this.#refusal)
    const { topic, properties } = this.call.message
    const stop = newMessage(topic, watchStopRequest(prefix), 1, false, properties)
    // Those that have refused have nothing; those that watched before go on.
    const command = { ...this.#command, isStop: true }
    return {
      is: 'gather',
      gathering: new WatchGathering({ ...this.call, message: stop }, this.shard, command, this.#changed, this.#refusal),
    }
  }

  #answered(what: Refusal): AfterParts {
    if (typeof what === 'number') return { is: 'refused', reason: what }
    return { is: 'answer', call: joinedAnswer(this.call, what) }
  }
}
