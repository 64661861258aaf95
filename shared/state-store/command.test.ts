import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Answer, DELETE_NOTIFICATION, errorAnswer, pageAnswer, setNotification, valueAnswer, valuesAnswer } from './answer.ts'
import {
  type ExtendedCommand,
  MGET_KEYS_MAX,
  parseCommand,
  parseExtendedCommand,
  WATCH_PREFIX_BYTES_MAX,
  watchStopRequest,
} from './command.ts'
import { ErrorText } from './errors.ts'
import { storeClock } from './hybrid-clock.ts'
import { readScanCursor, scanCursor } from './scan-cursor.ts'
import { keepBytes, sameBytes, SHORT_MAX } from './stored-bytes.ts'

function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

function request(...elements: readonly (string | Buffer)[]): Buffer {
  const blobs = elements.map(element => (typeof element === 'string' ? bytes(element) : element))
  return Buffer.concat([bytes(`*${blobs.length}\r\n`), ...blobs.flatMap(blob => [bytes(`$${blob.length}\r\n`), blob, bytes('\r\n')])])
}

/** As texts, to read. */
function shown(parsed: ExtendedCommand | ErrorText): unknown {
  if (typeof parsed === 'string') return parsed
  return Object.fromEntries(
    Object.entries(parsed).map(([name, value]: [string, unknown]) => {
      return [name, Buffer.isBuffer(value) ? value.toString('latin1') : name === 'keys' ? String(value) : value]
    }),
  )
}

const KEYS = Array.from({ length: MGET_KEYS_MAX }, (_, index) => `k${index}`)
const SET = { is: 'set', key: 'k', value: 'v', condition: null, lifetimeMs: null }

describe('commands', () => {
  test.each<[readonly string[], unknown]>([
    [['SET', 'k', 'v'], SET],
    [['SET', 'k', ''], { ...SET, value: '' }],
    [['SET', 'k', 'v', 'NX'], { ...SET, condition: 'nx' }],
    [['SET', 'k', 'v', 'NEX'], { ...SET, condition: 'nex' }],
    [['SET', 'k', 'v', 'PX', '1'], { ...SET, lifetimeMs: 1 }],
    [['SET', 'k', 'v', 'PX', '007'], { ...SET, lifetimeMs: 7 }],
    [['SET', 'k', 'v', 'PX', '9007199254740991'], { ...SET, lifetimeMs: Number.MAX_SAFE_INTEGER }],
    [['SET', 'k', 'v', 'NEX', 'PX', '10'], { ...SET, condition: 'nex', lifetimeMs: 10 }],
    [['SET', 'k', 'v', 'PX', '10', 'NX'], { ...SET, condition: 'nx', lifetimeMs: 10 }],
    [['SET', 'NX', 'PX'], { ...SET, key: 'NX', value: 'PX' }],
    [['SET', '\x00\xff\r\n', '\r\n$1\r\n*'], { ...SET, key: '\x00\xff\r\n', value: '\r\n$1\r\n*' }],
    [['GET', 'k'], { is: 'get', key: 'k' }],
    [['DEL', 'k'], { is: 'del', key: 'k' }],
    [['VDEL', 'k', 'v'], { is: 'vdel', key: 'k', value: 'v' }],
    [['VDEL', 'k', ''], { is: 'vdel', key: 'k', value: '' }],
    [['KEYNOTIFY', 'k'], { is: 'keynotify', key: 'k', isStop: false }],
    [['KEYNOTIFY', 'k', 'STOP'], { is: 'keynotify', key: 'k', isStop: true }],
  ])('%j', (elements, expected) => {
    expect(shown(parseCommand(request(...elements)))).toEqual(expected)
    expect(shown(parseExtendedCommand(request(...elements))), 'the same with extensions').toEqual(expected)
  })

  test.each<[readonly string[], unknown]>([
    [['KEEP', '1'], { keepMs: 1, since: null }],
    [['KEEP', '9007199254740991'], { keepMs: Number.MAX_SAFE_INTEGER, since: null }],
    [['KEEP', '10', 'SINCE', '001696374425000:00007:StateStore'], { keepMs: 10, since: storeClock(1_696_374_425_000, 7) }],
    [['KEEP', '10', 'SINCE', '0:0:StateStore'], { keepMs: 10, since: storeClock(0, 0) }],
    [['KEEP'], ErrorText.Syntax],
    ...['0', 'x', '-1', '1.5', '', '9007199254740992'].map((ms): [string[], ErrorText] => [['KEEP', ms], ErrorText.Syntax]),
    [['KEEP', '1', 'SINCE'], ErrorText.ArgumentCount],
    [['KEEP', '1', 'STOP'], ErrorText.ArgumentCount],
    [['STOP', 'KEEP', '1'], ErrorText.ArgumentCount],
    [['KEEP', '1', 'KEEP', '1'], ErrorText.Syntax],
    [['KEEP', '1', 'since', '0:0:StateStore'], ErrorText.Syntax],
    [['KEEP', '1', 'SINCE', '0:0:Client1'], ErrorText.Syntax],
    [['KEEP', '1', 'SINCE', '18446744073709551615:0:StateStore'], ErrorText.Syntax],
    [['KEEP', '1', 'SINCE', '0:0:StateStore', 'x'], ErrorText.ArgumentCount],
  ])('KEYNOTIFY k %j: kept over connections, an extension', (rest, expected) => {
    const payload = request('KEYNOTIFY', 'k', ...rest)
    expect(parseExtendedCommand(payload)).toEqual(
      typeof expected === 'string' ? expected : { is: 'keep', key: 'k', ...(expected as object) },
    )
    expect(parseCommand(payload), 'the protocol has none').toBe(rest.length === 1 ? ErrorText.Syntax : ErrorText.ArgumentCount)
    const fault = expected === ErrorText.ArgumentCount ? expected : ErrorText.EmptyKey
    expect(parseExtendedCommand(request('KEYNOTIFY', '', ...rest))).toBe(fault)
  })

  test.each<[readonly string[], ErrorText]>([
    [[''], ErrorText.UnknownCommand],
    [['INCR', 'k'], ErrorText.UnknownCommand],
    [['get', 'k'], ErrorText.UnknownCommand],
    [['GET ', 'k'], ErrorText.UnknownCommand],
    [['KEYNOTIFYX', 'k'], ErrorText.UnknownCommand],
    [['constructor'], ErrorText.UnknownCommand],
    [['MGET', 'k'], ErrorText.UnknownCommand],
    [['WATCH', 'k'], ErrorText.UnknownCommand],
    [['SCAN', 'k', ''], ErrorText.UnknownCommand],
    [['WATCH', 'k'], ErrorText.UnknownCommand],
    [['GET'], ErrorText.ArgumentCount],
    [['GET', 'k', 'x'], ErrorText.ArgumentCount],
    [['GET', '', 'x'], ErrorText.ArgumentCount],
    [['DEL'], ErrorText.ArgumentCount],
    [['DEL', 'k', 'x'], ErrorText.ArgumentCount],
    [['VDEL', 'k'], ErrorText.ArgumentCount],
    [['VDEL', 'k', 'v', 'x'], ErrorText.ArgumentCount],
    [['SET'], ErrorText.ArgumentCount],
    [['SET', 'k'], ErrorText.ArgumentCount],
    [['SET', ''], ErrorText.ArgumentCount],
    [['KEYNOTIFY'], ErrorText.ArgumentCount],
    [['KEYNOTIFY', 'k', 'STOP', 'x'], ErrorText.ArgumentCount],
    [['GET', ''], ErrorText.EmptyKey],
    [['DEL', ''], ErrorText.EmptyKey],
    [['VDEL', '', 'v'], ErrorText.EmptyKey],
    [['SET', '', '', 'XX'], ErrorText.EmptyKey],
    [['KEYNOTIFY', '', 'START'], ErrorText.EmptyKey],
    [['KEYNOTIFY', 'k', 'START'], ErrorText.Syntax],
    [['KEYNOTIFY', 'k', 'stop'], ErrorText.Syntax],
    [['KEYNOTIFY', 'k', ''], ErrorText.Syntax],
    ...[
      ['XX'],
      ['nx'],
      [''],
      ['PX'],
      ['NX', 'NEX'],
      ['NX', 'NX'],
      ['NEX', 'NX'],
      ['NEX', 'v'],
      ['PX', ''],
      ['PX', '0'],
      ['PX', '-1'],
      ['PX', '+1'],
      ['PX', ' 1'],
      ['PX', '1.5'],
      ['PX', '1e3'],
      ['PX', 'NX'],
      ['PX', '9007199254740992'],
      ['PX', '99999999999999999999'],
      ['PX', '1', 'PX'],
      ['PX', '1', 'XX'],
      ['NX', 'PX'],
      ['PX', '1', 'NX', 'NX'],
      ['PX', '1', 'PX', '2'],
      ['NX', 'PX', '1', 'x'],
      ['PX', 'PX', '1'],
    ].map((options): [readonly string[], ErrorText] => [['SET', 'k', 'v', ...options], ErrorText.Syntax]),
  ])('%j: %s', (elements, expected) => {
    expect(parseCommand(request(...elements))).toBe(expected)
  })

  test.each([
    '',
    '*',
    '*\r\n',
    '*0\r\n',
    '*1',
    '*1\r\n',
    '*-1\r\n',
    '*+1\r\n$3\r\nGET\r\n',
    '*1 \r\n$3\r\nGET\r\n',
    '* 1\r\n$3\r\nGET\r\n',
    '*1\n$3\nGET\n',
    '*1\r$3\rGET\r',
    '*x\r\n',
    'GET k\r\n',
    '$3\r\nGET\r\n',
    '~2\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*2\r\n+GET\r\n$1\r\nk\r\n',
    '*2\r\n$3\r\nGET\r\n:1\r\n',
    '*2\r\n*1\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*2\r\n$3\r\nGET\r\n$-1\r\n',
    '*2\r\n$3\r\nGET\r\n$\r\n\r\n',
    '*2\r\n$3\r\nGET\r\n$5\r\nk\r\n',
    '*2\r\n$3\r\nGET\r\n$0\r\nk\r\n',
    '*2\r\n$3\r\nGET\r\n$1\r\nk',
    '*2\r\n$3\r\nGET\r\n$1\r\nk\r',
    '*2\r\n$3\r\nGET\r\n$1\r\nk\r\nextra',
    '*1\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*3\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*2\r\n$99999999999999999999\r\nGET\r\n$1\r\nk\r\n',
    '*99999999999999999999\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*4294967298\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*2\r\n$3\r\nGET\r\n$4294967297\r\nk\r\n',
    '\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n',
    '*2\r\n$4\r\nINCR\r\n$1\r\nk',
    '*1\r\n$0x3\r\nGET\r\n',
  ])('%j is no array', payload => {
    expect(parseCommand(bytes(payload))).toBe(ErrorText.Syntax)
    expect(parseExtendedCommand(bytes(payload))).toBe(ErrorText.Syntax)
  })

  test('leading zeros of counts and lengths are digits', () => {
    expect(shown(parseCommand(bytes('*02\r\n$003\r\nGET\r\n$1\r\nk\r\n')))).toEqual({ is: 'get', key: 'k' })
  })

  test('keys and short values are texts of their own, long values are views into the payload, wherever that is in its buffer', () => {
    const read = (value: string) => {
      const payload = Buffer.concat([bytes('x*'), request('SET', 'key', value), bytes('\r\n')])
      const parsed = parseCommand(payload, 2, payload.length - 2)
      payload.fill(0x41)
      return shown(parsed)
    }
    expect(read('v'.repeat(SHORT_MAX))).toMatchObject({ key: 'key', value: 'v'.repeat(SHORT_MAX) })
    expect(read('v'.repeat(SHORT_MAX + 1))).toMatchObject({ key: 'key', value: 'A'.repeat(SHORT_MAX + 1) })
  })

  test('nothing outside of the payload is read', () => {
    const around = (text: string) => {
      const payload = bytes(text)
      return parseCommand(Buffer.concat([bytes('*'), payload, bytes('\r\n')]), 1, 1 + payload.length)
    }
    for (const cut of ['', '*2', '*2\r\n$3', '*2\r\n$3\r\nGET\r\n$1\r\nk', '*2\r\n$3\r\nGET\r\n$1\r\nk\r'])
      expect(around(cut), cut).toBe(ErrorText.Syntax)
  })

  test('keys and values of any bytes and any length come out as they went in', () => {
    const blob = fc.uint8Array({ maxLength: 300 }).map(each => Buffer.from(each))
    fc.assert(
      fc.property(
        blob,
        blob,
        fc.constantFrom('NX', 'NEX', null),
        fc.option(fc.maxSafeInteger().filter(n => n > 0)),
        fc.boolean(),
        (key, value, condition, lifetimeMs, isTurned) => {
          fc.pre(key.length > 0)
          const options = [condition === null ? [] : [condition], lifetimeMs === null ? [] : ['PX', String(lifetimeMs)]]
          const parsed = parseCommand(request('SET', key, value, ...(isTurned ? options.reverse() : options).flat()))
          expect(parsed).toEqual({
            is: 'set',
            key: key.toString('latin1'),
            value: keepBytes(value),
            condition: condition?.toLowerCase() ?? null,
            lifetimeMs,
          })
        },
      ),
    )
  })

  test('any bytes are answered, and those that are nearly right', () => {
    const lines = fc.array(fc.constantFrom('*1', '*2', '*3', '$0', '$1', '$3', '\r\n', 'GET', 'SET', 'k', '$', '*', '9', '\r'), {
      maxLength: 14,
    })
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 60 }).map(each => Buffer.from(each)),
          lines.map(parts => bytes(parts.join(''))),
        ),
        payload => {
          expect(['string', 'object']).toContain(typeof parseCommand(payload))
          expect(['string', 'object']).toContain(typeof parseExtendedCommand(payload))
        },
      ),
    )
    const right = request('SET', 'key', 'value', 'NX', 'PX', '10')
    for (let at = 0; at < right.length; at++) {
      expect(parseCommand(right.subarray(0, at)), `${at} bytes of it`).toBe(ErrorText.Syntax)
      const damaged = Buffer.from(right)
      damaged[at] = damaged[at]! ^ 0x11
      expect(['string', 'object']).toContain(typeof parseCommand(damaged))
    }
  })

  test('a large payload of whatever makes most work is read once', () => {
    const size = 4 * 1024 * 1024
    const hostile = [
      bytes(`*${'0'.repeat(size)}`),
      bytes(`*${'9'.repeat(size)}\r\n`),
      bytes(`*${Math.floor(size / 6)}\r\n${'$0\r\n\r\n'.repeat(size / 6)}`),
      bytes('*'.repeat(size)),
      request('SET', 'k', 'v', 'x'.repeat(size)),
      request('SET', 'k', 'v', 'PX', '0'.repeat(size)),
      request('x'.repeat(size)),
    ]
    const texts = hostile.map(payload => parseCommand(payload))
    expect(texts).toEqual([
      ErrorText.Syntax,
      ErrorText.Syntax,
      ErrorText.UnknownCommand,
      ErrorText.Syntax,
      ErrorText.Syntax,
      ErrorText.Syntax,
      ErrorText.UnknownCommand,
    ])
  })
})

describe('extensions', () => {
  test.each<[readonly string[], unknown]>([
    [['SCAN', '', ''], { is: 'scan', prefix: '', cursor: { shard: 0, after: '' }, countMax: null }],
    [['SCAN', 'p/', '12:', 'COUNT', '10'], { is: 'scan', prefix: 'p/', cursor: { shard: 12, after: '' }, countMax: 10 }],
    [['SCAN', 'p', '0:p:\xff\0'], { is: 'scan', prefix: 'p', cursor: { shard: 0, after: 'p:\xff\0' }, countMax: null }],
    ...['0', ':', ':p', 'x:p', '-1:p', '1 :p', '1.5:', 'p', '1234567890:', '9'.repeat(400)].map(
      cursor => [['SCAN', 'p', cursor], ErrorText.Syntax] as [string[], ErrorText],
    ),
    [['SCAN', 'p'], ErrorText.ArgumentCount],
    [['SCAN', 'p', 'c', 'COUNT'], ErrorText.ArgumentCount],
    [['SCAN', 'p', 'c', 'count', '1'], ErrorText.Syntax],
    [['SCAN', 'p', 'c', 'COUNT', '0'], ErrorText.Syntax],
    [['SCAN'], ErrorText.ArgumentCount],
    [['scan', 'p', ''], ErrorText.UnknownCommand],
    [['MGET', 'k'], { is: 'mget', keys: 'k' }],
    [['MGET', 'b', 'a', 'b'], { is: 'mget', keys: 'b,a,b' }],
    [['MGET', ...KEYS], { is: 'mget', keys: String(KEYS) }],
    [['MGET', ...KEYS, 'k'], ErrorText.Syntax],
    [['MGET'], ErrorText.ArgumentCount],
    [['MGET', 'k', ''], ErrorText.EmptyKey],
    [['mget', 'k'], ErrorText.UnknownCommand],
    [['WATCH', ''], { is: 'watch', prefix: '', isStop: false }],
    [['WATCH', 'p\xff\0'], { is: 'watch', prefix: 'p\xff\0', isStop: false }],
    [['WATCH', 'STOP', 'STOP'], { is: 'watch', prefix: 'STOP', isStop: true }],
    [['WATCH', 'p'.repeat(WATCH_PREFIX_BYTES_MAX)], { is: 'watch', prefix: 'p'.repeat(WATCH_PREFIX_BYTES_MAX), isStop: false }],
    [['WATCH', 'p'.repeat(WATCH_PREFIX_BYTES_MAX + 1)], ErrorText.Syntax],
    [['WATCH', 'p', 'stop'], ErrorText.Syntax],
    [['WATCH'], ErrorText.ArgumentCount],
    [['WATCH', 'p', 'STOP', 'STOP'], ErrorText.ArgumentCount],
    [['watch', 'p'], ErrorText.UnknownCommand],
    [['INCR', 'k'], ErrorText.UnknownCommand],
    [['SET', 'k', 'v', 'NX', 'PX', '1', 'x'], ErrorText.Syntax],
  ])('%j', (elements, expected) => {
    expect(shown(parseExtendedCommand(request(...elements)))).toEqual(expected)
  })

  test('what gives back a WATCH, whatever bytes its prefix has', () => {
    for (const prefix of ['', 'p', '\xff\0\r\n$1\r\n']) {
      expect(parseExtendedCommand(watchStopRequest(prefix))).toEqual({ is: 'watch', prefix, isStop: true })
    }
  })

  test('a cursor that we gave is read as it was', () => {
    fc.assert(
      fc.property(fc.nat({ max: 65_535 }), fc.uint8Array({ maxLength: 40 }), (shard, key) => {
        const after = Buffer.from(key).toString('latin1')
        expect(readScanCursor(bytes(scanCursor(shard, after)))).toEqual({ shard, after })
      }),
    )
  })
})

describe('answers', () => {
  test('the bytes that clients compare', () => {
    expect(Object.values(Answer).map(String)).toEqual(['+OK\r\n', '$-1\r\n', ':1\r\n', ':0\r\n', ':-1\r\n'])
    expect(valueAnswer('').toString()).toBe('$0\r\n\r\n')
    expect(valueAnswer(bytes('\x00\xff\r\n$1')).toString('latin1')).toBe('$6\r\n\x00\xff\r\n$1\r\n')
    expect(valueAnswer('\x00\xff\r\n$1').toString('latin1')).toBe('$6\r\n\x00\xff\r\n$1\r\n')
    expect(setNotification('abc').toString()).toBe('*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$3\r\nabc\r\n')
    expect(setNotification(Buffer.alloc(0)).toString()).toBe('*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$0\r\n\r\n')
    expect(valuesAnswer(['', null, bytes('\xff')]).toString('latin1')).toBe('*3\r\n$0\r\n\r\n$-1\r\n$1\r\n\xff\r\n')
    expect(pageAnswer('', []).toString()).toBe('*2\r\n$0\r\n\r\n*0\r\n')
    expect(pageAnswer('1:\xff', ['\xff', 'ab']).toString('latin1')).toBe('*2\r\n$3\r\n1:\xff\r\n*2\r\n$1\r\n\xff\r\n$2\r\nab\r\n')
    expect(DELETE_NOTIFICATION.toString()).toBe('*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n')
    expect(errorAnswer(ErrorText.TokenLower).toString()).toBe(
      '-ERR the request fencing token is a lower version than the fencing token protecting the resource\r\n',
    )
  })

  test('every error has its text, one space before it and CRLF behind it', () => {
    for (const text of Object.values(ErrorText)) expect(errorAnswer(text).toString()).toBe(`-ERR ${text}\r\n`)
  })

  test('bytes are kept and compared alike, short or long', () => {
    fc.assert(
      fc.property(fc.nat({ max: 1_100 }), fc.nat({ max: 255 }), (length, first) => {
        const whole = Buffer.alloc(length + 2, 0xe9)
        if (length > 0) whole[1] = first
        const part = whole.subarray(1, length + 1)
        const kept = keepBytes(part)
        const before = Buffer.from(part)
        whole.fill(0)
        expect(sameBytes(kept, before)).toBe(true)
        expect(sameBytes(kept, Buffer.concat([before, Buffer.from([1])]))).toBe(false)
        if (length > 0)
          expect(sameBytes(kept, Buffer.concat([before.subarray(1), Buffer.from([0x55])]))).toBe(length === 1 && first === 0x55)
      }),
    )
  })
})
