import { expect, test } from 'vitest'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { OrderedKeys } from './ordered-keys.ts'

const KEYS = 3_000

/** Text of a character for each byte, in which many begin alike. */
function keyOf(random: SeededRandom): string {
  return String.fromCharCode(...Array.from({ length: random.int(1, 4) }, () => random.pick([0x00, 0x61, 0x62, 0x7f, 0x80, 0xe9, 0xff])))
}

test.each([1, 2, 3])('keys come out in the order of their bytes, from wherever, while they come and go (%i)', seed => {
  const random = new SeededRandom(seed)
  const ordered = new OrderedKeys()
  const there = new Set<string>()
  const check = (from: string): void => {
    const expected = [...there]
      .filter(key => key >= from)
      .sort((a, b) => Buffer.compare(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1')))
    expect([...ordered.from(from)]).toEqual(expected)
  }
  // It grows over several blocks, then shrinks to nothing.
  for (const share of [0.9, 0.5, 0.1]) {
    for (let step = 0; step < KEYS; step++) {
      if (there.size === 0 || random.chance(share)) {
        const key = keyOf(random)
        if (!there.has(key)) ordered.add(key)
        there.add(key)
      } else {
        const key = [...there][random.int(0, there.size - 1)]!
        ordered.delete(key)
        there.delete(key)
      }
      if (step % 300 === 0) check(random.chance(0.3) ? '' : keyOf(random))
    }
    check('')
  }
  for (const key of there) ordered.delete(key)
  there.clear()
  check('')
})

test('keys that come in order, or against it', () => {
  for (const isTurned of [false, true]) {
    const keys = Array.from({ length: KEYS }, (_, index) => String(index).padStart(5, '0'))
    const ordered = new OrderedKeys()
    for (const key of isTurned ? keys.toReversed() : keys) ordered.add(key)
    expect([...ordered.from('')]).toEqual(keys)
    expect([...ordered.from('02999')]).toEqual(['02999'])
    expect([...ordered.from('02999\0')]).toEqual([])
  }
})
