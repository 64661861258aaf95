import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { EMPTY, type Message, newMessage, propertyValue, userProperty } from '#shared/mqtt/message.ts'
import { writeFieldProperty, writeUserProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import { NO_TOPIC } from '#shared/mqtt/topic.ts'
import { type ClockTime, type Given, givenClock } from './hybrid-clock.ts'
import { RequestProperties } from './request-properties.ts'

type Written = { readonly field: number; readonly value: string } | { readonly name: string; readonly value: string } | 'format'

function messageWith(written: readonly Written[]): Message {
  const writer = new ByteWriter()
  for (const one of written) {
    if (one === 'format') {
      writer.u8(Property.PayloadFormatIndicator)
      writer.u8(1)
    } else if ('field' in one) writeFieldProperty(writer, one.field, Buffer.from(one.value))
    else writeUserProperty(writer, one.name, one.value)
  }
  return newMessage(NO_TOPIC, EMPTY, 1, false, writer.written())
}

const name = fc.constantFrom('__ts', '__ft', '__tt', '__protVer', 'aio-persistence', '', '__t', '$partition', 'é')
const number = fc.oneof(
  fc.nat().map(String),
  fc.constantFrom('', '000', '1e3', '-1', '999999999999999', '0000000000000001', '18446744073709551615', '18446744073709551616'),
)
const clock = fc.array(fc.oneof(number, fc.constantFrom('c', 'é:', '')), { minLength: 1, maxLength: 4 }).map(parts => parts.join(':'))
const value = fc.oneof(clock, fc.constantFrom('true', '1.0', '', '1696374425000:0:Client1'), fc.string({ unit: 'grapheme', maxLength: 20 }))
const field = fc.constantFrom(Property.ResponseTopic, Property.CorrelationData, Property.ContentType)
const once = fc.uniqueArray(fc.record({ field, value }), { selector: one => one.field })
const users = fc.array(fc.oneof(fc.record({ name, value }), fc.constant<Written>('format')))

function timeOf(given: Given<ClockTime>): unknown {
  return typeof given === 'string' || given === null ? given : { wall: given.wall, counter: given.counter }
}

test('finds the same as a look for each of them', () => {
  // One for all, as in the broker: nothing of the message before may be left.
  const properties = new RequestProperties()
  fc.assert(
    fc.property(once, users, fc.infiniteStream(fc.boolean()), (fields, others, order) => {
      const [left, right] = [[...fields] as Written[], [...others]]
      const mixed: Written[] = []
      while (left.length + right.length > 0)
        mixed.push((left.length > 0 && (right.length === 0 || order.next().value) ? left : right).shift()!)
      const message = messageWith(mixed)
      properties.read(message)
      const [ts, ft] = [givenClock(userProperty(message, '__ts') ?? null), givenClock(userProperty(message, '__ft') ?? null)]
      expect(timeOf(properties.timestamp)).toEqual(timeOf(ts))
      expect(properties.fencingToken).toEqual(ft)
      expect(properties.protocolVersion).toBe(userProperty(message, '__protVer') ?? null)
      expect(properties.isPersistent).toBe(userProperty(message, 'aio-persistence') === 'true')
      const between = (start: number, end: number) => (start === -1 ? undefined : message.propertyBytes.subarray(start, end))
      expect(between(properties.topicStart, properties.topicEnd)).toEqual(propertyValue(message, Property.ResponseTopic))
      expect(between(properties.correlationStart, properties.correlationEnd)).toEqual(propertyValue(message, Property.CorrelationData))
    }),
  )
})
