import type { Timers } from '#shared/base/timers.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { disconnect } from './connection/closing.ts'
import type { Frontend } from './frontend.ts'

/** Time between two batches of disconnects. */
const BATCH_MS = 100

/** Of the time for the whole drain, what disconnecting may take: sockets still have to close and the store to be flushed. */
const SHARE_FOR_DISCONNECTS = 0.5

export interface DrainPace {
  /** Disconnects in a second; more when `withinMs` would not do. */
  readonly perSecond: number
  /** Time for the whole drain, milliseconds. */
  readonly withinMs: number
}

/**
 * Disconnects every client, at a pace at which they do not all arrive elsewhere at once: MQTT 5 clients with ServerShuttingDown, or
 * UseAnotherServer when a Server Reference is configured. Resolves when all sockets are closed.
 */
export async function drainConnections(frontend: Frontend, { perSecond, withinMs }: DrainPace, timers: Timers): Promise<void> {
  const { serverReference } = frontend.settings
  const reason = serverReference === '' ? ReasonCode.ServerShuttingDown : ReasonCode.UseAnotherServer
  const batches = Math.max(1, Math.floor((withinMs * SHARE_FOR_DISCONNECTS) / BATCH_MS))
  const batch = Math.max(1, Math.ceil((perSecond * BATCH_MS) / 1_000), Math.ceil(frontend.counters.connectionsOpen / batches))
  while (frontend.counters.connectionsOpen > 0) {
    let left = batch
    for (const connection of frontend.connections) {
      if (connection.phase === 'closing' || connection.phase === 'closed') continue
      if (left-- === 0) break
      disconnect(connection, reason, null, serverReference === '' ? undefined : serverReference)
    }
    await new Promise<void>(resolve => timers.after(left > 0 ? BATCH_MS / 10 : BATCH_MS, resolve))
  }
}
