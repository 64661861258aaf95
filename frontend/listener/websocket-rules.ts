/** In order of preference; the second is what MQTT 3.1.1 clients of old browsers' days send. */
const SUBPROTOCOLS = ['mqtt', 'mqttv3.1'] as const

/** What a client hears whose upgrade offers none of ours [MQTT-6.0.0-3]. */
export const SUBPROTOCOL_REFUSAL = "The WebSocket sub-protocol must be 'mqtt' (header Sec-WebSocket-Protocol).\n"
/** What a browser or a probe sees that asks for a page. */
export const UPGRADE_REQUIRED = 'This port speaks MQTT over WebSocket. The admin API has its own port.\n'

/** Sub-protocol to answer with [MQTT-6.0.0-4], or null: none that we speak is in the header's list. */
export function chooseSubprotocol(offered: string): (typeof SUBPROTOCOLS)[number] | null {
  const names = offered.split(',').map(name => name.trim())
  return SUBPROTOCOLS.find(name => names.includes(name)) ?? null
}

/** Close codes of RFC 6455. */
export const CLOSE_NORMAL = 1_000
export const CLOSE_UNSUPPORTED_DATA = 1_003
/** Never on the wire: the connection ended without a Close frame. */
export const CLOSE_ABNORMAL = 1_006

export const TEXT_FRAME = 'text frame [MQTT-6.0.0-1]'
export const NO_CLOSE_FRAME = 'no Close frame'

/** CONNECT is smaller than this. Until a first message is complete engines would hold up to the port's Maximum Packet Size for anyone. */
export const FIRST_MESSAGE_BYTES_MAX = 262_144
export const FIRST_MESSAGE_TOO_LONG = `no complete message in ${FIRST_MESSAGE_BYTES_MAX} bytes`

/** Clients put several small packets into one message, so a message may be larger than a packet, but not by much. */
const SMALL_PACKETS_BYTES_MAX = 65_536
const MESSAGE_SLACK_BYTES = 1_024

/**
 * Longest WebSocket message that is taken, bytes; a longer one closes the connection. Engines hold a message until its last byte is there,
 * so this is also what one connection can make us keep.
 */
export function messageBytesMax(packetBytesMax: number): number {
  return Math.max(packetBytesMax, SMALL_PACKETS_BYTES_MAX) + MESSAGE_SLACK_BYTES
}
