import { describe, expect, test } from 'vitest'
import { ByteReader } from '../base/byte-reader.ts'
import type { AuthorizationRule } from '../resources/broker-authorization.ts'
import { permitFor } from './permit-for.ts'
import { type Permit, permitBytes, readPermit } from './permit.ts'
import { compilePolicy } from './policy.ts'
import type { Subject } from './template.ts'

/** What a client, its user name or an attribute may be made of to get more than was meant. */
const NASTY: readonly string[] = [
  '+',
  '#',
  'a/#',
  'a/b',
  '/',
  '/a',
  'a/',
  '*',
  '?',
  '[a-z]',
  '[!a]',
  '[',
  ']',
  '{principal.clientId}',
  '{principal.attributes.site}',
  '{',
  '}',
  '\\*',
  'a\0b',
  '\0',
  '$share',
  '$share/g/#',
  '$SYS',
  '$services',
  '..',
  'é',
  '☃',
  '😀',
  'e\u0301',
  '\ufeff',
  ' ',
  'a*'.repeat(5_000),
  'x'.repeat(70_000),
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
]

const CANNOT_BE_A_LEVEL = /[/+#\0]/

interface Place {
  readonly token: string
  readonly subject: (value: string) => Subject
}

const PLACES: readonly Place[] = [
  { token: '{principal.clientId}', subject: value => subjectWith({ clientId: value }) },
  { token: '{principal.username}', subject: value => subjectWith({ userName: value }) },
  { token: '{principal.attributes.name}', subject: value => subjectWith({ attributes: [['name', value]] }) },
  { token: '{principal.attributes.__proto__}', subject: value => subjectWith({ attributes: [['__proto__', value]] }) },
  { token: '{principal.attributes.example.com/name}', subject: value => subjectWith({ attributes: [['example.com/name', value]] }) },
]

/** Rules apply by the attribute `site`, which nobody has without an authentication. */
function subjectWith(given: { clientId?: string; userName?: string; attributes?: readonly (readonly [string, string])[] }): Subject {
  return { clientId: 'client', userName: 'user', ...given, attributes: new Map([['site', 'north'], ...(given.attributes ?? [])]) }
}

function authorizedBy(rule: Omit<AuthorizationRule, 'principals'>, subject: Subject): { connects: boolean; permit: Permit } {
  const policy = compilePolicy('p', { rules: [{ ...rule, principals: { attributes: [{ site: 'north' }] } }] })
  const { connect, permit } = permitFor([policy], subject)
  // What a frontend decides by has been through bytes.
  return { connects: connect.allowed, permit: readPermit(new ByteReader(permitBytes(permit))) }
}

/** Topics of others, which no value may open. */
const OTHERS = ['x', 'x/y', 'own', 'own/x', 'own/x/y', 'own/a/b', '$SYS/broker', '$services/a', 'a', 'a/b', 'g/x']

describe.each(PLACES)('$token', ({ token, subject }) => {
  test.each(NASTY)('in topics: %j', value => {
    const { permit } = authorizedBy(
      {
        brokerResources: [
          { method: 'Publish', topics: [`own/${token}`, `own/${token}/in`, `${token}/first`] },
          { method: 'Subscribe', topics: [`own/${token}/#`, `${token}/g/#`] },
        ],
      },
      subject(value),
    )
    const isLevel = !CANNOT_BE_A_LEVEL.test(value) && value.length < 65_000
    expect(permit.mayPublish(`own/${value}`)).toBe(isLevel)
    expect(permit.mayPublish(`own/${value}/in`)).toBe(isLevel)
    const publishes = OTHERS.filter(topic => topic !== `own/${value}` && permit.mayPublish(topic))
    expect(publishes).toEqual([])
    expect(permit.parts.publish.every(({ filter }) => filter.includes(value) && !/[+#]/.test(filter))).toBe(true)
    expect(permit.maySubscribe(`own/${value}/deep/#`)).toBe(isLevel)
    const filters = [...OTHERS, '#', '+/#', 'own/#', 'own/+', 'own/+/#', '$SYS/#', '+', 'g/#', 'x/g/#']
    expect(filters.filter(filter => permit.maySubscribe(filter) && filter !== `own/${value}`)).toEqual([])
  })

  test.each(NASTY)('in Client Identifiers: %j', value => {
    const connects = (clientId: string, pattern: string): boolean =>
      authorizedBy({ brokerResources: [{ method: 'Connect', clientIds: [pattern] }] }, { ...subject(value), clientId }).connects
    if (token === '{principal.clientId}') {
      expect(connects(value, `${token}`)).toBe(true)
      expect(connects(value, `x${token}`)).toBe(false)
      return
    }
    expect(connects(value, token)).toBe(true)
    expect(connects(`${value}-1`, `${token}*`)).toBe(true)
    expect(connects(`${value}-1`, `${token}-?`)).toBe(true)
    for (const other of ['other', 'a', '', 'ab', 'north', `x${value}`]) {
      expect(connects(other, token)).toBe(other === value)
      expect(connects(other, `${token}*`)).toBe(other.startsWith(value))
    }
  })

  test.each(NASTY)('in keys: %j', value => {
    const { permit } = authorizedBy(
      { brokerResources: [], stateStoreResources: [{ method: 'ReadWrite', keys: [`own/${token}/*`, `any*${token}*end`] }] },
      subject(value),
    )
    const may = (key: string): boolean => permit.mayAccessKey(Buffer.from(key), 'write')
    expect(may(`own/${value}/key`)).toBe(true)
    expect(may(`any-${value}-end`)).toBe(true)
    expect(may('own/other/key')).toBe(false)
    expect(may('own//key')).toBe(false)
    expect(may('any-other-end')).toBe(false)
    expect(may('')).toBe(false)
  })

  test('an empty or missing value matches nothing', () => {
    const empty = [subject(''), subjectWith({ userName: '' })].filter(each => token !== '{principal.clientId}' || each.clientId === '')
    for (const each of empty) {
      const { connects, permit } = authorizedBy(
        {
          brokerResources: [
            { method: 'Connect', clientIds: [`${token}*`] },
            { method: 'Publish', topics: [`own/${token}`, `${token}/#`] },
          ],
          stateStoreResources: [{ method: 'Read', keys: [`${token}*`] }],
        },
        each,
      )
      expect(connects).toBe(false)
      expect(['own/', 'own', '/x', 'x', ''].filter(topic => permit.mayPublish(topic))).toEqual([])
      expect(permit.mayAccessKey(Buffer.from('key'), 'read')).toBe(false)
    }
  })
})

describe('principals are literals', () => {
  test.each(NASTY)('%j is nobody else', value => {
    const policy = compilePolicy('p', {
      rules: [
        {
          principals: { clientIds: [value], usernames: [value], attributes: [{ [`k${value}`]: value }] },
          brokerResources: [{ method: 'Connect' }],
        },
      ],
    })
    const connects = (subject: Subject): boolean => permitFor([policy], subject).connect.allowed
    const nobody: Subject = { clientId: 'x', userName: '', attributes: new Map() }
    expect(connects({ ...nobody, clientId: value })).toBe(true)
    expect(connects({ ...nobody, userName: value })).toBe(true)
    expect(connects({ ...nobody, attributes: new Map([[`k${value}`, value]]) })).toBe(true)
    for (const other of ['x', 'a', 'ab', `${value}x`, value.toUpperCase() === value ? 'x' : value.toUpperCase()]) {
      expect(
        connects({
          clientId: other,
          userName: other,
          attributes: new Map([
            [`k${value}`, other],
            [other, value],
          ]),
        }),
      ).toBe(false)
    }
  })

  test('no principals, no pairs and no user name are nobody', () => {
    const rules = [{}, { attributes: [{}] }, { attributes: [], clientIds: [], usernames: [] }, { usernames: [''] }].map(principals => ({
      principals,
      brokerResources: [{ method: 'Connect' as const }, { method: 'Publish' as const, topics: ['#'] }],
    }))
    const { connect, permit } = permitFor([compilePolicy('p', { rules })], { clientId: '', userName: '', attributes: new Map() })
    expect([connect.allowed, permit.mayPublish('x')]).toEqual([false, false])
    expect(permitFor([], subjectWith({})).connect.allowed).toBe(false)
  })
})

describe.each(PLACES)('$token at the first level', ({ token, subject }) => {
  const authorized = (value: string, effect: 'Allow' | 'Deny'): Permit => {
    const all = [
      { principals: { attributes: [{ site: 'north' }] }, brokerResources: [{ method: 'Subscribe' as const, topics: ['$SYS/#', '#'] }] },
    ]
    const own = {
      effect,
      principals: { attributes: [{ site: 'north' }] },
      brokerResources: ['Publish' as const, 'Subscribe' as const].map(method => ({ method, topics: [`${token}/#`] })),
    }
    return permitFor([compilePolicy('p', { rules: effect === 'Deny' ? [...all, own] : [own] })], subject(value)).permit
  }

  test.each(['$SYS', '$services', '$share', '$'])('%s opens no topics of the broker itself; what it denies stays denied', value => {
    const permit = authorized(value, 'Allow')
    expect([permit.maySubscribe(`${value}/#`), permit.mayPublish(`${value}/statestore/_any_/command/invoke/request`)]).toEqual([
      false,
      false,
    ])
    expect([...permit.parts.publish, ...permit.parts.subscribe]).toEqual([])
    if (value === '$SYS') expect(authorized(value, 'Deny').maySubscribe('$SYS/broker')).toBe(false)
  })
})

test('a client whose values would make thousands of long patterns is not let in', () => {
  const topics = Array.from({ length: 100 }, (_, i) => `${i}/{principal.clientId}`)
  const policy = compilePolicy('p', {
    rules: [{ principals: { usernames: ['u'] }, brokerResources: [{ method: 'Connect' }, { method: 'Publish', topics }] }],
  })
  const of = (clientId: string): ReturnType<typeof permitFor> => permitFor([policy], { clientId, userName: 'u', attributes: new Map() })
  expect(of('c'.repeat(40_000)).connect.allowed).toBe(true)
  const { connect, permit } = of('c'.repeat(60_000))
  expect([connect.allowed, permit.mayPublish(`1/${'c'.repeat(60_000)}`)]).toEqual([false, false])
})

test.each([
  ['client-{principal.clientId}/#', 'must be the only text of its level'],
  ['a/{principal.clientId}x', 'must be the only text of its level'],
  ['{principal.clientId}{principal.clientId}', 'must be the only text of its level'],
  ['{principal.id}', 'there is no token {principal.id}'],
  ['{principal.attributes.}', 'there is no token {principal.attributes.}'],
  ['{principal.clientId', 'no closing brace'],
  ['a/#/b', '# that is not the last level'],
  ['$share/g/a', 'without $share/'],
])('a pattern that never matches says why: %s', (topic, why) => {
  const policy = compilePolicy('p', {
    rules: [{ principals: { clientIds: ['c'] }, brokerResources: [{ method: 'Publish', topics: [topic] }] }],
  })
  expect(policy.rules[0]!.publish[0]!.template).toMatchObject({ message: expect.stringContaining(why) as string })
  const { permit } = permitFor([policy], subjectWith({ clientId: 'c' }))
  expect(permit.parts.publish).toEqual([])
})
