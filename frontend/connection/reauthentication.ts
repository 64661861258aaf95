import { thrownField } from '#shared/base/thrown.ts'
import { type Auth, type AuthReason, encodeAuth } from '#shared/mqtt/auth-codec.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Grant } from '#shared/rpc/authentication.ts'
import { disconnect } from './closing.ts'
import type { Connection } from './connection.ts'
import { AUTHENTICATION_MS } from './deadlines.ts'
import { ExchangeLimits } from './exchange-limits.ts'
import { adopt, connectionGrant } from './grant.ts'
import { logEnd } from './refusing.ts'
import { rightsOf } from './rights.ts'
import { decide, type Decided } from './verdicts.ts'

/** Between two answers "later": clients answer each of them at once with another attempt. It doubles up to the longest. */
const LATER_MS = 1_000
const LATER_LONGEST_MS = 30_000
const LATER = 'transient, retry later'

/**
 *   idle ─AUTH 0x19→ deciding ─accepted→ idle, ─refused→ the end of the connection
 *                    │  ↑  └─unavailable→ waiting ─AUTH 0x18 "later"→ transient ─AUTH 0x18, 0x19→ deciding
 *          challenge ↓  │ AUTH 0x18
 *                 challenged ─too late→ the end of the connection
 */
type Phase = 'idle' | 'deciding' | 'challenged' | 'waiting' | 'transient'

/** What an AUTH is in each phase: there is one attempt at a time (§4.12.1). */
const MEANING: Record<Phase, Record<Auth['reason'], 'attempt' | 'answer' | 'outOfTurn'>> = {
  idle: { [ReasonCode.ReAuthenticate]: 'attempt', [ReasonCode.ContinueAuthentication]: 'outOfTurn' },
  deciding: { [ReasonCode.ReAuthenticate]: 'outOfTurn', [ReasonCode.ContinueAuthentication]: 'outOfTurn' },
  challenged: { [ReasonCode.ReAuthenticate]: 'outOfTurn', [ReasonCode.ContinueAuthentication]: 'answer' },
  waiting: { [ReasonCode.ReAuthenticate]: 'outOfTurn', [ReasonCode.ContinueAuthentication]: 'outOfTurn' },
  // By the book 0x18 asks for another 0x18: clients send their credential with it.
  transient: { [ReasonCode.ReAuthenticate]: 'attempt', [ReasonCode.ContinueAuthentication]: 'attempt' },
}

/** A client of an open connection that authenticates itself again. Its old credential holds, for as long as it does, until there is another. */
export class Reauthentication {
  readonly #connection: Connection
  #phase: Phase = 'idle'
  #limits = new ExchangeLimits()
  #sealedState: Uint8Array | null = null
  #cancelTimer: (() => void) | null = null
  /** Monotonic: how long this attempt may take. */
  #untilMs = 0
  /** Monotonic: when "later" may be said again. */
  #laterFromMs = 0
  #laterMs = LATER_MS

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** @throws {ProtocolError} it is out of turn */
  onAuth({ reason, data }: Auth): void {
    const meaning = MEANING[this.#phase][reason]
    if (meaning === 'outOfTurn') throw new ProtocolError(ReasonCode.ProtocolError, '§4.12.1', 'AUTH out of turn')
    if (meaning === 'attempt') {
      this.#limits = new ExchangeLimits()
      this.#sealedState = null
      this.#untilMs = this.#nowMs + AUTHENTICATION_MS
    }
    this.stop()
    if (!this.#limits.admit(data)) return this.#fail(ReasonCode.QuotaExceeded, 'authentication took too many rounds or too much data')
    this.#phase = 'deciding'
    void this.#decide(data)
  }

  /** Nothing more comes of it. */
  stop(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  async #decide(data: Uint8Array | null): Promise<void> {
    const connection = this.#connection
    const decided = await decide(connection, {
      purpose: 'reauthenticate',
      userName: null,
      password: null,
      authenticationMethod: connection.authenticationMethod,
      authenticationData: data,
      sealedState: this.#sealedState,
      proof: connection.grant?.proof ?? null,
    })
    // One that is about to be disconnected cannot save itself by it.
    if (!connection.isAttached || this.#isToEnd) return
    this.#onDecided(decided)
  }

  get #nowMs(): number {
    return this.#connection.frontend.deadlines.clockMs
  }

  get #isToEnd(): boolean {
    const duty = this.#connection.duty?.is
    return duty === 'disconnect' || duty === 'remove'
  }

  #onDecided(decided: Decided): void {
    const { verdict } = decided
    switch (verdict.is) {
      case 'accepted':
        return this.#accept(decided, verdict.grant)
      case 'challenge':
        if (!this.#limits.send(verdict.data)) return this.#fail(ReasonCode.QuotaExceeded, 'authentication took too much data')
        this.#phase = 'challenged'
        this.#sealedState = verdict.sealedState
        this.#cancelTimer = this.#connection.frontend.deadlines.after(this.#untilMs - this.#nowMs, () => this.#onTooLate())
        return this.#send(ReasonCode.ContinueAuthentication, verdict.data, undefined)
      case 'refused':
        return this.#fail(ReasonCode.NotAuthorized, 'not authorized', verdict.cause)
      case 'unavailable':
        return this.#sayLater(verdict.cause)
    }
  }

  #accept({ policy, changesBehind }: Decided, granted: Grant): void {
    const connection = this.#connection
    const { frontend, clientId } = connection
    const done = (): void => this.#onStored(granted.authenticationData)
    // A port without authentication ignores the method that it knows.
    if (policy === null) return done()
    const grant = connectionGrant(granted, policy, changesBehind)
    let isNew: boolean
    try {
      isNew = adopt(connection, grant, granted.permit)
    } catch (error) {
      frontend.log.error('permit_broken', { client: clientId, error: thrownField(error) })
      return this.#sayLater('the permit cannot be read')
    }
    frontend.deadlines.reschedule(connection)
    const rights = rightsOf(clientId, grant, granted.permit)
    if (rights === null || !isNew) done()
    else connection.restrict(rights, done)
  }

  /** The session knows. */
  #onStored(data: Uint8Array | null): void {
    const connection = this.#connection
    this.#phase = 'idle'
    this.#laterMs = LATER_MS
    this.#laterFromMs = 0
    connection.frontend.log.info('reauthenticated', { client: connection.clientId, listener: connection.port.name })
    this.#send(ReasonCode.Success, data, undefined)
    connection.frontend.liveChange.onGranted(connection)
  }

  /** AUTH 0x18 is what says so, however odd (docs/mqtt.md); not so often that clients that answer it at once keep us busy. */
  #sayLater(cause: string): void {
    const { clientId, port, frontend } = this.#connection
    frontend.log.warn('reauthentication_unavailable', { client: clientId, listener: port.name, cause })
    this.#phase = 'waiting'
    const waitMs = this.#laterFromMs - this.#nowMs
    if (waitMs > 0) this.#cancelTimer = frontend.deadlines.after(waitMs, () => this.#onLater())
    else this.#onLater()
  }

  #onLater(): void {
    this.#cancelTimer = null
    this.#phase = 'transient'
    this.#laterFromMs = this.#nowMs + this.#laterMs
    this.#laterMs = Math.min(LATER_LONGEST_MS, this.#laterMs * 2)
    this.#send(ReasonCode.ContinueAuthentication, null, LATER)
  }

  #onTooLate(): void {
    this.#cancelTimer = null
    this.#fail(ReasonCode.NotAuthorized, 'authentication took too long')
  }

  #send(reason: AuthReason, data: Uint8Array | null, reasonString: string | undefined): void {
    const connection = this.#connection
    const method = connection.authenticationMethod ?? ''
    const properties = { method, data: data === null ? undefined : Buffer.from(data), reasonString }
    connection.send(encodeAuth(reason, properties, connection.packetBytesMaxOut))
  }

  /** [MQTT-4.12.1-2] */
  #fail(reason: ReasonCode, detail: string, cause = detail): void {
    logEnd(this.#connection, { action: 'reauthenticate', reason, detail, cause })
    disconnect(this.#connection, reason, detail)
  }
}
