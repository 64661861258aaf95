import { setTimeout as sleep } from 'node:timers/promises'
import { missingWills, type WillNumber, wrongWills } from '../cast/checker.ts'
import type { Client, ClientOptions } from '../cast/client.ts'
import type { Inbox } from '../cast/ledger.ts'
import type { Wills } from '../cast/load.ts'
import type { Stage } from '../cast/stage.ts'
import type { Disturbances } from './system.ts'

const HOUR_SECONDS = 3_600

interface WillPart {
  readonly options: ClientOptions
  readonly qos: 1 | 2
  readonly delaySeconds: number
  readonly end: 'cut' | 'disconnected'
}

const PARTS: readonly WillPart[] = [
  { options: { clientId: 'w0', version: 5, isPersistent: false }, qos: 1, delaySeconds: 0, end: 'cut' },
  { options: { clientId: 'w1', version: 5, isPersistent: true }, qos: 2, delaySeconds: 1, end: 'cut' },
  { options: { clientId: 'w2', version: 4, isPersistent: true }, qos: 2, delaySeconds: 0, end: 'cut' },
  { options: { clientId: 'w3', version: 5, isPersistent: true }, qos: 1, delaySeconds: 1, end: 'cut' },
  { options: { clientId: 'w4', version: 4, isPersistent: false }, qos: 2, delaySeconds: 0, end: 'disconnected' },
  { options: { clientId: 'w5', version: 5, isPersistent: true }, qos: 2, delaySeconds: 1, end: 'disconnected' },
]

interface Living {
  readonly part: WillPart
  readonly client: Client
  readonly number: number
  readonly port: number
  readonly sinceMs: number
}

/** Clients with a Will that come at the beginning of a round and go, in order or not, somewhere in it. */
export class WillRounds implements Wills {
  readonly watcher: Client
  readonly inbox: Inbox
  readonly #stage: Stage
  readonly #disturbances: Disturbances
  #round = 0
  #owed: WillNumber[] = []
  #forbidden: WillNumber[] = []
  #wrongBefore = new Set<string>()
  #leaving: Promise<unknown> = Promise.resolve()

  constructor(stage: Stage, disturbances: Disturbances) {
    this.#stage = stage
    this.#disturbances = disturbances
    const { client, inbox } = stage.receiver({ clientId: 'watcher', version: 5, isPersistent: true })
    this.watcher = client
    this.inbox = inbox
  }

  async prepare(): Promise<void> {
    await this.watcher.start()
    await this.watcher.subscribe({ filter: 'will/#', qos: 2 })
  }

  /** Everybody connects, and goes at a random time within `roundMs`. */
  async begin(roundMs: number): Promise<void> {
    this.#round++
    this.#forbidden = []
    const { random } = this.#stage
    const living = await Promise.all(PARTS.map(part => this.#connect(part)))
    this.#leaving = Promise.all(living.map(each => this.#leave(each, random.int(0, roundMs))))
  }

  async #connect(part: WillPart): Promise<Living> {
    const { options, qos, delaySeconds } = part
    const number = this.#round
    let port = 0
    const client = this.#stage.client({
      ...options,
      mayBeKnown: true,
      ...(options.isPersistent ? { sessionExpirySeconds: HOUR_SECONDS } : {}),
      will: {
        topic: `will/${options.clientId}`,
        payload: `${number} ${qos} `,
        qos,
        ...(options.version === 5 && delaySeconds > 0 ? { properties: { willDelayInterval: delaySeconds } } : {}),
      },
    })
    await client.start()
    ;({ port } = client)
    client.leaveBehind()
    return { part, client, number, port, sinceMs: performance.now() }
  }

  async #leave({ part, client, number, port, sinceMs }: Living, afterMs: number): Promise<void> {
    await sleep(afterMs)
    const will = { topic: `will/${part.options.clientId}`, number }
    // Whoever lost its connection went without DISCONNECT.
    const isOpen = client.isOpen
    if (part.end === 'cut' || !isOpen) {
      await client.stop()
      this.#owed.push(will)
      return
    }
    await client.disconnect()
    // A frontend that was touched may have been gone before it read the DISCONNECT; one cut off from a backend had to give the session up.
    if (!this.#disturbances.met(port, sinceMs, performance.now(), ['process', 'links'])) this.#forbidden.push(will)
  }

  async missing(deadlineMs: number): Promise<string[]> {
    await this.#leaving
    while (missingWills(this.#owed, this.inbox).length > 0 && performance.now() < deadlineMs) await sleep(20)
    const missing = missingWills(this.#owed, this.inbox)
    this.#owed = []
    return missing
  }

  /** Each is told once. */
  wrong(): string[] {
    const wrong = wrongWills(this.#forbidden, this.inbox).filter(each => !this.#wrongBefore.has(each))
    for (const each of wrong) this.#wrongBefore.add(each)
    return wrong
  }
}
