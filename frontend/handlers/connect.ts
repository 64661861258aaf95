import { encodeConnack, type ConnackProperties } from '#shared/mqtt/connack-codec.ts'
import { ConnectRefusal, decodeConnect, type Connect } from '#shared/mqtt/connect-codec.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { isOwnTopic } from '#shared/mqtt/topic.ts'
import { Permit, readPermit } from '#shared/authorization/permit.ts'
import { ByteReader } from '#shared/base/byte-reader.ts'
import type { Grant, Verdict } from '#shared/rpc/authentication.ts'
import type { AttachReply, WillRequest } from '#shared/rpc/backend-port.ts'
import { anonymousVerdict } from '../connection/anonymous.ts'
import { close } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'
import { announced, checkOffered } from '../features.ts'

/** Bytes of a Client Identifier that may appear in Response Information as they are; others are sent in hexadecimal. */
const PLAIN_IDENTIFIER = /^[\w.:@-]{1,128}$/

/** CONNECT (§3.1). What follows it is not read until CONNACK has been sent. */
export function onConnect(connection: Connection, bytes: Buffer, start: number, end: number): void {
  let packet: Connect
  try {
    packet = decodeConnect(bytes, start, end, connection.frontend.settings.topicLevelsMax)
  } catch (error) {
    if (!(error instanceof ConnectRefusal)) throw error
    connection.version = error.answerVersion ?? 4
    return refuse(connection, error.reason, error.message, error.answerVersion !== null)
  }
  connection.phase = 'connecting'
  connection.version = packet.protocolVersion
  connection.packetBytesMaxOut = packet.maximumPacketSize
  connection.wantsProblemInformation = packet.requestProblemInformation
  if (packet.clientId === '' && (packet.protocolVersion === 3 || (packet.protocolVersion === 4 && !packet.cleanStart))) {
    return refuse(connection, ReasonCode.ClientIdentifierNotValid, 'an empty Client Identifier needs Clean Session and MQTT 3.1.1', true)
  }
  if (packet.userProperties.length > connection.frontend.settings.userPropertiesPerPacketMax) {
    return refuse(connection, ReasonCode.QuotaExceeded, 'too many User Properties', true)
  }
  const unfit = willFault(connection, packet)
  if (unfit !== null) return refuse(connection, unfit.reason, unfit.message, true)
  connection.clientId = packet.clientId === '' ? `auto-${connection.frontend.random.uuid()}` : packet.clientId
  accept(connection, packet)
    .catch((error: unknown) => {
      connection.frontend.log.error('connect_failed', {
        client: connection.clientId,
        error: error instanceof Error ? error : String(error),
      })
      refuse(connection, ReasonCode.ServerUnavailable, 'the server cannot accept connections now', true)
    })
    .finally(() => connection.onDecided())
}

/** A Will that uses what CONNACK would say is not there; null when it is fine. */
function willFault(connection: Connection, { will }: Connect): ProtocolError | null {
  if (will === null) return null
  try {
    checkOffered(connection.frontend.features, will.qos, will.retain)
    return null
  } catch (error) {
    if (error instanceof ProtocolError) return error
    throw error
  }
}

async function accept(connection: Connection, packet: Connect): Promise<void> {
  const { frontend } = connection
  const verdict = await authenticate(connection, packet)
  if (connection.phase !== 'connecting') return
  if (verdict.is === 'refused') return refuse(connection, verdict.reason, verdict.detail, true)
  if (verdict.is !== 'accepted') return refuse(connection, ReasonCode.ServerUnavailable, 'the server cannot authenticate now', true)
  const permit = permitOf(verdict.grant)
  if (packet.will !== null && !mayPublishWill(permit, packet.will.topic)) {
    return refuse(connection, ReasonCode.NotAuthorized, 'the Will Topic is not allowed', true)
  }
  const sessionExpirySeconds = Math.min(packet.sessionExpiry, frontend.settings.maxSessionExpirySeconds ?? Infinity)
  const reply = await frontend.backend.attach({
    frontend,
    connection: connection.id,
    clientId: connection.clientId,
    protocolVersion: packet.protocolVersion,
    cleanStart: packet.cleanStart,
    sessionExpirySeconds,
    receiveMaximum: packet.receiveMaximum,
    will: willOf(connection, packet),
    rights: null,
  })
  // CONNACK has no code for a session that another connection has taken over meanwhile (§3.2.2.2): the client learns it by the end alone.
  if (reply.is === 'refused') return refuse(connection, reply.reason, reply.detail, reply.reason !== ReasonCode.SessionTakenOver)
  if (connection.phase !== 'connecting') {
    // The client left, or another connection took the session over, while the backend was storing it.
    return frontend.backend.detach(reply.session, connection.id, { discardWill: false, sessionExpirySeconds: null })
  }
  connection.sessionExpirySeconds = sessionExpirySeconds
  open(connection, packet, permit, reply)
}

async function authenticate(connection: Connection, packet: Connect): Promise<Verdict> {
  const { frontend, transport } = connection
  const { policy } = connection.port.rules
  if (policy === null) return counted(connection, anonymousVerdict(packet.authenticationMethod))
  const verdict = await frontend.authentication.authenticate({
    purpose: 'connect',
    listener: connection.port.name,
    policy,
    protocolVersion: packet.protocolVersion,
    sealedState: null,
    proof: null,
    remoteAddress: transport.remoteAddress,
    clientId: connection.clientId,
    userName: packet.userName,
    password: packet.password,
    authenticationMethod: packet.authenticationMethod,
    authenticationData: packet.authenticationData,
    peerCertificates: transport.peerCertificates,
  })
  return counted(connection, verdict)
}

function counted({ frontend }: Connection, verdict: Verdict): Verdict {
  if (verdict.is === 'accepted') frontend.counters.authenticationSuccesses++
  else frontend.counters.authenticationDenied++
  return verdict
}

function permitOf({ permit }: Grant): Permit | null {
  return permit === null ? null : readPermit(new ByteReader(permit))
}

function mayPublishWill(permit: Permit | null, topic: string): boolean {
  return !isOwnTopic(topic) && permit?.mayPublish(topic) !== false
}

function willOf(connection: Connection, packet: Connect): WillRequest | null {
  const { will } = packet
  if (will === null) return null
  const message = newMessage(connection.frontend.topics.fromName(will.topic), will.payload, will.qos, will.retain, will.properties)
  message.expirySeconds = will.expirySeconds
  return { message, delaySeconds: will.delaySeconds }
}

function open(connection: Connection, packet: Connect, permit: Permit | null, reply: AttachReply & { is: 'attached' }): void {
  const { frontend } = connection
  const { settings } = frontend
  connection.phase = 'open'
  connection.session = reply.session
  connection.permit = permit
  connection.topicAliasesMax = Math.min(packet.topicAliasMaximum, frontend.features.topicAliasesOutMax)
  frontend.unauthenticated.remove(connection)
  const keepAliveSeconds = grantedKeepAlive(packet, settings.serverKeepAliveSeconds)
  frontend.deadlines.startKeepAlive(connection, keepAliveSeconds)
  const properties = connection.version === 5 ? connackProperties(connection, packet, keepAliveSeconds) : null
  connection.send(encodeConnack(connection.version, reply.sessionPresent, ReasonCode.Success, properties, connection.packetBytesMaxOut))
  // Sending may have found CONNACK too large for the client.
  if (!isOpen(connection)) return
  frontend.log.debug('connected', {
    client: connection.clientId,
    listener: connection.port.name,
    remote: connection.transport.remoteAddress,
  })
  frontend.backend.writable(connection.session, connection.id, true)
  connection.resumeInput()
}

function isOpen(connection: Connection): boolean {
  return connection.phase === 'open'
}

/** Keep Alive in seconds (§3.1.2.10); only MQTT 5 can be told another one than it asked for [MQTT-3.2.2-21]. */
function grantedKeepAlive(packet: Connect, ceiling: number): number {
  if (packet.protocolVersion !== 5 || ceiling === 0) return packet.keepAlive
  return packet.keepAlive === 0 || packet.keepAlive > ceiling ? ceiling : packet.keepAlive
}

function connackProperties(connection: Connection, packet: Connect, keepAliveSeconds: number): ConnackProperties {
  const { settings } = connection.frontend
  const { clientId, sessionExpirySeconds } = connection
  return {
    ...announced(connection.frontend.features),
    receiveMaximum: settings.receiveMaximum,
    maximumPacketSize: settings.packetBytesMax,
    sessionExpiry: sessionExpirySeconds === packet.sessionExpiry ? undefined : sessionExpirySeconds,
    assignedClientIdentifier: packet.clientId === '' ? clientId : undefined,
    serverKeepAlive: keepAliveSeconds === packet.keepAlive ? undefined : keepAliveSeconds,
    responseInformation: packet.requestResponseInformation ? responseInformation(settings.responseInformation, clientId) : undefined,
    // [MQTT-4.12.0-5]
    authenticationMethod: packet.authenticationMethod ?? undefined,
  }
}

/** A topic of the client's own to receive responses under (§3.2.2.3.15): no wildcard and no level separator of its own making. */
function responseInformation(prefix: string, clientId: string): string | undefined {
  if (prefix === '') return undefined
  return `${prefix}${PLAIN_IDENTIFIER.test(clientId) ? clientId : Buffer.from(clientId, 'utf8').subarray(0, 256).toString('hex')}`
}

/** CONNACK with a failure, then the end [MQTT-3.1.4-6]; `canAnswer` false: the end without it. */
function refuse(connection: Connection, reason: ReasonCode, detail: string, canAnswer: boolean): void {
  const { frontend } = connection
  if (connection.phase === 'closing' || connection.phase === 'closed') return
  frontend.counters.connectionsRefused++
  frontend.log.warn('connect_refused', {
    listener: connection.port.name,
    remote: connection.transport.remoteAddress,
    client: connection.clientId,
    code: reason,
    reason: detail,
  })
  if (canAnswer) {
    const properties = connection.version === 5 ? { reasonString: detail } : null
    const connack = encodeConnack(connection.version, false, reason, properties, connection.packetBytesMaxOut)
    if (connack.length <= connection.packetBytesMaxOut) connection.output.append(connack)
  }
  close(connection, { discardWill: true, sessionExpirySeconds: null })
}
