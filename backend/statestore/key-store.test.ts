import { describe, expect, test } from 'vitest'
import { compareClocks, parseClock } from '#shared/state-store/hybrid-clock.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { KeyStoreRig, payloadOf, START_MS } from './key-store-rig.contract.ts'

const OK = '+OK\r\n'
const NO_VALUE = '$-1\r\n'
const DELETED = ':1\r\n'
const NOTHING = ':0\r\n'
const DIFFERS = ':-1\r\n'
const DELETE = '*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n'

function error(text: ErrorText): string {
  return `-ERR ${text}\r\n`
}

function value(text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}

function setTo(text: string): string {
  return `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n${value(text)}`
}

function isLater(later: string | null, earlier: string | null): boolean {
  return compareClocks(parseClock(later!)!, parseClock(earlier!)!) > 0
}

function at(ms: number, node = 'x'): string {
  return `${START_MS + ms}:0:${node}`
}

const EVERY = ['SET k v', 'GET k', 'DEL k', 'VDEL k v', 'KEYNOTIFY k', 'KEYNOTIFY k STOP']
const CHANGING = ['SET k v', 'DEL k', 'VDEL k v']

describe('clocks of a request', () => {
  test('only SET needs one', () => {
    const rig = new KeyStoreRig()
    expect(EVERY.map(request => rig.answer(request, { ts: null }))).toEqual([
      error(ErrorText.MissingTimestamp),
      NO_VALUE,
      NOTHING,
      NOTHING,
      OK,
      OK,
    ])
    expect(rig.store.keys).toBe(0)
  })

  test.each(EVERY)('%s: one that is there is checked for form and skew, the boundary is a minute', request => {
    const rig = new KeyStoreRig()
    for (const ts of ['', 'x', '1:2', '1:2:']) expect(rig.answer(request, { ts })).toBe(error(ErrorText.MalformedTimestamp))
    expect(rig.answer(request, { ts: at(60_001) })).toBe(error(ErrorText.TimestampAhead))
    expect(rig.store.keys + rig.store.watches).toBe(0)
    expect(rig.answer(request, { ts: at(60_000) })).not.toMatch(/ERR/)
    expect(rig.answer(request, { ts: '0:0:long-ago' })).not.toMatch(/ERR/)
  })

  test.each(EVERY)('%s: the form of a token counts, its skew where it means something, also without an entry', request => {
    const rig = new KeyStoreRig()
    const isFenced = CHANGING.includes(request)
    expect(rig.answer(request, { ft: 'abc' })).toBe(error(ErrorText.MalformedTimestamp))
    const ahead = rig.answer(request, { ft: at(60_001) })
    if (isFenced) expect(ahead).toBe(error(ErrorText.TokenAhead))
    else expect(ahead).not.toMatch(/ERR/)
    expect(rig.answer(request, { ft: at(60_000) })).not.toMatch(/ERR/)
  })

  test('of several faults the first of section 10 is told', () => {
    const rig = new KeyStoreRig({ keysMax: 1 })
    rig.ask('SET k v', { ft: at(0) })
    const asked = (request: string, ts: string | null, ft: string | null): string => rig.answer(request, { ts, ft })
    expect(asked('SET k v', null, 'abc')).toBe(error(ErrorText.MissingTimestamp))
    expect(asked('SET k v', 'abc', 'abc')).toBe(error(ErrorText.MalformedTimestamp))
    expect(asked('SET k v', at(60_001), 'abc')).toBe(error(ErrorText.TimestampAhead))
    expect(asked('SET k v', at(0), 'abc')).toBe(error(ErrorText.MalformedTimestamp))
    expect(asked('SET k v NX', at(0), at(60_001))).toBe(error(ErrorText.TokenAhead))
    expect(asked('SET k v NX', at(0), null), 'fencing before the condition').toBe(error(ErrorText.TokenRequired))
    expect(asked('SET k v NX', at(0), at(-1))).toBe(error(ErrorText.TokenLower))
    expect(asked('SET k v NX', at(0), at(0)), 'the condition is no error').toBe(DIFFERS)
    expect(asked('VDEL k other', at(0), null)).toBe(error(ErrorText.TokenRequired))
    expect(asked('VDEL k other', at(0), at(0))).toBe(DIFFERS)
    expect(asked('SET other v', at(0), at(60_001)), 'the quota comes last').toBe(error(ErrorText.TokenAhead))
    expect(asked('SET other v', at(0), null)).toBe(error(ErrorText.QuotaExceeded))
  })
})

describe('versions of answers', () => {
  test('every row of section 5', () => {
    const rig = new KeyStoreRig()
    const set = rig.ask('SET k v')
    expect(set.answer).toBe(OK)
    const seen = (request: string): unknown => {
      const { answer, version } = rig.ask(request)
      return [answer, version === set.version ? 'stored' : version]
    }
    expect(seen('GET k')).toEqual([value('v'), 'stored'])
    expect(seen('SET k w NX')).toEqual([DIFFERS, 'stored'])
    expect(seen('SET k w NEX')).toEqual([DIFFERS, 'stored'])
    expect(seen('VDEL k w')).toEqual([DIFFERS, 'stored'])
    expect(seen('VDEL k v')).toEqual([DELETED, 'stored'])
    for (const [request, answer] of [
      ['GET k', NO_VALUE],
      ['DEL k', NOTHING],
      ['VDEL k v', NOTHING],
      ['KEYNOTIFY k', OK],
      ['KEYNOTIFY k STOP', OK],
      ['KEYNOTIFY k STOP', NOTHING],
    ] as const) {
      expect(seen(request)).toEqual([answer, null])
    }
    const again = rig.ask('SET k v')
    expect(isLater(again.version, set.version), 'over a deletion').toBe(true)
    expect(rig.ask('DEL k')).toMatchObject({ answer: DELETED, version: again.version })
    expect(rig.ask('SET k v', { ts: 'x' }).version).toBeNull()
  })

  test('one clock for all keys; only SETs that succeed, and deletions that somebody hears of, move it', () => {
    const rig = new KeyStoreRig()
    const first = rig.ask('SET a 1').version
    const second = rig.ask('SET b 1', { ts: '1:0:slow' }).version
    expect(isLater(second, first)).toBe(true)
    const { clock } = rig.store
    for (const request of ['GET a', 'SET a 2 NX', 'VDEL a 2', 'DEL a', 'KEYNOTIFY b', 'DEL none']) rig.ask(request, { ts: at(60_000) })
    rig.ask('SET a 1', { ts: at(60_001) })
    expect(rig.store.clock).toEqual(clock)
    rig.ask('DEL b')
    expect(compareClocks(rig.store.clock, clock)).toBe(1)
  })

  test('wall time that goes back, and a client from the future', () => {
    const rig = new KeyStoreRig()
    const first = rig.ask('SET k 1').version
    rig.clock.advance(-100_000)
    const second = rig.ask('SET k 2').version
    const third = rig.ask('SET k 3', { ts: `${START_MS - 100_000 + 60_000}:0:fast` }).version
    rig.clock.advance(90_000)
    const fourth = rig.ask('SET k 4').version
    expect([isLater(second, first), isLater(third, second), isLater(fourth, third)]).toEqual([true, true, true])
  })
})

describe('SET', () => {
  test('NX and NEX', () => {
    const rig = new KeyStoreRig()
    expect(rig.answer('SET a 1 NX')).toBe(OK)
    expect(rig.answer('SET b 1 NEX')).toBe(OK)
    expect(rig.answer('SET a 1 NX')).toBe(DIFFERS)
    expect(rig.answer('SET b 2 NEX')).toBe(DIFFERS)
    expect(rig.answer('SET b 1 NEX')).toBe(OK)
    rig.askBytes(payloadOf(['SET', 'c', '']))
    expect(rig.askBytes(payloadOf(['SET', 'c', '', 'NEX'])).answer, 'an empty value is one').toBe(OK)
    expect(rig.askBytes(payloadOf(['SET', 'c', 'x', 'NEX'])).answer).toBe(DIFFERS)
  })

  test('one that is not met changes nothing: version, lifetime, token, watchers', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET k v PX 100')
    rig.ask('KEYNOTIFY k')
    const before = rig.state()
    const recorded = rig.log.length
    for (const request of ['SET k w NX', 'SET k w NEX PX 9', 'SET k w NX PX 900']) rig.ask(request, { ft: at(1) })
    expect(rig.state()).toEqual(before)
    expect([rig.log.length, rig.takeTold()]).toEqual([recorded, []])
    rig.clock.advance(100)
    expect(rig.answer('GET k')).toBe(NO_VALUE)
  })

  test('the same value again: a greater version, and watchers hear of it', () => {
    const rig = new KeyStoreRig()
    rig.ask('KEYNOTIFY k')
    const versions = ['SET k v', 'SET k v', 'SET k v NEX'].map(request => rig.ask(request).version!)
    expect(rig.takeTold().map(({ payload, ts }) => [payload, ts])).toEqual(versions.map(version => [setTo('v'), version]))
    expect(isLater(versions[1]!, versions[0]!) && isLater(versions[2]!, versions[1]!)).toBe(true)
  })

  test('replaces the lifetime, and without PX ends it', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET a v PX 10')
    rig.ask('SET b v PX 10')
    rig.ask('SET c v PX 1000')
    rig.ask('SET a v')
    rig.ask('SET b v PX 20')
    rig.ask('SET c v PX 10')
    rig.clock.advance(15)
    rig.due()
    expect(['a', 'b', 'c'].map(key => rig.answer(`GET ${key}`))).toEqual([value('v'), value('v'), NO_VALUE])
    rig.clock.advance(1_000_000)
    rig.due()
    expect(['a', 'b'].map(key => rig.answer(`GET ${key}`))).toEqual([value('v'), NO_VALUE])
  })

  test('keeps copies: the packet that brought key and value may be overwritten', () => {
    const rig = new KeyStoreRig()
    for (const size of [5, 5_000]) {
      const payload = payloadOf(['SET', `key${size}`, 'v'.repeat(size)])
      rig.askBytes(payload)
      payload.fill(0x41)
      expect(rig.answer(`GET key${size}`)).toBe(value('v'.repeat(size)))
    }
    expect(rig.answer('GET AAAA')).toBe(NO_VALUE)
  })

  test('long keys and values of any bytes', () => {
    const rig = new KeyStoreRig()
    const all = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join('')
    const key = all.repeat(26).slice(0, 6_500)
    const long = all.repeat(254).slice(0, 65_000)
    expect(rig.askBytes(payloadOf(['SET', key, long])).answer).toBe(OK)
    expect(rig.askBytes(payloadOf(['GET', key])).answer).toBe(value(long))
    expect(rig.askBytes(payloadOf(['VDEL', key, `${long.slice(1)}x`])).answer).toBe(DIFFERS)
    expect(rig.askBytes(payloadOf(['SET', key, long, 'NEX'])).answer).toBe(OK)
    rig.replay()
    expect(rig.askBytes(payloadOf(['VDEL', key, long])).answer).toBe(DELETED)
  })
})

describe('fencing', () => {
  test.each(CHANGING)('%s: the table of section 7', request => {
    const rows = [
      { held: null, given: null, fault: null },
      { held: null, given: at(0), fault: null },
      { held: at(0), given: null, fault: ErrorText.TokenRequired },
      { held: at(0), given: at(-1), fault: ErrorText.TokenLower },
      { held: at(0, 'b'), given: at(0, 'a'), fault: ErrorText.TokenLower },
      { held: `${START_MS}:1:a`, given: at(0, 'b'), fault: ErrorText.TokenLower },
      { held: at(0), given: at(0), fault: null },
      { held: at(0), given: `${START_MS}:18446744073709551615:x`, fault: null },
      { held: at(0), given: at(1), fault: null },
    ]
    for (const { held, given, fault } of rows) {
      const rig = new KeyStoreRig()
      rig.ask('SET k v', { ft: held })
      const before = rig.state()
      const answer = rig.answer(request, { ft: given })
      if (fault === null) expect([OK, DELETED]).toContain(answer)
      else expect([answer, rig.state()]).toEqual([error(fault), before])
      expect(rig.answer('GET k'), 'GET needs none').not.toMatch(/ERR/)
    }
  })

  test('a SET that succeeds keeps the newer token, one that fails does not', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET k v')
    expect(rig.answer('SET k w NEX', { ft: at(5) })).toBe(DIFFERS)
    expect(rig.answer('SET k v'), 'it has no token yet').toBe(OK)
    expect(rig.answer('SET k v', { ft: at(5) })).toBe(OK)
    expect(rig.answer('SET k w NX', { ft: at(9) })).toBe(DIFFERS)
    expect(rig.answer('SET k v', { ft: at(5) }), 'still the token of 5').toBe(OK)
    expect(rig.answer('SET k v', { ft: at(9) })).toBe(OK)
    expect(rig.answer('SET k v', { ft: at(5) })).toBe(error(ErrorText.TokenLower))
    rig.replay()
    expect(rig.answer('SET k v', { ft: at(5) }), 'after a restart').toBe(error(ErrorText.TokenLower))
  })

  test('an entry that is gone protects nothing; without one, DEL and VDEL answer as ever', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET deleted v', { ft: at(9) })
    rig.ask('SET expired v PX 5', { ft: at(9) })
    expect(rig.answer('DEL deleted', { ft: at(9) })).toBe(DELETED)
    rig.clock.advance(5)
    for (const key of ['deleted', 'expired', 'none']) {
      expect([rig.answer(`DEL ${key}`, { ft: at(1) }), rig.answer(`VDEL ${key} v`)]).toEqual([NOTHING, NOTHING])
      expect(rig.answer(`SET ${key} v`)).toBe(OK)
      expect(rig.answer(`SET ${key} v`), 'without a token').toBe(OK)
    }
  })
})

describe('expiry', () => {
  test.each(['GET k', 'DEL k', 'VDEL k v', 'SET k v NX'])('%s: at its deadline an entry is absent, before it is not', request => {
    for (const [ms, isThere] of [
      [99, true],
      [100, false],
      [101, false],
    ] as const) {
      const rig = new KeyStoreRig()
      rig.ask('SET k v PX 100')
      rig.clock.advance(ms)
      const answer = rig.answer(request, { ts: at(0) })
      const absent = request.startsWith('GET') ? NO_VALUE : request.startsWith('SET') ? OK : NOTHING
      expect(answer === absent).toBe(!isThere)
    }
  })

  test('watchers hear of it without a command, once; and before what a command does with the key', () => {
    const rig = new KeyStoreRig()
    for (const key of ['a', 'b', 'c']) {
      rig.ask(`KEYNOTIFY ${key}`)
      rig.ask(`SET ${key} v PX 10`)
    }
    const set = rig.takeTold()
    rig.clock.advance(9)
    rig.due()
    expect(rig.takeTold()).toEqual([])
    rig.clock.advance(1)
    rig.ask('SET a w')
    rig.ask('GET b')
    const told = rig.takeTold()
    expect(told.map(({ topic, payload }) => [topic.slice(-2), payload])).toEqual([
      ['61', DELETE],
      ['61', setTo('w')],
      ['62', DELETE],
    ])
    rig.due()
    const last = rig.takeTold()
    expect(last.map(({ topic, payload }) => [topic.slice(-2), payload])).toEqual([['63', DELETE]])
    const clocks = [...set, ...told, ...last].map(({ ts }) => ts)
    for (let index = 1; index < clocks.length; index++) expect(isLater(clocks[index]!, clocks[index - 1]!)).toBe(true)
    rig.due()
    expect([rig.takeTold(), rig.store.keys, rig.store.counters.expirations]).toEqual([[], 1, 3])
  })

  test('many at once go in pieces', () => {
    const rig = new KeyStoreRig()
    for (let index = 0; index < 25; index++) rig.ask(`SET k${index} v PX ${1 + (index % 3)}`)
    rig.clock.advance(10)
    const done = [rig.due(10), rig.due(10), rig.due(10)]
    expect([done, rig.store.keys]).toEqual([[10, 10, 5], 0])
  })

  test('lifetimes beyond 2^31 ms, and the longest', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET a v PX 5000000000')
    rig.ask('SET b v PX 9007199254740991')
    rig.clock.advance(2_147_483_648)
    rig.due()
    expect(rig.store.keys).toBe(2)
    rig.clock.advance(5_000_000_000 - 2_147_483_648 - 1)
    rig.due()
    expect(rig.store.keys).toBe(2)
    rig.clock.advance(1)
    rig.due()
    expect([rig.answer('GET a'), rig.answer('GET b')]).toEqual([NO_VALUE, value('v')])
  })

  test('a deadline is wall time on disk: it comes while nobody runs', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET a v PX 100')
    rig.ask('SET b v PX 300')
    rig.ask('SET c v')
    rig.compact()
    rig.clock.advance(200)
    rig.replay()
    expect(['a', 'b', 'c'].map(key => rig.answer(`GET ${key}`))).toEqual([NO_VALUE, value('v'), value('v')])
    rig.due()
    expect(rig.store.keys).toBe(2)
    rig.clock.advance(100)
    expect(rig.answer('GET b')).toBe(NO_VALUE)
  })
})
