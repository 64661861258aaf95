/** Whatever the client throws of its own is one of these. */
export class StateStoreError extends Error {
  override readonly name: string = 'StateStoreError'
  /** The store may have done what was asked, or may yet do it: nobody knows. */
  readonly isUncertain: boolean

  constructor(message: string, { isUncertain = false, cause }: { readonly isUncertain?: boolean; readonly cause?: unknown } = {}) {
    super(message, cause === undefined ? {} : { cause })
    this.isUncertain = isUncertain
  }
}

/** What a class of errors extends. Its name, letter for letter, is what tells it from the others in TypeScript too. */
function called<const Name extends string>(name: Name, general: typeof StateStoreError = StateStoreError) {
  return class extends general {
    override readonly name: Name = name
  }
}

/** The store answered `-ERR text`: nothing was changed. `message` is that text, letter for letter. */
export class RefusedError extends StateStoreError {
  override readonly name: string = 'RefusedError'
}

/** The policy of the broker does not give this key to this client. */
export class NotAuthorizedError extends called('NotAuthorizedError', RefusedError) {}

/** The entry is protected by a fencing token and the request carried none. */
export class FencingTokenRequiredError extends called('FencingTokenRequiredError', RefusedError) {}

/** A newer lock than the one of this token has written the entry. */
export class FencingTokenOutdatedError extends called('FencingTokenOutdatedError', RefusedError) {}

/** The clock of the request, or of its fencing token, is over a minute ahead of the store's. */
export class ClockAheadError extends called('ClockAheadError', RefusedError) {}

/** The store holds as many keys as it may; overwriting and deleting go on working. */
export class QuotaExceededError extends called('QuotaExceededError', RefusedError) {}

/** No answer within the time of the request. */
export class RequestTimeoutError extends called('RequestTimeoutError') {}

/** The connection ended while the request was under way. Requests that change something are never repeated by the client. */
export class ConnectionLostError extends called('ConnectionLostError') {}

/** As many requests wait as may; nothing was sent. */
export class TooManyRequestsError extends called('TooManyRequestsError') {}

/** Quota exceeded: also what the broker says of a request that it passed on, and that nobody has answered for too long. */
const TOO_LATE = 0x97

/** The broker refused the request message or the subscription itself, with this Reason Code of MQTT. Of 0x97 it is uncertain. */
export class BrokerRefusedError extends called('BrokerRefusedError') {
  readonly reasonCode: number

  constructor(what: string, reasonCode: number) {
    super(`${what} was refused with reason code 0x${reasonCode.toString(16).padStart(2, '0')}`, { isUncertain: reasonCode === TOO_LATE })
    this.reasonCode = reasonCode
  }
}

/** What came back is no answer to the request: it may have been done. */
export class UnexpectedAnswerError extends called('UnexpectedAnswerError') {
  constructor(message: string) {
    super(message, { isUncertain: true })
  }
}

/** The clock of an answer is over a minute ahead of this machine's. What was asked may have been done. */
export class ServerClockError extends called('ServerClockError') {
  constructor(message: string) {
    super(message, { isUncertain: true })
  }
}

/** The store object was closed. */
export class ClosedError extends called('ClosedError') {}

const AHEAD = 'is too far in the future; ensure that the client and broker system clocks are synchronized'

const REFUSALS = new Map<string, typeof RefusedError>([
  ['not authorized', NotAuthorizedError],
  ['a fencing token is required for this request', FencingTokenRequiredError],
  ['the request fencing token is a lower version than the fencing token protecting the resource', FencingTokenOutdatedError],
  [`the request timestamp ${AHEAD}`, ClockAheadError],
  [`the request fencing token timestamp ${AHEAD}`, ClockAheadError],
  ['the quota has been exceeded', QuotaExceededError],
])

/** The error for the text of an `-ERR` answer; of the general class when the text asks for no reaction of its own. */
export function refusalOf(text: string): RefusedError {
  return new (REFUSALS.get(text) ?? RefusedError)(text)
}
