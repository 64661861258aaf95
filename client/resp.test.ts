import { describe, expect, test } from 'vitest'
import { RefusedError, refusalOf, UnexpectedAnswerError } from './errors.ts'
import { compareHybridTimes, formatHybridTime, HybridClock, parseHybridTime } from './hybrid-clock.ts'
import { encodeParts, parseAnswer } from './resp.ts'
import { notificationPrefixOf, responseTopicOf } from './topics.ts'

describe('payloads', () => {
  test('requests', () => {
    expect(encodeParts([Buffer.from('GET'), Buffer.from('k\r\n')]).toString()).toBe('*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n')
  })

  test.each([
    ['+OK\r\n', { is: 'ok' }],
    ['$-1\r\n', { is: 'none' }],
    [':-1\r\n', { is: 'number', number: -1 }],
    ['-ERR syntax error\r\n', { is: 'error', text: 'syntax error' }],
    ['$0\r\n\r\n', { is: 'value', value: new Uint8Array() }],
    [
      '*2\r\n$0\r\n\r\n*0\r\n',
      {
        is: 'list',
        items: [
          { is: 'value', value: new Uint8Array() },
          { is: 'list', items: [] },
        ],
      },
    ],
  ])('the answer %j', (text, answer) => {
    expect(parseAnswer(Buffer.from(text))).toEqual(answer)
  })

  test.each([
    '',
    'x',
    '+OK',
    '+NO\r\n',
    '-1\r\n',
    '-ERR: x\r\n',
    ':x\r\n',
    '$2\r\na\r\n',
    '$-2\r\n',
    '$1\r\nab\r\n',
    '+OK\r\n+OK\r\n',
    '*9\r\n$1\r\na\r\n',
    '*-1\r\n+',
    `${'*1\r\n'.repeat(100_000)}`,
    '$99999999999999999999\r\n\r\n',
  ])('no answer: %j', text => {
    expect(() => parseAnswer(Buffer.from(text))).toThrow(UnexpectedAnswerError)
  })

  test('an unknown error text is an error all the same', () => {
    expect(refusalOf('brand new').constructor).toBe(RefusedError)
    expect(refusalOf('the quota has been exceeded').name).toBe('QuotaExceededError')
  })
})

describe('clocks', () => {
  test.each(['001696374425000:00007:StateStore', '000000000000000:00000:a'])('%s', text => {
    expect(formatHybridTime(parseHybridTime(text))).toBe(text)
  })

  test.each(['', '1:2', '1:2:', '1:2:a:b', '-1:2:a', '1.5:2:a', '99999999999999999999:0:a'])('none: %j', text => {
    expect(() => parseHybridTime(text)).toThrow(UnexpectedAnswerError)
  })

  test('order: wall, counter, node', () => {
    const times = ['9:9:b', '10:0:b', '10:1:a', '10:1:b'].map(parseHybridTime)
    expect(times.toReversed().toSorted(compareHybridTimes)).toEqual(times)
    expect(compareHybridTimes(times[0]!, times[0]!)).toBe(0)
  })

  test('ticks rise, whatever the clock of the machine does, and pass what was merged', () => {
    let now = 1_000
    const clock = new HybridClock('a:b', () => now)
    const ticks = [clock.tick(), clock.tick()]
    now = 10
    ticks.push(clock.tick())
    clock.merge(parseHybridTime('5000:7:x'))
    ticks.push(clock.tick())
    now = 6_000
    ticks.push(clock.tick())
    expect(ticks.map(formatHybridTime)).toEqual(
      ['1000:0', '1000:1', '1000:2', '5000:8', '6000:0'].map(text => formatHybridTime(parseHybridTime(`${text}:a_b`))),
    )
    expect(() => clock.merge(parseHybridTime('66001:0:x'))).toThrow('60001 ms ahead')
    clock.merge(parseHybridTime('66000:0:x'))
    expect(clock.tick().counter).toBe(1)
  })
})

test('topics', () => {
  expect(notificationPrefixOf('client-id1')).toBe(
    'clients/statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8/636C69656E742D696431/command/notify/',
  )
  expect(responseTopicOf('a')).toBe('clients/a/services/statestore/_any_/command/invoke/response')
  expect(responseTopicOf('a/+')).toBe('clients/612F2B/services/statestore/_any_/command/invoke/response')
})
