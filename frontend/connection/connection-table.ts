import type { ConnectionId } from '#shared/rpc/backend-port.ts'
import type { Connection } from './connection.ts'

/** A ConnectionId is the slot in the table and, above it, how often that slot was used: never the same twice. */
const SLOTS = 2 ** 24

/** The connections of one frontend by their ids, which backends name them by. */
export class ConnectionTable {
  readonly #slots: (Connection | null)[] = []
  readonly #generations: number[] = []
  readonly #freeSlots: number[] = []

  /** Makes a connection with an id of its own. */
  add(make: (id: ConnectionId) => Connection): Connection {
    const slot = this.#freeSlots.pop() ?? this.#slots.length
    const generation = (this.#generations[slot] ?? 0) + 1
    this.#generations[slot] = generation
    const connection = make(slot + generation * SLOTS)
    this.#slots[slot] = connection
    return connection
  }

  /** Null when it is gone, whoever has its slot now. */
  get(id: ConnectionId): Connection | null {
    // Exact for whole numbers up to 2^53, and three times as fast as the remainder of numbers beyond 32 bits.
    const connection = this.#slots[(id >>> 0) & (SLOTS - 1)]
    return connection && connection.id === id ? connection : null
  }

  remove(connection: Connection): void {
    const slot = connection.id % SLOTS
    this.#slots[slot] = null
    this.#freeSlots.push(slot)
  }

  *[Symbol.iterator](): Iterator<Connection> {
    for (const connection of this.#slots) if (connection) yield connection
  }
}
