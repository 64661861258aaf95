import { describe, expect, test } from 'vitest'
import { ManualClock } from '../base/clock.ts'
import { ManualTimers } from '../base/timers.ts'
import { FIELD_LENGTH_MAX, logText, openLog, RecordingLog } from './log.ts'
import { RateLimitedLog } from './rate-limited-log.ts'

function written(act: (log: ReturnType<typeof openLog>) => void, level: 'debug' | 'info' = 'info'): Record<string, unknown>[] {
  const lines: string[] = []
  act(openLog(level, line => lines.push(line)))
  return lines.map(line => JSON.parse(line) as Record<string, unknown>)
}

describe('openLog', () => {
  test('writes one JSON line per event, with level, time and fields', () => {
    const [line] = written(log => log.info('listening', { port: 1883, host: '::1' }))
    expect(line).toMatchObject({ level: 'info', event: 'listening', port: 1883, host: '::1' })
    expect(line!['time']).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  })

  test('leaves out what is below the level', () => {
    expect(written(log => log.debug('detail'))).toEqual([])
    expect(written(log => log.debug('detail'), 'debug')).toHaveLength(1)
  })

  test('bounds and defuses text from clients, and keeps it on one line', () => {
    const lines: string[] = []
    openLog('info', line => lines.push(line)).info('refused', { clientId: `a\n\u001b[2J\u009b\u202e"${'x'.repeat(70_000)}` })
    expect(lines).toHaveLength(1)
    expect(lines[0]!.length).toBeLessThan(FIELD_LENGTH_MAX * 6)
    expect(lines[0]!.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/)
  })

  test('writes an error with type, code and message', () => {
    const error = Object.assign(new RangeError('no room'), { code: 'ENOSPC' })
    const [line] = written(log => log.error('store_failed', { error }))
    expect(line!['error']).toMatchObject({ type: 'RangeError', code: 'ENOSPC', message: 'no room' })
  })

  test('takes a field called __proto__ as a name like any other', () => {
    const fields = JSON.parse('{"__proto__": "x"}') as Record<string, string>
    const [line] = written(log => log.info('odd', fields))
    expect(Object.keys(line!)).toContain('__proto__')
  })
})

test('logText says how long the text was', () => {
  expect(logText('x'.repeat(300), 10)).toBe(`${'x'.repeat(10)}… (300 characters)`)
})

describe('RateLimitedLog', () => {
  function limited(perSecond: number) {
    const inner = new RecordingLog()
    const clock = new ManualClock()
    const timers = new ManualTimers()
    const pass = (ms: number): void => {
      clock.advance(ms)
      timers.advance(ms)
    }
    return { inner, log: new RateLimitedLog(inner, perSecond, clock, timers), pass, timers }
  }

  test('writes lines of one name up to the rate and sums up the rest in one', () => {
    const { inner, log, pass } = limited(2)
    for (let index = 0; index < 5; index++) log.warn('malformed', { index })
    pass(1_000)
    expect(inner.lines.map(line => line.fields)).toEqual([{ index: 0 }, { index: 1 }, { suppressed: 3 }])
    expect(inner.lines[2]).toMatchObject({ level: 'warn', event: 'malformed' })
  })

  test('counts each name apart, and each second anew', () => {
    const { inner, log, pass } = limited(1)
    log.info('a')
    log.info('b')
    pass(1_000)
    log.info('a')
    expect(inner.events).toEqual(['a', 'b', 'a'])
  })

  test('holds no timer while nothing is suppressed, and none after flush', () => {
    const { inner, log, timers } = limited(1)
    log.info('a')
    expect(timers.pendingCount).toBe(0)
    log.info('a')
    log.flush()
    expect(timers.pendingCount).toBe(0)
    expect(inner.lines.at(-1)!.fields).toEqual({ suppressed: 1 })
  })
})
