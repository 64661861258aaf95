import { ByteWriter } from '#shared/base/byte-writer.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import { writeFieldProperty, writeUserProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import type { ErrorText } from '#shared/state-store/errors.ts'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import type { BackendRig, RigClient } from '../backend-rig.contract.ts'

/** A request with the clock of the rig, whose answers go to `answers/CLIENT`. `fault`: what the frontend says of it. */
export function ask(
  rig: BackendRig,
  client: RigClient,
  parts: readonly string[],
  ticket = 1,
  { more = [], fault = null }: { readonly more?: readonly (readonly [string, string])[]; readonly fault?: ErrorText | null } = {},
): void {
  const payload = `*${parts.length}\r\n${parts.map(part => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`
  const writer = new ByteWriter()
  writeFieldProperty(writer, Property.ResponseTopic, Buffer.from(`answers/${client.clientId}`))
  writeFieldProperty(writer, Property.CorrelationData, Buffer.from(`x${ticket}`))
  for (const [name, value] of more) writeUserProperty(writer, name, value)
  writeUserProperty(writer, '__ts', `${String(rig.clock.wallMs()).padStart(15, '0')}:00000:${client.clientId}`)
  const message = newMessage(rig.engine.topics.fromName(REQUEST_TOPIC), Buffer.from(payload), 1, false, writer.take())
  const shard = parts[0] === 'SCAN' ? Number(parts[2]!.split(':')[0]) : null
  const shardKey = Buffer.from(parts[1] ?? '').toString('latin1')
  const call = { clientId: client.clientId, shardKey, shard, isWatch: parts[0] === 'KEYNOTIFY', fault, message }
  rig.backend.askStore(client.session, client.connection, ticket, call)
}
