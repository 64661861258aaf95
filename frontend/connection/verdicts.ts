import { thrownField } from '#shared/base/thrown.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Credentials, PortPolicy, Verdict } from '#shared/rpc/authentication.ts'
import { anonymousVerdict } from './anonymous.ts'
import type { Connection } from './connection.ts'
import { isSamePolicy } from '../live-change/policies.ts'

/** While policies change faster than they are asked about: then it cannot be decided now. */
const ASKED_MAX = 5

/** What a client shows in one round; secrets go as soon as there is a verdict. */
export interface Question {
  readonly purpose: 'connect' | 'reauthenticate'
  readonly userName: string | null
  password: Uint8Array | null
  readonly authenticationMethod: string | null
  authenticationData: Uint8Array | null
  readonly sealedState: Uint8Array | null
  readonly proof: Uint8Array | null
}

export interface Decided {
  readonly verdict: Verdict
  /** Who said so; null: the port has no authentication. */
  readonly policy: PortPolicy | null
  /** LiveChange.changesBehind before it was asked. */
  readonly changesBehind: number
}

/**
 * Asks the authentication service, again when the port has other policies by the time of the answer: a verdict of old ones is not used.
 * Never rejects. The caller looks whether the connection is still there.
 */
export async function decide(connection: Connection, question: Question): Promise<Decided> {
  const decided = await decideByNewest(connection, question)
  question.password = null
  question.authenticationData = null
  count(connection, decided)
  return decided
}

async function decideByNewest(connection: Connection, question: Question): Promise<Decided> {
  const { liveChange } = connection.frontend
  for (let asked = 1; ; asked++) {
    const { policy } = connection.port.rules
    if (policy === null) return { verdict: anonymousVerdict(question.authenticationMethod), policy, changesBehind: 0 }
    const changesBehind = liveChange.changesBehind(policy.authentication.name)
    const verdict = await ask(connection, policy, question)
    const isCurrent = isSamePolicy(policy, connection.port.rules.policy)
    if (isCurrent || connection.phase === 'closing' || connection.phase === 'closed') return { verdict, policy, changesBehind }
    if (asked === ASKED_MAX) return { verdict: { is: 'unavailable', cause: 'policies change all the time' }, policy, changesBehind }
  }
}

async function ask(connection: Connection, policy: PortPolicy, question: Question): Promise<Verdict> {
  const { frontend, port, transport, clientId, version } = connection
  const credentials: Credentials = {
    userName: question.userName,
    password: question.password,
    authenticationMethod: question.authenticationMethod,
    authenticationData: question.authenticationData,
    peerCertificates: transport.peerCertificates,
  }
  const { purpose, sealedState, proof } = question
  const { remoteAddress } = transport
  try {
    const about = { purpose, sealedState, proof, listener: port.name, policy, protocolVersion: version, remoteAddress, clientId }
    const verdict = await frontend.authentication.authenticate({ ...credentials, ...about })
    if (verdict.is !== 'accepted' || !frontend.deadlines.hasPassed(verdict.grant.expiresMs)) return verdict
    return expiredAlready(verdict.grant.method)
  } catch (error) {
    frontend.log.error('authentication_failed', {
      client: clientId,
      listener: port.name,
      error: thrownField(error),
    })
    return { is: 'unavailable', cause: 'a fault of the authentication service' }
  }
}

function expiredAlready(method: string): Verdict {
  return {
    is: 'refused',
    reason: ReasonCode.NotAuthorized,
    detail: 'not authorized',
    cause: 'the credential had expired by the time of the verdict',
    method,
  }
}

function count({ category }: Connection, { verdict }: Decided): void {
  if (verdict.is === 'accepted') category.authenticationSuccesses++
  else if (verdict.is === 'refused') category.authenticationDenied++
  else if (verdict.is === 'unavailable') category.authenticationFailures++
}
