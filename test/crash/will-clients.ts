import { setTimeout as sleep } from 'node:timers/promises'
import { missingWills, type WillNumber, wrongWills } from '../cast/checker.ts'
import type { Client, ClientOptions } from '../cast/client.ts'
import { Inbox } from '../cast/ledger.ts'
import type { Wills } from '../cast/load.ts'
import type { Stage } from '../cast/stage.ts'

const HOUR_SECONDS = 3_600

/** What becomes of a client that has a Will, and of the Will. */
interface WillPart {
  readonly options: ClientOptions
  readonly qos: 1 | 2
  readonly delaySeconds: number
  /** Before the kill: stays connected; loses its connection; DISCONNECTs. */
  readonly before: 'connected' | 'cut' | 'disconnected'
  /** It comes back after the restart, before the delay has passed. */
  readonly returns: boolean
  readonly fires: boolean
}

const PARTS: readonly WillPart[] = [
  {
    options: { clientId: 'w0', version: 5, isPersistent: false },
    qos: 1,
    delaySeconds: 0,
    before: 'connected',
    returns: false,
    fires: true,
  },
  {
    options: { clientId: 'w1', version: 5, isPersistent: true },
    qos: 2,
    delaySeconds: 1,
    before: 'connected',
    returns: false,
    fires: true,
  },
  {
    options: { clientId: 'w2', version: 4, isPersistent: true },
    qos: 1,
    delaySeconds: 0,
    before: 'connected',
    returns: false,
    fires: true,
  },
  {
    options: { clientId: 'w3', version: 5, isPersistent: true },
    qos: 2,
    delaySeconds: HOUR_SECONDS,
    before: 'connected',
    returns: true,
    fires: false,
  },
  {
    options: { clientId: 'w4', version: 5, isPersistent: true },
    qos: 2,
    delaySeconds: 0,
    before: 'disconnected',
    returns: false,
    fires: false,
  },
  { options: { clientId: 'w5', version: 5, isPersistent: true }, qos: 2, delaySeconds: 1, before: 'cut', returns: false, fires: true },
  {
    options: { clientId: 'w6', version: 5, isPersistent: true, sessionExpirySeconds: 1 },
    qos: 1,
    delaySeconds: HOUR_SECONDS,
    before: 'connected',
    returns: false,
    fires: true,
  },
]

/** Clients whose Wills a crash must not lose, repeat, or set free. One Will of each in every round. */
export class WillClients implements Wills {
  readonly watcher: Client
  readonly inbox: Inbox
  readonly #stage: Stage
  #present: { readonly part: WillPart; readonly client: Client }[] = []
  #round = 0
  #killedAtMs = 0
  /** Wills that must have come, and those that must not. */
  #owed: WillNumber[] = []
  #forbidden: WillNumber[] = []

  constructor(stage: Stage) {
    this.#stage = stage
    const inbox = (this.inbox = new Inbox())
    this.watcher = stage.client({ clientId: 'watcher', version: 5, isPersistent: true }, (_client, packet, topic) => {
      const number = Number.parseInt(packet.payload.toString('latin1'), 10)
      inbox.receive(topic, number, packet.qos)
      this.#checkNotEarly(topic)
    })
  }

  async prepare(): Promise<void> {
    await this.watcher.start()
    await this.watcher.subscribe({ filter: 'will/#', qos: 2 })
  }

  /** Every client connects with the Will of this round. */
  async connect(): Promise<void> {
    this.#round++
    this.#killedAtMs = Infinity
    this.#present = PARTS.map(part => ({ part, client: this.#client(part, this.#round) }))
    await Promise.all(this.#present.map(({ client }) => client.start()))
    for (const { part } of this.#present) {
      const will = { topic: `will/${part.options.clientId}`, number: this.#round }
      if (part.fires) this.#owed.push(will)
      else this.#forbidden.push(will)
    }
  }

  #client(part: WillPart, number: number): Client {
    const { options, qos, delaySeconds } = part
    const properties = options.version === 5 && delaySeconds > 0 ? { willDelayInterval: delaySeconds } : undefined
    // Each is a fresh client object, which cannot know whether the broker has its session.
    return this.#stage.client({
      ...options,
      mayBeKnown: true,
      sessionExpirySeconds: options.sessionExpirySeconds ?? HOUR_SECONDS,
      will: { topic: `will/${options.clientId}`, payload: `${number}`, qos, ...(properties === undefined ? {} : { properties }) },
    })
  }

  /** Some leave before the crash. Returns when the broker must have taken note of it. */
  async leave(): Promise<void> {
    await Promise.all(
      this.#present.map(async ({ part, client }) => {
        if (part.before === 'cut') await client.stop()
        if (part.before === 'disconnected') await client.disconnect()
      }),
    )
    // Answered after everything that came before it was stored.
    await this.watcher.subscribe({ filter: 'will/#', qos: 2 })
  }

  /** The crash comes now: nobody here returns by itself. */
  beforeKill(): void {
    for (const { client } of this.#present) client.leaveBehind()
    this.#killedAtMs = performance.now()
  }

  /** Some are back in time, and their Wills must stay. */
  async afterRestart(): Promise<void> {
    await Promise.all(
      this.#present.map(async ({ part }) => {
        if (!part.returns) return
        const client = this.#client(part, this.#round + 1_000_000)
        await client.start()
        await client.disconnect()
      }),
    )
  }

  /** Wills owed that have not come by the deadline. */
  async missing(deadlineMs: number): Promise<string[]> {
    while (missingWills(this.#owed, this.inbox).length > 0 && performance.now() < deadlineMs) await sleep(20)
    const missing = missingWills(this.#owed, this.inbox)
    this.#owed = []
    return missing
  }

  /** Wills that came although their clients had left in order or were back in time, or that came again. */
  wrong(): string[] {
    return wrongWills(this.#forbidden, this.inbox)
  }

  /** A delayed Will of a client that the crash cut off counts its delay from the crash at the earliest (§3.1.3.2.2). */
  #checkNotEarly(topic: string): void {
    const part = PARTS.find(({ options }) => topic === `will/${options.clientId}`)!
    const waitedMs = performance.now() - this.#killedAtMs
    const dueMs = Math.min(part.delaySeconds, part.options.sessionExpirySeconds ?? HOUR_SECONDS) * 1_000
    if (part.before === 'connected' && waitedMs < dueMs)
      this.#stage.ledger.violation('watcher', `${topic} came ${Math.round(waitedMs)} ms after the crash`)
  }
}
