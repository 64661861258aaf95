import { expect, test } from 'vitest'
import { EMPTY, hasUserProperty, Message, newMessage, propertyValue, userProperty } from './message.ts'
import { generatePacket, userPropertyObject } from './packet-library.ts'
import { Property } from './property.ts'
import { PublishDecoder } from './publish-decoder.ts'
import { TopicCache } from './topic.ts'

const cache = new TopicCache({ topicsMax: 100, levelsMax: 128 })

function received(userProperties: [string, string][]): { message: Message; chunk: Buffer } {
  const chunk = generatePacket(
    {
      cmd: 'publish',
      topic: 'a/b',
      qos: 1,
      messageId: 9,
      dup: true,
      retain: true,
      payload: 'hello',
      properties: {
        payloadFormatIndicator: true,
        messageExpiryInterval: 60,
        contentType: 'text/plain',
        correlationData: Buffer.from([0x26, 0, 1]),
        userProperties: userPropertyObject(userProperties),
      },
    },
    5,
  )
  const message = new Message()
  new PublishDecoder(cache, 5, { topicAliasMaximum: 0 }).decode(chunk, 0, chunk.length, message)
  return { message, chunk }
}

test.each(['keep', 'keepApart'] as const)('%s copies all that a message says out of the network chunk', keep => {
  const { message, chunk } = received([['a', 'b']])
  message.expiresAtMs = 123
  const payload = message.payload.toString('hex')
  const properties = message.properties.toString('hex')
  const kept = message[keep]()
  chunk.fill(0)
  message.expirySeconds = 1
  expect(kept.payload.toString('hex')).toBe(payload)
  expect(kept.properties.toString('hex')).toBe(properties)
  expect(kept.payloadLength).toBe(5)
  expect(kept).toMatchObject({ qos: 1, retain: true, dup: true, packetId: 9, expirySeconds: 60, expiresAtMs: 123 })
  expect(kept.topic).toBe(message.topic)
  expect([message.ownsBytes, kept.ownsBytes]).toEqual([false, true])
  expect(kept.payloadBytes).toBe(kept.propertyBytes)
  expect(kept.payloadBytes).toHaveLength(kept.payloadLength + kept.propertiesLength)
  expect(kept.storedBytes).toBeGreaterThan(kept.payloadBytes.length)
})

test('moveApart leaves the message as it is, in memory that nothing else lies in', () => {
  for (const message of [received([['a', 'b']]).message.keep(), newMessage(cache.fromName('t'), Buffer.from('pool'), 1, true)]) {
    const payload = message.payload.toString('hex')
    const properties = message.properties.toString('hex')
    message.moveApart()
    expect(message.payload.toString('hex')).toBe(payload)
    expect(message.properties.toString('hex')).toBe(properties)
    expect(message.payloadBytes.buffer.byteLength).toBe(message.payloadLength + message.propertiesLength)
    expect(message.propertyBytes).toBe(message.payloadBytes)
    expect(message.ownsBytes).toBe(true)
  }
  const apart = received([['a', 'b']]).message.keepApart()
  const bytes = apart.payloadBytes
  apart.moveApart()
  expect(apart.payloadBytes, 'was apart').toBe(bytes)
})

test('a Topic Name counts when it is too long to be shared', () => {
  const bytes = (length: number): number => newMessage(cache.fromName('t'.repeat(length)), EMPTY).storedBytes
  expect(bytes(1_024)).toBe(bytes(1))
  expect(bytes(1_025) - bytes(1)).toBe(3 * 1_025)
})

test('userProperty finds the first of a name, whatever stands before it', () => {
  const { message } = received([
    ['$partition', 'one'],
    ['$partition', 'two'],
    ['ä', 'umlaut'],
    ['__proto__', 'p'],
    ['', 'empty name'],
    ['empty', ''],
  ])
  expect(userProperty(message, '$partition')).toBe('one')
  expect(userProperty(message, 'ä')).toBe('umlaut')
  expect(userProperty(message, '__proto__')).toBe('p')
  expect(userProperty(message, '')).toBe('empty name')
  expect(userProperty(message, 'empty')).toBe('')
  for (const name of ['$partitio', '$partitions', 'b', 'a', '€', 'constructor']) {
    expect(userProperty(message, name)).toBeUndefined()
    expect(hasUserProperty(message, name)).toBe(false)
  }
  expect(hasUserProperty(message, '__proto__')).toBe(true)
  expect(userProperty(newMessage(cache.fromName('t'), EMPTY), 'a')).toBeUndefined()
})

test('propertyValue finds what stands among others, a User Property with an empty name too, and nothing that is not there', () => {
  const { message } = received([
    ['', 'text/html'],
    ['a', ''],
  ])
  expect(propertyValue(message, Property.ContentType)?.toString()).toBe('text/plain')
  expect(propertyValue(message, Property.CorrelationData)).toEqual(Buffer.from([0x26, 0, 1]))
  expect(propertyValue(message, Property.ResponseTopic)).toBeUndefined()
  expect(propertyValue(newMessage(cache.fromName('t'), EMPTY), Property.ContentType)).toBeUndefined()
})

test('newMessage shares what it is given', () => {
  const payload = Buffer.from('x')
  const message = newMessage(cache.fromName('t'), payload, 2, true)
  expect(message).toMatchObject({ qos: 2, retain: true, payloadLength: 1, propertiesLength: 0, expirySeconds: -1, expiresAtMs: Infinity })
  expect(message.payloadBytes).toBe(payload)
})
