import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isFailure } from '#shared/mqtt/reason-code.ts'
import { answerOf, refusalReason } from './answer.ts'

const NOW_MS = 1_700_000_000_000

test('whatever reason a server gives, a client gets a code that refuses', () => {
  for (let reason = 0; reason < 256; reason++) expect(isFailure(refusalReason(reason)), String(reason)).toBe(true)
})

describe('any answer', () => {
  const body = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc.record({ expiry: fc.anything(), attributes: fc.anything() }, { requiredKeys: [] }).map(value => text(value)),
    fc
      .record({ reason: fc.anything(), message: fc.anything(), supportedVersions: fc.anything() }, { requiredKeys: [] })
      .map(value => text(value)),
  )

  test('has a meaning; only a 200 accepts, with texts as attributes and an end that is to come', () => {
    fc.assert(
      fc.property(fc.oneof(fc.constantFrom(200, 403, 422), fc.integer({ min: 100, max: 999 })), body, (status, given) => {
        const answer = answerOf(status, Buffer.from(given), NOW_MS)
        if (answer.is === 'accepted') {
          expect(status).toBe(200)
          expect(answer.expiresMs === null || answer.expiresMs > NOW_MS).toBe(true)
          expect([...answer.attributes].flat().every(each => typeof each === 'string')).toBe(true)
        }
        if (answer.is === 'denied') expect(status === 403 && isFailure(answer.reason)).toBe(true)
        expect(answer.is === 'unreachable').toBe(status === 429 || status >= 500)
      }),
      { numRuns: 2_000 },
    )
  })

  test('bytes that are no UTF-8 refuse', () => {
    expect(answerOf(200, Buffer.concat([Buffer.from('{"attributes":{"a":"'), Buffer.of(0xff), Buffer.from('"}}')]), NOW_MS)).toMatchObject({
      is: 'faulty',
    })
  })

  test('deep nesting of 64 KiB refuses or is passed over, and nothing breaks', () => {
    expect(answerOf(200, Buffer.from('['.repeat(65_536)), NOW_MS)).toMatchObject({ is: 'faulty' })
    expect(answerOf(200, Buffer.from(`{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}`), NOW_MS)).toMatchObject({ is: 'accepted' })
  })
})

/** JSON as far as the value has any. */
function text(value: object): string {
  try {
    return JSON.stringify(value)
  } catch {
    return ''
  }
}
