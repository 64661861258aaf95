import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { Property } from './property.ts'

/** A text or binary property as MQTT has it (§1.5.4, §1.5.6): its identifier, two bytes of length, then the bytes. At most 65,535 of them. */
export function writeFieldProperty(writer: ByteWriter, identifier: number, bytes: Uint8Array): void {
  writer.u8(identifier)
  writeField(writer, bytes)
}

/** §3.3.2.3.7 */
export function writeUserProperty(writer: ByteWriter, name: string, value: string): void {
  writer.u8(Property.UserProperty)
  writeField(writer, Buffer.from(name))
  writeField(writer, Buffer.from(value))
}

function writeField(writer: ByteWriter, bytes: Uint8Array): void {
  writer.u8(bytes.length >> 8)
  writer.u8(bytes.length & 0xff)
  writer.raw(bytes)
}
