import { describe, expect, test } from 'vitest'
import { type Auth, decodeAuth, encodeAuth } from './auth-codec.ts'
import { decodeServerPacket } from './client-codec.ts'
import { ReasonCode } from './reason-code.ts'

function decode(hex: string | Buffer): Auth {
  const frame = Buffer.from(hex as string, 'hex')
  const chunk = Buffer.concat([Buffer.alloc(3, 0xff), frame, Buffer.alloc(3, 0xff)])
  const auth = decodeAuth(chunk, 3, 3 + frame.length)
  chunk.fill(0)
  return auth
}

test('what is encoded is decoded', () => {
  const frame = encodeAuth(ReasonCode.ContinueAuthentication, {
    method: 'SCRAM-SHA-256',
    data: Buffer.from('challenge'),
    reasonString: 'go on',
    userProperties: [['a', 'b']],
  })
  expect(decode(frame)).toEqual({
    reason: 0x18,
    method: 'SCRAM-SHA-256',
    data: Buffer.from('challenge'),
    reasonString: 'go on',
    userProperties: [['a', 'b']],
  })
  expect(decode(encodeAuth(ReasonCode.ReAuthenticate, { method: 'm' }))).toMatchObject({ reason: 0x19, data: null, reasonString: null })
  const success = encodeAuth(ReasonCode.Success, { method: 'm' })
  expect(decodeServerPacket(success, 0, success.length, 5)).toMatchObject({ reasonCode: 0, properties: { authenticationMethod: 'm' } })
})

const M = ReasonCode.MalformedPacket
const P = ReasonCode.ProtocolError

describe('refused', () => {
  const cases: [clause: string, what: string, hex: string, reason: number][] = [
    ['MQTT-2.1.3-1', 'flags', 'f106180415000161', M],
    ['MQTT-3.15.2-1', 'no content, which means Success', 'f000', P],
    ['MQTT-3.15.2-1', 'Success', 'f006000415000161', P],
    ['MQTT-3.15.2-1', 'a reason that AUTH does not have', 'f006870415000161', M],
    ['§4.13.1', 'no Property Length', 'f00118', M],
    ['§3.15.2.2.2', 'no Authentication Method', 'f0021800', P],
    ['§2.2.2.2', 'Authentication Method twice', 'f00a18081500016115000161', P],
    ['§2.2.2.2', 'a property of other packets', 'f009180715000161210001', M],
    ['§4.13.1', 'bytes behind the properties', 'f00718041500016100', M],
    ['§4.13.1', 'data past the end', 'f00a18081500016116000961', M],
    ['MQTT-1.5.4-1', 'a method that is not UTF-8', 'f0061804150001ff', M],
  ]
  for (const [clause, what, hex, reason] of cases) {
    test(`[${clause}] ${what}`, () => {
      expect(() => decode(hex)).toThrow(expect.objectContaining({ reason, clause }))
    })
  }
})

test('[MQTT-3.15.2-2], [MQTT-3.15.2-3] text is left out that would exceed the Maximum Packet Size', () => {
  const bare = encodeAuth(ReasonCode.ContinueAuthentication, { method: 'm' })
  const whole = { method: 'm', reasonString: 'why', userProperties: [['a', 'b'] as [string, string]] }
  expect(encodeAuth(ReasonCode.ContinueAuthentication, whole, bare.length)).toEqual(bare)
})
