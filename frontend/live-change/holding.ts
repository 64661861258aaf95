import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { disconnect } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'
import { isCutOffFor, mayPublish } from '../connection/permissions.ts'
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
  judgeHeldPublish(connection)
  if (!connection.isAttached) return
  deliverKept(connection)
  if (!connection.isBehind) connection.frontend.backend.writable(connection.session, connection.id, true)
  connection.markDirty()
  connection.resumeInput()
}

/** One that was taken by the old rights, and not given to the backend yet. */
function judgeHeldPublish(connection: Connection): void {
  const { heldPublish, version } = connection
  if (heldPublish === null) return
  const answer = mayPublish(connection, heldPublish.topic)
  if (answer === ReasonCode.Success) return connection.publishHeld()
  if (isCutOffFor(connection, heldPublish.qos)) return disconnect(connection, answer, null)
  connection.refuseHeld(version === 5 ? answer : ReasonCode.Success)
}
