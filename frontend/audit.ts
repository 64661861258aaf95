/** What a decision was about. */
export type AuditedAction = 'publish' | 'subscribe' | 'will' | 'reauthenticate' | 'recheck' | 'reauthorize' | 'expiry'

/** A client was refused something, for those who look after the broker. No secrets; texts come from clients and policies. */
export interface Refusal {
  readonly action: AuditedAction
  readonly listener: string
  readonly remoteAddress: string
  readonly clientId: string
  /** As proven; empty where none is. */
  readonly userName: string
  /** Topic Name or Topic Filter; null where there is none. */
  readonly topic: string | null
  /** The rule that decided, or why there was none. */
  readonly cause: string
}

/** Where refusals go besides the log. Limited in rate behind it: clients cause them. */
export interface RefusalAudit {
  refused(refusal: Refusal): void
}

export const NO_AUDIT: RefusalAudit = { refused: () => undefined }
