import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type Address, type ClientObserver, type ClientOptions, type LostConnection } from './client.ts'
import { Inbox, type Ledger, type OrderedBy } from './ledger.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'

/** What the clients are put in front of, and what may be asked of it. */
export interface Scenery {
  /** Where a client connects; asked anew for each connection. */
  address(clientId: string): Address
  readonly orderedBy: OrderedBy
  readonly connackTimeoutMs?: number
  /** When given, connections may be lost and refused (see `ClientObserver.lost`). */
  lost?(clientId: string, connection: LostConnection): void
}

/** What all parts of the load share. */
export class Stage {
  readonly scenery: Scenery
  readonly ledger: Ledger
  readonly random: SeededRandom
  /** While true, publishers publish and others come and go. */
  isLoaded = false

  constructor(scenery: Scenery, ledger: Ledger, random: SeededRandom) {
    this.scenery = scenery
    this.ledger = ledger
    this.random = random
  }

  client(options: ClientOptions, received: ClientObserver['received'] = () => undefined): Client {
    const { scenery } = this
    const { connackTimeoutMs } = scenery
    return new Client(
      connackTimeoutMs === undefined ? options : { connackTimeoutMs, ...options },
      () => scenery.address(options.clientId),
      {
        received,
        violation: (_client, what) => this.ledger.violation(options.clientId, what),
        ...(scenery.lost === undefined ? {} : { lost: (_client, connection) => scenery.lost?.(options.clientId, connection) }),
      },
    )
  }

  /** A client whose messages are numbered as the ledger's. */
  receiver(options: ClientOptions): { readonly client: Client; readonly inbox: Inbox } {
    const inbox = new Inbox(this.scenery.orderedBy)
    const client = this.client(options, (_client, packet, topic) => {
      const [number, publishedQos] = packet.payload.subarray(0, 12).toString('latin1').split(' ', 2)
      inbox.receive(topic, Number(number), packet.qos, Number(publishedQos))
    })
    return { client, inbox }
  }

  /** Waits for a random time up to `maxMs`. */
  async pause(minMs: number, maxMs: number): Promise<void> {
    await sleep(this.random.int(minMs, maxMs))
  }
}
