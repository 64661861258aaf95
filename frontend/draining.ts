import type { Timers } from '#shared/base/timers.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { disconnect } from './connection/closing.ts'
import type { Frontend } from './frontend.ts'

/** Time between two batches of disconnects. */
const BATCH_MS = 100

/**
 * Disconnects every client, at most `perSecond` in a second so that they do not all arrive elsewhere at once: MQTT 5 clients with
 * ServerShuttingDown, or UseAnotherServer when a Server Reference is configured. Resolves when all sockets are closed.
 */
export async function drainConnections(frontend: Frontend, perSecond: number, timers: Timers): Promise<void> {
  const { serverReference } = frontend.settings
  const reason = serverReference === '' ? ReasonCode.ServerShuttingDown : ReasonCode.UseAnotherServer
  const batch = Math.max(1, Math.ceil((perSecond * BATCH_MS) / 1_000))
  while (frontend.counters.connectionsOpen > 0) {
    let left = batch
    for (const connection of frontend.connections()) {
      if (connection.phase === 'closing' || connection.phase === 'closed') continue
      if (left-- === 0) break
      disconnect(connection, reason, null, serverReference === '' ? undefined : serverReference)
    }
    await new Promise<void>(resolve => timers.after(left > 0 ? BATCH_MS / 10 : BATCH_MS, resolve))
  }
}
