import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Ack, decodeAck } from './ack-codec.ts'
import { clientPublish, mqttText, packetId, topicName, userProperties } from './legal-packets.contract.ts'
import { decodeAuth } from './auth-codec.ts'
import { encodeConnect, encodeSubscribe, encodeUnsubscribe } from './client-codec.ts'
import { decodeConnect } from './connect-codec.ts'
import { decodeDisconnect } from './disconnect-codec.ts'
import { frameEnd, INCOMPLETE, variableByteIntegerBytes, writeVariableByteInteger } from './framing.ts'
import { Message } from './message.ts'
import { generatePacket } from './packet-library.ts'
import { PacketType } from './packet-type.ts'
import { checkPingreq } from './ping.ts'
import { ProtocolError } from './protocol-error.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { PublishDecoder } from './publish-decoder.ts'
import { ReasonCode } from './reason-code.ts'
import { decodeSubscribe, decodeUnsubscribe } from './subscribe-codec.ts'
import { TopicCache } from './topic.ts'

/** These take a second or two alone; beside others, on a busy machine, many times that. */
const options = { timeout: 60_000 }

const cache = new TopicCache({ topicsMax: 100, levelsMax: 128 })

/** All that a server decodes, as it dispatches. Answers something that shows all that was read. */
function decode(bytes: Buffer, start: number, end: number, version: ProtocolVersion): unknown {
  switch (bytes[start]! >> 4) {
    case PacketType.CONNECT:
      return decodeConnect(bytes, start, end)
    case PacketType.PUBLISH: {
      const message = new Message()
      new PublishDecoder(cache, version, { topicAliasMaximum: 10, checkPayloadFormat: true }).decode(bytes, start, end, message)
      const { topic, qos, retain, dup, packetId: id, expirySeconds } = message
      return [topic.name, qos, retain, dup, id, expirySeconds, message.properties.toString('hex'), message.payload.toString('hex')]
    }
    case PacketType.SUBSCRIBE:
      return decodeSubscribe(bytes, start, end, version)
    case PacketType.UNSUBSCRIBE:
      return decodeUnsubscribe(bytes, start, end, version)
    case PacketType.PINGREQ:
      return checkPingreq(bytes, start, end)
    case PacketType.DISCONNECT:
      return decodeDisconnect(bytes, start, end, version)
    case PacketType.AUTH:
      return decodeAuth(bytes, start, end)
    default: {
      const ack = new Ack()
      decodeAck(bytes, start, end, version, ack)
      return ack
    }
  }
}

/** What came of it. Anything but a value or a ProtocolError fails the test. */
function outcome(frame: Buffer, version: ProtocolVersion, fill: number): string {
  const bytes = Buffer.concat([Buffer.alloc(5, fill), frame, Buffer.alloc(70, fill)])
  try {
    const value = decode(bytes, 5, 5 + frame.length, version)
    return `value ${JSON.stringify(value)}`
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    // That would be mqtt-packet refusing what the strict readers have accepted.
    if (error.reason === ReasonCode.ImplementationSpecificError) throw new Error(error.message)
    return `refused ${error.reason}: ${error.message}`
  }
}

/** The same bytes among other neighbours must have the same outcome: then nothing was read outside of the packet. */
function check(frame: Buffer, version: ProtocolVersion): void {
  const among = [0x00, 0x61, 0xff].map(fill => outcome(frame, version, fill))
  if (among[0] !== among[1] || among[0] !== among[2]) expect(among).toEqual([])
}

function framed(first: number, body: Buffer): Buffer {
  const header = Buffer.alloc(1 + variableByteIntegerBytes(body.length))
  header[0] = first
  writeVariableByteInteger(header, 1, body.length)
  return Buffer.concat([header, body])
}

const versions = fc.constantFrom<ProtocolVersion>(3, 4, 5)
const firstByte = fc.oneof(fc.nat(255), fc.constantFrom(0x10, 0x30, 0x32, 0x3d, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0, 0xf0))
/** Bytes that mean something: lengths, property identifiers, ends of ranges. */
const livelyByte = fc.oneof(fc.nat(255), fc.nat(0x2b), fc.constantFrom(0, 1, 2, 4, 0x7f, 0x80, 0xff))
const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.array(livelyByte, { maxLength }).map(values => Buffer.from(values))

test('framing any bytes ends in an offset, INCOMPLETE or a ProtocolError', options, () => {
  fc.assert(
    fc.property(bytes(12), fc.nat(300), (chunk, packetBytesMax) => {
      try {
        const end = frameEnd(chunk, 0, chunk.length, packetBytesMax)
        expect(end === INCOMPLETE || (end >= 2 && end <= chunk.length && end <= packetBytesMax)).toBe(true)
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError)
      }
    }),
    { numRuns: 3_000 },
  )
})

test('any body of any packet ends in a value or a ProtocolError', options, () => {
  fc.assert(
    fc.property(firstByte, bytes(40), versions, (first, body, version) => check(framed(first, body), version)),
    { numRuns: 4_000 },
  )
})

test('any bytes at all, with a Remaining Length that lies, end in a value or a ProtocolError', options, () => {
  fc.assert(
    fc.property(firstByte, bytes(20), versions, (first, rest, version) => check(Buffer.concat([Buffer.from([first]), rest]), version)),
    { numRuns: 3_000 },
  )
})

/** Legal packets of every kind that a client sends. */
const legal: fc.Arbitrary<Buffer> = versions.chain(version =>
  fc.oneof(
    clientPublish.map(packet => generatePacket({ ...packet, payload: Buffer.alloc(5, 0x61) }, version)),
    fc.tuple(mqttText({ minLength: 1 }), topicName, userProperties, fc.boolean()).map(([clientId, topic, user, hasWill]) =>
      encodeConnect(version, clientId, {
        userName: 'user',
        password: 'secret',
        ...(hasWill && { will: { topic, payload: 'gone', qos: 1 as const, properties: { willDelayInterval: 1, userProperties: user } } }),
        properties: {
          sessionExpiryInterval: 7,
          receiveMaximum: 9,
          authenticationMethod: 'm',
          authenticationData: Buffer.from('d'),
          userProperties: user,
        },
      }),
    ),
    fc.tuple(packetId, topicName).map(([id, filter]) => encodeSubscribe(version, id, [{ filter, qos: 1 }, { filter: '$share/g/#' }], 300)),
    fc.tuple(packetId, topicName).map(([id, filter]) => encodeUnsubscribe(version, id, [filter, '+/#'])),
    fc
      .tuple(fc.constantFrom('puback' as const, 'pubrec' as const, 'pubrel' as const, 'pubcomp' as const), packetId)
      .map(([cmd, messageId]) => generatePacket({ cmd, messageId, reasonCode: 0, properties: { reasonString: 'why' } }, version)),
    fc.constantFrom(
      generatePacket({ cmd: 'disconnect', reasonCode: 4, properties: { sessionExpiryInterval: 5, reasonString: 'bye' } }, 5),
      generatePacket({ cmd: 'auth', reasonCode: 0x18, properties: { authenticationMethod: 'm', authenticationData: Buffer.from('d') } }, 5),
      Buffer.from([0xc0, 0]),
    ),
  ),
)

const mutation = fc.record({
  kind: fc.constantFrom('set', 'set', 'flip', 'insert', 'remove', 'cut', 'repeat'),
  at: fc.nat(1_000),
  byte: livelyByte,
})

function mutate(packet: Buffer, { kind, at, byte }: { kind: string; at: number; byte: number }): Buffer {
  const where = at % packet.length
  const [before, after] = [packet.subarray(0, where), packet.subarray(where)]
  switch (kind) {
    case 'set':
      return Buffer.concat([before, Buffer.from([byte]), after.subarray(1)])
    case 'flip':
      return Buffer.concat([before, Buffer.from([after[0]! ^ (1 << (byte % 8))]), after.subarray(1)])
    case 'insert':
      return Buffer.concat([before, Buffer.from([byte]), after])
    case 'remove':
      return Buffer.concat([before, after.subarray(1)])
    case 'repeat':
      return Buffer.concat([packet, after])
    default:
      return where === 0 ? packet : before
  }
}

test('legal packets with faults put in end in a value or a ProtocolError', options, () => {
  fc.assert(
    fc.property(
      legal,
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      versions,
      fc.boolean(),
      (packet, mutations, version, hasTrueLength) => {
        let bytesOfPacket = packet
        for (const one of mutations) bytesOfPacket = mutate(bytesOfPacket, one)
        if (bytesOfPacket.length === 0) return
        const headerLength = 1 + (packet.length > 129 ? 2 : 1)
        check(hasTrueLength ? framed(bytesOfPacket[0]!, bytesOfPacket.subarray(headerLength)) : bytesOfPacket, version)
      },
    ),
    { numRuns: 5_000 },
  )
})

test('legal packets end in a value, whichever they are', options, () => {
  fc.assert(
    fc.property(clientPublish, versions, (packet, version) => {
      const { topicAlias: _, ...properties } = packet.properties!
      const frame = generatePacket({ ...packet, properties: { ...properties, payloadFormatIndicator: false } }, version)
      expect(outcome(frame, version, 0xff)).toMatch(/^value/)
    }),
    { numRuns: 500 },
  )
})
