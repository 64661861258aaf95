import { expect, test } from 'vitest'
import { ownCopy } from './own-copy.ts'

test('a part stays the same text, whatever it was cut from', () => {
  for (const part of ['', 'level', 'Grüße', '🌍/日本', 'x'.repeat(5_000)]) {
    for (const filling of ['', 'y'.repeat(2_000)]) {
      const whole = `${filling}${part}`
      expect(ownCopy(whole.slice(filling.length), whole)).toBe(part)
    }
  }
})
