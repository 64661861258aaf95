import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteReaderError } from '../base/byte-reader.ts'
import { filterCovers, filterMatches, TopicCache } from '../mqtt/topic.ts'
import type { AuthorizationRule } from '../resources/broker-authorization.ts'
import { DECISIONS_MAX, DecisionCache } from './decision-cache.ts'
import { filtersOverlap } from './filters-overlap.ts'
import { permitFor } from './permit-for.ts'
import { PERMIT_BYTES_MAX, PermitCache } from './permit-cache.ts'
import { type Decision, Permit, permitBytes, readPermit } from './permit.ts'
import { compilePolicy, type Policy } from './policy.ts'
import type { Subject } from './template.ts'

const level = fc.constantFrom('a', 'b', 'c', '', '$x', '{principal.clientId}', '{principal.attributes.g}')
const topicOf = (levels: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(levels, { minLength: 1, maxLength: 4 }).map(all => all.join('/'))
const topicName = topicOf(fc.constantFrom('a', 'b', 'c', 'd', '', '$x')).filter(topic => topic !== '')
const withHash = (filter: string, hasHash: boolean): string => (hasHash ? `${filter}/#` : filter)
const filterOf = (levels: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .oneof(
      fc.constant('#'),
      fc.tuple(topicOf(levels), fc.boolean()).map(([filter, hasHash]) => withHash(filter, hasHash)),
    )
    .filter(f => f !== '')
const pattern = filterOf(fc.oneof({ arbitrary: level, weight: 3 }, { arbitrary: fc.constant('+'), weight: 1 }))
const filter = filterOf(fc.constantFrom('a', 'b', 'c', '', '$x', '+'))
const keyPattern = fc
  .array(fc.constantFrom('a', 'b', 'é', '*', '?', '[a-b]', '[!a]', '{principal.clientId}'), { maxLength: 5 })
  .map(all => all.join(''))
const key = fc.array(fc.constantFrom('a', 'b', 'c', 'é', '*', '/'), { maxLength: 5 }).map(all => all.join(''))

const id = fc.constantFrom('a', 'b', 'c', 'a/b', '+', '')
const subject: fc.Arbitrary<Subject> = fc.record({
  clientId: id,
  userName: id,
  attributes: fc.dictionary(fc.constantFrom('g', 'h'), id).map(all => new Map(Object.entries(all))),
})
const ids = fc.array(fc.constantFrom('a', 'b', '', 'x'), { maxLength: 2 })
const rule: fc.Arbitrary<AuthorizationRule> = fc.record({
  effect: fc.constantFrom('Allow' as const, 'Allow' as const, 'Deny' as const),
  principals: fc.record({
    clientIds: ids,
    usernames: ids,
    attributes: fc.array(fc.dictionary(fc.constantFrom('g', 'h'), fc.constantFrom('a', 'b')), { maxLength: 2 }),
  }),
  brokerResources: fc.array(
    fc.oneof(
      fc.record({ method: fc.constantFrom('Publish' as const, 'Subscribe' as const), topics: fc.array(pattern, { maxLength: 8 }) }),
      fc.record({
        method: fc.constant('Connect' as const),
        clientIds: fc.array(fc.constantFrom('a', 'a*', '?', '{principal.username}'), { maxLength: 2 }),
      }),
    ),
    { maxLength: 3 },
  ),
  stateStoreResources: fc.array(
    fc.record({
      method: fc.constantFrom('Read' as const, 'Write' as const, 'ReadWrite' as const),
      keys: fc.array(keyPattern, { maxLength: 3 }),
    }),
    { maxLength: 1 },
  ),
})
const policies = fc.array(fc.array(rule, { maxLength: 6 }), { minLength: 1, maxLength: 2 })

/** As the specification says it, rule by rule, without an index. */
class Oracle {
  readonly #rules: readonly { readonly rule: AuthorizationRule; readonly name: string }[]
  readonly #subject: Subject

  constructor(all: readonly (readonly AuthorizationRule[])[], client: Subject) {
    this.#subject = client
    const named = all.flatMap((rules, at) =>
      rules.map((each, index) => ({ rule: each, name: `BrokerAuthorization p${at}, rules[${index}]` })),
    )
    this.#rules = named.filter(({ rule: { principals } }) => {
      const { clientIds = [], usernames = [], attributes = [] } = principals
      const has = (pairs: Readonly<Record<string, string>>): boolean =>
        Object.keys(pairs).length > 0 && Object.keys(pairs).every(name => client.attributes.get(name) === pairs[name])
      return clientIds.includes(client.clientId) || (client.userName !== '' && usernames.includes(client.userName)) || attributes.some(has)
    })
  }

  connects(): Decision {
    return this.#verdict(({ brokerResources }) =>
      brokerResources.some(({ method, clientIds = [] }) => {
        if (method !== 'Connect') return false
        return clientIds.length === 0 || clientIds.some(each => this.#globMatches(each, this.#subject.clientId, /[*?]/))
      }),
    )
  }

  publishes(name: string): Decision {
    return this.#verdict((each, isDenied) => this.#topics(each, 'Publish', isDenied).some(allowed => filterMatches(allowed, name)))
  }

  subscribes(wanted: string): Decision {
    return this.#verdict((each, isDenied) =>
      this.#topics(each, 'Subscribe', isDenied).some(known => (isDenied ? filtersOverlap(known, wanted) : filterCovers(known, wanted))),
    )
  }

  accesses(name: string, access: 'Read' | 'Write'): Decision {
    return this.#verdict(({ stateStoreResources = [] }) =>
      stateStoreResources.some(
        ({ method, keys }) =>
          (method === 'ReadWrite' || method === access) && keys.some(each => this.#globMatches(each, name, /[*?]|\[!?[^\]]+\]/)),
      ),
    )
  }

  #verdict(speaks: (rule: AuthorizationRule, isDenied: boolean) => boolean): Decision {
    const found = this.#rules.filter(({ rule: each }) => speaks(each, each.effect === 'Deny'))
    const denied = found.find(({ rule: each }) => each.effect === 'Deny')
    return { allowed: found.length > 0 && denied === undefined, rule: (denied ?? found[0])?.name ?? null }
  }

  #value(token: string): string {
    if (token === '{principal.clientId}') return this.#subject.clientId
    return (token === '{principal.username}' ? this.#subject.userName : this.#subject.attributes.get('g')) ?? ''
  }

  #topics({ brokerResources }: AuthorizationRule, method: string, isDenied: boolean): readonly string[] {
    return brokerResources
      .filter(resource => resource.method === method)
      .flatMap(({ topics = [] }) => topics)
      .flatMap(text => {
        const tokens = text.split('/').filter(part => part.startsWith('{'))
        const isBad = (value: string): boolean => value === '' || (isDenied ? /[+#]/ : /[+#/]/).test(value)
        if (tokens.some(token => isBad(this.#value(token)))) return []
        return [
          text
            .split('/')
            .map(part => (part.startsWith('{') ? this.#value(part) : part))
            .join('/'),
        ]
      })
  }

  #globMatches(glob: string, text: string, special: RegExp): boolean {
    const signs = new RegExp(`(\\{[^}]*\\}|${special.source})`, 'u')
    const source = glob.split(signs).map((part, index) => (index % 2 === 0 ? escaped(part) : this.#sign(part)))
    return !source.includes(null) && new RegExp(`^${source.join('')}$`, 'su').test(text)
  }

  #sign(part: string): string | null {
    if (part.startsWith('[')) return part.replace('[!', '[^')
    if (!part.startsWith('{')) return part === '*' ? '.*' : '.'
    const value = this.#value(part)
    return value === '' ? null : escaped(value)
  }
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
}

describe('a permit decides as the rules read', () => {
  const given = fc.record({
    policies,
    client: subject,
    topics: fc.array(topicName, { minLength: 5, maxLength: 20 }),
    filters: fc.array(filter, { minLength: 5, maxLength: 20 }),
    keys: fc.array(key, { minLength: 5, maxLength: 20 }),
  })

  test('random policies, clients, topics, filters and keys', () => {
    fc.assert(
      fc.property(given, ({ policies: all, client, topics, filters, keys }) => {
        const compiled = all.map((rules, index) => compilePolicy(`p${index}`, { rules }))
        const { connect, permit: made } = permitFor(compiled, client)
        const permit = readPermit(new ByteReader(permitBytes(made)))
        const oracle = new Oracle(all, client)
        expect(connect).toEqual(oracle.connects())
        for (const topic of topics) expect([topic, permit.decidePublish(topic)]).toEqual([topic, oracle.publishes(topic)])
        for (const topic of topics) expect(permit.mayPublish(topic)).toBe(permit.decidePublish(topic).allowed)
        for (const each of filters) expect([each, permit.decideSubscribe(each)]).toEqual([each, oracle.subscribes(each)])
        for (const each of filters) expect(permit.maySubscribe(each)).toBe(permit.decideSubscribe(each).allowed)
        expect(permit.parts.keys === null).toBe(all.flat().length === 0)
        if (permit.parts.keys === null) return
        for (const each of keys) expect([each, permit.decideKey(Buffer.from(each), 'read')]).toEqual([each, oracle.accesses(each, 'Read')])
        for (const each of keys) expect(permit.decideKey(Buffer.from(each), 'write')).toEqual(oracle.accesses(each, 'Write'))
        for (const each of keys) expect(permit.mayAccessKey(Buffer.from(each), 'write')).toBe(oracle.accesses(each, 'Write').allowed)
      }),
      { numRuns: 800 },
    )
  })

  test('a client that may list what begins so may read each such key, whatever it is', () => {
    let listed = 0
    const strange = fc.array(fc.constantFrom(0x61, 0x62, 0x2f, 0xc3, 0xa9, 0xff), { maxLength: 4 }).map(each => Buffer.from(each))
    const given = fc.record({
      policies,
      client: subject,
      prefixes: fc.array(strange, { minLength: 5 }),
      rests: fc.array(strange, { minLength: 9 }),
    })
    fc.assert(
      fc.property(given, ({ policies: all, client, prefixes, rests }) => {
        const { permit } = permitFor(
          all.map((rules, index) => compilePolicy(`p${index}`, { rules })),
          client,
        )
        for (const prefix of prefixes.filter(each => permit.mayReadKeysUnder(each))) {
          listed++
          for (const rest of rests) expect(permit.mayAccessKey(Buffer.concat([prefix, rest]), 'read')).toBe(true)
        }
      }),
      { numRuns: 2_000 },
    )
    expect(listed).toBeGreaterThan(20)
  })

  test.each<[allowed: string[], denied: string[], prefix: string, listed: boolean]>([
    [['*'], [], '', true],
    [['plant/*'], [], 'plant/', true],
    [['plant/*'], [], 'plant/1/', true],
    [['plant/*'], [], 'plant', false],
    [['plant/*'], [], '', false],
    [['plant/'], [], 'plant/', false],
    [['plant/*/x'], [], 'plant/1/x', false],
    [['plant/*/x*'], [], 'plant/1/x', true],
    [['plant/?/*'], [], 'plant/1/', true],
    [['plant/?/*'], [], 'plant/é/', false],
    [['a*', 'b*'], [], '', false],
    [['*'], ['secret/*'], 'plant/', true],
    [['*'], ['secret/*'], 'secret/', false],
    [['*'], ['secret/*'], 'secret/x', false],
    [['*'], ['secret/*'], 's', false],
    [['*'], ['secret'], 'secretly', false],
    [['*'], ['secret'], '', false],
    [['*'], ['?x'], 'plant/', false],
    [[], [], '', false],
  ])('allowed %j, denied %j: all keys that begin with %j: %s', (allowed, denied, prefix, listed) => {
    const rules = (effect: 'Allow' | 'Deny', keys: string[]): AuthorizationRule => ({
      effect,
      principals: { clientIds: ['c'] },
      brokerResources: [],
      stateStoreResources: [{ method: 'Read', keys }],
    })
    const policy = compilePolicy('p', { rules: [rules('Allow', allowed), rules('Deny', denied)] })
    const { permit } = permitFor([policy], { clientId: 'c', userName: '', attributes: new Map() })
    expect(permit.mayReadKeysUnder(Buffer.from(prefix))).toBe(listed)
  })

  test('what one filter covers, and what two have in common, is so for every topic', () => {
    const levels = ['a', 'b', '', '$x']
    const universe = [1, 2, 3, 4].flatMap(depth => allOf(levels, depth))
    const small = filterOf(fc.constantFrom('a', '', '$x', '+')).filter(each => each.split('/').length <= 4)
    fc.assert(
      fc.property(small, small, (one, other) => {
        const [ofOne, ofOther] = [one, other].map(each => universe.filter(topic => filterMatches(each, topic))) as [string[], string[]]
        if (filterCovers(one, other)) expect(ofOther.every(topic => ofOne.includes(topic))).toBe(true)
        expect(filtersOverlap(one, other)).toBe(ofOne.some(topic => ofOther.includes(topic)))
        expect(filtersOverlap(other, one)).toBe(filtersOverlap(one, other))
      }),
      { numRuns: 1_000 },
    )
  })
})

function allOf(levels: readonly string[], depth: number): readonly string[] {
  return depth === 1 ? levels : allOf(levels, depth - 1).flatMap(above => levels.map(each => `${above}/${each}`))
}

describe('several policies at one port', () => {
  const nobody: Subject = { clientId: 'c', userName: '', attributes: new Map() }
  const rules = (stateStoreResources?: AuthorizationRule['stateStoreResources']): AuthorizationRule[] => [
    { principals: { clientIds: ['c'] }, brokerResources: [{ method: 'Connect' }], ...(stateStoreResources && { stateStoreResources }) },
  ]

  test('keys are denied by default as soon as one rule of one policy speaks of keys, were it of none', () => {
    const [silent, speaking] = [compilePolicy('a', { rules: rules() }), compilePolicy('b', { rules: rules([]) })]
    const may = (policies: readonly Policy[]): boolean => permitFor(policies, nobody).permit.mayAccessKey(Buffer.from('k'), 'read')
    expect([may([silent]), may([speaking]), may([silent, speaking]), may([silent, silent])]).toEqual([true, false, false, true])
  })

  test('decisions are kept unless one of them forbids it; publishes that are refused disconnect when one of them wants it', () => {
    const [silent, off] = [compilePolicy('a', {}), compilePolicy('b', { cache: 'Disabled', refusedPublish311: 'Disconnect' })]
    const parts = (policies: readonly Policy[]): readonly boolean[] => {
      const { permit } = permitFor(policies, nobody)
      return [permit.parts.isCached, permit.disconnectsRefused311]
    }
    expect([parts([silent]), parts([off]), parts([silent, off])]).toEqual([
      [true, false],
      [false, true],
      [false, true],
    ])
  })

  test('a key that cannot be decided is denied, whether the pattern allows or denies', () => {
    const keys = [`*${'a'.repeat(2_000)}?b*`]
    const key = Buffer.from('a'.repeat(60_000))
    const all: AuthorizationRule = {
      principals: { clientIds: ['c'] },
      brokerResources: [],
      stateStoreResources: [{ method: 'Read', keys: ['*'] }],
    }
    const costly: AuthorizationRule = { ...all, stateStoreResources: [{ method: 'Read', keys }] }
    const may = (...each: AuthorizationRule[]): boolean =>
      permitFor([compilePolicy('p', { rules: each })], nobody).permit.mayAccessKey(key, 'read')
    expect([may(all), may(costly), may(all, { ...costly, effect: 'Deny' })]).toEqual([true, false, false])
  })
})

describe('the bytes of a permit', () => {
  test('come back as they were', () => {
    fc.assert(
      fc.property(policies, subject, fc.boolean(), fc.boolean(), (all, client, isCached, disconnects) => {
        const options = {
          cache: isCached ? ('Enabled' as const) : ('Disabled' as const),
          refusedPublish311: disconnects ? ('Disconnect' as const) : ('Acknowledge' as const),
        }
        const { permit } = permitFor(
          all.map((rules, index) => compilePolicy(`p${index}`, { ...options, rules })),
          client,
        )
        const bytes = permitBytes(permit)
        const back = readPermit(new ByteReader(bytes))
        expect(back.parts).toEqual(permit.parts)
        expect(permitBytes(back).equals(bytes)).toBe(true)
        expect([back.parts.isCached, back.disconnectsRefused311]).toEqual([isCached, disconnects])
      }),
      { numRuns: 300 },
    )
  })

  test('that were damaged give a permit or a ByteReaderError, and nothing is made of counts that are not borne out', () => {
    const rules = [
      {
        principals: { clientIds: ['a'] },
        brokerResources: [{ method: 'Publish' as const, topics: ['a/+/b', 'x/#', 'lit'] }],
        stateStoreResources: [{ method: 'Read' as const, keys: ['a[0-9]?*', 'k'] }],
      },
    ]
    const bytes = permitBytes(permitFor([compilePolicy('p', { rules })], { clientId: 'a', userName: '', attributes: new Map() }).permit)
    for (let length = 0; length < bytes.length; length++)
      expect(() => readPermit(new ByteReader(bytes.subarray(0, length)))).toThrow(ByteReaderError)
    let refused = 0
    for (let at = 0; at < bytes.length; at++) {
      for (const value of [0, 1, 2, 3, 4, 0x2b, 0x7f, 0x80, 0xff]) {
        const damaged = Buffer.from(bytes)
        damaged[at] = value
        refused += readOrRefuse(damaged)
      }
    }
    expect(refused).toBeGreaterThan(bytes.length)
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), random => readOrRefuse(Buffer.concat([Buffer.of(1, 4), random])) >= 0))
  })

  test('that are many are not all kept, even of few permits', () => {
    const cache = new PermitCache()
    const publish = { filter: 'x'.repeat(60_000), isDenied: false, rule: 0 }
    for (let index = 0; index < 1_200; index++) {
      const parts = {
        rules: [{ policy: 'p', index }],
        publish: [publish],
        subscribe: [],
        keys: null,
        isCached: true,
        disconnectsRefused311: false,
      }
      cache.get(permitBytes(new Permit(parts)))
      expect(cache.size * 60_000).toBeLessThanOrEqual(PERMIT_BYTES_MAX)
    }
    expect(cache.size).toBeGreaterThan(200)
  })

  test('give one Permit for one right, up to a limit', () => {
    const bytes = (clientId: string): Buffer => {
      const rules = [
        { principals: { usernames: ['u'] }, brokerResources: [{ method: 'Publish' as const, topics: ['own/{principal.clientId}'] }] },
      ]
      return permitBytes(permitFor([compilePolicy('p', { rules })], { clientId, userName: 'u', attributes: new Map() }).permit)
    }
    const cache = new PermitCache(4)
    const first = cache.get(bytes('a'))
    expect(cache.get(Buffer.from(bytes('a')))).toBe(first)
    expect(cache.get(bytes('b'))).not.toBe(first)
    for (let i = 0; i < 20; i++) cache.get(bytes(`c${i}`))
    expect(cache.size).toBeLessThanOrEqual(4)
    expect(cache.get(bytes('a'))).not.toBe(first)
    expect(() => cache.get(Buffer.concat([bytes('a'), Buffer.of(0)]))).toThrow(ByteReaderError)
    expect(() => cache.get(Buffer.alloc(0))).toThrow(ByteReaderError)
  })
})

/** 1 when `bytes` are refused. A permit that comes out of them decides without a fault. */
function readOrRefuse(bytes: Buffer): number {
  try {
    const permit = readPermit(new ByteReader(bytes))
    permit.decidePublish('a/b')
    permit.decideSubscribe('a/#')
    permit.decideKey(Buffer.from('a1'), 'read')
    return 0
  } catch (error) {
    expect(error).toBeInstanceOf(ByteReaderError)
    return 1
  }
}

describe('decisions are kept', () => {
  const parts = (isCached: boolean): Permit['parts'] => ({
    rules: [{ policy: 'p', index: 0 }],
    publish: [{ filter: 'a/+', isDenied: false, rule: 0 }],
    subscribe: [],
    keys: null,
    isCached,
    disconnectsRefused311: false,
  })
  const topics = new TopicCache({ topicsMax: 1_000_000, levelsMax: 128 })

  test('per topic, allowed and refused, unless a policy forbids it', () => {
    for (const isCached of [true, false]) {
      const decisions = new DecisionCache()
      const permit = new Permit(parts(isCached), decisions)
      for (let round = 0; round < 2; round++) {
        expect(permit.mayPublishTopic(topics.fromName('a/b'))).toBe(true)
        expect(permit.mayPublishTopic(topics.fromName('b/a'))).toBe(false)
        expect(permit.mayPublishTopic(topics.fromName(`a/${'x'.repeat(500)}`))).toBe(true)
      }
      expect(decisions.size).toBe(isCached ? 2 : 0)
    }
  })

  test('up to a limit of all permits together, where they are forgotten', () => {
    const decisions = new DecisionCache()
    const permits = [new Permit(parts(true), decisions), new Permit(parts(true), decisions)]
    for (let i = 0; i <= DECISIONS_MAX / 2; i++) {
      for (const permit of permits) expect(permit.mayPublishTopic(topics.fromName(`a/${i}`))).toBe(true)
      expect(decisions.size).toBeLessThanOrEqual(DECISIONS_MAX)
    }
    expect(decisions.size).toBe(2)
    for (const permit of permits) expect(permit.mayPublishTopic(topics.fromName('c/1'))).toBe(false)
  })
})
