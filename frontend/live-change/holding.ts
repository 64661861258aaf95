import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Connection } from '../connection/connection.ts'
import { mayPublish } from '../connection/permissions.ts'
import { deliverKept } from '../delivery/kept.ts'

/** From now on nothing is read from the connection and nothing sent to it. What was gathered for it before was sent before. */
export function hold(connection: Connection): void {
  if (connection.phase !== 'open') return
  connection.flush()
  connection.phase = 'held'
  connection.pauseInput()
  // One that is behind has said so already.
  if (!connection.isBehind) connection.frontend.backend.writable(connection.session, connection.id, false)
}

/** It has its new rights: it goes on by them, with what had waited. */
export function release(connection: Connection): void {
  if (connection.phase !== 'held') return
  connection.phase = 'open'
  const { heldTopic } = connection
  if (heldTopic !== null) {
    const answer = mayPublish(connection, heldTopic)
    // Older clients cannot be told (docs/mqtt.md).
    if (answer !== ReasonCode.Success) connection.refuseHeld(connection.version === 5 ? answer : ReasonCode.Success)
    else connection.publishHeld()
  }
  deliverKept(connection)
  if (!connection.isBehind) connection.frontend.backend.writable(connection.session, connection.id, true)
  connection.markDirty()
  connection.resumeInput()
}
