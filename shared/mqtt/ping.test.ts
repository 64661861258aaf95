import { expect, test } from 'vitest'
import { checkPingreq, PINGREQ, PINGRESP } from './ping.ts'
import { ReasonCode } from './reason-code.ts'

test('PINGREQ and PINGRESP', () => {
  expect(PINGRESP.toString('hex')).toBe('d000')
  expect(() => checkPingreq(PINGREQ, 0, 2)).not.toThrow()
})

test.each([
  ['[MQTT-2.1.3-1] flags', 'c100'],
  ['[§3.12.1] a body', 'c00100'],
])('PINGREQ with %s is refused', (_, hex) => {
  const frame = Buffer.from(hex, 'hex')
  expect(() => checkPingreq(frame, 0, frame.length)).toThrow(expect.objectContaining({ reason: ReasonCode.MalformedPacket }))
})
