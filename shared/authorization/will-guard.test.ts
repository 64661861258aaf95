import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReaderError } from '../base/byte-reader.ts'
import { ManualClock } from '../base/clock.ts'
import type { BrokerAuthorizationSpec } from '../resources/broker-authorization.ts'
import type { Resource } from '../resources/resource-snapshot.ts'
import { compilePolicy, type Policy } from './policy.ts'
import { PolicyBook, PREVIOUS_MAX } from './policy-book.ts'
import { readWillGuard, WillJudge, writeWillGuard } from './will-guard.ts'

function policy(name: string, topic: string): Policy {
  return compilePolicy(name, {
    rules: [{ principals: { attributes: [{ site: 'north' }] }, brokerResources: [{ method: 'Publish', topics: [topic] }] }],
  })
}

const guard = (authorizations: readonly string[], clientId = 'pump'): Buffer =>
  writeWillGuard({ authorizations, clientId, userName: '', attributes: new Map([['site', 'north']]) })

describe('a Will is judged when it is due', () => {
  test('by the policies of that moment, together', () => {
    const policies = new Map([
      ['a', policy('a', 'dead/{principal.clientId}')],
      ['b', policy('b', 'wills/#')],
    ])
    const judge = new WillJudge(name => policies.get(name) ?? null)
    expect(judge.mayPublish(guard(['a', 'b']), 'dead/pump')).toBe(true)
    expect(judge.mayPublish(guard(['a', 'b']), 'wills/x')).toBe(true)
    expect(judge.mayPublish(guard(['a']), 'wills/x')).toBe(false)
    policies.set('a', policy('a', 'elsewhere'))
    expect(judge.mayPublish(guard(['a', 'b']), 'dead/pump')).toBe(false)
    policies.delete('b')
    expect(judge.mayPublish(guard(['a', 'b']), 'elsewhere')).toBe(false)
    expect(judge.mayPublish(guard(['a']), 'elsewhere')).toBe(true)
  })

  test('without BrokerAuthorization it may go anywhere; with a guard that cannot be read nowhere', () => {
    const judge = new WillJudge(() => policy('p', '#'))
    expect(judge.mayPublish(guard([]), 'x')).toBe(true)
    expect(judge.mayPublish(Buffer.alloc(0), 'x')).toBe(false)
    expect(judge.mayPublish(Buffer.from([2, 0, 0, 0, 0]), 'x')).toBe(false)
    expect(judge.mayPublish(Buffer.concat([guard([]), Buffer.of(0)]), 'x')).toBe(false)
    for (let length = 0; length < guard(['p']).length; length++) expect(judge.mayPublish(guard(['p']).subarray(0, length), 'x')).toBe(false)
  })

  test('a guard comes back as it was; other bytes are a guard or a ByteReaderError', () => {
    const text = fc.string({ unit: 'grapheme' })
    const any = fc.record({
      authorizations: fc.array(text),
      clientId: text,
      userName: text,
      attributes: fc.array(fc.tuple(text, text)).map(pairs => new Map(pairs)),
    })
    fc.assert(
      fc.property(any, each => {
        expect(readWillGuard(writeWillGuard(each))).toEqual(each)
      }),
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
        try {
          readWillGuard(Buffer.concat([Buffer.of(1), bytes]))
        } catch (error) {
          expect(error).toBeInstanceOf(ByteReaderError)
        }
      }),
    )
  })
})

describe('policies by version', () => {
  const resource = (name: string, version: string): Resource<BrokerAuthorizationSpec> => ({
    name,
    version,
    where: 'test',
    spec: { authorizationPolicies: { rules: [] } },
  })
  const all = (...resources: readonly Resource<BrokerAuthorizationSpec>[]): ReadonlyMap<string, Resource<BrokerAuthorizationSpec>> =>
    new Map(resources.map(each => [each.name, each]))

  test('what did not change is not compiled again', () => {
    const book = new PolicyBook({ clock: new ManualClock(), keepMs: 30_000 })
    book.update(all(resource('a', '1'), resource('b', '1')))
    const [a, b] = [book.current('a'), book.current('b')]
    book.update(all(resource('a', '2'), resource('b', '1')))
    expect(book.current('b')).toBe(b)
    expect(book.current('a')).not.toBe(a)
    expect(book.find({ name: 'a', version: '1' })).toBe(a)
    book.update(all(resource('a', '1'), resource('b', '1')))
    expect(book.current('a')).toBe(a)
  })

  test('the version before is found for a time, also of a resource that is gone', () => {
    const clock = new ManualClock()
    const book = new PolicyBook({ clock, keepMs: 30_000 })
    book.update(all(resource('a', '1')))
    clock.advance(100_000)
    expect(book.find({ name: 'a', version: '1' })).not.toBeNull()
    book.update(all(resource('a', '2')))
    clock.advance(29_999)
    book.update(all())
    expect(book.current('a')).toBeNull()
    expect(book.find({ name: 'a', version: '1' })).not.toBeNull()
    clock.advance(1)
    expect(book.find({ name: 'a', version: '1' })).toBeNull()
    expect(book.find({ name: 'a', version: '2' })).not.toBeNull()
    clock.advance(30_000)
    expect(book.find({ name: 'a', version: '2' })).toBeNull()
    expect(book.find({ name: 'b', version: '1' })).toBeNull()
  })

  test('versions that follow each other quickly do not pile up', () => {
    const book = new PolicyBook({ clock: new ManualClock(), keepMs: 30_000 })
    for (let version = 0; version < 100; version++) book.update(all(resource('a', `${version}`)))
    const found = Array.from({ length: 100 }, (_, version) => book.find({ name: 'a', version: `${version}` })).filter(each => each !== null)
    expect(found).toHaveLength(PREVIOUS_MAX + 1)
  })
})
