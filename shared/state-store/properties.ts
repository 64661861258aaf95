import type { UserProperty } from '#shared/mqtt/strict-properties.ts'
import { formatClock, type HybridClock } from './hybrid-clock.ts'

/** User Properties of requests, responses and notifications (spec state-store.md 2 and 3). */
export const StoreProperty = {
  /** A hybrid logical clock: of the client in a request, a version in a response, of the change in a notification. */
  Timestamp: '__ts',
  FencingToken: '__ft',
  /** Ours: in a notification to who keeps a watch, the `__ts` of the change before. */
  Previous: '__prev',
  ProtocolVersion: '__protVer',
  Status: '__stat',
  SupportedMajorVersions: '__supProtMajVer',
  RequestedVersion: '__requestProtVer',
} as const

/** Clients report any other status, and none, as a failed call instead of what the store said, errors of the store included. */
export const STATUS_DONE = '200'
/** The request speaks another major version: the response has no payload, and says which versions are understood. */
const STATUS_VERSION_UNSUPPORTED = '505'
const SUPPORTED_MAJOR_VERSIONS = '1'

/** Of the response without payload to a request whose version is not supported. */
export function unsupportedVersionProperties(requested: string): readonly UserProperty[] {
  return [
    [StoreProperty.Status, STATUS_VERSION_UNSUPPORTED],
    [StoreProperty.SupportedMajorVersions, SUPPORTED_MAJOR_VERSIONS],
    [StoreProperty.RequestedVersion, requested],
  ]
}

/** @param previous for who keeps a watch of the key */
export function notificationProperties(clock: HybridClock, previous: HybridClock | null = null): readonly UserProperty[] {
  const timestamp: UserProperty = [StoreProperty.Timestamp, formatClock(clock)]
  return previous === null ? [timestamp] : [timestamp, [StoreProperty.Previous, formatClock(previous)]]
}

/** @param version the value of `__protVer`; null: there is none, which means 1.0 */
export function isSupportedVersion(version: string | null): boolean {
  return version === null || /^1(\.\d+)?$/.test(version)
}
