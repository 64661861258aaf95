import { generate, type Packet, parser, writeToStream } from 'mqtt-packet'
import { ProtocolError } from './protocol-error.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import type { UserProperty } from './strict-properties.ts'

// Its cache of numbers is 65,536 Buffers, made at the first packet: some 10 MB for nothing.
writeToStream.cacheNumbers = false

/**
 * The values of a packet that the strict readers have accepted, as mqtt-packet makes them. A parser of mqtt-packet keeps
 * the last CONNECT, password included, so each packet gets its own. Parts of the result may be views into `bytes`.
 * @throws {ProtocolError} ImplementationSpecificError: mqtt-packet refuses what we accepted. One of the two is then wrong, but
 *   bytes of one client must not end the process, so it is not an assertion.
 */
export function parsePacket<Cmd extends Packet['cmd']>(cmd: Cmd, bytes: Buffer, version: ProtocolVersion): Extract<Packet, { cmd: Cmd }> {
  let packet: Packet | undefined
  let failure = 'incomplete'
  try {
    const parsing = parser({ protocolVersion: version })
    parsing.on('packet', parsed => {
      packet = parsed
    })
    parsing.on('error', (error: Error) => {
      failure = error.message
      packet = undefined
    })
    parsing.parse(bytes)
  } catch (error) {
    failure = String(error)
  }
  if (packet?.cmd === cmd) return packet as Extract<Packet, { cmd: Cmd }>
  throw new ProtocolError(ReasonCode.ImplementationSpecificError, '§4.13.1', `mqtt-packet does not parse this ${cmd}: ${failure}`)
}

/** `packet` as bytes. */
export function generatePacket(packet: Packet, version: ProtocolVersion): Buffer {
  return generate(packet, { protocolVersion: version })
}

/**
 * User Properties as mqtt-packet takes them. Names keep their first place, and what has one name stands together; names
 * such as `__proto__` are safe, since the object has no prototype.
 */
export function userPropertyObject(userProperties: readonly UserProperty[]): Record<string, string[]> {
  const object = Object.create(null) as Record<string, string[]>
  for (const [name, value] of userProperties) (object[name] ??= []).push(value)
  return object
}

/** Text that a packet may do without: Reason String and User Properties. */
export interface OptionalText {
  reasonString?: string | undefined
  userProperties?: readonly UserProperty[] | undefined
}

/** The longest UTF-8 Encoded String (§1.5.4). */
const STRING_BYTES_MAX = 65_535

/**
 * Encodes by `encode`, without the User Properties, then also without the Reason String, when the packet would be longer
 * than `maximumBytes`, the receiver's Maximum Packet Size: [MQTT-3.2.2-19], [MQTT-3.2.2-20] and their like in other packets.
 * May still be longer, then there was nothing to leave out, and the caller must not send it [MQTT-3.1.2-24].
 */
export function encodeWithin(maximumBytes: number, text: OptionalText | null, encode: (text: OptionalText) => Buffer): Buffer {
  const userProperties = (text?.userProperties ?? []).filter(pair => pair.every(fits))
  const reasonString = text?.reasonString !== undefined && fits(text.reasonString) ? text.reasonString : undefined
  const whole = encode({ reasonString, userProperties: userProperties.length > 0 ? userProperties : undefined })
  if (whole.length <= maximumBytes || (userProperties.length === 0 && reasonString === undefined)) return whole
  const withReason = encode({ reasonString, userProperties: undefined })
  return withReason.length <= maximumBytes || reasonString === undefined ? withReason : encode({})
}

function fits(text: string): boolean {
  return Buffer.byteLength(text) <= STRING_BYTES_MAX
}

/** Reason String and User Properties as properties of mqtt-packet. */
export function textProperties(text: OptionalText): { reasonString?: string; userProperties?: Record<string, string[]> } {
  const properties: { reasonString?: string; userProperties?: Record<string, string[]> } = {}
  if (text.reasonString !== undefined) properties.reasonString = text.reasonString
  if (text.userProperties !== undefined) properties.userProperties = userPropertyObject(text.userProperties)
  return properties
}
