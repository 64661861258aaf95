import { thrownField } from '#shared/base/thrown.ts'
import type { Auth } from '#shared/mqtt/auth-codec.ts'
import { encodeConnack, type ConnackProperties } from '#shared/mqtt/connack-codec.ts'
import { ConnectRefusal, decodeConnect, type Connect } from '#shared/mqtt/connect-codec.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import { asksForPersistence } from '#shared/mqtt/persistence-request.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Grant, Verdict } from '#shared/rpc/authentication.ts'
import type { AttachReply, WillRequest } from '#shared/rpc/backend-port.ts'
import type { Connection } from '../connection/connection.ts'
import { ExchangeLimits } from '../connection/exchange-limits.ts'
import { adopt, connectionGrant } from '../connection/grant.ts'
import { mayPublishWill } from '../connection/permissions.ts'
import { refuse } from '../connection/refusing.ts'
import { rightsOf } from '../connection/rights.ts'
import { decide, type Decided, type Question } from '../connection/verdicts.ts'
import { announced, checkOffered } from '../features.ts'
import { challenge } from './challenge.ts'

/** Bytes of a Client Identifier that may appear in Response Information as they are; others are sent in hexadecimal. */
const PLAIN_IDENTIFIER = /^[\w.:@-]{1,128}$/

/** CONNECT without what must not stay in memory once it is decided. */
type Connecting = Omit<Connect, 'password' | 'authenticationData'>

/** An accepted client and what its CONNACK is to say of it. */
type Accepted = Decided & { readonly verdict: { readonly is: 'accepted'; readonly grant: Grant } }

/** CONNECT (§3.1). What follows it is not read until CONNACK has been sent, but for AUTH. */
export function onConnect(connection: Connection, bytes: Buffer, start: number, end: number): void {
  const packet = decode(connection, bytes, start, end)
  if (packet === null) return
  const { frontend } = connection
  connection.phase = 'connecting'
  connection.undecidedBytes = end - start
  connection.version = packet.protocolVersion
  connection.packetBytesMaxOut = packet.maximumPacketSize
  connection.wantsProblemInformation = packet.requestProblemInformation
  connection.authenticationMethod = packet.authenticationMethod
  connection.category = frontend.counters.categories.of(packet.userProperties)
  const fault = connectFault(connection, packet)
  if (fault !== null) return refuse(connection, { ...fault, canAnswer: true })
  connection.clientId = packet.clientId === '' ? `auto-${frontend.random.uuid()}` : packet.clientId
  const { password, authenticationData, ...connecting } = packet
  const { userName, authenticationMethod } = packet
  accept(connection, connecting, {
    purpose: 'connect',
    userName,
    password,
    authenticationMethod,
    authenticationData,
    sealedState: null,
    proof: null,
  })
    .catch((error: unknown) => {
      frontend.log.error('connect_failed', { client: connection.clientId, error: thrownField(error) })
      refuse(connection, { reason: ReasonCode.ServerUnavailable, detail: 'the server cannot accept connections now', canAnswer: true })
    })
    .finally(() => connection.onDecided())
}

/** Null when it was refused. */
function decode(connection: Connection, bytes: Buffer, start: number, end: number): Connect | null {
  try {
    return decodeConnect(bytes, start, end, connection.frontend.settings.topicLevelsMax)
  } catch (error) {
    if (!(error instanceof ConnectRefusal)) throw error
    connection.version = error.answerVersion ?? 4
    refuse(connection, { reason: error.reason, detail: error.message, canAnswer: error.answerVersion !== null })
    return null
  }
}

interface Fault {
  readonly reason: ReasonCode
  readonly detail: string
}

/** What is wrong with it whoever sent it; null when it is fine. */
function connectFault(connection: Connection, packet: Connect): Fault | null {
  const { settings } = connection.frontend
  if (packet.clientId === '' && (packet.protocolVersion === 3 || (packet.protocolVersion === 4 && !packet.cleanStart))) {
    return { reason: ReasonCode.ClientIdentifierNotValid, detail: 'an empty Client Identifier needs Clean Session and MQTT 3.1.1' }
  }
  if (packet.userProperties.length > settings.userPropertiesPerPacketMax) {
    return { reason: ReasonCode.QuotaExceeded, detail: 'too many User Properties' }
  }
  return willFault(connection, packet)
}

/** A Will that uses what CONNACK would say is not there; null when it is fine. */
function willFault(connection: Connection, { will }: Connect): Fault | null {
  if (will === null) return null
  try {
    checkOffered(connection.frontend.features, will.qos, will.retain)
    return null
  } catch (error) {
    if (error instanceof ProtocolError) return { reason: error.reason, detail: error.message }
    throw error
  }
}

async function accept(connection: Connection, packet: Connecting, question: Question): Promise<void> {
  const { frontend } = connection
  const accepted = await authenticate(connection, question)
  if (accepted === null) return
  const { policy, changesBehind } = accepted
  const { grant } = accepted.verdict
  if (policy !== null) adopt(connection, connectionGrant(grant, policy, changesBehind), grant.permit)
  const willAnswer = packet.will === null ? ReasonCode.Success : mayPublishWill(connection, packet.will.topic)
  if (willAnswer !== ReasonCode.Success) {
    return refuse(connection, { reason: willAnswer, detail: 'the Will Topic is not allowed', canAnswer: true })
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
    rights: rightsOf(connection.clientId, connection.grant, grant.permit),
    isPersistenceRequested: asksForPersistence(packet.userProperties),
  })
  // CONNACK has no code for a session that another connection has taken over meanwhile (§3.2.2.2): the client learns it by the end alone.
  if (reply.is === 'refused') return refuse(connection, { ...reply, canAnswer: reply.reason !== ReasonCode.SessionTakenOver })
  if (connection.phase !== 'connecting') {
    // The client left, or another connection took the session over, while the backend was storing it.
    return frontend.backend.detach(reply.session, connection.id, { discardWill: false, sessionExpirySeconds: null })
  }
  connection.sessionExpirySeconds = sessionExpirySeconds
  open(connection, packet, grant, reply)
}

/** Asks, and asks the client for more, until there is a verdict (§4.12). Null: it was refused or has gone. */
async function authenticate(connection: Connection, first: Question): Promise<Accepted | null> {
  const limits = new ExchangeLimits()
  limits.admit(first.authenticationData)
  for (let question = first; ; ) {
    const decided = await decide(connection, question)
    if (connection.phase !== 'connecting') return null
    const { verdict } = decided
    if (verdict.is === 'accepted') return { ...decided, verdict }
    if (verdict.is !== 'challenge') {
      refuse(connection, { ...refusalOf(verdict), canAnswer: true })
      return null
    }
    if (question === first) connection.frontend.deadlines.expectAuthentication(connection)
    const answer = limits.send(verdict.data) ? await challenge(connection, verdict.data) : null
    if (connection.phase !== 'connecting') return null
    if (answer === null || !limits.admit(answer.data)) {
      refuse(connection, {
        reason: ReasonCode.QuotaExceeded,
        detail: 'authentication took too many rounds or too much data',
        canAnswer: true,
      })
      return null
    }
    question = nextQuestion(question, answer, verdict.sealedState)
  }
}

function refusalOf(verdict: Exclude<Verdict, { readonly is: 'accepted' | 'challenge' }>): Fault & { readonly cause: string } {
  // Whatever was said, a refusal must not look like an acceptance.
  if (verdict.is === 'refused') return isFailure(verdict.reason) ? verdict : { ...verdict, reason: ReasonCode.NotAuthorized }
  return { reason: ReasonCode.ServerUnavailable, detail: 'the server cannot authenticate now', cause: verdict.cause }
}

function nextQuestion(question: Question, { data }: Auth, sealedState: Uint8Array): Question {
  return { ...question, authenticationData: data, sealedState }
}

function willOf(connection: Connection, packet: Connecting): WillRequest | null {
  const { will } = packet
  if (will === null) return null
  const message = newMessage(connection.frontend.topics.fromName(will.topic), will.payload, will.qos, will.retain, will.properties)
  message.expirySeconds = will.expirySeconds
  return { message, delaySeconds: will.delaySeconds }
}

function open(connection: Connection, packet: Connecting, grant: Grant, reply: AttachReply & { is: 'attached' }): void {
  const { frontend } = connection
  const { settings } = frontend
  connection.phase = 'open'
  connection.session = reply.session
  connection.topicAliasesMax = Math.min(packet.topicAliasMaximum, frontend.features.topicAliasesOutMax)
  frontend.unauthenticated.remove(connection)
  const keepAliveSeconds = grantedKeepAlive(packet, settings.serverKeepAliveSeconds)
  frontend.deadlines.watch(connection, keepAliveSeconds)
  const properties = connection.version === 5 ? connackProperties(connection, packet, keepAliveSeconds, grant.authenticationData) : null
  connection.send(encodeConnack(connection.version, reply.sessionPresent, ReasonCode.Success, properties, connection.packetBytesMaxOut))
  // Sending may have found CONNACK too large for the client.
  if (!isOpen(connection)) return
  frontend.log.debug('connected', {
    client: connection.clientId,
    listener: connection.port.name,
    remote: connection.transport.remoteAddress,
  })
  // Before anything flows: the rules may have changed since they were asked about, and whoever is to be held gets nothing by the old ones.
  frontend.liveChange.onOpened(connection)
  if (!isOpen(connection)) return
  frontend.backend.writable(connection.session, connection.id, true)
  connection.resumeInput()
}

function isOpen(connection: Connection): boolean {
  return connection.phase === 'open'
}

/** Keep Alive in seconds (§3.1.2.10); only MQTT 5 can be told another one than it asked for [MQTT-3.2.2-21]. */
function grantedKeepAlive(packet: Connecting, ceiling: number): number {
  if (packet.protocolVersion !== 5 || ceiling === 0) return packet.keepAlive
  return packet.keepAlive === 0 || packet.keepAlive > ceiling ? ceiling : packet.keepAlive
}

function connackProperties(
  connection: Connection,
  packet: Connecting,
  keepAliveSeconds: number,
  authenticationData: Uint8Array | null,
): ConnackProperties {
  const { settings } = connection.frontend
  const { clientId, sessionExpirySeconds } = connection
  return {
    ...announced(connection.frontend.features),
    receiveMaximum: settings.receiveMaximum,
    maximumPacketSize: settings.packetBytesMax,
    sessionExpiry: sessionExpirySeconds === packet.sessionExpiry ? undefined : sessionExpirySeconds,
    assignedClientIdentifier: packet.clientId === '' ? clientId : undefined,
    serverKeepAlive: keepAliveSeconds === packet.keepAlive ? undefined : keepAliveSeconds,
    responseInformation: packet.requestResponseInformation ? responseInformation(connection, settings.responseInformation) : undefined,
    // [MQTT-4.12.0-5]
    authenticationMethod: packet.authenticationMethod ?? undefined,
    // Without a method there is nothing to say it in [MQTT-4.12.0-6].
    authenticationData: packet.authenticationMethod === null || authenticationData === null ? undefined : Buffer.from(authenticationData),
  }
}

/**
 * A topic of the client's own to receive responses under (§3.2.2.3.15): no wildcard and no level separator of its own making. One that
 * it may not subscribe to, with all that is below it, is not named.
 */
function responseInformation(connection: Connection, prefix: string): string | undefined {
  if (prefix === '') return undefined
  const { clientId, permit } = connection
  const topic = `${prefix}${PLAIN_IDENTIFIER.test(clientId) ? clientId : Buffer.from(clientId, 'utf8').subarray(0, 256).toString('hex')}`
  return permit === null || permit.maySubscribe(`${topic}/#`) ? topic : undefined
}
