import { expect, test } from 'vitest'
import { LineSplitter, LineTooLong } from './line-splitter.ts'

test('lines come out whole, however they are cut, characters of several bytes included', () => {
  const lines = ['{"a":"größe"}', '', '{"b":"雨"}', 'x'.repeat(100)]
  const bytes = Buffer.from(`${lines.join('\n')}\nrest`)
  for (const step of [1, 2, 3, 7, bytes.length]) {
    const found: string[] = []
    const splitter = new LineSplitter(1_000, line => found.push(line))
    for (let at = 0; at < bytes.length; at += step) splitter.feed(bytes.subarray(at, at + step))
    expect(found).toEqual(lines.filter(line => line !== ''))
  }
})

test('a line over the limit is refused before it is held', () => {
  const splitter = new LineSplitter(10, () => undefined)
  splitter.feed(Buffer.from('0123456789'))
  expect(() => splitter.feed(Buffer.from('x'))).toThrow(LineTooLong)
})
