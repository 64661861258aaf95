import { describe, expect, test } from 'vitest'
import { fillGlob, Glob, GLOB_STEPS_MAX, parseGlob } from './glob.ts'
import { PatternFault } from './template.ts'

const NOBODY = { clientId: '', userName: '', attributes: new Map<string, string>() }

function globOf(pattern: string, of: 'key' | 'clientId' = 'key'): Glob {
  const template = parseGlob(pattern, of)
  if (template instanceof PatternFault) throw new Error(template.message)
  const parts = fillGlob(template, NOBODY)
  if (parts instanceof PatternFault) throw new Error(parts.message)
  return new Glob(parts)
}

describe('globs', () => {
  test.each<[pattern: string, matching: readonly string[], other: readonly string[]]>([
    ['*', ['', 'a', 'a/b'], []],
    ['a*', ['a', 'ab', 'a/b'], ['', 'ba', 'A']],
    ['*a', ['a', 'ba', 'aa'], ['', 'ab']],
    ['a*a', ['aa', 'aba'], ['a', 'ab']],
    ['a*b*a', ['aba', 'abba', 'axbxa'], ['aa', 'ab', 'aab', 'bba']],
    ['*ab*ab', ['abab', 'ababab', 'xabyab'], ['ab', 'abx', 'aab']],
    ['a**b', ['ab', 'axb'], ['a']],
    ['?', ['a', 'é', '😀', '*'], ['', 'ab']],
    ['*?', ['a', 'ab', '😀'], ['']],
    ['?*?', ['ab', 'é😀', 'abc'], ['a', '😀']],
    ['*??b*', ['xyb', 'é😀b', 'zxybz'], ['xb', '😀b', 'b']],
    ['[0-9]', ['0', '5', '9'], ['a', '', '10', '-']],
    ['[0-9]*', ['0', '5x'], ['x5']],
    ['*[0-9][0-9]x*', ['12x', 'a12xb', '112x'], ['1x', '1ax']],
    ['[abc]', ['a', 'c'], ['d']],
    ['[!a-c]', ['d', 'é', '!'], ['a', 'b', '']],
    ['[^a-c]', ['d', '^'], ['c']],
    ['[]a]', [']', 'a'], ['[']],
    ['[a-]', ['a', '-'], ['b']],
    ['[-a]', ['a', '-'], ['b']],
    ['[à-ü]', ['é', 'ü'], ['e', 'ž']],
    ['[😀-😂]', ['😁'], ['😃', '\ud83d']],
    ['[z-a]', [], ['a', 'm', 'z']],
    ['[abc', ['[abc'], ['a', 'b']],
    ['[!]', ['[!]'], ['a']],
    ['a\\*b', ['a\\b', 'a\\xb'], ['a*b', 'ab']],
    ['.+(a|b)$', ['.+(a|b)$'], ['xa']],
    ['', [''], ['a']],
  ])('%s', (pattern, matching, other) => {
    const glob = globOf(pattern)
    expect(matching.filter(text => !glob.matches(Buffer.from(text), false))).toEqual([])
    expect(other.filter(text => glob.matches(Buffer.from(text), true))).toEqual([])
  })

  test('in Client Identifiers a bracket is a bracket', () => {
    expect(globOf('[a-c]?', 'clientId').matches(Buffer.from('[a-c]x'), false)).toBe(true)
    expect(globOf('[a-c]?', 'clientId').matches(Buffer.from('ax'), true)).toBe(false)
  })

  test('braces in a key are kept for tokens', () => {
    expect(parseGlob('a{b}', 'key')).toBeInstanceOf(PatternFault)
    expect(globOf('a{b}', 'clientId').matches(Buffer.from('a{b}'), false)).toBe(true)
  })

  test('in bytes that are no UTF-8 each byte is a character, in no range of a class', () => {
    const bytes = Buffer.from([0x61, 0xff, 0xfe, 0x62])
    expect(globOf('a??b').matches(bytes, false)).toBe(true)
    expect(globOf('a?b').matches(bytes, true)).toBe(false)
    expect(globOf('a*b').matches(bytes, false)).toBe(true)
    expect(globOf('a[à-ÿ]?b').matches(bytes, true)).toBe(false)
    expect(globOf('a[!x]?b').matches(bytes, false)).toBe(true)
    // The second byte of `é` is no character to begin with.
    expect(globOf('*\u00a9').matches(Buffer.from('é'), true)).toBe(false)
  })

  test('a match has a limit, after which the caller decides', () => {
    const glob = globOf(`*${'a'.repeat(2_000)}?${'b'}*`)
    const text = Buffer.from('a'.repeat(60_000))
    expect(text.length * 2_000).toBeGreaterThan(GLOB_STEPS_MAX)
    expect([glob.matches(text, true), glob.matches(text, false)]).toEqual([true, false])
    expect(globOf(`*${'a'.repeat(2_000)}b*`).matches(text, true)).toBe(false)
    expect(globOf('*a*'.repeat(1_000)).matches(text, false)).toBe(true)
  })
})
