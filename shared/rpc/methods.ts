/**
 * Numbers of the calls between callers and owners, the first byte of each frame. A number is never used again for something else. A call
 * whose layout changes gets a new number; the old one is understood for as long as a peer may speak the older protocol version.
 * OwnerMethod has 1 to 99 and CallerMethod 100 to 199; the others belong to the link itself.
 *
 * Since protocol version 2: Restrict, and rights in Attach, whose layout is the old one without them. Since 1: all others of these.
 */
export const OwnerMethod = {
  Attach: 1,
  Detach: 2,
  Publish: 3,
  PublishQos2: 4,
  Release: 5,
  Puback: 6,
  Pubrec: 7,
  Pubcomp: 8,
  Subscribe: 9,
  Unsubscribe: 10,
  Writable: 11,
  Resume: 12,
  WantRoutes: 13,
  RoutesApplied: 14,
  HandOver: 15,
  OpenRetained: 16,
  MoreRetained: 17,
  CloseRetained: 18,
  Members: 19,
  MemberStates: 20,
  RequestShard: 21,
  Restrict: 22,
  AskStore: 23,
  Unwatch: 24,
  ReadStore: 25,
} as const

/** What owners tell callers; see OwnerMethod. */
export const CallerMethod = {
  Deliver: 100,
  Acknowledged: 101,
  Subscribed: 102,
  Released: 103,
  Pressure: 104,
  Disconnect: 105,
  Attached: 106,
  AttachMoved: 107,
  Detached: 108,
  Published: 109,
  Resumed: 110,
  Owned: 111,
  AllOwned: 112,
  Lost: 113,
  Routes: 114,
  HandedOver: 115,
  Retained: 116,
  MembersApplied: 117,
  ShardReleased: 118,
  StoreAsked: 119,
  Unwatched: 120,
  StoreRead: 121,
} as const

/** Between frontends and authentication services; see OwnerMethod. What the service is asked, 200 to 209. */
export const AuthServiceMethod = {
  Authenticate: 200,
  Authorize: 201,
  Recheck: 202,
} as const

/** What the authentication service tells a frontend, 210 to 239. */
export const AuthAskerMethod = {
  Verdict: 210,
  Authorized: 211,
  Rechecked: 212,
  Standing: 213,
  Leaving: 214,
} as const

const ALL = [OwnerMethod, CallerMethod, AuthServiceMethod, AuthAskerMethod].flatMap(methods => Object.entries(methods))
const NAMES = new Map<number, string>(ALL.map(([name, method]) => [method, name]))

/** Names of all methods by their numbers. */
export const METHOD_NAMES: readonly (string | undefined)[] = Array.from({ length: 256 }, (_, method) => NAMES.get(method))

/** The name of a method for metrics and logs: one of a fixed set, whatever the peer sends. */
export function methodName(method: number): string {
  return NAMES.get(method) ?? 'unknown'
}
