import { describe, expect, test } from 'vitest'
import { ErrorText } from '#shared/state-store/errors.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import { KeyStoreRig, payloadOf } from './key-store-rig.contract.ts'

const OK = '+OK\r\n'
const NOTHING = ':0\r\n'
const TOKEN_REQUIRED = `-ERR ${ErrorText.TokenRequired}\r\n`
const FULL = `-ERR ${ErrorText.QuotaExceeded}\r\n`

/** Who was told since the last look. */
function told(rig: KeyStoreRig): readonly string[] {
  return rig.takeTold().map(({ to }) => to)
}

describe('watching', () => {
  test('the key need not exist; asked twice, told once; every change and no other request', () => {
    const rig = new KeyStoreRig()
    expect([rig.answer('KEYNOTIFY k'), rig.answer('KEYNOTIFY k')]).toEqual([OK, OK])
    const told1 = ['SET k 1', 'SET k 2', 'DEL k', 'SET k 3', 'VDEL k 3'].map(request => [rig.answer(request), told(rig).length])
    expect(told1.map(([, count]) => count)).toEqual([1, 1, 1, 1, 1])
    rig.ask('SET other v')
    for (const request of ['GET k', 'DEL k', 'VDEL k x', 'SET k 1', 'SET k 2 NX', 'SET k 2 NEX', 'VDEL k 2']) {
      rig.ask(request)
      expect(told(rig).length, request).toBe(request === 'SET k 1' ? 1 : 0)
    }
    rig.ask('SET k 1', { ts: null })
    expect([told(rig), rig.answer('KEYNOTIFY k STOP'), rig.answer('KEYNOTIFY k STOP')]).toEqual([[], OK, NOTHING])
    rig.ask('SET k 9')
    expect([told(rig), rig.store.watches]).toEqual([[], 0])
  })

  test('each watcher is told, whoever made the change; in order, with rising clocks', () => {
    const rig = new KeyStoreRig()
    for (const client of ['a', 'b']) rig.ask('KEYNOTIFY k', { client, connection: client === 'a' ? 1 : 2 })
    rig.ask('SET k 1', { client: 'a' })
    rig.ask('DEL k', { client: 'c', connection: 3 })
    const all = rig.takeTold()
    expect(all.map(({ to }) => to)).toEqual(['a', 'b', 'a', 'b'])
    expect(all[2]!.ts > all[0]!.ts && all[0]!.ts === all[1]!.ts).toBe(true)
    expect(rig.store.counters.notifications).toBe(4)
  })

  test('a registration is of a connection: the next one of the same client asks anew, whoever hears first of the end of the former', () => {
    const rig = new KeyStoreRig()
    rig.ask('KEYNOTIFY k', { client: 'c', connection: 1 })
    expect(rig.answer('KEYNOTIFY k STOP', { client: 'c', connection: 2 })).toBe(NOTHING)
    rig.ask('KEYNOTIFY k', { client: 'c', connection: 2 })
    rig.record(rig.store.forget('f', 1, rig.now))
    expect(rig.store.watches).toBe(1)
    rig.ask('SET k v')
    expect(told(rig)).toEqual(['c'])
    rig.record(rig.store.forget('f', 2, rig.now))
    rig.ask('SET k v')
    expect([told(rig), rig.store.forget('f', 2, rig.now)]).toEqual([[], []])
  })

  test('a frontend that is gone takes its connections with it, and a stop of all takes all', () => {
    const rig = new KeyStoreRig()
    for (const frontend of ['f', 'g']) {
      for (const connection of [1, 2]) rig.ask('KEYNOTIFY k', { client: `${frontend}${connection}`, frontend, connection })
    }
    rig.ask('SET k v', { origin: { frontend: 'h', sequence: 1, settledBefore: 0 } })
    rig.replay()
    expect(rig.store.frontends(), 'for the next owner to ask who is still there').toEqual(
      new Map([
        ['h', []],
        ['f', [1, 2]],
        ['g', [1, 2]],
      ]),
    )
    rig.takeTold()
    rig.record(rig.store.forgetFrontend('f', rig.now))
    rig.replay()
    rig.ask('SET k v')
    expect([told(rig), rig.store.forgetFrontend('f', rig.now)]).toEqual([['g1', 'g2'], []])
    rig.record(rig.store.forgetWatchers(rig.now))
    rig.replay()
    rig.ask('SET k v')
    expect([told(rig), rig.store.watches, rig.store.forgetWatchers(rig.now)]).toEqual([[], 0, []])
  })

  test('another owner tells the same watchers', () => {
    const rig = new KeyStoreRig()
    for (const key of ['a', 'b', 'c']) rig.ask(`KEYNOTIFY ${key}`)
    rig.ask('KEYNOTIFY b STOP')
    for (const isCompacted of [false, true]) {
      if (isCompacted) rig.compact()
      rig.replay()
      for (const key of ['a', 'b', 'c']) rig.ask(`SET ${key} v`)
      expect(rig.takeTold().map(({ topic }) => topic.slice(-2))).toEqual(['61', '63'])
    }
  })

  test('a key without room for its topic can be set, but not watched', () => {
    const rig = new KeyStoreRig()
    const longest = (65_535 - 75) / 2 - 1
    const key = 'k'.repeat(longest + 1)
    expect(rig.askBytes(payloadOf(['SET', key, 'v'])).answer).toBe(OK)
    for (const stop of [[], ['STOP']]) {
      expect(rig.askBytes(payloadOf(['KEYNOTIFY', key, ...stop]), { client: 'c' }).answer).toBe(`-ERR ${ErrorText.Syntax}\r\n`)
      expect(rig.askBytes(payloadOf(['KEYNOTIFY', key.slice(1), ...stop]), { client: 'c' }).answer).toBe(OK)
    }
  })

  test('limits: keys of a connection, watchers of a key, bytes of all; what is there stays and ends', () => {
    const rig = new KeyStoreRig({ keysPerConnectionMax: 2, watchersPerKeyMax: 2, watchedBytesMax: 2_500 })
    const watch = (key: string, connection: number): string => rig.answer(`KEYNOTIFY ${key}`, { client: `c${connection}`, connection })
    expect([watch('a', 1), watch('b', 1), watch('c', 1), watch('a', 1)]).toEqual([OK, OK, FULL, OK])
    expect([watch('a', 2), watch('a', 3)]).toEqual([OK, FULL])
    rig.record(rig.store.forget('f', 1, rig.now))
    expect([watch('a', 3), watch('x'.repeat(800), 4), watch('x', 4), watch('y', 4), watch('z', 5)]).toEqual([OK, FULL, OK, OK, FULL])
    expect(rig.store.watches).toBe(4)
    rig.answer('KEYNOTIFY y STOP', { client: 'c4', connection: 4 })
    expect(watch('z', 5)).toBe(OK)
  })
})

describe('watching by prefix', () => {
  /** Keys that were told, and to whom. */
  const toldOf = (rig: KeyStoreRig): readonly string[] =>
    rig.takeTold().map(({ to, topic }) => `${to} ${Buffer.from(topic.slice(topic.lastIndexOf('/') + 1), 'hex').toString('latin1')}`)

  test('all keys that begin so, byte for byte, there or not; an empty prefix is all; what is told is what a watcher of the key is told', () => {
    const rig = new KeyStoreRig()
    const of = (connection: number) => ({ client: `c${connection}`, connection })
    const prefixes = ['plant/', '', 'plant/press-7', 'p\xff', 'plant/press-7x']
    for (const [index, prefix] of prefixes.entries()) expect(rig.askBytes(payloadOf(['WATCH', prefix]), of(index)).answer).toBe(OK)
    rig.askBytes(payloadOf(['KEYNOTIFY', 'plant/press-7']), of(9))
    const expected: readonly (readonly [key: string, to: readonly string[]])[] = [
      ['plant/press-7', ['c9', 'c0', 'c1', 'c2']],
      ['plant/', ['c0', 'c1']],
      ['plant', ['c1']],
      ['Plant/', ['c1']],
      ['p\xff\0', ['c1', 'c3']],
    ]
    for (const [key, to] of expected) {
      expect(rig.askBytes(payloadOf(['SET', key, 'v'])).answer).toBe(OK)
      const told = rig.takeTold()
      expect(
        told.map(each => each.to),
        key,
      ).toEqual(to)
      const [first] = told
      const topics = to.map(client => notifyTopic(client, Buffer.from(key, 'latin1')))
      expect(told).toEqual(to.map((client, index) => ({ ...first, to: client, topic: topics[index] })))
      rig.askBytes(payloadOf(['DEL', key]))
      expect(toldOf(rig)).toEqual(to.map(client => `${client} ${key}`))
    }
  })

  test('a connection that watches the key and several prefixes of it is told once, and goes on being told until the last is given back', () => {
    const rig = new KeyStoreRig()
    const watches = ['KEYNOTIFY plant/a', 'WATCH plant/', 'WATCH p', 'WATCH plant/a']
    for (const watch of watches) expect(rig.answer(watch)).toBe(OK)
    for (const [index, watch] of watches.entries()) {
      rig.ask(`SET plant/a ${index}`)
      expect(toldOf(rig)).toEqual(['Client1 plant/a'])
      expect([rig.answer(`${watch} STOP`), rig.answer(`${watch} STOP`)]).toEqual([OK, NOTHING])
    }
    rig.ask('SET plant/a v')
    expect([toldOf(rig), rig.store.watches]).toEqual([[], 0])
  })

  test('asked again it says that it was known; the key of the same name and other prefixes are others', () => {
    const rig = new KeyStoreRig()
    expect([rig.answer('WATCH a'), rig.answer('WATCH a'), rig.answer('KEYNOTIFY a'), rig.answer('WATCH ab')]).toEqual([OK, NOTHING, OK, OK])
    expect([rig.store.watches, rig.answer('WATCH a STOP'), rig.answer('KEYNOTIFY ab STOP')]).toEqual([3, OK, NOTHING])
    rig.ask('SET ab v')
    expect(toldOf(rig)).toEqual(['Client1 ab'])
  })

  test('what its time ends is told, too', () => {
    const rig = new KeyStoreRig()
    rig.ask('WATCH p')
    rig.ask('SET p1 v PX 10')
    rig.takeTold()
    rig.clock.advance(11)
    rig.due()
    expect(toldOf(rig)).toEqual(['Client1 p1'])
  })

  test('another owner tells the same watchers; a connection and a frontend that are gone take them along', () => {
    const rig = new KeyStoreRig()
    for (const connection of [1, 2, 3]) rig.ask('WATCH p', { client: `c${connection}`, connection, frontend: connection === 3 ? 'g' : 'f' })
    rig.askBytes(payloadOf(['WATCH', '']))
    rig.ask('WATCH q')
    rig.ask('WATCH q STOP')
    for (const isCompacted of [false, true]) {
      if (isCompacted) rig.compact()
      const before = rig.state()
      rig.replay()
      expect(rig.state()).toEqual(before)
      rig.ask('SET p1 v')
      expect(toldOf(rig)).toEqual(['c1 p1', 'c2 p1', 'c3 p1'])
    }
    rig.record(rig.store.forget('f', 2, rig.now))
    rig.record(rig.store.forgetFrontend('g', rig.now))
    rig.replay()
    rig.ask('SET p1 v')
    expect(toldOf(rig)).toEqual(['c1 p1'])
    rig.record(rig.store.forgetWatchers(rig.now))
    rig.replay()
    rig.ask('SET p1 v')
    expect([toldOf(rig), rig.store.watches]).toEqual([[], 0])
  })

  test('limits: keys and prefixes of a connection, connections with prefixes, prefixes of one, bytes of all', () => {
    const rig = new KeyStoreRig({ keysPerConnectionMax: 3, watchersPerKeyMax: 2, watchedBytesMax: 2_700 })
    const ask = (request: string, connection: number): string => rig.answer(request, { client: `c${connection}`, connection })
    expect([ask('KEYNOTIFY a', 1), ask('WATCH a', 1), ask('WATCH b', 1), ask('WATCH c', 1)]).toEqual([OK, OK, OK, FULL])
    expect([ask('WATCH a', 2), ask('WATCH x', 3), ask('KEYNOTIFY a', 3), ask('KEYNOTIFY a', 4)]).toEqual([OK, FULL, OK, FULL])
    expect([ask('WATCH a STOP', 2), ask('WATCH x', 3), ask(`WATCH ${'y'.repeat(250)}`, 3), ask(`WATCH ${'z'.repeat(250)}`, 1)]).toEqual([
      OK,
      OK,
      OK,
      FULL,
    ])
    const many = new KeyStoreRig()
    const answers = Array.from({ length: 65 }, (_, index) => many.answer(`WATCH p${index}`))
    expect([answers.slice(0, 64).every(answer => answer === OK), answers[64]]).toEqual([true, FULL])
    expect([many.answer('WATCH p0 STOP'), many.answer('WATCH more')]).toEqual([OK, OK])
  })

  test('a change looks up the lengths that are in use, and none when nobody watches a prefix', () => {
    const rig = new KeyStoreRig()
    for (let connection = 0; connection < 500; connection++) rig.ask(`WATCH other${connection}`, { client: `c${connection}`, connection })
    const KEY = 'a-key-of-some-length'
    const { prototype } = Map
    const get = Object.getOwnPropertyDescriptor(prototype, 'get')!
    let lookups = 0
    const counted = new Proxy(get.value as () => unknown, {
      apply(target, map, args: [string]) {
        if (KEY !== args[0] && KEY.startsWith(args[0])) lookups++
        return Reflect.apply(target, map, args)
      },
    })
    Object.defineProperty(prototype, 'get', { ...get, value: counted })
    try {
      rig.ask(`SET ${KEY} v`)
      expect(lookups).toBe(3)
      for (let connection = 0; connection < 500; connection++) rig.store.forget('f', connection, rig.now)
      lookups = 0
      rig.ask(`SET ${KEY} v`)
      expect(lookups).toBe(0)
    } finally {
      Object.defineProperty(prototype, 'get', get)
    }
  })

  test('a client whose name leaves no room for a notification watches nothing', () => {
    const rig = new KeyStoreRig()
    expect(rig.answer('WATCH p', { client: 'c'.repeat(32_740) })).toBe(`-ERR ${ErrorText.Syntax}\r\n`)
  })

  test('asked again after a STOP that came behind it, it does not undo that', () => {
    const rig = new KeyStoreRig()
    const origin = (sequence: number) => ({ origin: { frontend: 'f', sequence, settledBefore: 0 } })
    expect([rig.answer('WATCH p', origin(1)), rig.answer('WATCH p STOP', origin(2))]).toEqual([OK, OK])
    rig.replay()
    expect([rig.ask('WATCH p', origin(1)).is, rig.store.watches]).toEqual(['repeated', 0])
  })
})

describe('quotas', () => {
  test('only a SET that would make one more key fails', () => {
    const rig = new KeyStoreRig({ keysMax: 2 })
    expect([rig.answer('SET a 1'), rig.answer('SET b 1'), rig.answer('SET c 1')]).toEqual([OK, OK, FULL])
    expect([rig.answer('SET a 22'), rig.answer('SET a 1 NX'), rig.answer('GET c')]).toEqual([OK, ':-1\r\n', '$-1\r\n'])
    rig.replay()
    expect(rig.answer('SET c 1')).toBe(FULL)
    expect([rig.answer('DEL b'), rig.answer('SET c 1'), rig.store.keys]).toEqual([':1\r\n', OK, 2])
  })

  test('keys past their deadline take no room, and their watchers hear of them first', () => {
    const rig = new KeyStoreRig({ keysMax: 1 })
    rig.ask('KEYNOTIFY a')
    rig.ask('KEYNOTIFY b')
    rig.ask('SET a 1 PX 10')
    rig.takeTold()
    expect(rig.answer('SET b 1')).toBe(FULL)
    rig.clock.advance(10)
    expect(rig.answer('SET b 1')).toBe(OK)
    expect(rig.takeTold().map(({ topic }) => topic.slice(-2))).toEqual(['61', '62'])
    rig.replay()
    expect([rig.store.keys, rig.answer('GET a'), rig.answer('GET b')]).toEqual([1, '$-1\r\n', '$1\r\n1\r\n'])
  })

  test('keys that one client created, whoever changes them later; over a restart', () => {
    const rig = new KeyStoreRig({ keysPerClientMax: 2 })
    const ask = (request: string, client: string): string => rig.answer(request, { client })
    expect([ask('SET a 1', 'c'), ask('SET b 1', 'c'), ask('SET x 1', 'c'), ask('SET x 1', 'd')]).toEqual([OK, OK, FULL, OK])
    expect([ask('SET a 2', 'd'), ask('SET y 1', 'd'), ask('SET z 1', 'd')]).toEqual([OK, OK, FULL])
    rig.compact()
    rig.replay()
    expect([ask('SET z 1', 'c'), ask('SET z 1', 'd')]).toEqual([FULL, FULL])
    expect([ask('DEL a', 'd'), ask('SET z 1', 'd'), ask('SET z 1', 'c')]).toEqual([':1\r\n', FULL, OK])
  })

  test('bytes: also a larger value of a key that is there; a smaller one never fails', () => {
    const rig = new KeyStoreRig({ bytesMax: 2_000 })
    const large = 'x'.repeat(1_000)
    expect([rig.answer(`SET a ${large}`), rig.answer(`SET b ${large}`), rig.answer('SET b 1')]).toEqual([OK, FULL, OK])
    expect([rig.answer(`SET b ${large}`), rig.answer(`SET a ${large}`), rig.answer('SET a 1')]).toEqual([FULL, OK, OK])
    expect(rig.answer(`SET b ${large}`)).toBe(OK)
    const { bytes } = rig.store
    rig.replay()
    expect(rig.store.bytes).toBe(bytes)
    for (const key of ['a', 'b']) rig.ask(`DEL ${key}`)
    expect(rig.store.bytes).toBe(0)
  })
})

describe('a request that comes again because its answer was lost', () => {
  const origin = (sequence: number, settledBefore = 0): { frontend: string; sequence: number; settledBefore: number } => ({
    frontend: 'f',
    sequence,
    settledBefore,
  })

  test('is answered as before, changes nothing, and tells nobody; also by another owner', () => {
    const rig = new KeyStoreRig()
    rig.ask('KEYNOTIFY k', { client: 'w', connection: 9 })
    const requests = ['SET lock me NX PX 1000', 'SET k v', 'DEL k', 'SET k w', 'VDEL k w', 'KEYNOTIFY k', 'KEYNOTIFY k STOP']
    const first = requests.map((request, index) => rig.ask(request, { origin: origin(index) }))
    expect(first.map(({ answer }) => answer)).toEqual([OK, OK, ':1\r\n', OK, ':1\r\n', OK, OK])
    const before = rig.state()
    for (const step of ['replay', 'compact', 'replay'] as const) {
      rig[step]()
      rig.takeTold()
      const again = requests.map((request, index) => rig.ask(request, { origin: origin(index) }))
      expect(again.map(({ answer, version }) => [answer, version])).toEqual(first.map(({ answer, version }) => [answer, version]))
      rig.ask('KEYNOTIFY k STOP')
      expect([rig.takeTold(), rig.state()]).toEqual([[], before])
    }
    expect(rig.answer('SET lock me NX', { origin: origin(20) })).toBe(':-1\r\n')
  })

  test('is forgotten once it is settled; a late copy then is not executed', () => {
    const rig = new KeyStoreRig()
    for (let sequence = 0; sequence < 5; sequence++) rig.ask(`SET k${sequence} v`, { origin: origin(sequence) })
    expect(rig.store.answersRemembered).toBe(5)
    rig.ask('GET k0', { origin: origin(5, 3) })
    expect(rig.store.answersRemembered).toBe(2)
    expect(rig.ask('DEL k1', { origin: origin(1, 0) })).toEqual({ is: 'stale', answer: '', version: null })
    expect([rig.ask('SET k3 v NX', { origin: origin(3, 3) }).is, rig.answer('GET k1')]).toEqual(['repeated', '$1\r\nv\r\n'])
    rig.ask('SET k v', { origin: origin(6, 5) })
    rig.replay()
    expect(rig.store.answersRemembered, 'what was settled is forgotten by the next owner too').toBe(1)
    rig.record(rig.store.forgetFrontend('f', rig.now))
    rig.replay()
    expect(rig.store.answersRemembered).toBe(0)
    expect(rig.ask('SET k v NX', { origin: origin(6, 5) })).toMatchObject({ is: 'executed', answer: ':-1\r\n' })
  })

  test('is not executed when it was in vain, though it would come out otherwise by now', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET k v', { ft: `${rig.now.wallMs}:0:a` })
    rig.ask('SET lock v')
    const requests = ['SET lock w NX', 'SET k w', 'SET none w', 'DEL none', 'VDEL none w', 'DEL k']
    const ask = (request: string, sequence: number): string =>
      rig.ask(request, { origin: origin(sequence), ...(request === 'SET none w' && { ts: null }) }).answer
    const first = requests.map(ask)
    expect(first).toEqual([':-1\r\n', TOKEN_REQUIRED, '-ERR missing timestamp\r\n', ':0\r\n', ':0\r\n', TOKEN_REQUIRED])
    rig.ask('DEL k', { ft: `${rig.now.wallMs}:0:a` })
    rig.ask('DEL lock')
    rig.ask('SET none w')
    for (const step of ['replay', 'compact'] as const) {
      rig[step]()
      expect(requests.map(ask)).toEqual(first)
      expect(['lock', 'k', 'none'].map(key => rig.answer(`GET ${key}`))).toEqual(['$-1\r\n', '$-1\r\n', '$1\r\nw\r\n'])
    }
  })

  test('a KEYNOTIFY does not undo the STOP that came behind it, nor the other way round', () => {
    const rig = new KeyStoreRig()
    const requests = ['KEYNOTIFY k STOP', 'KEYNOTIFY k', 'KEYNOTIFY k', 'KEYNOTIFY k STOP']
    const first = requests.map((request, index) => rig.answer(request, { origin: origin(index) }))
    expect(first).toEqual([NOTHING, OK, OK, OK])
    rig.replay()
    expect(requests.map((request, index) => rig.answer(request, { origin: origin(index) }))).toEqual(first)
    expect(rig.store.watches).toBe(0)
  })

  test('is executed when it only reads; nothing is remembered of it', () => {
    const rig = new KeyStoreRig()
    for (const request of ['GET k', 'GET none']) rig.ask(request, { origin: origin(1) })
    expect(rig.store.answersRemembered).toBe(0)
  })

  test('and all else that is held counts in memory, and does not when it is gone', () => {
    const rig = new KeyStoreRig({ answersMax: 3 })
    const empty = rig.store.heldBytes
    const grown: number[] = []
    for (const request of ['SET k v', 'KEYNOTIFY k', 'WATCH k']) {
      rig.ask(request, { origin: origin(grown.length) })
      grown.push(rig.store.heldBytes)
    }
    expect([empty, ...grown]).toEqual([0, ...grown.toSorted((a, b) => a - b)])
    expect(new Set(grown).size).toBe(3)
    for (let sequence = 3; sequence < 20; sequence++) rig.ask('SET k v', { origin: origin(sequence) })
    expect(rig.store.heldBytes).toBe(grown.at(-1))
    rig.ask('DEL k', { origin: origin(20) })
    for (const frontend of rig.store.frontends().keys()) rig.store.forgetFrontend(frontend, rig.now)
    rig.store.forgetWatchers(rig.now)
    expect(rig.store.heldBytes).toBe(0)
  })

  test('frontends are apart, and each has its limit: the oldest answer goes', () => {
    const rig = new KeyStoreRig({ answersMax: 3 })
    for (let sequence = 0; sequence < 5; sequence++) rig.ask('SET k v', { origin: origin(sequence) })
    rig.ask('SET k v', { origin: { frontend: 'g', sequence: 0, settledBefore: 0 } })
    expect([rig.store.answersRemembered, rig.store.counters.answersForgotten]).toEqual([4, 2])
    expect(rig.ask('SET k v', { origin: origin(4) }).is).toBe('repeated')
    expect(rig.ask('SET k v', { origin: origin(1) }).is).toBe('executed')
  })
})

describe('what outlives a stop of all', () => {
  test('is what was chosen, and once chosen it stays so until it is deleted', () => {
    const rig = new KeyStoreRig()
    rig.ask('SET kept v', { isPersistent: true })
    rig.ask('SET kept w')
    rig.ask('SET plain v')
    rig.ask('SET deleted v', { isPersistent: true })
    rig.ask('DEL deleted')
    rig.ask('SET deleted v')
    rig.ask('SET expired v PX 1', { isPersistent: true })
    rig.clock.advance(1)
    rig.ask('SET expired v')
    rig.ask('SET pattern v')
    const { clock } = rig.store
    rig.compact()
    rig.replay()
    rig.record(rig.store.dropUnchosen((key, isPersistent) => isPersistent || key === 'pattern'))
    rig.replay()
    const kept = ['kept', 'pattern', 'plain', 'deleted', 'expired'].map(key => rig.answer(`GET ${key}`) !== '$-1\r\n')
    expect(kept).toEqual([true, true, false, false, false])
    expect(rig.store.clock, 'versions never go back, whatever was dropped').toEqual(clock)
  })

  test('versions go on where they were, although the entries are gone and the machine is behind', () => {
    const rig = new KeyStoreRig()
    rig.ask('KEYNOTIFY k')
    rig.ask('SET k v')
    rig.ask('DEL k')
    const { clock } = rig.store
    rig.compact()
    rig.clock.advance(-500_000)
    rig.replay()
    expect(rig.store.clock).toEqual(clock)
    expect(rig.ask('SET k v').version).toBe(`00${clock.wall}:${String(clock.counter + 1).padStart(5, '0')}:StateStore`)
  })
})

test('attempts are counted, refused ones too', () => {
  const rig = new KeyStoreRig({ keysMax: 1 })
  for (const request of [
    'SET a 1',
    'SET a 2',
    'SET a 2 NX',
    'SET b 1',
    'GET a',
    'GET b',
    'DEL b',
    'VDEL a x',
    'KEYNOTIFY a',
    'KEYNOTIFY b STOP',
  ])
    rig.ask(request)
  rig.ask('SET a 1', { ts: null })
  expect(rig.store.counters).toMatchObject({ insertions: 2, modifications: 3, retrievals: 2, deletions: 2, keynotifyRequests: 2 })
})
