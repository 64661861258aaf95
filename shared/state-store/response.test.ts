import fc from 'fast-check'
import { expect, test } from 'vitest'
import { propertyValue, userProperty } from '#shared/mqtt/message.ts'
import { Property } from '#shared/mqtt/property.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import { Answer, valueAnswer } from './answer.ts'
import { formatClock, storeClock, type StoreClock } from './hybrid-clock.ts'
import { responseMessage } from './response.ts'
import { keepBytes, SHORT_MAX } from './stored-bytes.ts'

const topic = new Topic('a/b', Buffer.from('a/b'))

test.each([null, storeClock(1_696_374_425_000, 1), storeClock(2 ** 53 - 1, 2 ** 31 - 1)])('a response of version %o', version => {
  const correlation = Buffer.from('..16 bytes of any..', 'latin1')
  const message = responseMessage(topic, correlation, 2, 18, { version, value: null, answer: Answer.Done })
  expect(message).toMatchObject({ topic, qos: 1, retain: false, ownsBytes: true })
  expect(propertyValue(message, Property.CorrelationData)).toEqual(correlation.subarray(2, 18))
  expect(userProperty(message, '__stat')).toBe('200')
  expect(userProperty(message, '__ts')).toBe(version === null ? undefined : formatClock(version))
  expect(message.payload.toString()).toBe('+OK\r\n')
  expect(message.keep().properties).toEqual(message.properties)
})

const clocks = fc.tuple(
  fc.oneof(fc.maxSafeInteger().map(Math.abs), fc.constantFrom(0, 1_696_374_425_000, 999_999_999_999_999, 10 ** 15)),
  fc.oneof(fc.nat(), fc.constantFrom(0, 7, 99_999, 100_000, 2 ** 31 - 1)),
)

test('a value is a blob, whatever its length, behind the version of any clock', () => {
  const lengths = fc.oneof(
    fc.nat({ max: 40 }),
    fc.constantFrom(9, 10, 99, 100, 999, 1_000, SHORT_MAX, SHORT_MAX + 1, 9_999, 10_000, 123_456),
  )
  fc.assert(
    fc.property(fc.array(clocks, { minLength: 1, maxLength: 3 }), lengths, (versions, length) => {
      const bytes = Buffer.alloc(length, 'äb', 'latin1')
      const value = keepBytes(bytes)
      for (const version of versions.map(([wall, counter]): StoreClock => storeClock(wall, counter))) {
        const message = responseMessage(topic, bytes, 0, Math.min(length, 40), { version, value, answer: Answer.NoValue })
        expect(userProperty(message, '__ts')).toBe(formatClock(version))
        expect(message.payload).toEqual(valueAnswer(value))
        expect(message.payload.toString('latin1')).toBe(`$${length}\r\n${bytes.toString('latin1')}\r\n`)
        expect(message.payloadEnd).toBe(message.payloadBytes.length)
      }
    }),
  )
})

test('Correlation Data of the greatest length', () => {
  const correlation = Buffer.alloc(65_535, 7)
  const message = responseMessage(topic, correlation, 0, correlation.length, { version: null, value: null, answer: Answer.NoValue })
  expect(propertyValue(message, Property.CorrelationData)).toEqual(correlation)
  expect(message.payload.toString()).toBe('$-1\r\n')
})
