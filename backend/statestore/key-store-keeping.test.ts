import { describe, expect, test } from 'vitest'
import { ErrorText } from '#shared/state-store/errors.ts'
import { type AskOptions, KeyStoreRig, payloadOf, type Seen } from './key-store-rig.contract.ts'

const OK = '+OK\r\n'
const NOTHING = ':0\r\n'
const FULL = `-ERR ${ErrorText.QuotaExceeded}\r\n`
const SYNTAX = `-ERR ${ErrorText.Syntax}\r\n`

/** What `client` was told since the last look: the value, null for DELETE, and with which version. */
function told(rig: KeyStoreRig, client = 'Client1'): (readonly [string | null, string])[] {
  return rig.takeTold().flatMap(({ to, payload, ts }) => (to === client ? [[payload.split('\r\n').at(8) ?? null, ts] as const] : []))
}

function values(rig: KeyStoreRig, client?: string): (string | null)[] {
  return told(rig, client).map(([value]) => value)
}

/** `:N` as N; a gap as its version. */
function keep(rig: KeyStoreRig, since: string | null, options: AskOptions & { readonly key?: string; readonly ms?: number } = {}): Seen {
  const { key = 'k', ms = 1_000 } = options
  return rig.ask(`KEYNOTIFY ${key} KEEP ${ms}${since === null ? '' : ` SINCE ${since}`}`, options)
}

function leave(rig: KeyStoreRig, connection: number): void {
  rig.record(rig.store.forget('f', connection, rig.now))
}

/** Set once, watched, and left by connection 1. Answers the position of its client. */
function away(rig: KeyStoreRig, ms = 1_000): string {
  rig.ask('SET k before')
  const { answer, version } = keep(rig, null, { ms })
  expect(answer).toBe(OK)
  leave(rig, 1)
  return version!
}

describe('a watch that is kept', () => {
  test('is told as any other while its connection is there, and the answer says where it begins', () => {
    const rig = new KeyStoreRig()
    const { version } = rig.ask('SET k before')
    expect(keep(rig, null)).toEqual({ is: 'executed', answer: OK, version })
    rig.ask('SET k 1')
    rig.ask('DEL k')
    expect(values(rig)).toEqual(['1', null])
    expect([rig.store.watches, rig.store.watchesAway]).toEqual([1, 0])
  })

  test('goes on without a gap on another connection: what was missed comes first, in order, once', () => {
    const rig = new KeyStoreRig()
    const since = away(rig)
    const versions = ['SET k 1', 'SET k 2', 'DEL k', 'SET k 3 PX 10'].map(request => rig.ask(request).version)
    rig.clock.advance(10)
    rig.due()
    expect([rig.takeTold(), rig.store.watchesAway]).toEqual([[], 1])
    expect(keep(rig, since, { connection: 2 })).toEqual({ is: 'executed', answer: ':5\r\n', version: null })
    const missed = told(rig)
    expect(missed.map(([value]) => value)).toEqual(['1', '2', null, '3', null])
    expect([missed[0]![1], missed[1]![1], missed[3]![1]]).toEqual([versions[0], versions[1], versions[3]])
    expect(missed.map(([, ts]) => ts).sort()).toEqual(missed.map(([, ts]) => ts))
    rig.ask('SET k 4')
    expect(values(rig)).toEqual(['4'])
    expect(rig.store.counters).toMatchObject({ resumed: 1, gaps: 0 })
  })

  test('with nothing missed it says so; whatever the client has seen before it left does not come again', () => {
    const rig = new KeyStoreRig()
    keep(rig, null)
    rig.ask('SET k 1')
    rig.ask('SET k 2')
    const [[, first], [, last]] = told(rig) as [[string, string], [string, string]]
    leave(rig, 1)
    expect(keep(rig, last, { connection: 2 }).answer).toBe(NOTHING)
    expect(rig.takeTold()).toEqual([])
    // It had told more than it had, or less: what it says counts.
    expect(keep(rig, first, { connection: 3 }).answer, 'it said that it knew of more').toBe(OK)
  })

  test('what was on its way when the connection went is not lost: the client says what it has seen, not the broker', () => {
    const rig = new KeyStoreRig()
    const since = keep(rig, null).version!
    rig.ask('SET k 1')
    rig.ask('SET k 2')
    rig.takeTold()
    // Nobody has noticed that connection 1 is gone.
    expect(keep(rig, since, { connection: 2 }).answer).toBe(':2\r\n')
    expect(values(rig)).toEqual(['1', '2'])
    leave(rig, 1)
    rig.ask('SET k 3')
    expect([values(rig), rig.store.watchesAway], 'the end of the former connection says nothing of the present one').toEqual([['3'], 0])
    expect(keep(rig, since, { connection: 2 }).answer, 'the same connection, as often as it likes').toBe(':3\r\n')
  })

  test.each([
    ['after its time', (rig: KeyStoreRig) => rig.clock.advance(1_000)],
    ['after its time, and removed', (rig: KeyStoreRig) => (rig.clock.advance(1_200), rig.due())],
    ['after STOP', (rig: KeyStoreRig) => expect(rig.answer('KEYNOTIFY k STOP', { connection: 2 })).toBe(OK)],
    ['after an ordinary one', (rig: KeyStoreRig) => expect(rig.answer('KEYNOTIFY k', { connection: 2 })).toBe(OK)],
  ])('%s it begins anew, and the answer says so', (_, end) => {
    const rig = new KeyStoreRig()
    const since = away(rig)
    const { version } = rig.ask('SET k 1')
    end(rig)
    rig.replay()
    rig.takeTold()
    expect(keep(rig, since, { connection: 3 })).toEqual({ is: 'executed', answer: OK, version })
    rig.ask('SET k 2')
    // The ordinary one is of a connection that is still there.
    expect(new Set(values(rig))).toEqual(new Set(['2']))
  })

  test.each(['of before', 'of another key', 'of the future', 'of the beginning of time'] as const)(
    'a position that it was never given is a gap: %s',
    name => {
      const rig = new KeyStoreRig()
      const before = rig.ask('SET k 0').version!
      rig.clock.advance(1)
      away(rig)
      const another = rig.ask('SET x 1').version!
      const { version } = rig.ask('SET k 1')
      const [future, beginning] = ['999999999999999:00000:StateStore', '000000000000000:00000:StateStore']
      const since = { 'of before': before, 'of another key': another, 'of the future': future, 'of the beginning of time': beginning }[name]
      expect(keep(rig, since, { connection: 2 })).toMatchObject({ answer: OK, version })
      expect([rig.takeTold(), rig.store.counters.gaps]).toEqual([[], 1])
    },
  )

  test('a client that watches nothing cannot go on with what another one watches', () => {
    const rig = new KeyStoreRig()
    const since = away(rig)
    rig.ask('SET k 1')
    expect(keep(rig, since, { client: 'other', connection: 2 }).answer).toBe(OK)
    expect(keep(rig, since, { connection: 3 }).answer).toBe(':1\r\n')
  })

  test('a request of a connection that is gone, executed behind those of the next one, takes nothing from that', () => {
    const rig = new KeyStoreRig()
    const since = keep(rig, null).version!
    // Connection 1 has asked for more, is gone, and the next one was quicker.
    expect(keep(rig, since, { connection: 2 }).answer).toBe(NOTHING)
    for (const late of [keep(rig, since), keep(rig, null)]) expect(late.answer).toMatch(/^(:0|\+OK)/)
    rig.compact()
    rig.replay()
    leave(rig, 1)
    rig.ask('SET k 1')
    expect([values(rig), rig.store.watchesAway]).toEqual([['1'], 0])
    for (const late of ['KEYNOTIFY k STOP', 'KEYNOTIFY k']) rig.answer(late)
    leave(rig, 1)
    rig.replay()
    rig.ask('SET k 2')
    expect(values(rig)).toEqual(['2'])
    leave(rig, 2)
    expect(keep(rig, since, { connection: 3 }).answer, 'nor what it may go on from').toBe(':2\r\n')
  })

  test('STOP of one of its connections is of that one; of the last it ends', () => {
    const rig = new KeyStoreRig()
    for (const connection of [1, 2]) keep(rig, null, { connection })
    expect(rig.answer('KEYNOTIFY k STOP')).toBe(OK)
    rig.replay()
    rig.ask('SET k 1')
    expect([values(rig), rig.store.watches]).toEqual([['1'], 1])
    expect([1, 2, 2].map(connection => rig.answer('KEYNOTIFY k STOP', { connection }))).toEqual([NOTHING, OK, NOTHING])
    expect([rig.store.watches, rig.store.pastBytes]).toEqual([0, 0])
  })

  test('so many connections that nobody says are gone: the oldest are forgotten', () => {
    const rig = new KeyStoreRig()
    for (let connection = 1; connection <= 10; connection++) keep(rig, null, { connection })
    rig.ask('SET k 1')
    expect([rig.takeTold().length, rig.store.watches]).toEqual([8, 1])
  })

  test('clients of one key are apart', () => {
    const rig = new KeyStoreRig()
    const a = keep(rig, null, { client: 'a', connection: 1 }).version!
    rig.ask('SET k 1')
    const b = keep(rig, null, { client: 'b', connection: 2 }).version!
    for (const connection of [1, 2]) leave(rig, connection)
    rig.takeTold()
    rig.ask('SET k 2')
    expect(keep(rig, b, { client: 'b', connection: 3 }).answer).toBe(':1\r\n')
    expect([values(rig, 'b'), values(rig, 'a')]).toEqual([['2'], []])
    expect(rig.answer('KEYNOTIFY k STOP', { client: 'b', connection: 3 })).toBe(OK)
    expect(keep(rig, a, { client: 'a', connection: 4 }).answer).toBe(':2\r\n')
    expect(values(rig, 'a')).toEqual(['1', '2'])
  })

  test('an ordinary watch of the same connection gives way, and comes back in its place', () => {
    const rig = new KeyStoreRig()
    expect([rig.answer('KEYNOTIFY k'), keep(rig, null).answer]).toEqual([OK, OK])
    rig.ask('SET k 1')
    expect([values(rig), rig.store.watches]).toEqual([['1'], 1])
    expect(rig.answer('KEYNOTIFY k')).toBe(OK)
    leave(rig, 1)
    expect([rig.store.watches, rig.answer('KEYNOTIFY k STOP')]).toEqual([0, NOTHING])
    expect(rig.store.pastBytes).toBe(0)
  })

  test('a key without room for its topic cannot be watched so either', () => {
    const rig = new KeyStoreRig()
    const key = 'k'.repeat((65_535 - 75) / 2)
    expect(rig.askBytes(payloadOf(['KEYNOTIFY', key, 'KEEP', '1'])).answer).toBe(SYNTAX)
  })

  test('asked again under the same number it is answered again, and nothing is told twice', () => {
    const rig = new KeyStoreRig()
    const since = away(rig)
    rig.ask('SET k 1')
    const origin = { frontend: 'f', sequence: 1, settledBefore: 0 }
    expect(keep(rig, since, { connection: 2, origin }).answer).toBe(':1\r\n')
    rig.replay()
    rig.takeTold()
    expect(keep(rig, since, { connection: 2, origin })).toMatchObject({ is: 'repeated', answer: ':1\r\n' })
    expect(rig.takeTold()).toEqual([])
  })
})

test('each change says which one came before it, to those who keep a watch; whoever does not know that one has missed something', () => {
  const rig = new KeyStoreRig()
  const since = keep(rig, null, { client: 'c' }).version!
  rig.ask('KEYNOTIFY k', { client: 'plain', connection: 2 })
  const [first, second] = ['SET k 1', 'SET k 2'].map(request => rig.ask(request).version)
  expect(rig.takeTold().map(({ to, previous }) => [to, previous])).toEqual([
    ['plain', null],
    ['c', since],
    ['plain', null],
    ['c', first],
  ])
  leave(rig, 1)
  rig.ask('DEL k')
  rig.replay()
  rig.takeTold()
  keep(rig, since, { client: 'c', connection: 3 })
  expect(rig.takeTold().map(({ previous }) => previous)).toEqual([since, first, second])
})

test('a connection that keeps a watch of a key and watches a prefix of it is told once, with what came before', () => {
  const rig = new KeyStoreRig()
  rig.ask('WATCH k')
  keep(rig, null)
  rig.ask('SET k 1')
  expect(rig.takeTold().map(({ previous }) => previous)).toEqual([expect.any(String)])
  leave(rig, 1)
  rig.ask('SET k 2')
  expect([rig.takeTold(), rig.store.watchesAway]).toEqual([[], 1])
})

describe('who goes on with it', () => {
  test.each([false, true])('another owner knows what was missed and until when; from a snapshot: %s', isCompacted => {
    const rig = new KeyStoreRig()
    const since = away(rig, 100)
    rig.ask('SET k 1 PX 50')
    rig.clock.advance(50)
    rig.due()
    rig.ask(`SET k ${'x'.repeat(2_000)}`)
    if (isCompacted) rig.compact()
    rig.replay()
    rig.clock.advance(49)
    expect([rig.due(), rig.store.watchesAway]).toEqual([0, 1])
    expect(keep(rig, since, { connection: 2, ms: 100 }).answer).toBe(':3\r\n')
    expect(values(rig)).toEqual(['1', null, 'x'.repeat(2_000)])
    leave(rig, 2)
    if (isCompacted) rig.compact()
    rig.replay()
    rig.clock.advance(200)
    rig.due()
    rig.replay()
    expect([rig.store.watches, rig.store.pastBytes]).toEqual([0, 0])
  })

  test('an entry that a snapshot took later than the changes of its key does not pass for the one that follows them', () => {
    const rig = new KeyStoreRig()
    const since = away(rig)
    const steps = rig.store.snapshot(() => rig.now)[Symbol.iterator]()
    const chunks = [steps.next().value!]
    const logFrom = rig.log.length
    for (const value of ['1', '2']) rig.ask(`SET k ${value}`)
    for (let step = steps.next(); step.done !== true; step = steps.next()) {
      chunks.push(step.value)
      rig.ask(`SET k more${chunks.length}`)
    }
    const changes = rig.log.slice(logFrom)
    rig.log = []
    rig.record(chunks)
    rig.log.push(...changes)
    rig.replay()
    expect(keep(rig, since, { connection: 2 }).answer).toBe(`:${changes.length}\r\n`)
    expect(values(rig).slice(0, 3)).toEqual(['1', '2', 'more2'])
  })

  test('a record that is older than the snapshot it follows: what the snapshot remembers stays', () => {
    const rig = new KeyStoreRig()
    const since = keep(rig, null).version!
    keep(rig, since, { connection: 2 })
    rig.ask('SET k 1')
    const before = rig.log.length
    expect(rig.answer('KEYNOTIFY k STOP')).toBe(OK)
    keep(rig, null)
    leave(rig, 2)
    const records = rig.log.slice(before)
    rig.compact()
    rig.log.push(...records)
    rig.replay()
    rig.takeTold()
    expect(keep(rig, since, { connection: 3 }).answer).toBe(':1\r\n')
    expect(values(rig)).toEqual(['1'])
  })

  test('a frontend that is gone for good, and a stop of all: from then on it is kept', () => {
    for (const end of ['forgetFrontend', 'forgetWatchers'] as const) {
      const rig = new KeyStoreRig()
      const since = keep(rig, null).version!
      keep(rig, null, { client: 'c', connection: 2 })
      expect(rig.store.frontends()).toEqual(new Map([['f', [1, 2]]]))
      rig.clock.advance(5_000)
      rig.record(end === 'forgetFrontend' ? rig.store.forgetFrontend('f', rig.now) : rig.store.forgetWatchers(rig.now))
      expect([[...rig.store.frontends()], rig.store.watchesAway]).toEqual([[], 2])
      rig.clock.advance(999)
      rig.replay()
      rig.ask('SET k 1')
      expect(keep(rig, since, { frontend: 'g' }).answer).toBe(':1\r\n')
    }
  })

  test('what nobody chose to outlive a stop is dropped without a word: who kept a watch of it has a gap', () => {
    const rig = new KeyStoreRig()
    const since = away(rig)
    const kept = keep(rig, null, { key: 'chosen', connection: 2 }).version!
    rig.ask('SET k 1')
    rig.ask('SET chosen 1')
    rig.record(rig.store.dropUnchosen(key => key === 'chosen'))
    rig.record(rig.store.forgetWatchers(rig.now))
    rig.replay()
    expect(keep(rig, since, { connection: 3 }).answer).toBe(OK)
    expect(keep(rig, kept, { key: 'chosen', connection: 3 }).answer).toBe(':1\r\n')
  })
})

describe('limits of watches that are kept', () => {
  test('time: who asks for more gets as much as there is', () => {
    const rig = new KeyStoreRig({ keepMsMax: 500 })
    const since = away(rig, Number.MAX_SAFE_INTEGER)
    rig.clock.advance(499)
    const again = keep(rig, since, { connection: 2, ms: 501 })
    expect(again.answer).toBe(NOTHING)
    leave(rig, 2)
    rig.clock.advance(500)
    expect(keep(rig, since, { connection: 3 }).answer).toBe(OK)
  })

  test.each([false, true])(
    'changes of a key: the newest; whoever has seen the last that is forgotten misses nothing; from a snapshot: %s',
    isCompacted => {
      const rig = new KeyStoreRig({ pastPerKeyMax: 2 })
      const since = away(rig)
      const versions = ['1', '2', '3'].map(value => rig.ask(`SET k ${value}`).version!)
      if (isCompacted) rig.compact()
      rig.replay()
      expect(keep(rig, versions[0]!, { connection: 2 }).answer).toBe(':2\r\n')
      expect(values(rig)).toEqual(['2', '3'])
      expect(keep(rig, since, { connection: 2 }).answer).toBe(OK)
    },
  )

  test('no changes at all, or too large ones: it goes on when none was missed', () => {
    for (const limits of [{ pastPerKeyMax: 0 }, { pastBytesMax: 0 }]) {
      const rig = new KeyStoreRig(limits)
      const since = away(rig)
      expect(keep(rig, since, { connection: 2 }).answer).toBe(NOTHING)
      leave(rig, 2)
      rig.ask('SET k 1')
      rig.replay()
      expect([rig.store.pastBytes, keep(rig, since, { connection: 3 }).answer]).toEqual([0, OK])
    }
  })

  test('bytes: a key whose change has no room forgets its own, never those of another', () => {
    const rig = new KeyStoreRig({ pastBytesMax: 1_100 })
    const since = away(rig)
    const other = keep(rig, null, { key: 'other', connection: 2 }).version!
    rig.ask(`SET k ${'x'.repeat(500)}`)
    rig.ask(`SET other ${'y'.repeat(500)}`)
    expect(rig.store.pastBytes).toBe(620)
    rig.ask(`SET other ${'y'.repeat(200)}`)
    rig.ask('SET k z')
    expect(keep(rig, since, { connection: 3 }).answer).toBe(':2\r\n')
    expect(keep(rig, other, { key: 'other', connection: 3 }).answer).toBe(OK)
  })

  test('watches of a client, clients of a key, bytes of all: as of other watches, and apart from them', () => {
    const rig = new KeyStoreRig({ keysPerConnectionMax: 2, watchersPerKeyMax: 2, watchedBytesMax: 1_300 })
    const ask = (key: string, client: string, connection = 1): string => keep(rig, null, { key, client, connection }).answer
    expect([ask('a', 'c'), ask('b', 'c'), ask('d', 'c'), ask('a', 'c', 2)]).toEqual([OK, OK, FULL, OK])
    leave(rig, 1)
    leave(rig, 2)
    expect([ask('d', 'c'), ask('a', 'd'), ask('a', 'e')], 'of a client, over all connections').toEqual([FULL, OK, FULL])
    expect([ask('x', 'd'), rig.answer('KEYNOTIFY a', { connection: 5 })]).toEqual([FULL, OK])
    rig.clock.advance(1_200)
    rig.due()
    expect([ask('x', 'd'), ask('a', 'e'), rig.store.watches]).toEqual([OK, OK, 4])
  })

  test('one turn ends so many, those of entries included', () => {
    const rig = new KeyStoreRig()
    for (const key of ['a', 'b', 'c']) keep(rig, null, { key, ms: 1 })
    rig.ask('SET a 1 PX 1')
    leave(rig, 1)
    rig.clock.advance(1_000)
    expect([rig.due(2), rig.store.watchesAway, rig.due(2), rig.store.watchesAway]).toEqual([2, 2, 2, 0])
  })
})

test.each([
  ['KEEP 0', SYNTAX],
  ['KEEP x', SYNTAX],
  ['KEEP -1', SYNTAX],
  ['KEEP 9007199254740992', SYNTAX],
  ['KEEP', SYNTAX],
  ['KEEP 1 STOP', `-ERR ${ErrorText.ArgumentCount}\r\n`],
  ['STOP KEEP 1', `-ERR ${ErrorText.ArgumentCount}\r\n`],
  ['KEEP 1 KEEP 1', SYNTAX],
  ['KEEP 1 SINCE', `-ERR ${ErrorText.ArgumentCount}\r\n`],
  ['KEEP 1 SINCE x', SYNTAX],
  ['KEEP 1 SINCE 1:1:Client1', SYNTAX],
  ['KEEP 1 SINCE 18446744073709551615:0:StateStore', SYNTAX],
  ['KEEP 1 SINCE 1:1:StateStore x', `-ERR ${ErrorText.ArgumentCount}\r\n`],
  ['KEEP 9007199254740991', OK],
  ['KEEP 1 SINCE 1:1:StateStore', OK],
])('KEYNOTIFY k %s', (rest, answer) => {
  const rig = new KeyStoreRig()
  expect(rig.answer(`KEYNOTIFY k ${rest}`)).toBe(answer)
  expect(rig.store.watches).toBe(answer === OK ? 1 : 0)
  expect(rig.answer(`KEYNOTIFY  ${rest}`).startsWith('-ERR')).toBe(true)
})
