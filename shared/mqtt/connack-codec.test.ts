import fc from 'fast-check'
import type { IConnackPacket } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { anyOrder, mqttText, u32 } from './legal-packets.contract.ts'
import { decodeServerPacket } from './client-codec.ts'
import { type ConnackProperties, encodeConnack } from './connack-codec.ts'
import type { ProtocolVersion } from './protocol-version.ts'
import { ReasonCode } from './reason-code.ts'
import type { UserProperty } from './strict-properties.ts'

const decode = (frame: Buffer, version: ProtocolVersion): IConnackPacket =>
  decodeServerPacket(frame, 0, frame.length, version) as IConnackPacket

test('all properties of MQTT 5 arrive', () => {
  const u16 = fc.integer({ min: 1, max: 65_535 })
  const properties = anyOrder<Required<Omit<ConnackProperties, 'userProperties'>>>({
    sessionExpiry: u32,
    receiveMaximum: u16,
    maximumQoS: fc.constantFrom(0, 1),
    retainAvailable: fc.boolean(),
    maximumPacketSize: fc.integer({ min: 1, max: 0xffff_ffff }),
    assignedClientIdentifier: mqttText(),
    topicAliasMaximum: u16,
    reasonString: mqttText(),
    wildcardSubscriptionAvailable: fc.boolean(),
    subscriptionIdentifiersAvailable: fc.boolean(),
    sharedSubscriptionAvailable: fc.boolean(),
    serverKeepAlive: u16,
    responseInformation: mqttText(),
    serverReference: mqttText(),
    authenticationMethod: mqttText(),
    authenticationData: fc.uint8Array({ maxLength: 20 }).map(bytes => Buffer.from(bytes)),
  })
  fc.assert(
    fc.property(properties, fc.boolean(), (given, sessionPresent) => {
      const packet = decode(encodeConnack(5, sessionPresent, ReasonCode.Success, given), 5)
      const { sessionExpiry, ...rest } = given
      expect(packet).toMatchObject({ sessionPresent, reasonCode: 0 })
      expect(packet.properties ?? {}).toEqual({ ...rest, ...(sessionExpiry !== undefined && { sessionExpiryInterval: sessionExpiry }) })
    }),
    { numRuns: 300 },
  )
})

test('User Properties arrive, `__proto__` among them', () => {
  const userProperties: UserProperty[] = [
    ['__proto__', 'a'],
    ['b', 'c'],
    ['__proto__', 'd'],
  ]
  const frame = encodeConnack(5, false, ReasonCode.Success, { userProperties })
  expect(frame.toString('latin1')).toContain('__proto__\0\x01a')
  expect(Object.entries(decode(frame, 5).properties!.userProperties!)).toEqual([
    ['__proto__', ['a', 'd']],
    ['b', 'c'],
  ])
})

describe('before MQTT 5', () => {
  test('it has a return code and nothing else', () => {
    expect(encodeConnack(4, true, ReasonCode.Success, { sessionExpiry: 5, reasonString: 'x' }).toString('hex')).toBe('20020100')
    expect(encodeConnack(4, false, ReasonCode.NotAuthorized).toString('hex')).toBe('20020005')
    expect(encodeConnack(4, false, ReasonCode.UnsupportedProtocolVersion).toString('hex')).toBe('20020001')
  })

  test('MQTT 3.1 has no Session Present', () => {
    expect(encodeConnack(3, true, ReasonCode.Success).toString('hex')).toBe('20020000')
  })
})

test('[MQTT-3.2.2-6] a refusal never says Session Present', () => {
  expect(decode(encodeConnack(5, true, ReasonCode.ServerBusy), 5).sessionPresent).toBe(false)
  expect(decode(encodeConnack(4, true, ReasonCode.ServerBusy), 4).sessionPresent).toBe(false)
})

describe('Maximum Packet Size', () => {
  const properties = { sessionExpiry: 7, reasonString: 'because', userProperties: [['name', 'value']] as UserProperty[] }
  const whole = encodeConnack(5, false, ReasonCode.Success, properties)
  const present = (maximumBytes: number): string[] =>
    Object.keys(decode(encodeConnack(5, false, ReasonCode.Success, properties, maximumBytes), 5).properties!)

  test('[MQTT-3.2.2-20] User Properties are left out first', () => {
    expect(present(whole.length)).toEqual(['sessionExpiryInterval', 'reasonString', 'userProperties'])
    expect(present(whole.length - 1)).toEqual(['sessionExpiryInterval', 'reasonString'])
  })

  test('[MQTT-3.2.2-19] then the Reason String; what means something stays', () => {
    expect(present(12)).toEqual(['sessionExpiryInterval'])
    expect(present(2)).toEqual(['sessionExpiryInterval'])
  })

  test('the Reason String stays when only it fits', () => {
    const withReason = encodeConnack(5, false, ReasonCode.Success, { ...properties, userProperties: [] })
    expect(present(withReason.length)).toContain('reasonString')
    expect(present(withReason.length - 1)).not.toContain('reasonString')
  })

  test('text that no UTF-8 Encoded String can hold is not sent', () => {
    const frame = encodeConnack(5, false, ReasonCode.ServerBusy, {
      reasonString: 'ä'.repeat(40_000),
      userProperties: [['a', 'x'.repeat(70_000)]],
    })
    expect(frame.toString('hex')).toBe('2003008900')
  })
})
