import { Engine } from '../../loadtest/engine.ts'
import type { Address } from '../cast/client.ts'
import { each, openClient, subscribe } from './many-sessions.ts'

/** Clients come back after a random part of this, as they should when thousands lose their connection at once. */
const SPREAD_MS = 1_000

export interface Return {
  readonly clients: number
  /** From `lost` to the last CONNACK. */
  readonly allBackMs: number
  readonly medianBackMs: number
  readonly sessionsMissing: number
}

/** Clients with persistent sessions that are all connected to one place, and go to another when they lose it. */
export class ReturningClients {
  readonly #engine = new Engine()
  readonly #count: number
  readonly #returns: Promise<number>[] = []
  #lostMs = 0
  #sessionsMissing = 0

  constructor(count: number) {
    this.#count = count
  }

  async connect(first: () => Address, second: () => Address): Promise<void> {
    await each(this.#count, 100, async at => {
      const clientId = `back-${at}`
      const client = await openClient(this.#engine, first, clientId)
      await subscribe(client, [`back/${at}`])
      this.#returns.push(
        new Promise((resolve, reject) => {
          client.onLost = () => setTimeout(() => void this.#comeBack(clientId, second).then(resolve, reject), Math.random() * SPREAD_MS)
        }),
      )
    })
  }

  async #comeBack(clientId: string, address: () => Address): Promise<number> {
    const client = await openClient(this.#engine, address, clientId)
    if (!client.sessionPresent) this.#sessionsMissing++
    return performance.now() - this.#lostMs
  }

  /** They lose their connections now. */
  lost(): void {
    this.#lostMs = performance.now()
  }

  /** When the last one is back. @throws one gave up */
  async returned(): Promise<Return> {
    const backMs = (await Promise.all(this.#returns)).sort((a, b) => a - b)
    return {
      clients: backMs.length,
      allBackMs: Math.round(backMs.at(-1) ?? 0),
      medianBackMs: Math.round(backMs[Math.floor(backMs.length / 2)] ?? 0),
      sessionsMissing: this.#sessionsMissing,
    }
  }
}
