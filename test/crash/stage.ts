import { setTimeout as sleep } from 'node:timers/promises'
import type { BrokerProcess } from './broker-process.ts'
import { Client, type ClientObserver, type ClientOptions } from './client.ts'
import { Inbox, type Ledger } from './ledger.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'

/** What all parts of the load share. */
export class Stage {
  readonly broker: BrokerProcess
  readonly ledger: Ledger
  readonly random: SeededRandom
  /** While true, publishers publish and others come and go. */
  isLoaded = false

  constructor(broker: BrokerProcess, ledger: Ledger, random: SeededRandom) {
    this.broker = broker
    this.ledger = ledger
    this.random = random
  }

  client(options: ClientOptions, received: ClientObserver['received'] = () => undefined): Client {
    return new Client(options, () => this.broker, {
      received,
      violation: (_client, what) => this.ledger.violation(options.clientId, what),
    })
  }

  /** A client whose messages are numbered as the ledger's. */
  receiver(options: ClientOptions): { readonly client: Client; readonly inbox: Inbox } {
    const inbox = new Inbox()
    const client = this.client(options, (_client, packet, topic) => {
      inbox.receive(topic, Number.parseInt(packet.payload.subarray(0, 12).toString('latin1'), 10), packet.qos)
    })
    return { client, inbox }
  }

  /** Waits for a random time up to `maxMs`. */
  async pause(minMs: number, maxMs: number): Promise<void> {
    await sleep(this.random.int(minMs, maxMs))
  }
}
