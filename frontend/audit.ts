import type { AuditedRefusal } from '#shared/telemetry/audit.ts'

/** What the decision about a connection was about; `handshake`: a client certificate, before there is a client. */
export type AuditedAction =
  | 'handshake'
  | 'publish'
  | 'subscribe'
  | 'will'
  | 'readKey'
  | 'readKeysUnder'
  | 'writeKey'
  | 'reauthenticate'
  | 'recheck'
  | 'reauthorize'
  | 'expiry'

/** Where refusals go besides the log: an Audit. It limits their rate, as clients cause them. */
export interface RefusalAudit {
  refused(refusal: AuditedRefusal): void
}

export const NO_AUDIT: RefusalAudit = { refused: () => undefined }
