import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MatchResult } from './match-cache.ts'
import type { Recipient, SubscriptionOptions } from './recipient.ts'
import { SubscriptionIndex } from './subscription-index.ts'

class Client {
  readonly clientId: string

  constructor(clientId: string) {
    this.clientId = clientId
  }
}

const plain: SubscriptionOptions = { qos: 0, noLocal: false, retainAsPublished: false, identifier: 0 }
const [alice, bob, carol] = ['alice', 'bob', 'carol'].map(clientId => new Client(clientId)) as [Client, Client, Client]

function newIndex(cachedTopicsMax = 100): SubscriptionIndex<Client> {
  return new SubscriptionIndex<Client>({ cachedTopicsMax })
}

function receivers(index: SubscriptionIndex<Client>, topic: string): string[] {
  return index
    .match(topic)
    .recipients.map(({ subscriber }) => subscriber.clientId)
    .sort()
}

function levelsOf(level: string, count: number): string[] {
  return Array.from({ length: count }, () => level)
}

/** The definition of §4.7, level by level. */
function naiveMatches(filter: string, topic: string): boolean {
  const wanted = filter.split('/')
  const levels = topic.split('/')
  if (levels[0]!.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false
  for (const [depth, want] of wanted.entries()) {
    if (want === '#') return true
    if (depth >= levels.length || (want !== '+' && want !== levels[depth])) return false
  }
  return wanted.length === levels.length
}

describe('matching', () => {
  test.each([
    [
      '[§4.7.1.2] # matches the parent level too',
      'sport/tennis/player1/#',
      ['sport/tennis/player1', 'sport/tennis/player1/ranking', 'sport/tennis/player1/score/wimbledon'],
      ['sport/tennis/player2', 'sport/tennis'],
    ],
    ['[§4.7.1.2] # alone matches every topic', '#', ['a', '/', 'a/b', '/a'], ['$SYS', '$SYS/a']],
    [
      '[§4.7.1.3] + matches one level',
      'sport/tennis/+',
      ['sport/tennis/player1', 'sport/tennis/'],
      ['sport/tennis', 'sport/tennis/player1/ranking'],
    ],
    ['[§4.7.1.3] + matches an empty level', '+/+', ['/finance', 'a/', '/'], ['a', 'a/b/c']],
    ['[§4.7.1.3] /+ matches /finance', '/+', ['/finance', '/'], ['finance', 'a/finance']],
    ['[§4.7.1.3] + alone does not match /finance', '+', ['finance'], ['/finance', '$SYS']],
    ['[MQTT-4.7.2-1] a wildcard at the start does not match $', '+/monitor/Clients', ['a/monitor/Clients'], ['$SYS/monitor/Clients']],
    ['[MQTT-4.7.2-1] $SYS/# matches $SYS', '$SYS/#', ['$SYS', '$SYS/', '$SYS/monitor/Clients'], ['SYS', '$SYS2']],
    ['[§4.7.2] $ below the first level is nothing special', 'a/+/#', ['a/$x', 'a/$x/$y'], ['a']],
    ['[MQTT-4.7.3-4] case and spaces count', 'ACCOUNTS payable', ['ACCOUNTS payable'], ['Accounts payable', 'ACCOUNTS']],
    ['a trailing slash is a level', 'a/', ['a/'], ['a', 'a//']],
    ['a tail is compared to its end', 'a/+/bcd', ['a/x/bcd'], ['a/x/bc', 'a/x/bcde', 'a/x', 'a/x/bcd/', 'a/x/b/d']],
  ])('%s', (_, filter, matching, others) => {
    const index = newIndex()
    index.subscribe(alice, filter, plain)
    for (const topic of matching) expect(receivers(index, topic), topic).toEqual(['alice'])
    for (const topic of others) expect(receivers(index, topic), topic).toEqual([])
  })

  test('128 levels are walked without recursion', () => {
    const index = newIndex()
    const topic = levelsOf('x', 128).join('/')
    const filters = Array.from({ length: 127 }, (_, depth) => topic.slice(0, depth * 2) + ['+', ...levelsOf('x', 127 - depth)].join('/'))
    for (const filter of filters) index.subscribe(alice, filter, plain)
    expect(receivers(index, topic)).toEqual(['alice'])
    expect(receivers(index, `${topic}/x`)).toEqual([])
  })

  test('10,000 filters of + and literals visit no more nodes than there are', () => {
    const index = newIndex()
    for (let mask = 0; mask < 10_000; mask++) {
      const filter = Array.from({ length: 14 }, (_, bit) => ((mask >> bit) & 1 ? '+' : 'a')).join('/')
      index.subscribe(alice, filter, { ...plain, identifier: mask + 1 })
    }
    const topic = levelsOf('a', 14).join('/')
    expect(index.match(topic).recipients[0]!.identifiers).toHaveLength(10_000)
    expect(index.match(`b${topic.slice(1)}`).recipients[0]!.identifiers).toHaveLength(5_000)
  })
})

describe('several subscriptions of one subscriber', () => {
  test('[MQTT-3.3.4-2] give one copy at the highest QoS, with all identifiers [MQTT-3.3.4-4]', () => {
    const index = newIndex()
    index.subscribe(alice, 'a/b', { qos: 1, noLocal: false, retainAsPublished: false, identifier: 268_435_455 })
    index.subscribe(alice, 'a/+', { qos: 2, noLocal: false, retainAsPublished: false, identifier: 0 })
    index.subscribe(alice, '#', { qos: 0, noLocal: false, retainAsPublished: true, identifier: 7 })
    const { recipients } = index.match('a/b')
    expect(recipients).toHaveLength(1)
    const [recipient] = recipients
    expect(recipient).toMatchObject({ subscriber: alice, qos: 2, retainAsPublished: true, identifiers: [7, 268_435_455] })
    expect(recipient!.own).toBe(recipient)
  })

  test('[MQTT-3.3.4-5] repeat an identifier that several of them have', () => {
    const index = newIndex()
    for (const filter of ['a', '+', '#']) index.subscribe(alice, filter, { ...plain, identifier: 3 })
    expect(index.match('a').recipients[0]!.identifiers).toEqual([3, 3, 3])
  })

  test('[MQTT-3.8.3-3] No Local keeps only those of the own messages back that asked for it', () => {
    const index = newIndex()
    index.subscribe(alice, 'a', { qos: 2, noLocal: true, retainAsPublished: true, identifier: 1 })
    expect(index.match('a').recipients[0]).toMatchObject({ qos: 2, identifiers: [1], own: null })
    index.subscribe(alice, '+', { qos: 1, noLocal: false, retainAsPublished: false, identifier: 2 })
    const [recipient] = index.match('a').recipients
    expect(recipient).toMatchObject({ qos: 2, retainAsPublished: true, identifiers: [1, 2] })
    expect(recipient!.own).toMatchObject({ qos: 1, retainAsPublished: false, identifiers: [2] })
    expect(recipient!.own!.own).toBe(recipient!.own)
    index.subscribe(alice, '+', { ...plain, noLocal: true })
    expect(index.match('a').recipients[0]!.own).toBeNull()
  })

  test('[MQTT-3.8.4-3] to the same filter replace each other', () => {
    const index = newIndex()
    expect(index.subscribe(alice, 'a/#', { ...plain, qos: 2 })).toBe('new')
    const before = index.match('a')
    expect(index.subscribe(alice, 'a/#', { ...plain, qos: 2 })).toBe('replaced')
    expect(index.match('a')).toBe(before)
    expect(index.subscribe(alice, 'a/#', { ...plain, qos: 1 })).toBe('replaced')
    expect(index.match('a').recipients[0]!.qos).toBe(1)
    expect(index.subscriptionCount).toBe(1)
  })
})

describe('remembered results', () => {
  const subscribeAll = (index: SubscriptionIndex<Client>, ...filters: string[]): void => {
    for (const filter of filters) index.subscribe(alice, filter, plain)
  }
  const currentOf = (results: readonly MatchResult<Client>[]): boolean[] => results.map(result => result.isCurrent)

  test('are the same object until something changes', () => {
    const index = newIndex()
    subscribeAll(index, 'a/b', 'a/+')
    expect(index.match('a/b')).toBe(index.match('a/b'))
    expect(index.match('a/b').isCurrent).toBe(true)
  })

  test('what others remember of results stays within the limits of the cache, and goes with what ends it', () => {
    const index = new SubscriptionIndex<Client>({ cachedTopicsMax: 1_000, cachedSubscriptionsMax: 100 })
    for (let i = 0; i < 10; i++) index.subscribe(new Client(`${i}`), '#', plain)
    const remembered = Array.from({ length: 200 }, (_, i) => index.match(`a/${i}`).remembered)
    const reachable = (): number => remembered.reduce((sum, { result }) => sum + (result?.recipients.length ?? 0), 0)
    expect(reachable()).toBeGreaterThanOrEqual(50)
    expect(reachable()).toBeLessThanOrEqual(100)
    expect(remembered.every(({ result }) => result === null || result.isCurrent)).toBe(true)
    // One that is asked for again and again moves from half to half.
    for (let i = 0; i < 30; i++) {
      index.match(`b/${i}`)
      expect(index.match('a/199')).toBe(remembered[199]!.result)
    }
    index.subscribe(alice, 'a/199', plain)
    expect(remembered[199]!.result).toBeNull()
    index.subscribe(alice, '+', plain)
    expect(reachable()).toBe(0)
  })

  test('nothing is kept for names so long that they would take more memory than the result', () => {
    const index = newIndex()
    index.subscribe(alice, '#', plain)
    const result = index.match('a'.repeat(1_025))
    expect(result.recipients).toHaveLength(1)
    expect(result.isCurrent).toBe(false)
    expect(result.remembered.result).toBeNull()
  })

  test('end one by one with filters without wildcard, by first level with others, all with + or # in front', () => {
    const index = newIndex()
    const topics = ['a/b', 'a/c', 'b/b', 'a']
    const matchAll = (): MatchResult<Client>[] => topics.map(topic => index.match(topic))
    let results = matchAll()
    subscribeAll(index, 'a/b')
    expect(currentOf(results)).toEqual([false, true, true, true])
    results = matchAll()
    subscribeAll(index, 'a/+')
    expect(currentOf(results)).toEqual([false, false, true, false])
    results = matchAll()
    subscribeAll(index, '+/c')
    expect(currentOf(results)).toEqual([false, false, false, false])
    results = matchAll()
    expect(index.unsubscribe(alice, 'a/b')).toBe(true)
    expect(currentOf(results)).toEqual([false, true, true, true])
    expect(index.unsubscribe(alice, 'a/b')).toBe(false)
  })

  test('members of a group come and go without ending a result; the group itself does', () => {
    const index = newIndex()
    const nobody = index.match('a')
    index.subscribeShared(alice, 'g', 'a', plain)
    expect(nobody.isCurrent).toBe(false)
    const result = index.match('a')
    index.subscribeShared(bob, 'g', 'a', plain)
    index.unsubscribeShared(alice, 'g', 'a')
    expect(result.isCurrent).toBe(true)
    expect(result.groups[0]!.members.map(member => member.subscriber)).toEqual([bob])
    index.unsubscribeShared(bob, 'g', 'a')
    expect(result.isCurrent).toBe(false)
    expect(index.match('a').groups).toEqual([])
  })

  test('that are pushed out by other topics are no longer current, because no change would reach them', () => {
    const index = newIndex(8)
    const results = Array.from({ length: 20 }, (_, topic) => index.match(`t${topic}`))
    const current = currentOf(results)
    expect(current.filter(Boolean).length).toBeLessThanOrEqual(8)
    expect(current.at(-1)).toBe(true)
    expect(current[0]).toBe(false)
  })

  test('stay when a client repeats its subscription unchanged', () => {
    const index = newIndex()
    subscribeAll(index, 'a')
    index.subscribe(bob, 'a', { ...plain, qos: 1 })
    const result = index.match('a')
    subscribeAll(index, 'a')
    expect(result.isCurrent).toBe(true)
    index.subscribe(bob, 'a', plain)
    expect(result.isCurrent).toBe(false)
  })

  test('of the older half are ended by a change as well', () => {
    const index = newIndex(8)
    const old = index.match('a')
    for (let topic = 0; topic < 4; topic++) index.match(`t${topic}`)
    expect(old.isCurrent).toBe(true)
    subscribeAll(index, 'a')
    expect(old.isCurrent).toBe(false)
    expect(receivers(index, 'a')).toEqual(['alice'])
  })

  test('that are used stay while others pass by', () => {
    const index = newIndex(8)
    const used = index.match('used')
    for (let topic = 0; topic < 100; topic++) {
      index.match(`t${topic}`)
      expect(index.match('used')).toBe(used)
    }
  })

  test('are bounded by the subscriptions they were made of, too', () => {
    const index = new SubscriptionIndex<Client>({ cachedTopicsMax: 1_000, cachedSubscriptionsMax: 100 })
    for (let client = 0; client < 10; client++) index.subscribe(new Client(`c${client}`), '#', plain)
    for (const filter of ['+', '+/#']) index.subscribe(alice, filter, plain)
    for (let group = 0; group < 18; group++) index.subscribeShared(alice, `g${group}`, '#', plain)
    const results = Array.from({ length: 50 }, (_, topic) => index.match(`t${topic}`))
    expect(currentOf(results).filter(Boolean).length).toBeLessThanOrEqual(5)
    expect(results.at(-1)!.isCurrent).toBe(true)
  })

  test('are none when none may be kept', () => {
    const index = newIndex(0)
    subscribeAll(index, 'a')
    expect(receivers(index, 'a')).toEqual(['alice'])
    expect(index.match('a').isCurrent).toBe(false)
  })
})

describe('against the definition', () => {
  interface Step {
    is: 'subscribe' | 'unsubscribe' | 'share' | 'unshare' | 'match'
    client: Client
    group: string
    filter: string
    topic: string
    options: SubscriptionOptions
  }
  const level = fc.constantFrom('a', 'b', '', '$a', 'abc')
  const topic = fc.array(level, { minLength: 1, maxLength: 5 }).map(levels => levels.join('/'))
  const filter = fc
    .tuple(fc.array(fc.oneof(level, fc.constant('+')), { maxLength: 4 }), fc.constantFrom('#', '+', 'a', ''))
    .map(([levels, last]) => [...levels, last].join('/'))
    .filter(text => text !== '')
  const options: fc.Arbitrary<SubscriptionOptions> = fc.record({
    qos: fc.constantFrom(0, 1, 2),
    noLocal: fc.boolean(),
    retainAsPublished: fc.boolean(),
    identifier: fc.constantFrom(0, 0, 1, 5, 268_435_455),
  })
  const stepOn = (filters: readonly string[]): fc.Arbitrary<Step> =>
    fc.record({
      is: fc.constantFrom<Step['is']>('subscribe', 'subscribe', 'unsubscribe', 'share', 'unshare', 'match', 'match'),
      client: fc.constantFrom(alice, bob, carol),
      group: fc.constantFrom('g', 'h'),
      filter: fc.constantFrom(...filters),
      topic,
      options,
    })
  const stepsOf = (filters: readonly string[]): fc.Arbitrary<Step[]> => fc.array(stepOn(filters), { maxLength: 60 })
  // Of few filters, so that what was added is often taken away again.
  const steps = fc.array(filter, { minLength: 1, maxLength: 10 }).chain(stepsOf)

  interface Known {
    client: Client
    group: string | null
    filter: string
    options: SubscriptionOptions
  }

  function describeRecipient(recipient: Recipient<Client> | null): unknown {
    if (recipient === null) return null
    const { subscriber, qos, retainAsPublished, identifiers } = recipient
    return [subscriber.clientId, qos, retainAsPublished, identifiers]
  }

  function expected(client: Client, options: readonly SubscriptionOptions[]): unknown {
    if (options.length === 0) return null
    const identifiers = options
      .map(({ identifier }) => identifier)
      .filter(identifier => identifier > 0)
      .sort((a, b) => a - b)
    const qos = Math.max(...options.map(option => option.qos))
    return [client.clientId, qos, options.some(option => option.retainAsPublished), identifiers.length > 0 ? identifiers : null]
  }

  function checkMatch(index: SubscriptionIndex<Client>, model: ReadonlyMap<string, Known>, topic: string): void {
    const matching = [...model.values()].filter(known => naiveMatches(known.filter, topic))
    const result = index.match(topic)
    for (const client of [alice, bob, carol]) {
      const own = matching.filter(known => known.client === client && known.group === null).map(known => known.options)
      const recipients = result.recipients.filter(recipient => recipient.subscriber === client)
      expect(recipients.length).toBe(own.length > 0 ? 1 : 0)
      expect(describeRecipient(recipients[0] ?? null)).toEqual(expected(client, own))
      expect(describeRecipient(recipients[0]?.own ?? null)).toEqual(
        expected(
          client,
          own.filter(option => !option.noLocal),
        ),
      )
    }
    const groups = [...new Set(matching.filter(known => known.group !== null).map(known => `${known.group} ${known.filter}`))]
    expect(result.groups.map(group => `${group.name} ${group.filter}`).sort()).toEqual(groups.sort())
    for (const group of result.groups) {
      const members = matching.filter(known => known.group === group.name && known.filter === group.filter)
      expect(group.members.map(describeRecipient).sort()).toEqual(members.map(known => expected(known.client, [known.options])).sort())
    }
  }

  test('[§4.7] who gets a message, and with what, after any changes; nothing stays behind when all is gone', () => {
    fc.assert(
      fc.property(steps, fc.constantFrom(0, 4, 1_000), (steps, cachedTopicsMax) => {
        const index = newIndex(cachedTopicsMax)
        const model = new Map<string, Known>()
        const held = new Map<string, MatchResult<Client>>()
        for (const { is, client, group, filter, topic, options } of steps) {
          const isShared = is === 'share' || is === 'unshare'
          const key = `${client.clientId} ${isShared ? group : ''} ${filter}`
          const outcome = model.has(key) ? 'replaced' : 'new'
          if (is === 'subscribe') expect(index.subscribe(client, filter, options)).toBe(outcome)
          else if (is === 'share') expect(index.subscribeShared(client, group, filter, options)).toBe(outcome)
          else if (is === 'unsubscribe') expect(index.unsubscribe(client, filter)).toBe(model.delete(key))
          else if (is === 'unshare') expect(index.unsubscribeShared(client, group, filter)).toBe(model.delete(key))
          else {
            checkMatch(index, model, topic)
            held.set(topic, index.match(topic))
          }
          if (is === 'subscribe' || is === 'share') model.set(key, { client, group: isShared ? group : null, filter, options })
          const filters = new Set([...model.values()].map(known => `${known.group} ${known.filter}`))
          expect(index.nodeCount).toBeLessThanOrEqual(3 * filters.size)
          // Whoever kept a result that still calls itself current must be right to use it.
          for (const [topic, result] of held) if (result.isCurrent) expect(index.match(topic)).toBe(result)
        }
        for (const topic of held.keys()) checkMatch(index, model, topic)
        for (const { client, group, filter } of model.values()) {
          if (group === null) index.unsubscribe(client, filter)
          else index.unsubscribeShared(client, group, filter)
        }
        expect([index.nodeCount, index.subscriptionCount, index.sharedSubscriptionCount]).toEqual([0, 0, 0])
      }),
      { numRuns: 400 },
    )
  })

  test('end with every change that may matter', () => {
    const index = newIndex()
    for (const change of [
      () => index.subscribe(alice, 'a', plain),
      () => index.subscribe(alice, 'a', { ...plain, qos: 1 }),
      () => index.subscribe(bob, 'a/#', plain),
      () => index.subscribeShared(bob, 'g', 'a', plain),
      () => index.unsubscribeShared(bob, 'g', 'a'),
      () => index.unsubscribe(alice, 'a'),
    ]) {
      const before = index.match('a')
      change()
      expect(before.isCurrent).toBe(false)
    }
  })

  test('subscribers of one filter come and go in thousands', () => {
    const index = newIndex()
    const clients = Array.from({ length: 5_000 }, (_, client) => new Client(`c${client}`))
    for (const filter of ['a/b', 'a/+']) for (const client of clients) index.subscribe(client, filter, plain)
    expect(index.match('a/b').recipients).toHaveLength(5_000)
    for (const filter of ['a/b', 'a/+']) {
      for (const [left, client] of clients.toReversed().entries()) {
        expect(index.unsubscribe(client, filter)).toBe(true)
        if (left >= 4_997) expect(index.match('a/b').recipients.length).toBe(filter === 'a/b' ? 5_000 : 4_999 - left)
      }
    }
    expect(index.match('a/b').recipients).toHaveLength(0)
    expect(index.nodeCount).toBe(0)
  })
})
