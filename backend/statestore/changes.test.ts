import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { parseClock, storeClock } from '#shared/state-store/hybrid-clock.ts'
import { StoreError } from '../store/shard-store.ts'
import { readStoreChange, type StoreChange } from './changes.ts'
import { bytesOf, KeyStoreRig } from './key-store-rig.contract.ts'

const bytes = fc.uint8Array({ maxLength: 200 }).map(each => Buffer.from(each))
const key = bytes.filter(each => each.length > 0).map(each => each.toString('latin1'))
const name = fc.string({ maxLength: 12 })
const clock = fc.tuple(fc.maxSafeNat(), fc.nat()).map(([wall, counter]) => storeClock(wall, counter))
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const token = fc.tuple(u64, u64, fc.constantFrom('a', 'StateStore', 'é')).map(parts => parseClock(parts.join(':'))!)
const deadline = fc.oneof(fc.constant(Infinity), fc.maxSafeNat())
const watcher = fc.record({ frontend: name, connection: fc.maxSafeNat(), clientId: name })

const change: fc.Arbitrary<StoreChange> = fc.oneof(
  fc.record({
    is: fc.constant('set'),
    key,
    value: bytes,
    version: clock,
    token: fc.option(token),
    deadlineWallMs: deadline,
    isPersistent: fc.boolean(),
    owner: fc.option(name),
  }),
  fc.record({ is: fc.constant('deleted'), key, clock: fc.option(clock) }),
  fc.record({ is: fc.constant('clock'), clock }),
  fc.record({ is: fc.constantFrom('watched', 'unwatched'), key, watcher }),
  fc.record({ is: fc.constantFrom('watchedUnder', 'unwatchedUnder'), prefix: fc.oneof(key, fc.constant('')), watcher }),
  fc.record({ is: fc.constant('connectionGone'), frontend: name, connection: fc.maxSafeNat() }),
  fc.record({ is: fc.constant('frontendGone'), frontend: name }),
  fc.constant({ is: 'watchersGone' } as const),
  fc.record({ is: fc.constant('kept'), key, watcher, keepMs: fc.maxSafeNat(), since: clock, begun: clock, deadlineWallMs: deadline }),
  fc.record({ is: fc.constant('released'), key, watcher }),
  fc.record({ is: fc.constant('past'), key, version: clock, value: fc.option(bytes) }),
  fc.record({ is: fc.constant('unkept'), key, clientId: name }),
  fc.record({ is: fc.constant('away'), frontend: name, connection: fc.maxSafeNat(), wallMs: fc.maxSafeNat() }),
  fc.record({
    is: fc.constant('answered'),
    origin: fc.record({ frontend: name, sequence: fc.maxSafeNat(), settledBefore: fc.maxSafeNat() }),
    answer: bytes,
    version: fc.option(clock),
  }),
)

function read(from: Buffer): StoreChange {
  return readStoreChange(new ByteReader(from))
}

describe('records of the state store', () => {
  test('every change comes back, one behind the other', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 5 }), changes => {
        const reader = new ByteReader(Buffer.concat(changes.map(bytesOf)))
        expect(changes.map(() => readStoreChange(reader))).toEqual(changes)
        expect(reader.done).toBe(true)
      }),
    )
  })

  test('a value that is kept as a text is written as its bytes', () => {
    const value = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
    const set = (kept: Buffer | string): Buffer =>
      bytesOf({
        is: 'set',
        key: 'k',
        value: kept,
        version: storeClock(1, 2),
        token: null,
        deadlineWallMs: Infinity,
        isPersistent: false,
        owner: null,
      })
    expect(set(value.toString('latin1'))).toEqual(set(value))
  })

  test('cut short, none is read; damaged, none is more than refused; a store takes what is read', () => {
    fc.assert(
      fc.property(change, fc.nat(), fc.integer({ min: 1, max: 255 }), (made, place, by) => {
        const whole = bytesOf(made)
        for (let size = 0; size < whole.length; size++) expect(() => read(whole.subarray(0, size))).toThrow(ByteReaderError)
        whole[place % whole.length]! ^= by
        try {
          const rig = new KeyStoreRig()
          rig.store.apply(read(whole), rig.now)
        } catch (error) {
          expect(error instanceof ByteReaderError || (error instanceof StoreError && error.fault === 'newerFormat')).toBe(true)
        }
      }),
    )
  })

  test('any bytes are read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.integer({ min: 1, max: 12 }), (rest, tag) => {
        const from = Buffer.concat([Buffer.from([1, tag]), rest])
        try {
          expect(read(from).is).toBeTypeOf('string')
        } catch (error) {
          expect(error).toBeInstanceOf(ByteReaderError)
        }
      }),
    )
  })

  test('of a later layout: the version that wrote it has to be run', () => {
    const newer = bytesOf({ is: 'watchersGone' })
    newer[0] = 2
    expect(() => read(newer)).toThrow(expect.objectContaining({ name: 'StoreError', fault: 'newerFormat' }))
    newer[0] = 0
    expect(() => read(newer)).toThrow(ByteReaderError)
    expect(() => read(Buffer.from([1, 99])), 'an unknown tag').toThrow(ByteReaderError)
    expect(() => read(Buffer.from([1, 1, 16])), 'an unknown flag').toThrow(ByteReaderError)
    expect(() => read(Buffer.from([1, 2, 0, 0])), 'a key without bytes').toThrow(ByteReaderError)
  })

  test('applied to a state that has it already, a change changes nothing', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), changes => {
        const rig = new KeyStoreRig()
        rig.record(changes)
        rig.replay()
        const once = rig.state()
        const last = changes.at(-1)
        if (last !== undefined) rig.store.apply(last, rig.now)
        expect(rig.state()).toEqual(once)
      }),
    )
  })
})
