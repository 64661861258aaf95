/** User Properties of requests, responses and notifications (spec state-store.md 2 and 3). */
export const StoreProperty = {
  /** A hybrid logical clock: of the client in a request, a version in a response, of the change in a notification. */
  Timestamp: '__ts',
  FencingToken: '__ft',
  ProtocolVersion: '__protVer',
  /** Without it, or with another value than STATUS_DONE, clients report a failed call instead of the answer. */
  Status: '__stat',
  SupportedMajorVersions: '__supProtMajVer',
  RequestedVersion: '__requestProtVer',
} as const

/** On every response, errors of the store included. */
export const STATUS_DONE = '200'
/** The request speaks another major version: the response has no payload, and says which versions are understood. */
export const STATUS_VERSION_UNSUPPORTED = '505'

export const PROTOCOL_VERSION = '1.0'
export const SUPPORTED_MAJOR_VERSIONS = '1'

/** @param version the value of `__protVer`; null: there is none, which means 1.0 */
export function isSupportedVersion(version: string | null): boolean {
  return version === null || /^1(\.\d+)?$/.test(version)
}
