import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { PortRules } from '#shared/rpc/port-rules.ts'
import type { ClientPort } from '../client-port.ts'
import { disconnect } from '../connection/closing.ts'
import type { Connection } from '../connection/connection.ts'
import { type Ended, logEnd } from '../connection/refusing.ts'
import type { Frontend } from '../frontend.ts'
import { type Duty, isDue } from './duty.ts'
import { hold, release } from './holding.ts'
import { Inquiries, type Answered } from './inquiries.ts'
import { Paced } from './paced.ts'
import { dutyOf, type DutyKind, isSamePolicy, type Standing } from './policies.ts'

const TICK_MS = 100
/** Connections that are ended in one turn; the rest follows in the next ones. */
const ENDED_PER_TURN_MAX = 256
/** A connection that is held for longer is disconnected: elsewhere it may be served. */
const HELD_MAX_MS = 30_000
/** Until an authentication service that could not answer is asked again; doubles up to the longest. */
const RETRY_MS = 1_000
const RETRY_LONGEST_MS = 60_000

const RULES_CHANGED: Ended = {
  action: 'reauthorize',
  reason: ReasonCode.AdministrativeAction,
  detail: 'the rules of this port have changed',
  cause: 'the rules of the port have changed',
}
const PORT_CLOSED: Ended = { ...RULES_CHANGED, detail: 'this port is closed', cause: 'the port is closed' }
/** Not ServerUnavailable, which DISCONNECT does not have, nor ServerShuttingDown, which we are not: it may come back at once. */
const NOT_DECIDED: Ended = {
  action: 'reauthorize',
  reason: ReasonCode.ServerBusy,
  detail: 'the server cannot say now what this client may do',
  cause: 'new rights could not be had in time',
}

/**
 * What becomes of connections when the rules that let them in are others. Their standing is compared with the rules in force, not old rules
 * with new ones: whatever comes in between, the newest rules count, and rules that come back let everybody go on.
 *
 * Invariant: from the call that changes the rules on, a connection whose rights are out of date is held (connection.ts) until it has new
 * ones or is gone. Nothing that it sent after that is done by its old rights, and nothing reaches it by them.
 */
export class LiveChange {
  readonly #frontend: Frontend
  readonly #requestTurn: () => void
  readonly #changesBehind = new Map<string, number>()
  readonly #inquiries: Inquiries
  #ending: Paced<Duty>[] = []
  #rechecking: Paced<Duty>[] = []
  #retries: { readonly duty: Duty; readonly dueMs: number }[] = []
  /** Held, oldest first, until they have their rights. */
  readonly #reevaluating = new Set<Duty>()
  #isTicking = false
  #isBehind = false

  constructor(frontend: Frontend, requestTurn: () => void) {
    this.#frontend = frontend
    this.#requestTurn = requestTurn
    this.#inquiries = new Inquiries(frontend, requestTurn, (duty, answered) => this.#onAnswered(duty, answered))
  }

  /** How often something behind that BrokerAuthentication has changed since the process started, so far as we were told. */
  changesBehind(authentication: string): number {
    return this.#changesBehind.get(authentication) ?? 0
  }

  changeRules(port: ClientPort, rules: PortRules): void {
    port.rules = rules
    this.#review(connection => connection.port === port, rules.disconnectWithinMs)
  }

  portClosed(port: ClientPort): void {
    port.isClosed = true
    this.#review(connection => connection.port === port, port.rules.disconnectWithinMs)
  }

  /** A Secret, a list of revoked certificates, … that clients of `authentication` were judged by. */
  onChangedBehind(authentication: string): void {
    this.#changesBehind.set(authentication, this.changesBehind(authentication) + 1)
    const ports = new Set<ClientPort>()
    for (const { port } of this.#frontend.connections) if (port.rules.policy?.authentication.name === authentication) ports.add(port)
    for (const port of ports) this.#review(connection => connection.port === port, port.rules.disconnectWithinMs)
  }

  /** CONNACK has been sent: the rules may have changed since they were asked about. */
  onOpened(connection: Connection): void {
    this.#reviewOne(connection)
  }

  /** It has another grant. */
  onGranted(connection: Connection): void {
    this.#reviewOne(connection)
  }

  /** At the end of each turn: goes on with what the turn before had no room for. */
  catchUp(): void {
    if (this.#isBehind) this.#work()
    this.#inquiries.goOn()
  }

  #reviewOne(connection: Connection): void {
    const duty = connection.isAttached ? this.#assign(connection) : null
    if (duty !== null) this.#enqueue([duty], 0)
  }

  #review(concerns: (connection: Connection) => boolean, withinMs: number): void {
    this.#inquiries.forgetOld()
    const duties: Duty[] = []
    for (const connection of this.#frontend.connections) {
      if (!connection.isAttached || !concerns(connection)) continue
      const duty = this.#assign(connection)
      if (duty !== null) duties.push(duty)
    }
    if (duties.length === 0) return
    const [ending, rechecked, reevaluated] = this.#enqueue(duties, withinMs)
    this.#frontend.log.info('rules_changed', { ending, rechecked, reevaluated })
  }

  /** Null: nothing new is to be done. */
  #assign(connection: Connection): Duty | null {
    const { duty: before } = connection
    const is = this.#kindFor(connection)
    if (before !== null && before.is === is && isUnderWay(before)) return null
    if (before !== null) this.#reevaluating.delete(before)
    connection.duty = null
    const sinceMs = before?.is === 'reevaluate' ? before.sinceMs : this.#nowMs
    if ((is === null || is === 'recheck') && connection.phase === 'held' && connection.isRestricting) {
      // Its rights are the right ones, but its session does not go by them yet: then it is looked at again.
      this.#reevaluating.add(this.#give(connection, 'reevaluate', sinceMs))
      return null
    }
    if (is === null || is === 'recheck') release(connection)
    else if (is !== 'remove') hold(connection)
    // Going on may have ended it.
    if (is === null || !connection.isAttached) return null
    return this.#give(connection, is, sinceMs)
  }

  #give(connection: Connection, is: DutyKind, sinceMs: number): Duty {
    const { grant, port } = connection
    const duty: Duty = { is, connection, grant, policy: port.rules.policy, sinceMs, retryMs: RETRY_MS }
    connection.duty = duty
    return duty
  }

  #kindFor({ grant, port }: Connection): DutyKind | null {
    const standing: Standing = grant ?? { policy: null, changesBehind: 0 }
    const { policy } = port.rules
    return dutyOf(standing, port.rules, port.isClosed, policy === null ? 0 : this.changesBehind(policy.authentication.name))
  }

  /** Answers how many are ended, rechecked and re-evaluated. */
  #enqueue(duties: readonly Duty[], withinMs: number): readonly [number, number, number] {
    const nowMs = this.#nowMs
    const ending = duties.filter(({ is }) => is === 'disconnect' || is === 'remove')
    if (ending.length > 0) this.#ending.push(new Paced(ending, nowMs, withinMs))
    const rechecked = duties.filter(({ is }) => is === 'recheck')
    if (rechecked.length > 0) this.#rechecking.push(new Paced(rechecked, nowMs, withinMs))
    const reevaluated = duties.filter(({ is }) => is === 'reevaluate')
    for (const duty of reevaluated) {
      this.#reevaluating.add(duty)
      this.#inquiries.add(duty)
    }
    this.#isBehind = true
    this.#requestTurn()
    return [ending.length, rechecked.length, reevaluated.length]
  }

  #work(): void {
    this.#isBehind = false
    const nowMs = this.#nowMs
    this.#endDue(nowMs)
    for (const paced of this.#rechecking) {
      for (let duty = paced.take(nowMs); duty !== null; duty = paced.take(nowMs)) if (isDue(duty)) this.#inquiries.add(duty)
    }
    this.#rechecking = this.#rechecking.filter(paced => !paced.isDone)
    this.#retryDue(nowMs)
    this.#endHeldTooLong(nowMs)
    if (this.#isBehind) this.#requestTurn()
    this.#tickWhileBusy()
  }

  #endDue(nowMs: number): void {
    let left = ENDED_PER_TURN_MAX
    for (const paced of this.#ending) {
      for (let duty = paced.take(nowMs); duty !== null; duty = paced.take(nowMs)) {
        if (!isDue(duty)) continue
        this.#end(duty, duty.is === 'remove' ? PORT_CLOSED : RULES_CHANGED)
        if (--left > 0) continue
        this.#isBehind = true
        return
      }
    }
    this.#ending = this.#ending.filter(paced => !paced.isDone)
  }

  #retryDue(nowMs: number): void {
    const waiting = this.#retries.filter(({ duty }) => isDue(duty))
    this.#retries = waiting.filter(({ dueMs }) => dueMs > nowMs)
    for (const { duty, dueMs } of waiting) if (dueMs <= nowMs) this.#inquiries.add(duty)
  }

  #endHeldTooLong(nowMs: number): void {
    for (const duty of this.#reevaluating) {
      if (isDue(duty)) {
        // Whoever was held first comes first.
        if (duty.sinceMs + HELD_MAX_MS > nowMs) return
        this.#end(duty, NOT_DECIDED)
      }
      this.#reevaluating.delete(duty)
    }
  }

  /** One timer for all, while there is something to wait for. */
  #tickWhileBusy(): void {
    const isBusy = this.#ending.length + this.#rechecking.length + this.#retries.length + this.#reevaluating.size > 0
    if (!isBusy || this.#isTicking) return
    this.#isTicking = true
    this.#frontend.deadlines.after(TICK_MS, () => {
      this.#isTicking = false
      this.#work()
    })
  }

  #onAnswered(duty: Duty, answered: Answered): void {
    if (!isDue(duty)) return
    const { connection } = duty
    switch (answered.is) {
      case 'granted':
        return this.#reviewOne(connection)
      case 'refused':
        return this.#end(duty, answered.end)
      case 'unavailable':
        this.#frontend.log.warn('rules_undecided', { client: connection.clientId, listener: connection.port.name, cause: answered.cause })
        this.#retries.push({ duty, dueMs: this.#nowMs + duty.retryMs })
        duty.retryMs = Math.min(RETRY_LONGEST_MS, duty.retryMs * 2)
        return this.#tickWhileBusy()
    }
  }

  #end({ connection }: Duty, end: Ended): void {
    this.#frontend.counters.endedByChange++
    logEnd(connection, end)
    disconnect(connection, end.reason, end.detail)
  }

  get #nowMs(): number {
    return this.#frontend.deadlines.clockMs
  }
}

/** Nothing new is to be done for a duty of the same kind. */
function isUnderWay({ is, connection, grant, policy }: Duty): boolean {
  // Its time to go has been set; it is not put off by another change.
  if (is === 'disconnect' || is === 'remove') return true
  // What a recheck looks at may have changed since it was begun, without a trace in the policy.
  return is === 'reevaluate' && grant === connection.grant && isSamePolicy(policy, connection.port.rules.policy)
}
