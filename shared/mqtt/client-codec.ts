import type { IConnectPacket, IDisconnectPacket, Packet } from 'mqtt-packet'
import { generatePacket, parsePacket, userPropertyObject } from './packet-library.ts'
import { PacketType } from './packet-type.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import type { UserProperty } from './strict-properties.ts'

// The client's side of the protocol, for tests and the load generator: trusts the server, so it checks nothing.

/** What CONNECT says; what is absent has the specification's default, Clean Start is set unless it is false. */
export interface ConnectOptions {
  cleanStart?: boolean
  /** in seconds */
  keepAlive?: number
  userName?: string
  /** needs a user name */
  password?: Buffer | string
  will?: {
    topic: string
    payload: Buffer | string
    qos?: 0 | 1 | 2
    retain?: boolean
    properties?: NonNullable<IConnectPacket['will']>['properties']
  }
  /** MQTT 5 properties under mqtt-packet's names */
  properties?: IConnectPacket['properties']
}

/** CONNECT. An empty Client Identifier needs Clean Start. */
export function encodeConnect(version: ProtocolVersion, clientId: string, options: ConnectOptions = {}): Buffer {
  const packet: IConnectPacket = {
    cmd: 'connect',
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    protocolVersion: version,
    clean: options.cleanStart ?? true,
    clientId,
    keepalive: options.keepAlive ?? 0,
  }
  if (options.userName !== undefined) packet.username = options.userName
  if (options.password !== undefined) packet.password = Buffer.from(options.password as string)
  if (options.will !== undefined) packet.will = options.will
  if (options.properties !== undefined) packet.properties = options.properties
  return generatePacket(packet, version)
}

/** A Topic Filter and its Subscription Options (§3.8.3.1); absent ones are 0. */
export interface SubscriptionOptions {
  filter: string
  qos?: 0 | 1 | 2
  noLocal?: boolean
  retainAsPublished?: boolean
  retainHandling?: 0 | 1 | 2
}

/** SUBSCRIBE. Options, identifier and User Properties of MQTT 5 are left out in other versions. */
export function encodeSubscribe(
  version: ProtocolVersion,
  packetId: number,
  subscriptions: readonly SubscriptionOptions[],
  subscriptionIdentifier = 0,
  userProperties: readonly UserProperty[] = [],
): Buffer {
  return generatePacket(
    {
      cmd: 'subscribe',
      messageId: packetId,
      subscriptions: subscriptions.map(subscription => ({
        topic: subscription.filter,
        qos: subscription.qos ?? 0,
        nl: subscription.noLocal ?? false,
        rap: subscription.retainAsPublished ?? false,
        rh: subscription.retainHandling ?? 0,
      })),
      properties: {
        ...(subscriptionIdentifier === 0 ? {} : { subscriptionIdentifier }),
        ...(userProperties.length === 0 ? {} : { userProperties: userPropertyObject(userProperties) }),
      },
    },
    version,
  )
}

/** UNSUBSCRIBE. */
export function encodeUnsubscribe(version: ProtocolVersion, packetId: number, filters: readonly string[]): Buffer {
  return generatePacket({ cmd: 'unsubscribe', messageId: packetId, unsubscriptions: [...filters] }, version)
}

/** DISCONNECT from a client; before MQTT 5 it has no content. */
export function encodeClientDisconnect(
  version: ProtocolVersion,
  reason: ReasonCode = ReasonCode.Success,
  properties: IDisconnectPacket['properties'] = {},
): Buffer {
  return generatePacket({ cmd: 'disconnect', reasonCode: reason, properties }, version)
}

/** A packet from the server, as mqtt-packet names its parts. */
export type ServerPacket = Packet

const COMMANDS: { readonly [type in PacketType]?: Packet['cmd'] } = {
  [PacketType.CONNACK]: 'connack',
  [PacketType.PUBLISH]: 'publish',
  [PacketType.PUBACK]: 'puback',
  [PacketType.PUBREC]: 'pubrec',
  [PacketType.PUBREL]: 'pubrel',
  [PacketType.PUBCOMP]: 'pubcomp',
  [PacketType.SUBACK]: 'suback',
  [PacketType.UNSUBACK]: 'unsuback',
  [PacketType.PINGRESP]: 'pingresp',
  [PacketType.DISCONNECT]: 'disconnect',
  [PacketType.AUTH]: 'auth',
}

/**
 * Decodes the packet `bytes[start, end)`, whose ends `frameEnd` found. Parts may be views into `bytes`. For a hot loop use
 * `PublishDecoder` (without Subscription Identifiers) and `decodeAck`.
 * @throws {ProtocolError} ImplementationSpecificError: the server sent what mqtt-packet does not parse, or what servers do not send
 */
export function decodeServerPacket(bytes: Buffer, start: number, end: number, version: ProtocolVersion): ServerPacket {
  const command = COMMANDS[(bytes[start]! >> 4) as PacketType]
  return parsePacket(command ?? 'pingresp', bytes.subarray(start, end), version)
}
