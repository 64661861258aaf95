/** Every Reason Code of MQTT 5.0 (§2.4), under the specification's name. 0x00 is Success, Normal disconnection and Granted QoS 0. */
export const ReasonCode = {
  Success: 0x00,
  GrantedQoS1: 0x01,
  GrantedQoS2: 0x02,
  DisconnectWithWillMessage: 0x04,
  NoMatchingSubscribers: 0x10,
  NoSubscriptionExisted: 0x11,
  ContinueAuthentication: 0x18,
  ReAuthenticate: 0x19,
  UnspecifiedError: 0x80,
  MalformedPacket: 0x81,
  ProtocolError: 0x82,
  ImplementationSpecificError: 0x83,
  UnsupportedProtocolVersion: 0x84,
  ClientIdentifierNotValid: 0x85,
  BadUserNameOrPassword: 0x86,
  NotAuthorized: 0x87,
  ServerUnavailable: 0x88,
  ServerBusy: 0x89,
  Banned: 0x8a,
  ServerShuttingDown: 0x8b,
  BadAuthenticationMethod: 0x8c,
  KeepAliveTimeout: 0x8d,
  SessionTakenOver: 0x8e,
  TopicFilterInvalid: 0x8f,
  TopicNameInvalid: 0x90,
  PacketIdentifierInUse: 0x91,
  PacketIdentifierNotFound: 0x92,
  ReceiveMaximumExceeded: 0x93,
  TopicAliasInvalid: 0x94,
  PacketTooLarge: 0x95,
  MessageRateTooHigh: 0x96,
  QuotaExceeded: 0x97,
  AdministrativeAction: 0x98,
  PayloadFormatInvalid: 0x99,
  RetainNotSupported: 0x9a,
  QoSNotSupported: 0x9b,
  UseAnotherServer: 0x9c,
  ServerMoved: 0x9d,
  SharedSubscriptionsNotSupported: 0x9e,
  ConnectionRateExceeded: 0x9f,
  MaximumConnectTime: 0xa0,
  SubscriptionIdentifiersNotSupported: 0xa1,
  WildcardSubscriptionsNotSupported: 0xa2,
} as const

export type ReasonCode = (typeof ReasonCode)[keyof typeof ReasonCode]

const NAMES = new Map<number, string>(Object.entries(ReasonCode).map(([name, code]) => [code, name]))

/** Reason Codes from 0x80 on are failures (§2.4). */
export function isFailure(reason: ReasonCode): boolean {
  return reason >= 0x80
}

/** The specification's name of a Reason Code, for logs and metrics; `0x7f` style for a number that is none. */
export function reasonName(code: number): string {
  return NAMES.get(code) ?? `0x${code.toString(16).padStart(2, '0')}`
}

/** CONNACK return codes of MQTT 3.1 and 3.1.1 that refuse (3.1.1 §3.2.2.3). */
export type ConnackReturnCode311 = 1 | 2 | 3 | 4 | 5

/** What a client of MQTT 3.1 or 3.1.1 is told in CONNACK where an MQTT 5 client gets `reason`, which must refuse (0x80 and above). */
export function connackReturnCode311(reason: number): ConnackReturnCode311 {
  switch (reason) {
    case ReasonCode.UnsupportedProtocolVersion:
      return 1
    case ReasonCode.ClientIdentifierNotValid:
      return 2
    case ReasonCode.BadUserNameOrPassword:
      return 4
    case ReasonCode.NotAuthorized:
    case ReasonCode.Banned:
    case ReasonCode.BadAuthenticationMethod:
    case ReasonCode.TopicNameInvalid:
      return 5
    default:
      return 3
  }
}
