import { PacketType } from '#shared/mqtt/packet-type.ts'
import { checkPingreq, PINGRESP } from '#shared/mqtt/ping.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Connection } from '../connection/connection.ts'
import { PENDING_ANSWERS_MAX } from '../connection/pending-answers.ts'
import { onAuth } from './auth.ts'
import { onDuringChallenge } from './challenge.ts'
import { onConnect } from './connect.ts'
import { onDisconnect } from './disconnect.ts'
import { onPuback, onPubcomp, onPubrec, onPubrel } from './acknowledgements.ts'
import { onPublish } from './publish.ts'
import { onSubscribe } from './subscribe.ts'
import { onUnsubscribe } from './unsubscribe.ts'

/** The handler of each Control Packet; see OnPacket. */
export function dispatch(connection: Connection, bytes: Buffer, start: number, end: number): boolean {
  const type = bytes[start]! >> 4
  if (connection.phase === 'open') return dispatchOpen(connection, type, bytes, start, end)
  if (connection.phase === 'authenticating') onDuringChallenge(connection, type, bytes, start, end)
  if (connection.phase !== 'awaitingConnect') return false
  onConnect(connection, bytes, start, end)
  // What comes behind CONNECT waits for its outcome [MQTT-3.1.4-6].
  return false
}

function dispatchOpen(connection: Connection, type: number, bytes: Buffer, start: number, end: number): boolean {
  switch (type) {
    case PacketType.PUBLISH:
      onPublish(connection, bytes, start, end)
      if (!connection.frontend.isUnderPressure || connection.version === 5) break
      connection.frontend.pauseForPressure(connection)
      return false
    case PacketType.PUBACK:
      onPuback(connection, bytes, start, end)
      break
    case PacketType.PUBREC:
      onPubrec(connection, bytes, start, end)
      break
    case PacketType.PUBREL:
      onPubrel(connection, bytes, start, end)
      break
    case PacketType.PUBCOMP:
      onPubcomp(connection, bytes, start, end)
      break
    case PacketType.SUBSCRIBE:
      onSubscribe(connection, bytes, start, end)
      break
    case PacketType.UNSUBSCRIBE:
      onUnsubscribe(connection, bytes, start, end)
      break
    case PacketType.PINGREQ:
      checkPingreq(bytes, start, end)
      connection.send(PINGRESP)
      break
    case PacketType.DISCONNECT:
      onDisconnect(connection, bytes, start, end)
      return false
    case PacketType.AUTH:
      onAuth(connection, bytes, start, end)
      break
    case PacketType.CONNECT:
      throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.0-2', 'a second CONNECT')
    default:
      throw type === 0
        ? new ProtocolError(ReasonCode.MalformedPacket, '§2.1.2', 'reserved Control Packet type')
        : new ProtocolError(ReasonCode.ProtocolError, '§2.1.2', `Control Packet type ${type} is not for clients to send`)
  }
  return connection.phase === 'open' && connection.answers.length < PENDING_ANSWERS_MAX && !connection.isBehind && !connection.isHolding
}
