import { setTimeout as sleep } from 'node:timers/promises'
import type { SessionHistory } from './checker.ts'
import type { SubscriberPart } from './parts.ts'
import type { Client } from './client.ts'
import type { Inbox, Publication } from './ledger.ts'
import type { Stage } from './stage.ts'

/** A persistent session with Subscriptions that never change; the broker owes it every acknowledged message that matches. */
export class Subscriber {
  readonly part: SubscriberPart
  readonly client: Client
  readonly inbox: Inbox
  readonly #stage: Stage

  constructor(stage: Stage, part: SubscriberPart) {
    this.#stage = stage
    this.part = part
    const { random } = stage
    const ackDelayMs = (): number => random.int(0, part.ackDelayMaxMs)
    const receiver = stage.receiver(part.ackDelayMaxMs === 0 ? part.options : { ...part.options, ackDelayMs })
    this.client = receiver.client
    this.inbox = receiver.inbox
  }

  /** Subscribes once and for all: a session that survives needs no more. */
  async prepare(): Promise<void> {
    await this.client.start()
    const reasons = await this.client.subscribe(...this.part.subscriptions)
    if (reasons === null || reasons.some(reason => reason > 2))
      throw new Error(`${this.part.options.clientId} could not subscribe: ${String(reasons)}`)
    const { presence } = this.part
    if (presence === 'absent' || presence === 'hibernating') await this.client.stop()
  }

  /** Comes and goes as its part says, as long as there is load. */
  async run(): Promise<void> {
    this.client.isHurried = false
    const { presence } = this.part
    if (presence === 'absent' || presence === 'hibernating') return
    while (this.#stage.isLoaded) {
      if (presence === 'intermittent') await this.#comeAndGo()
      else await this.#stage.pause(20, 200)
      if (presence === 'dropping' && this.#stage.random.chance(0.4)) await this.client.drop()
    }
  }

  async #comeAndGo(): Promise<void> {
    // `start` waits for CONNACK, which may not come before the load ends: the connection comes by itself.
    void this.client.start()
    await this.#stage.pause(20, 300)
    if (this.#stage.random.chance(0.5)) await this.client.stop()
    else await this.client.disconnect()
    await this.#stage.pause(20, 200)
  }

  /** What it has to show for `owed`. */
  history(owed: readonly Publication[]): SessionHistory {
    return { name: this.part.options.clientId, owed, wants: this.part.wants, inbox: this.inbox }
  }

  /** Online, quick, and all its QoS 2 exchanges over. */
  async settle(deadlineMs: number): Promise<boolean> {
    while (performance.now() < deadlineMs) {
      if (this.client.isOpen && this.client.incoming.held === 0) return true
      await sleep(10)
    }
    return false
  }
}
