import { thrownField } from '#shared/base/thrown.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthorizationVerdict, PortPolicy, RecheckVerdict } from '#shared/rpc/authentication.ts'
import { adopt, type ConnectionGrant } from '../connection/grant.ts'
import type { Ended } from '../connection/refusing.ts'
import { rightsOf } from '../connection/rights.ts'
import type { Frontend } from '../frontend.ts'
import { type Duty, isDue } from './duty.ts'

/** Questions to the authentication service at a time. */
const INQUIRIES_MAX = 100
/** That begin in one turn: a service in this process answers at once, and others have their turns in between. */
const BEGUN_PER_TURN_MAX = 100

export type Answered =
  | { readonly is: 'granted' }
  | { readonly is: 'refused'; readonly end: Ended }
  | { readonly is: 'unavailable'; readonly cause: string }

/** Asks the authentication service about connections whose rules have changed, a limited number at a time, in the order of their coming. */
export class Inquiries {
  readonly #frontend: Frontend
  readonly #requestTurn: () => void
  readonly #onAnswered: (duty: Duty, answered: Answered) => void
  #waiting: Duty[] = []
  #at = 0
  #running = 0
  #begun = 0
  #begunTurn = 0

  constructor(frontend: Frontend, requestTurn: () => void, onAnswered: (duty: Duty, answered: Answered) => void) {
    this.#frontend = frontend
    this.#requestTurn = requestTurn
    this.#onAnswered = onAnswered
  }

  add(duty: Duty): void {
    this.#waiting.push(duty)
    this.#pump()
  }

  /** What is not due any more need not be kept waiting. */
  forgetOld(): void {
    this.#waiting = this.#waiting.slice(this.#at).filter(isDue)
    this.#at = 0
  }

  /** In each turn. */
  goOn(): void {
    if (this.#waiting.length > 0) this.#pump()
  }

  #pump(): void {
    while (this.#running < INQUIRIES_MAX && this.#at < this.#waiting.length) {
      if (!this.#hasRoomInTurn()) return this.#requestTurn()
      const duty = this.#waiting[this.#at++]!
      if (!isDue(duty)) continue
      this.#begun++
      void this.#run(duty)
    }
    if (this.#at < this.#waiting.length) return
    this.#waiting = []
    this.#at = 0
  }

  #hasRoomInTurn(): boolean {
    const { turnNumber } = this.#frontend
    if (this.#begunTurn !== turnNumber) this.#begun = 0
    this.#begunTurn = turnNumber
    return this.#begun < BEGUN_PER_TURN_MAX
  }

  async #run(duty: Duty): Promise<void> {
    this.#running++
    let answered: Answered | null
    try {
      answered = await (duty.is === 'recheck' ? this.#recheck(duty) : this.#reevaluate(duty))
    } catch (error) {
      this.#frontend.log.error('inquiry_failed', {
        client: duty.connection.clientId,
        error: thrownField(error),
      })
      answered = { is: 'unavailable', cause: 'a fault of the authentication service' }
    }
    this.#running--
    if (answered !== null) this.#onAnswered(duty, answered)
    this.#pump()
  }

  /** Null: the answer comes with that of the backend, or nobody waits for it. */
  async #reevaluate(duty: Duty): Promise<Answered | null> {
    const { connection } = duty
    const { grant, clientId } = connection
    if (grant === null || duty.policy === null) return null
    const { authorizations } = duty.policy
    const verdict: AuthorizationVerdict =
      authorizations.length === 0
        ? { is: 'allowed', permit: null }
        : await this.#frontend.authentication.authorize({ authorizations, clientId, identity: grant.identity })
    // It has another grant by a re-authentication: that is looked at when its session knows.
    if (!isDue(duty) || connection.grant !== grant) return null
    if (verdict.is === 'refused')
      return { is: 'refused', end: notAuthorized('reauthorize', ReasonCode.AdministrativeAction, verdict.cause) }
    if (verdict.is === 'unavailable') return verdict
    const policy: PortPolicy = { authentication: grant.policy.authentication, authorizations }
    return this.#restrict(duty, { ...grant, policy }, verdict.permit)
  }

  #restrict(duty: Duty, grant: ConnectionGrant, permitBytes: Uint8Array | null): Answered | null {
    const { connection } = duty
    adopt(connection, grant, permitBytes)
    const rights = rightsOf(connection.clientId, grant, permitBytes)
    // A session that may do everything keeps what it has. Its Will is judged by the guard that it was left with.
    if (rights === null) return { is: 'granted' }
    connection.restrict(rights, () => this.#frontend.liveChange.onGranted(connection))
    return null
  }

  async #recheck(duty: Duty): Promise<Answered | null> {
    const { connection } = duty
    const { grant, clientId, transport } = connection
    if (grant === null || duty.policy === null) return null
    const { policy } = duty
    const changesBehind = this.#frontend.liveChange.changesBehind(policy.authentication.name)
    const { peerCertificates } = transport
    const verdict: RecheckVerdict = await this.#frontend.authentication.recheck({ policy, clientId, peerCertificates, proof: grant.proof })
    if (!isDue(duty) || connection.grant !== grant) return null
    if (verdict.is === 'refused') return { is: 'refused', end: notAuthorized('recheck', ReasonCode.NotAuthorized, verdict.cause) }
    if (verdict.is === 'unavailable') return verdict
    const { authorizations } = grant.policy
    connection.grant = { ...grant, changesBehind, policy: { authentication: policy.authentication, authorizations } }
    return { is: 'granted' }
  }
}

function notAuthorized(action: Ended['action'], reason: ReasonCode, cause: string): Ended {
  return { action, reason, detail: 'not authorized any more', cause }
}
