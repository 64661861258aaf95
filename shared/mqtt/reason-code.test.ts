import { expect, test } from 'vitest'
import { connackReturnCode311, ReasonCode, reasonName } from './reason-code.ts'

test('[§2.4] there are 43 distinct Reason Codes and each has its name', () => {
  const codes = Object.values(ReasonCode)
  expect(new Set(codes).size).toBe(codes.length)
  expect(codes).toHaveLength(43)
  for (const [name, code] of Object.entries(ReasonCode)) expect(reasonName(code)).toBe(name)
  expect(reasonName(0x7f)).toBe('0x7f')
  expect(reasonName(5)).toBe('0x05')
})

test('3.1.1 §3.2.2.3: every refusal has a return code from 1 to 5', () => {
  for (const code of Object.values(ReasonCode)) if (code >= 0x80) expect([1, 2, 3, 4, 5]).toContain(connackReturnCode311(code))
  expect(connackReturnCode311(ReasonCode.UnsupportedProtocolVersion)).toBe(1)
  expect(connackReturnCode311(ReasonCode.ClientIdentifierNotValid)).toBe(2)
  expect(connackReturnCode311(ReasonCode.ServerUnavailable)).toBe(3)
  expect(connackReturnCode311(ReasonCode.BadUserNameOrPassword)).toBe(4)
  expect(connackReturnCode311(ReasonCode.NotAuthorized)).toBe(5)
  expect(connackReturnCode311(ReasonCode.BadAuthenticationMethod)).toBe(5)
})
