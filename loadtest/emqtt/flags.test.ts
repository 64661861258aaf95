import { describe, expect, test } from 'vitest'
import { emqttHelp, fillIn, parseEmqttFlags } from './flags.ts'

describe('parseEmqttFlags', () => {
  test('short names, long names, values after = and switches without a value', () => {
    const flags = parseEmqttFlags('pub', [
      '-h',
      '10.0.0.1',
      '-p',
      '1884',
      '-V',
      '4',
      '-c',
      '7',
      '-n',
      '3',
      '-i',
      '0',
      '-I',
      '5',
      '-t',
      't/%i',
      '-q',
      '1',
      '--size=32',
      '-r',
      '-C',
      'false',
      '-S',
    ])
    expect(flags).toMatchObject({
      target: { host: '10.0.0.1', port: 1884, protocol: 4, tls: {} },
      count: 7,
      startNumber: 3,
      connectIntervalMs: 0,
      messageIntervalMs: 5,
      topic: 't/%i',
      qos: 1,
      payload: 32,
      retain: true,
      clean: false,
    })
  })

  test('a rate of connections stands for an interval', () => {
    expect(parseEmqttFlags('conn', ['-R', '200'])?.connectIntervalMs).toBe(5)
  })

  test('says what is wrong', () => {
    expect(() => parseEmqttFlags('pub', [])).toThrow('needs --topic')
    expect(() => parseEmqttFlags('conn', ['-t', 'x'])).toThrow('unknown flag -t')
    expect(() => parseEmqttFlags('sub', ['-t', 'x', '-q', '3'])).toThrow('from 0 to 2')
    expect(() => parseEmqttFlags('sub', ['-t'])).toThrow('needs a value')
  })

  test('--help wins', () => {
    expect(parseEmqttFlags('sub', ['--help'])).toBe(null)
    expect(emqttHelp('pub')).toContain('--interval_of_msg')
  })

  test('variables in topics', () => {
    expect(fillIn('a/%u/%c/%i/%x', { number: 4, clientId: 'id', username: 'me' })).toBe('a/me/id/4/%x')
  })
})
