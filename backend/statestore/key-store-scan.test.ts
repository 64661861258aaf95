import { describe, expect, test } from 'vitest'
import { type AskOptions, KeyStoreRig, payloadOf } from './key-store-rig.contract.ts'

interface Page {
  readonly cursor: string
  readonly keys: readonly string[]
}

/** `KEYS` of no page here holds a line end. */
function scan(rig: KeyStoreRig, elements: readonly string[], options?: AskOptions): Page | string {
  const { answer } = rig.askBytes(payloadOf(['SCAN', ...elements]), options)
  const lines = answer.split('\r\n')
  if (lines[0] !== '*2') return answer
  const keys = lines.slice(4).filter((_, index) => index % 2 === 1)
  expect([lines[1], lines[3]]).toEqual([`$${lines[2]!.length}`, `*${keys.length}`])
  return { cursor: lines[2]!, keys }
}

function storeOf(...keys: readonly string[]): KeyStoreRig {
  const rig = new KeyStoreRig()
  for (const key of keys) rig.askBytes(payloadOf(['SET', key, 'v']))
  return rig
}

/** All pages, while `meanwhile` happens after each. */
function scanAll(rig: KeyStoreRig, prefix: string, count: number, meanwhile: () => void = () => undefined): readonly string[] {
  const found: string[] = []
  for (let cursor = ''; ; ) {
    const page = scan(rig, [prefix, cursor, 'COUNT', String(count)]) as Page
    expect(page.keys.length).toBeLessThanOrEqual(count)
    found.push(...page.keys)
    if (page.cursor === '') return found
    cursor = page.cursor
    meanwhile()
  }
}

describe('SCAN', () => {
  test('keys that begin so, whatever their bytes, and no others', () => {
    const rig = storeOf('p', 'p/\xff', 'p/a', 'p/\0', 'o/z', 'p0', 'q', 'P/')
    expect(scan(rig, ['p/', ''])).toEqual({ cursor: '', keys: ['p/\0', 'p/a', 'p/\xff'] })
    expect(scan(rig, ['', ''])).toEqual({ cursor: '', keys: ['P/', 'o/z', 'p', 'p/\0', 'p/a', 'p/\xff', 'p0', 'q'] })
    expect(scan(rig, ['r', ''])).toEqual({ cursor: '', keys: [] })
    expect(scan(new KeyStoreRig(), ['', ''])).toEqual({ cursor: '', keys: [] })
  })

  test('page by page: each key that stays comes once, whatever comes and goes meanwhile', () => {
    const stay = Array.from({ length: 700 }, (_, index) => `p/${String(index).padStart(4, '0')}`)
    for (const count of [1, 7, 100, 699, 700]) {
      const rig = storeOf(...stay, 'p', 'p0', 'q')
      let step = 0
      const found = scanAll(rig, 'p/', count, () => {
        step++
        rig.ask(`SET p/${step % 9}-new v`)
        rig.ask(`DEL p/${(step + 4) % 9}-new`)
      })
      expect(found.filter(key => !key.endsWith('new'))).toEqual(stay)
    }
  })

  test('goes on where it was though that key is gone, and in the process that took over', () => {
    const rig = storeOf('a', 'b', 'c', 'd')
    const { cursor } = scan(rig, ['', '', 'COUNT', '2']) as Page
    rig.ask('DEL b')
    rig.ask('DEL c')
    rig.compact()
    rig.replay()
    expect(scan(rig, ['', cursor])).toEqual({ cursor: '', keys: ['d'] })
  })

  test('what has lived its time is not there, but its page ends all the same', () => {
    const rig = storeOf('z')
    for (const key of ['a', 'b', 'c']) rig.ask(`SET ${key} v PX 10`)
    rig.clock.advance(10)
    const page = scan(rig, ['', '', 'COUNT', '2']) as Page
    expect(page).toEqual({ cursor: '0:b', keys: [] })
    expect(scan(rig, ['', page.cursor, 'COUNT', '2'])).toEqual({ cursor: '', keys: ['z'] })
    expect(rig.store.keys).toBe(4)
  })

  test('a page has 100 keys unless it is told, 1,000 at most, and ends after 64 KiB of them', () => {
    const rig = storeOf(...Array.from({ length: 1_100 }, (_, index) => `k${String(index).padStart(4, '0')}`))
    const sizes = [[], ['COUNT', '5'], ['COUNT', '9007199254740991']].map(count => (scan(rig, ['', '', ...count]) as Page).keys.length)
    expect(sizes).toEqual([100, 5, 1_000])
    const long = storeOf(...Array.from({ length: 9 }, (_, index) => `${index}${'x'.repeat(30_000)}`))
    expect((scan(long, ['', '']) as Page).keys).toHaveLength(3)
    expect(scanAll(long, '', 9)).toHaveLength(9)
  })

  test('the next shard follows until there is none', () => {
    const rig = storeOf('a', 'b')
    expect(scan(rig, ['', '1:'], { shard: 1, shardCount: 3 })).toEqual({ cursor: '2:', keys: ['a', 'b'] })
    expect(scan(rig, ['', '1:', 'COUNT', '1'], { shard: 1, shardCount: 3 })).toEqual({ cursor: '1:a', keys: ['a'] })
    expect(scan(rig, ['', '2:a'], { shard: 2, shardCount: 3 })).toEqual({ cursor: '', keys: ['b'] })
  })

  test.each<[what: string, cursor: string]>([
    ['another shard', '1:'],
    ['no shard', '99999:'],
    ['a key that does not begin so', '0:o/a'],
  ])('a cursor of %s is a syntax error', (_, cursor) => {
    expect(scan(storeOf('p/a', 'p/b'), ['p/', cursor], { shardCount: 4 })).toBe('-ERR syntax error\r\n')
  })

  test('__ts and __ft are looked at as in GET; nothing is changed, recorded or told', () => {
    const rig = storeOf('a')
    rig.ask('KEYNOTIFY a')
    const { length } = rig.log
    expect(scan(rig, ['', ''], { ts: 'x' })).toBe('-ERR malformed timestamp\r\n')
    expect(scan(rig, ['', ''], { ft: 'x' })).toBe('-ERR malformed timestamp\r\n')
    expect(scan(rig, ['', ''], { ts: null, ft: `${rig.now.wallMs + 99_999}:0:x` })).toEqual({ cursor: '', keys: ['a'] })
    const origin = { frontend: 'f', sequence: 1, settledBefore: 0 }
    expect(rig.askBytes(payloadOf(['SCAN', '', '']), { origin })).toMatchObject({ is: 'executed', version: null })
    expect([rig.log.length, rig.takeTold(), rig.store.answersRemembered]).toEqual([length, [], 0])
  })
})
