import type { Clock } from '../base/clock.ts'
import type { Timers } from '../base/timers.ts'
import { type Log, type LogFields, logText } from './log.ts'
import { RateLimitedLog } from './rate-limited-log.ts'

/** Characters of one text that are kept: clients choose how much they send, not how long our lines are. */
const TEXT_LENGTH_MAX = 128
/** Causes name policies, rules and servers. */
const CAUSE_LENGTH_MAX = 240

/** Who tried to come in, and what was decided. */
export interface AuditedAuthentication {
  readonly verdict: 'accepted' | 'refused' | 'unavailable'
  readonly purpose: 'connect' | 'reauthenticate'
  /** That decided: `X509`, …; `none` where none did. */
  readonly method: string
  readonly listener: string
  readonly remoteAddress: string
  readonly clientId: string
  /** As proven; empty where none is. What CONNECT claims is no part of it. */
  readonly userName: string
  /** Reason Code by its name, of a refusal; empty otherwise. */
  readonly reason: string
  /** Why not, for the operator alone; empty for `accepted`. */
  readonly cause: string
}

/** Something that a client wanted or had, and was refused or lost. */
export interface AuditedRefusal extends AuditedObject {
  /** One of a fixed set: `publish`, `subscribe`, `will`, `recheck`, … */
  readonly action: string
  readonly listener: string
  readonly remoteAddress: string
  readonly clientId: string
  readonly userName: string
  /** The rule that decided, or why there was none. */
  readonly cause: string
}

/** What it was about, if it was about one. */
export interface AuditedObject {
  /** Topic Name or Topic Filter. */
  readonly topic?: string
  /** Of the state store, or what keys begin with. */
  readonly key?: string
}

/** What an operator has changed, by files or the Kubernetes API. */
export interface AuditedChange {
  /** One of a fixed set: `resource_taken`, `resource_gone`; `content_changed`, `content_gone` of what one names. */
  readonly change: string
  readonly kind: string
  readonly name: string
  readonly detail: string
}

export interface AuditOptions {
  readonly log: Log
  readonly clock: Clock
  readonly timers: Timers
  /** Lines of one kind of refusal in a second; clients cause them as often as they like, and further ones are counted. */
  readonly refusalsPerSecond: number
  /** Lines of clients that came in in a second: so many that only a storm of them is counted instead of written. */
  readonly acceptedPerSecond?: number
}

const ACCEPTED_PER_SECOND = 1_000

/**
 * Lines for those who must be able to say later who did what: JSON like any other line, with `audit: true`. Nothing in them is a secret:
 * passwords, tokens and Authentication Data are never given to it.
 */
export class Audit {
  readonly #log: Log
  readonly #refusals: RateLimitedLog
  readonly #accepted: RateLimitedLog

  constructor({ log, clock, timers, refusalsPerSecond, acceptedPerSecond = ACCEPTED_PER_SECOND }: AuditOptions) {
    this.#log = marked(log)
    this.#refusals = new RateLimitedLog(this.#log, refusalsPerSecond, clock, timers)
    this.#accepted = new RateLimitedLog(this.#log, acceptedPerSecond, clock, timers)
  }

  authentication({ verdict, purpose, method, reason, cause, ...who }: AuditedAuthentication): void {
    const fields = { purpose, method, ...whoFields(who) }
    if (verdict === 'accepted') return this.#accepted.info('audit_authentication_accepted', fields)
    const event = verdict === 'refused' ? 'audit_authentication_refused' : 'audit_authentication_undecided'
    this.#refusals.warn(event, { ...fields, ...(reason !== '' && { reason }), cause: logText(cause, CAUSE_LENGTH_MAX) })
  }

  /** Something that an authenticated client may not, or may not any more. */
  refused({ action, topic, key, cause, ...who }: AuditedRefusal): void {
    this.#refusals.warn('audit_refused', {
      action,
      ...whoFields(who),
      ...(topic !== undefined && { topic: logText(topic, TEXT_LENGTH_MAX) }),
      ...(key !== undefined && { key: logText(key, TEXT_LENGTH_MAX) }),
      cause: logText(cause, CAUSE_LENGTH_MAX),
    })
  }

  /** Operators cause these: each is written. */
  change({ change, kind, name, detail }: AuditedChange): void {
    this.#log.info('audit_change', { change, kind, name: logText(name, TEXT_LENGTH_MAX), detail: logText(detail, CAUSE_LENGTH_MAX) })
  }

  /** Writes what is still to be said about lines that were counted. Call before exit. */
  flush(): void {
    this.#refusals.flush()
    this.#accepted.flush()
  }
}

interface Who {
  readonly listener: string
  readonly remoteAddress: string
  readonly clientId: string
  readonly userName: string
}

function whoFields({ listener, remoteAddress, clientId, userName }: Who): LogFields {
  return {
    listener,
    remoteAddress,
    clientId: logText(clientId, TEXT_LENGTH_MAX),
    ...(userName !== '' && { userName: logText(userName, TEXT_LENGTH_MAX) }),
  }
}

/** Every line of the audit can be told from the others, those that sum up what was not written included. */
function marked(log: Log): Log {
  const also = (fields: LogFields | undefined): LogFields => ({ audit: true, ...fields })
  return {
    get debugEnabled() {
      return log.debugEnabled
    },
    debug: (event, fields) => log.debug(event, also(fields)),
    info: (event, fields) => log.info(event, also(fields)),
    warn: (event, fields) => log.warn(event, also(fields)),
    error: (event, fields) => log.error(event, also(fields)),
  }
}
