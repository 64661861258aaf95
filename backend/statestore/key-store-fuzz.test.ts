import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseCommand } from '#shared/state-store/command.ts'
import { KeyStore } from './key-store.ts'
import { KeyStoreRig, NO_LIMITS, payloadOf, START_MS } from './key-store-rig.contract.ts'

const number = fc.oneof(
  fc.integer({ min: START_MS - 5, max: START_MS + 60_005 }).map(String),
  fc.bigInt({ min: 0n, max: 2n ** 65n }).map(String),
  fc.constantFrom('', '-1', '1e3', '0x10', '2147483647', '2147483648', '9007199254740991', '9007199254740993', '18446744073709551615'),
)
const clock = fc.option(
  fc.oneof(
    fc.string(),
    fc.tuple(number, number, fc.string()).map(parts => parts.join(':')),
  ),
)
const element = fc.oneof(
  fc.constantFrom('k', 'v', '', 'NX', 'NEX', 'PX', '1', '9007199254740991', 'STOP', 'KEEP', 'SINCE', '0:0:StateStore'),
  fc.string({ maxLength: 5 }),
)
/** Watches that are kept are seldom made of chance alone. */
const kept = fc.constantFrom(['KEYNOTIFY', 'k', 'KEEP', '9'], ['KEYNOTIFY', 'k', 'KEEP', '9', 'SINCE', '0:0:StateStore'])
const verb = fc.constantFrom('SET', 'SET', 'GET', 'DEL', 'VDEL', 'KEYNOTIFY', 'WATCH')
const request = fc.record({
  elements: fc.oneof(
    { arbitrary: kept, weight: 1 },
    {
      arbitrary: fc
        .tuple(verb, fc.array(element, { maxLength: 6 }))
        .map(([first, rest]) => [first, ...rest.map(text => Buffer.from(text).toString('latin1'))]),
      weight: 9,
    },
  ),
  leaves: fc.boolean(),
  ts: clock,
  ft: clock,
  passMs: fc.nat({ max: 20 }),
})

test('whatever clients send, there is one answer of a known form, versions only grow, and the next owner has the same', () => {
  fc.assert(
    fc.property(fc.array(request, { maxLength: 25 }), requests => {
      const rig = new KeyStoreRig({ keysMax: 3, bytesMax: 2_000 })
      for (const { elements, ts, ft, passMs, leaves } of requests) {
        const before = rig.store.clock
        const { answer } = rig.askBytes(payloadOf(elements), { ts, ft })
        expect(answer).toMatch(/^(\+OK|\$-1|\$\d+\r\n[^]*|:\d+|:-1|-ERR [a-z; ]+)\r\n$/)
        const { clock: after } = rig.store
        expect(after.wall > before.wall || (after.wall === before.wall && after.counter >= before.counter)).toBe(true)
        expect([Number.isSafeInteger(after.wall), after.counter < 2 ** 31]).toEqual([true, true])
        if (leaves) rig.record(rig.store.forget('f', 1, rig.now))
        rig.clock.advance(passMs)
      }
      rig.due()
      const state = rig.state()
      rig.replay()
      rig.due()
      expect(rig.state()).toEqual(state)
    }),
  )
})

test('a monotonic clock of fractions: not a moment too early, and `due` within its millisecond', () => {
  const store = new KeyStore(NO_LIMITS, 1_000.7)
  const watcher = { frontend: 'f', connection: 1, clientId: 'c' }
  const ask = (elements: readonly string[], monotonicMs: number): string => {
    const command = parseCommand(payloadOf(elements))
    if (typeof command === 'string') throw new Error(command)
    const now = { wallMs: START_MS, monotonicMs }
    return store
      .execute({ command, timestamp: { wall: 1, counter: 0 }, fencingToken: null, isPersistent: false, watcher, origin: null }, now)
      .answer.toString()
  }
  for (const key of ['a', 'b']) ask(['SET', key, 'v', 'PX', '10'], 1_010.3)
  expect(ask(['GET', 'a'], 1_020.2)).toBe('$1\r\nv\r\n')
  expect(store.due({ wallMs: START_MS, monotonicMs: 1_020.2 }, Infinity).changes).toEqual([])
  expect(ask(['GET', 'a'], 1_020.3)).toBe('$-1\r\n')
  expect(store.due({ wallMs: START_MS, monotonicMs: 1_021.3 }, Infinity).changes).toMatchObject([{ is: 'deleted', key: 'b' }])
})
