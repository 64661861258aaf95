/**
 * What an answer `-ERR text` may say (spec state-store.md 10). Clients compare these texts letter by letter, so none may ever change.
 */
export const ErrorText = {
  Syntax: 'syntax error',
  UnknownCommand: 'unknown command',
  ArgumentCount: 'wrong number of arguments',
  EmptyKey: 'the key length is zero',
  NotAuthorized: 'not authorized',
  MissingTimestamp: 'missing timestamp',
  MalformedTimestamp: 'malformed timestamp',
  TimestampAhead: 'the request timestamp is too far in the future; ensure that the client and broker system clocks are synchronized',
  TokenAhead:
    'the request fencing token timestamp is too far in the future; ensure that the client and broker system clocks are synchronized',
  TokenRequired: 'a fencing token is required for this request',
  TokenLower: 'the request fencing token is a lower version than the fencing token protecting the resource',
  QuotaExceeded: 'the quota has been exceeded',
} as const

export type ErrorText = (typeof ErrorText)[keyof typeof ErrorText]
