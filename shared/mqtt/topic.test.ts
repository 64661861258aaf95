import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { topicName } from './legal-packets.contract.ts'
import { ReasonCode } from './reason-code.ts'
import { filterCovers, filterMatches, isOwnTopic, parseTopicFilter, sameBytes, splitLevels, TopicCache } from './topic.ts'

const refused = (reason: number, clause?: string): unknown =>
  expect.objectContaining(clause === undefined ? { reason } : { reason, clause })

test('the topics of the broker itself', () => {
  const names = ['$SYS/', '$SYS/broker/uptime', '$SYS', '$sys/a', '$SYSTEM/a', 'a/$SYS/b', '/$SYS/a']
  expect(names.filter(isOwnTopic)).toEqual(['$SYS/', '$SYS/broker/uptime'])
})

describe('TopicCache', () => {
  const cache = new TopicCache({ topicsMax: 1_000, levelsMax: 128 })

  test('gives one Topic for one name, with its own bytes', () => {
    const chunk = Buffer.from('..a/ä/😀..')
    const topic = cache.get(chunk, 2, chunk.length - 2)
    expect(topic.name).toBe('a/ä/😀')
    expect(cache.fromName('a/ä/😀')).toBe(topic)
    chunk.fill(0)
    expect(topic.utf8.toString()).toBe('a/ä/😀')
  })

  test('keeps names apart that meet in one slot, and names apart whose bytes are one the Latin-1 of the other', () => {
    const names = Array.from({ length: 20_000 }, (_, i) => `t/${i}`)
    const large = new TopicCache({ topicsMax: 100_000, levelsMax: 8 })
    for (const _ of [1, 2]) expect(names.every(name => large.fromName(name).name === name)).toBe(true)
    expect(cache.fromName('ä').name).toBe('ä')
    expect(cache.fromName('Ã¤').name).toBe('Ã¤')
  })

  test.each(['__proto__', 'constructor', 'a/__proto__/b', '/', '//', 'a/', ' '])('takes the name %j as any other', name => {
    expect(cache.fromName(name).name).toBe(name)
    expect(cache.fromName(name)).toBe(cache.fromName(name))
  })

  test('holds at most topicsMax Topics, and keeps those that are in use', () => {
    const small = new TopicCache({ topicsMax: 100, levelsMax: 8 })
    const hot = small.fromName('hot')
    for (let i = 0; i < 5_000; i++) {
      small.fromName(`cold/${i}`)
      expect(small.fromName('hot')).toBe(hot)
      expect(small.size).toBeLessThanOrEqual(100)
    }
  })

  test('does not keep names over 1 KiB', () => {
    const before = cache.size
    expect(cache.fromName('x'.repeat(1_025)).name).toHaveLength(1_025)
    expect(cache.size).toBe(before)
  })

  test.each([
    ['[MQTT-4.7.3-1] empty', '', ReasonCode.ProtocolError, 'MQTT-4.7.3-1'],
    ['[MQTT-3.3.2-2] +', 'a/+/b', ReasonCode.TopicNameInvalid, 'MQTT-3.3.2-2'],
    ['[MQTT-3.3.2-2] #', 'a#', ReasonCode.TopicNameInvalid, 'MQTT-3.3.2-2'],
    ['[MQTT-4.7.3-2] U+0000', 'a\0b', ReasonCode.MalformedPacket, 'MQTT-1.5.4-1'],
    ['129 levels', '/'.repeat(128), ReasonCode.TopicNameInvalid, '§4.7.3'],
    ['65,535 slashes', '/'.repeat(65_535), ReasonCode.TopicNameInvalid, '§4.7.3'],
    ['[MQTT-4.7.3-3] over 65,535 bytes', 'x'.repeat(65_536), ReasonCode.TopicNameInvalid, 'MQTT-4.7.3-3'],
  ])('refuses %s', (_, name, reason, clause) => {
    expect(() => cache.fromName(name)).toThrow(refused(reason, clause))
  })

  test('[MQTT-1.5.4-1] refuses what is not UTF-8', () => {
    expect(() => cache.get(Buffer.from([0x61, 0xed, 0xa0, 0x80]), 0, 4)).toThrow(refused(ReasonCode.MalformedPacket))
  })

  test('takes 128 levels', () => {
    expect(splitLevels(cache.fromName('/'.repeat(127)).name)).toHaveLength(128)
  })
})

test('sameBytes compares a range with a whole', () => {
  const bytes = Buffer.from('abcabc')
  expect(sameBytes(bytes, 3, 6, Buffer.from('abc'))).toBe(true)
  expect(sameBytes(bytes, 2, 5, Buffer.from('abc'))).toBe(false)
  expect(sameBytes(bytes, 0, 2, Buffer.from('abc'))).toBe(false)
  expect(sameBytes(bytes, 2, 2, Buffer.alloc(0))).toBe(true)
})

describe('parseTopicFilter', () => {
  test.each(['#', '+', 'a/+/b', '+/+', 'a/#', '/', '/#', '+/', '$SYS/#', '$share', '$shared/x', ' ', 'a//b'])(
    '[§4.7.1] accepts %j',
    filter => {
      expect(parseTopicFilter(filter)).toEqual({ text: filter, group: null, filter })
    },
  )

  test('[§4.8.2] splits a Shared Subscription', () => {
    expect(parseTopicFilter('$share/g/a/+/#')).toEqual({ text: '$share/g/a/+/#', group: 'g', filter: 'a/+/#' })
    expect(parseTopicFilter('$share/g//')).toEqual({ text: '$share/g//', group: 'g', filter: '/' })
    expect(parseTopicFilter('$share/__proto__/a')).toEqual({ text: '$share/__proto__/a', group: '__proto__', filter: 'a' })
  })

  test.each([
    ['', 'MQTT-4.7.3-1'],
    ['a\0', 'MQTT-4.7.3-2'],
    ['a#b', 'MQTT-4.7.1-1'],
    ['a#', 'MQTT-4.7.1-1'],
    ['#/a', 'MQTT-4.7.1-1'],
    ['a/#/b', 'MQTT-4.7.1-1'],
    ['##', 'MQTT-4.7.1-1'],
    ['a+', 'MQTT-4.7.1-2'],
    ['+a', 'MQTT-4.7.1-2'],
    ['a/b+/c', 'MQTT-4.7.1-2'],
    ['++', 'MQTT-4.7.1-2'],
    ['$share//a', 'MQTT-4.8.2-1'],
    ['$share/', 'MQTT-4.8.2-2'],
    ['$share/g', 'MQTT-4.8.2-2'],
    ['$share/g/', 'MQTT-4.8.2-2'],
    ['$share/g+/a', 'MQTT-4.8.2-2'],
    ['$share/#/a', 'MQTT-4.8.2-2'],
    ['$share/g/a#', 'MQTT-4.7.1-1'],
    ['$share/g\0/a', 'MQTT-4.7.3-2'],
    ['/'.repeat(128), '§4.7.3'],
    ['/'.repeat(65_535), '§4.7.3'],
    ['+/'.repeat(30_000), '§4.7.3'],
    ['x'.repeat(65_536), 'MQTT-4.7.3-3'],
  ])('refuses %j with Topic Filter invalid, [%s]', (filter, clause) => {
    expect(() => parseTopicFilter(filter)).toThrow(refused(ReasonCode.TopicFilterInvalid, clause))
  })

  test('takes 128 levels, and as many behind a ShareName', () => {
    expect(parseTopicFilter('/'.repeat(127)).group).toBeNull()
    expect(parseTopicFilter(`$share/g/${'/'.repeat(127)}`).group).toBe('g')
  })
})

/** The same rules, written as recursion over levels. */
function matchesByLevels(filter: string[], topic: string[]): boolean {
  const [f, ...filterRest] = filter
  const [t, ...topicRest] = topic
  if (f === '#') return true
  if (f === undefined || t === undefined) return f === t
  return (
    (f === '+' || f === t) &&
    (matchesByLevels(filterRest, topicRest) || (topicRest.length === 0 && filterRest[0] === '#' && filterRest.length === 1))
  )
}

const reference = (filter: string, topic: string): boolean =>
  !(topic.startsWith('$') && /^[+#]/.test(filter)) && matchesByLevels(filter.split('/'), topic.split('/'))

const filterOf = (levels: fc.Arbitrary<string>, maxLength: number): fc.Arbitrary<string> =>
  fc
    .tuple(fc.array(fc.oneof(levels, fc.constant('+')), { minLength: 1, maxLength }), fc.boolean())
    .map(([parts, endsWithHash]) => (endsWithHash ? [...parts.slice(0, -1), '#'] : parts).join('/'))
    .filter(filter => filter !== '')

describe('filterMatches', () => {
  test.each([
    ['sport/tennis/player1/#', 'sport/tennis/player1', true],
    ['sport/tennis/player1/#', 'sport/tennis/player1/score/wimbledon', true],
    ['sport/#', 'sport', true],
    ['sport/#', 'sports', false],
    ['#', 'sport', true],
    ['sport/tennis/+', 'sport/tennis/player1/ranking', false],
    ['sport/+', 'sport', false],
    ['sport/+', 'sport/', true],
    ['+/+', '/finance', true],
    ['/+', '/finance', true],
    ['+', '/finance', false],
    ['#', '$SYS/monitor', false],
    ['+/monitor', '$SYS/monitor', false],
    ['$SYS/#', '$SYS/monitor', true],
    ['$SYS/monitor/+', '$SYS/monitor/Clients', true],
    ['a/+', 'a/$b', true],
    ['ACCOUNTS', 'Accounts', false],
    ['a/#', 'a/', true],
    ['+/#', 'a', true],
    ['+/+/#', 'a', false],
    ['a', 'a/', false],
    ['a/', 'a', false],
  ])('[§4.7] %s on %s: %s', (filter, topic, expected) => {
    expect(filterMatches(filter, topic)).toBe(expected)
    expect(reference(filter, topic)).toBe(expected)
  })

  test('agrees with the rules written as recursion', () => {
    const level = fc.constantFrom('a', 'b', '', 'ab', '$a')
    const topic = fc.array(level, { minLength: 1, maxLength: 5 }).map(levels => levels.join('/') || 'a')
    fc.assert(
      fc.property(filterOf(level, 5), topic, (filter, name) => filterMatches(filter, name) === reference(filter, name)),
      { numRuns: 5_000 },
    )
  })

  test('a filter without wildcards matches itself alone', () => {
    fc.assert(fc.property(topicName, topicName, (a, b) => filterMatches(a, b) === (a === b)))
  })

  test('65,535 slashes and pluses end at once', () => {
    expect(filterMatches('+/'.repeat(32_767), '/'.repeat(32_767))).toBe(true)
    expect(filterMatches(`${'/'.repeat(65_533)}/#`, '/'.repeat(65_535))).toBe(true)
    expect(filterCovers(`${'+/'.repeat(32_767)}#`, '/'.repeat(65_535))).toBe(true)
  })
})

describe('filterCovers', () => {
  test.each([
    ['#', '#', true],
    ['#', 'a/b/+', true],
    ['#', '+/#', true],
    ['+/#', '#', true],
    ['+/+/#', '#', false],
    ['#', '$SYS/a', false],
    ['+/a', '$SYS/a', false],
    ['$SYS/#', '$SYS/a/+', true],
    ['a/#', 'a', true],
    ['a/#', 'a/#', true],
    ['a/+', 'a/#', false],
    ['a/+/#', 'a/#', false],
    ['a/+', 'a/b', true],
    ['a/b', 'a/+', false],
    ['a', 'a/#', false],
    ['+', '+', true],
    ['a/+/c', 'a/+/+', false],
  ])('%s covers %s: %s', (allowed, requested, expected) => {
    expect(filterCovers(allowed, requested)).toBe(expected)
  })

  test('is exactly: every topic that the requested filter matches, the allowed one matches', () => {
    // Filters of up to three levels over two literals cannot tell more topics apart than these: a third literal stands for all others.
    const literals = ['a', '$b', 'other']
    const topics: string[] = []
    let level = ['']
    for (let depth = 0; depth < 5; depth++) {
      level = level.flatMap(prefix => literals.map(literal => (prefix === '' ? literal : `${prefix}/${literal}`)))
      topics.push(...level)
    }
    const filter = filterOf(fc.constantFrom('a', '$b'), 3)
    fc.assert(
      fc.property(filter, filter, (allowed, requested) => {
        const expected = topics.every(topic => !filterMatches(requested, topic) || filterMatches(allowed, topic))
        expect(filterCovers(allowed, requested)).toBe(expected)
      }),
      { numRuns: 1_000 },
    )
  })
})
