import { bodyStart } from './framing.ts'
import { ProtocolError } from './protocol-error.ts'
import { ReasonCode } from './reason-code.ts'
import { binaryDataEnd, utf8StringEnd } from './utf8.ts'

/**
 * Walks the fields of one Control Packet and refuses what the specification refuses: mqtt-packet, which makes the
 * values afterwards, accepts ill-formed strings, fields past their list and bytes behind the end. For all packets but
 * the hot ones. Every method throws MalformedPacket where a field does not fit or is ill-formed.
 */
export class StrictReader {
  readonly bytes: Buffer
  /** of the packet, or of the property list while that is read: no field may reach over it */
  end: number
  at: number

  /** Starts behind the fixed header of the packet `bytes[start, end)`, whose ends `frameEnd` found. */
  constructor(bytes: Buffer, start: number, end: number) {
    this.bytes = bytes
    this.at = bodyStart(bytes, start, end)
    this.end = end
  }

  get left(): number {
    return this.end - this.at
  }

  u8(): number {
    this.#need(1)
    return this.bytes[this.at++]!
  }

  u16(): number {
    this.#need(2)
    this.at += 2
    return this.bytes.readUInt16BE(this.at - 2)
  }

  u32(): number {
    this.#need(4)
    this.at += 4
    return this.bytes.readUInt32BE(this.at - 4)
  }

  /** @throws {ProtocolError} MalformedPacket: a fifth byte (§1.5.5), more bytes than needed [MQTT-1.5.5-1] */
  variableByteInteger(): number {
    let value = 0
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.u8()
      value |= (byte & 0x7f) << shift
      if (byte & 0x80) continue
      if (byte === 0 && shift > 0) throw malformed('MQTT-1.5.5-1', 'Variable Byte Integer not in its shortest form')
      return value
    }
    throw malformed('§1.5.5', 'Variable Byte Integer over four bytes')
  }

  /** Skips a UTF-8 Encoded String, validated; answers the length of its bytes. */
  skipString(): number {
    const stringEnd = utf8StringEnd(this.bytes, this.at, this.end)
    const length = stringEnd - this.at - 2
    this.at = stringEnd
    return length
  }

  string(): string {
    const start = this.at + 2
    this.skipString()
    return this.bytes.toString('utf8', start, this.at)
  }

  /** Skips Binary Data. */
  skipBinary(): void {
    this.at = binaryDataEnd(this.bytes, this.at, this.end)
  }

  /** Binary Data as a copy: packets must not keep the network chunk alive. */
  binary(): Buffer {
    const start = this.at + 2
    this.skipBinary()
    return Buffer.from(this.bytes.subarray(start, this.at))
  }

  /** @throws {ProtocolError} ProtocolError: 0 [MQTT-2.2.1-3] */
  packetId(): number {
    const packetId = this.u16()
    if (packetId === 0) throw new ProtocolError(ReasonCode.ProtocolError, 'MQTT-2.2.1-3', 'Packet Identifier 0')
    return packetId
  }

  /** Nothing may follow. */
  finish(): void {
    if (this.at !== this.end) throw malformed('§4.13.1', `${this.end - this.at} bytes behind the last field`)
  }

  #need(count: number): void {
    if (this.at + count > this.end) throw malformed('§4.13.1', 'a field runs past the end')
  }
}

/** A MalformedPacket error. */
export function malformed(clause: `MQTT-${string}` | `§${string}`, detail: string): ProtocolError {
  return new ProtocolError(ReasonCode.MalformedPacket, clause, detail)
}

/** @throws {ProtocolError} MalformedPacket unless the low half of the first byte is `flags` [MQTT-2.1.3-1] */
export function checkFlags(bytes: Uint8Array, start: number, flags: number): void {
  if ((bytes[start]! & 0x0f) !== flags) throw malformed('MQTT-2.1.3-1', `reserved flags ${bytes[start]! & 0x0f}`)
}
