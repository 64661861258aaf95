import { expect, test } from 'vitest'
import { propertyValue, userProperty } from '#shared/mqtt/message.ts'
import { Property } from '#shared/mqtt/property.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import { Answer } from './answer.ts'
import { formatClock, storeClock } from './hybrid-clock.ts'
import { responseMessage } from './response.ts'

const topic = new Topic('a/b', Buffer.from('a/b'))

test.each([null, storeClock(1_696_374_425_000, 1), storeClock(2 ** 53 - 1, 2 ** 31 - 1)])('a response of version %o', version => {
  const correlation = Buffer.from('..16 bytes of any..', 'latin1')
  const message = responseMessage(topic, correlation, 2, 18, version, Answer.Done)
  expect(message).toMatchObject({ topic, qos: 1, retain: false, ownsBytes: true })
  expect(propertyValue(message, Property.CorrelationData)).toEqual(correlation.subarray(2, 18))
  expect(userProperty(message, '__stat')).toBe('200')
  expect(userProperty(message, '__ts')).toBe(version === null ? undefined : formatClock(version))
  expect(message.payload.toString()).toBe('+OK\r\n')
  expect(message.keep().properties).toEqual(message.properties)
})

test('Correlation Data of the greatest length', () => {
  const correlation = Buffer.alloc(65_535, 7)
  const message = responseMessage(topic, correlation, 0, correlation.length, null, Answer.NoValue)
  expect(propertyValue(message, Property.CorrelationData)).toEqual(correlation)
  expect(message.payload.toString()).toBe('$-1\r\n')
})
