import type { ConnectionId } from '#shared/rpc/backend-port.ts'

/**
 * One WATCH of a connection at a time, in the order in which they came: each is as much work as a request to every shard, so that a client that sends many
 * at once would hold up others; and giving back the refused one must not end what the next one begins.
 */
export class WatchTurns {
  /** Numbers of those that wait, of connections that have one under way. */
  readonly #waiting = new Map<ConnectionId, number[]>()

  /** False: it has to wait. */
  begin(connection: ConnectionId): boolean {
    if (this.#waiting.has(connection)) return false
    this.#waiting.set(connection, [])
    return true
  }

  /** Behind the one that is under way. */
  wait(connection: ConnectionId, sequence: number): void {
    this.#waiting.get(connection)!.push(sequence)
  }

  /** The one under way has ended. @returns what is under way now; null: nothing */
  next(connection: ConnectionId): number | null {
    const sequence = this.#waiting.get(connection)?.shift() ?? null
    if (sequence === null) this.#waiting.delete(connection)
    return sequence
  }

  forget(connection: ConnectionId): void {
    this.#waiting.delete(connection)
  }
}
