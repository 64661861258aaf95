import { describe, expect, test } from 'vitest'
import { decodeServerPacket, encodeClientDisconnect } from './client-codec.ts'
import { type Disconnect, decodeDisconnect, encodeDisconnect } from './disconnect-codec.ts'
import { userPropertyObject } from './packet-library.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'

function decode(hex: string | Buffer, version: ProtocolVersion): Disconnect {
  const frame = Buffer.from(hex as string, 'hex')
  const chunk = Buffer.concat([Buffer.alloc(3, 0xff), frame, Buffer.alloc(3, 0xff)])
  return decodeDisconnect(chunk, 3, 3 + frame.length, version)
}

const nothing = { sessionExpiry: null, reasonString: null, userProperties: [] }

test('[§3.14.2.1], [§3.14.2.2.1] reason and Property Length may be left out', () => {
  expect(decode('e000', 5)).toEqual({ ...nothing, reason: ReasonCode.Success })
  expect(decode('e000', 4)).toEqual({ ...nothing, reason: ReasonCode.Success })
  expect(decode('e00104', 5)).toEqual({ ...nothing, reason: ReasonCode.DisconnectWithWillMessage })
  expect(decode('e0020400', 5)).toEqual({ ...nothing, reason: ReasonCode.DisconnectWithWillMessage })
})

test('says what the client said', () => {
  const frame = encodeClientDisconnect(5, ReasonCode.UnspecifiedError, {
    sessionExpiryInterval: 0xffff_ffff,
    reasonString: 'bye',
    userProperties: userPropertyObject([['a', 'b']]),
  })
  expect(decode(frame, 5)).toEqual({ reason: 0x80, sessionExpiry: 0xffff_ffff, reasonString: 'bye', userProperties: [['a', 'b']] })
  expect(decode(encodeClientDisconnect(4), 4).reason).toBe(0)
})

const M = ReasonCode.MalformedPacket
const P = ReasonCode.ProtocolError

describe('refused', () => {
  const cases: [clause: string, what: string, hex: string, reason: number, version: ProtocolVersion][] = [
    ['MQTT-2.1.3-1', 'flags', 'e100', M, 5],
    ['§4.13.1', 'content before MQTT 5', 'e00100', M, 4],
    ['MQTT-3.14.2-1', 'a reason that servers send', 'e0018e', M, 5],
    ['MQTT-3.14.2-1', 'a reason that is none', 'e001ff', M, 5],
    ['§2.2.2.2', 'a Server Reference', 'e00600041c000161', M, 5],
    ['§2.2.2.2', 'Session Expiry Interval twice', 'e00c000a11000000011100000001', P, 5],
    ['§2.2.2.1', 'a Property Length past the end', 'e0020005', M, 5],
    ['§4.13.1', 'bytes behind the properties', 'e003000000', M, 5],
    ['MQTT-1.5.4-1', 'a Reason String that is not UTF-8', 'e00600041f0001ff', M, 5],
  ]
  for (const [clause, what, hex, reason, version] of cases) {
    test(`[${clause}] ${what} (MQTT level ${version})`, () => {
      expect(() => decode(hex, version)).toThrow(expect.objectContaining({ reason, clause }))
    })
  }
})

test('the server says why, and where to go', () => {
  const frame = encodeDisconnect(ReasonCode.UseAnotherServer, {
    serverReference: 'other:1883',
    reasonString: 'drain',
    userProperties: [['a', 'b']],
  })
  expect(decodeServerPacket(frame, 0, frame.length, 5)).toMatchObject({
    reasonCode: 0x9c,
    properties: { serverReference: 'other:1883', reasonString: 'drain', userProperties: { a: 'b' } },
  })
  expect(encodeDisconnect(ReasonCode.SessionTakenOver).toString('hex')).toBe('e0028e00')
})

test('[MQTT-3.14.2-3], [MQTT-3.14.2-4] text is left out that would exceed the Maximum Packet Size', () => {
  const bare = encodeDisconnect(ReasonCode.ServerBusy)
  expect(encodeDisconnect(ReasonCode.ServerBusy, { reasonString: 'x', userProperties: [['a', 'b']] }, bare.length)).toEqual(bare)
})
