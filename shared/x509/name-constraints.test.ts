import { describe, expect, test } from 'vitest'
import { parseName } from './distinguished-name.ts'
import type { GeneralName } from './general-name.ts'
import { constraintBreach } from './name-constraints.ts'

/** Certificates of openssl with constraints are judged in authsvc/methods/x509-chain.test.ts; here is what openssl would not make. */
function breach(base: GeneralName, name: GeneralName, list: 'permitted' | 'excluded'): string | null {
  const constraints = { permitted: [], excluded: [], [list]: [base] }
  return constraintBreach(constraints, { subject: parseName('CN=a'), alternativeNames: [name] }, true)
}

const dns = (text: string): GeneralName => ({ is: 'dns', text })
const uri = (text: string): GeneralName => ({ is: 'uri', text })
const email = (text: string): GeneralName => ({ is: 'email', text })
const ip = (...octets: number[]): GeneralName => ({ is: 'ip', octets: Uint8Array.from(octets) })
const x400: GeneralName = { is: 'other', tag: 0xa3 }

describe('permitted', () => {
  test.each([
    [dns(''), dns('any.example'), true],
    [dns('.b.example'), dns('a.b.example'), true],
    [dns('.b.example'), dns('b.example'), false],
    [uri('b.example'), uri('mqtt://user:secret@B.example:1883/path?x=//c.example'), true],
    [uri('b.example'), uri('mqtt://b.example@c.example/'), false],
    [uri('b.example'), uri('mqtt://[fd00::1]/'), false],
    [uri('b.example'), uri('mqtt://10.0.0.1/'), false],
    [uri(''), uri('urn:x'), false],
    [email('b.example'), email('a@B.example'), true],
    [email('b.example'), email('a@c@b.example'), false],
    [email('A@b.example'), email('a@b.example'), false],
    [email('a@b.example'), email('none'), false],
    [ip(10, 0, 0, 0, 255, 0, 0, 0), ip(10, 1, 2, 3), true],
    [ip(10, 0, 0, 0, 255, 0, 0, 0), ip(11, 1, 2, 3), false],
    [ip(10, 0, 0, 0, 255), ip(10, 1, 2, 3), false],
    [ip(10, 0, 0, 0, 255, 0, 0, 0), ip(10, 1, 2), false],
    [x400, x400, false],
    [x400, dns('a.example'), true],
    [dns('b.example'), x400, true],
  ])('%j and %j: %s', (base, name, isGood) => {
    expect(breach(base, name, 'permitted') === null).toBe(isGood)
  })
})

describe('excluded', () => {
  test.each([
    [dns(''), dns('any.example'), false],
    [dns('b.example'), dns('c.example'), true],
    [ip(10, 0, 0, 0, 255), ip(11, 1, 2, 3), false],
    [ip(10, 0, 0, 0, 255, 0, 0, 0), ip(11, 1, 2, 3), true],
    [uri('b.example'), uri('mqtt:b.example'), false],
    [x400, x400, false],
  ])('%j and %j: %s', (base, name, isGood) => {
    expect(breach(base, name, 'excluded') === null).toBe(isGood)
  })
})

test('more comparisons than a client may cost are refused', () => {
  const names = Array.from({ length: 1_000 }, (_, index) => dns(`${index}.example`))
  const subject = parseName('CN=a')
  expect(constraintBreach({ permitted: names, excluded: [] }, { subject, alternativeNames: names }, true)).toContain('more names')
  expect(
    constraintBreach({ permitted: names.slice(0, 50), excluded: [] }, { subject, alternativeNames: names.slice(0, 50) }, true),
  ).toBeNull()
})
