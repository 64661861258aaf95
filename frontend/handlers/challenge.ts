import { type Auth, decodeAuth, encodeAuth } from '#shared/mqtt/auth-codec.ts'
import { decodeDisconnect } from '#shared/mqtt/disconnect-codec.ts'
import { PacketType } from '#shared/mqtt/packet-type.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { close } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'
import { refuse } from '../connection/refusing.ts'

/**
 * Asks a client whose CONNECT is being decided for more [MQTT-4.12.0-2] and answers its AUTH. Never resolves when the client leaves,
 * breaks the protocol or is too late.
 * @throws {Error} nobody can be asked: CONNECT had no Authentication Method [MQTT-4.12.0-6]
 */
export function challenge(connection: Connection, data: Uint8Array | null): Promise<Auth> {
  const { authenticationMethod } = connection
  if (authenticationMethod === null) throw new Error('a challenge to a client without an Authentication Method')
  const properties = { method: authenticationMethod, data: data === null ? undefined : Buffer.from(data) }
  return new Promise(resolve => {
    connection.onAnswer = resolve
    connection.phase = 'authenticating'
    connection.send(encodeAuth(ReasonCode.ContinueAuthentication, properties, connection.packetBytesMaxOut))
    connection.resumeInput()
    // It was gone already, without an answer in what it had sent before.
    if (connection.phase === 'authenticating') connection.onDecided()
  })
}

/** A packet while we wait for AUTH: nothing else but DISCONNECT may come [MQTT-3.1.2-30]. The answer to a wrong one is CONNACK [MQTT-4.12.0-4]. */
export function onDuringChallenge(connection: Connection, type: number, bytes: Buffer, start: number, end: number): void {
  try {
    if (type === PacketType.DISCONNECT) {
      decodeDisconnect(bytes, start, end, connection.version)
      return close(connection, { discardWill: true, sessionExpirySeconds: null })
    }
    if (type !== PacketType.AUTH) {
      throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.2-30', 'a packet other than AUTH or DISCONNECT before CONNACK')
    }
    connection.undecidedBytes += end - start
    onAnswer(connection, decodeAuth(bytes, start, end))
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    connection.frontend.counters.protocolErrors++
    refuse(connection, { reason: error.reason, detail: error.message, canAnswer: true })
  }
}

function onAnswer(connection: Connection, auth: Auth): void {
  if (auth.reason !== ReasonCode.ContinueAuthentication) {
    throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-4.12.0-3', 'AUTH before CONNACK does not continue the authentication')
  }
  if (auth.method !== connection.authenticationMethod) {
    throw new ProtocolError(ReasonCode.BadAuthenticationMethod, 'MQTT-4.12.0-5', 'AUTH with another Authentication Method than CONNECT')
  }
  const answered = connection.onAnswer
  connection.onAnswer = null
  connection.phase = 'connecting'
  answered?.(auth)
}
