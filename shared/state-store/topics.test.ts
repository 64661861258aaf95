import { expect, test } from 'vitest'
import { isForbiddenResponseTopic, isReserved, isWatchable, notifyTopic, REQUEST_TOPIC } from './topics.ts'

const GUID = 'FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8'
const OWN = `clients/statestore/v1/${GUID}`

test('where notifications go: both names in upper case base16 of their UTF-8', () => {
  expect(notifyTopic('client-id1', Buffer.from('SOMEKEY'))).toBe(`${OWN}/636C69656E742D696431/command/notify/534F4D454B4559`)
  expect(notifyTopic('é', Buffer.from([0x00, 0xff, 0x0a]))).toBe(`${OWN}/C3A9/command/notify/00FF0A`)
  expect(notifyTopic('c', Buffer.from('xkeyx').subarray(1, 4)), 'a view').toBe(`${OWN}/63/command/notify/6B6579`)
})

test('a topic of 65,535 bytes is the longest', () => {
  const longest = (65_535 - 75) / 2
  expect(notifyTopic('c', Buffer.alloc(longest - 1))).toHaveLength(65_535)
  expect(notifyTopic('c', Buffer.alloc(longest))).toBeNull()
  expect(notifyTopic('é', Buffer.alloc(longest - 1)), 'bytes, not characters').toBeNull()
  expect([isWatchable('c', longest - 1), isWatchable('c', longest)]).toEqual([true, false])
})

test.each([
  [REQUEST_TOPIC, true],
  [`${REQUEST_TOPIC}/x`, false],
  [OWN, true],
  [`${OWN}/x`, true],
  [`${OWN}x`, true],
  [`clients/statestore/v1/${GUID.toLowerCase()}/x`, false],
  ['$SYS/x', true],
  ['$', true],
  ['x/$SYS', false],
  ['clients/Client1/services/statestore/_any_/command/invoke/response', false],
  [`clients/436C69656E7431/statestore/v1/${GUID}/command/invoke/response`, false],
  [`clients/Client1/services/statestore/v1/${GUID}/command/invoke/response`, false],
  [`clients/Client1/statestore/v1/${GUID}/command/invoke`, false],
])('Response Topic %s: forbidden %s', (topic, isForbidden) => {
  expect(isForbiddenResponseTopic(topic)).toBe(isForbidden)
})

test.each([
  [OWN, true],
  [`${OWN}/`, true],
  [`${OWN}/636C/command/notify/53`, true],
  [`${OWN}x`, false],
  [`${OWN}x/y`, false],
  [REQUEST_TOPIC, false],
  ['clients/statestore/v1', false],
])('%s: only the store publishes there %s', (topic, isOwn) => {
  expect(isReserved(topic)).toBe(isOwn)
})
