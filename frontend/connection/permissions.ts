import { thrownField } from '#shared/base/thrown.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { isOwnTopic, type Topic } from '#shared/mqtt/topic.ts'
import { isReserved, REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import type { Decision, Permit } from '#shared/authorization/permit.ts'
import type { AuditedAction } from '../audit.ts'
import type { Connection } from './connection.ts'
import { auditRefusal } from './refusing.ts'

/** Success, NotAuthorized, or ImplementationSpecificError when the check itself failed: that denies too. */
type Answer = typeof ReasonCode.Success | typeof ReasonCode.NotAuthorized | typeof ReasonCode.ImplementationSpecificError

/**
 * Whether the client may publish there. Of a topic that is allowed, `permittedTopic` remembers it, unless its policy wants each message
 * to be judged.
 */
export function mayPublish(connection: Connection, topic: Topic): Answer {
  const { permit } = connection
  if (isOwnTopic(topic.name) || isReserved(topic.name)) return denied(connection, 'publish', topic.name, OWN_TOPIC)
  if (permit === null) {
    remember(connection, topic)
    return ReasonCode.Success
  }
  try {
    if (!permit.mayPublishTopic(topic))
      return denied(connection, 'publish', topic.name, causeOf(connection, permit.decidePublish(topic.name)))
  } catch (error) {
    return failed(connection, 'publish', topic.name, error)
  }
  connection.category.authorizationAllowed++
  if (permit.parts.isCached) remember(connection, topic)
  return ReasonCode.Success
}

/** Requests to the state store are told from other publishes where their topic is judged. */
function remember(connection: Connection, topic: Topic): void {
  if (topic.name !== REQUEST_TOPIC) connection.permittedTopic = topic
}

/** Whether a publish of this QoS that was refused ends the connection: older clients cannot be told otherwise, and a policy may want it so. */
export function isCutOffFor({ version, permit }: Connection, qos: number): boolean {
  return qos > 0 && version !== 5 && permit?.disconnectsRefused311 === true
}

/** @param filter without `$share/{ShareName}/` */
export function maySubscribe(connection: Connection, filter: string): Answer {
  return judge(connection, 'subscribe', filter, permit => permit.decideSubscribe(filter))
}

/** `maySubscribe` of a Response Topic of the state store: one that is allowed is remembered as by `mayPublish`. */
export function mayHearOn(connection: Connection, topic: Topic): Answer {
  if (connection.permit === null) return ReasonCode.Success
  if (topic === connection.permittedResponseTopic) {
    connection.category.authorizationAllowed++
    return ReasonCode.Success
  }
  const answer = maySubscribe(connection, topic.name)
  if (answer === ReasonCode.Success && connection.permit.parts.isCached) connection.permittedResponseTopic = topic
  return answer
}

/** Of the Will in CONNECT (§3.1.2.5). */
export function mayPublishWill(connection: Connection, topic: string): Answer {
  // A Will has nobody to answer to.
  if (isOwnTopic(topic) || isReserved(topic) || topic === REQUEST_TOPIC) return denied(connection, 'will', topic, OWN_TOPIC)
  return judge(connection, 'will', topic, permit => permit.decidePublish(topic))
}

function judge(connection: Connection, action: AuditedAction, topic: string, decide: (permit: Permit) => Decision): Answer {
  const { permit } = connection
  if (permit === null) return ReasonCode.Success
  try {
    const decision = decide(permit)
    if (!decision.allowed) return denied(connection, action, topic, causeOf(connection, decision))
  } catch (error) {
    return failed(connection, action, topic, error)
  }
  connection.category.authorizationAllowed++
  return ReasonCode.Success
}

const OWN_TOPIC = 'a topic of the broker itself'

/** Names the policy: where no rule decided, all those that count for the port. */
export function causeOf({ grant }: Connection, { rule }: Decision): string {
  if (rule !== null) return `denied by ${rule}`
  const policies = grant?.policy.authorizations.map(({ name }) => name) ?? []
  return policies.length === 0 ? 'no rule allows it' : `no rule of BrokerAuthorization ${policies.join(', ')} allows it`
}

function denied(connection: Connection, action: AuditedAction, topic: string, cause: string): Answer {
  connection.category.authorizationDenied++
  refused(connection, action, topic, cause)
  return ReasonCode.NotAuthorized
}

function failed(connection: Connection, action: AuditedAction, topic: string, error: unknown): Answer {
  connection.category.authorizationFailures++
  connection.frontend.log.error('authorization_failed', {
    client: connection.clientId,
    listener: connection.port.name,
    action,
    error: thrownField(error),
  })
  auditRefusal(connection, action, { topic }, 'the check failed')
  return ReasonCode.ImplementationSpecificError
}

function refused(connection: Connection, action: AuditedAction, topic: string, cause: string): void {
  connection.frontend.log.warn(`${action}_denied`, { client: connection.clientId, listener: connection.port.name, topic })
  auditRefusal(connection, action, { topic }, cause)
}
