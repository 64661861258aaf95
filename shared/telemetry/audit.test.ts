import { beforeEach, describe, expect, test } from 'vitest'
import { ManualClock } from '../base/clock.ts'
import { ManualTimers } from '../base/timers.ts'
import { Audit, type AuditedAuthentication } from './audit.ts'
import { openLog, RecordingLog } from './log.ts'

const ENTRY: AuditedAuthentication = {
  verdict: 'refused',
  purpose: 'connect',
  method: 'X509',
  listener: 'default:8883',
  remoteAddress: '10.0.0.9:4711',
  clientId: 'pump',
  userName: '',
  reason: 'NotAuthorized',
  cause: 'the certificate is revoked',
}
const REFUSAL = { action: 'publish', listener: 'l', remoteAddress: 'r', clientId: 'c', userName: 'u', topic: 'a/b', cause: 'no rule' }

let clock: ManualClock
let timers: ManualTimers
let log: RecordingLog

beforeEach(() => {
  clock = new ManualClock()
  timers = new ManualTimers()
  log = new RecordingLog()
})

function open(to = log): Audit {
  return new Audit({ log: to, clock, timers, refusalsPerSecond: 3, acceptedPerSecond: 5 })
}

test('every kind has an event of its own and is marked as audit', () => {
  const audit = open()
  audit.authentication({ ...ENTRY, verdict: 'accepted', userName: 'lock', reason: '', cause: '' })
  audit.authentication(ENTRY)
  audit.authentication({ ...ENTRY, verdict: 'unavailable', reason: '', cause: 'the API server does not answer' })
  audit.refused(REFUSAL)
  audit.change({ change: 'resource_taken', kind: 'BrokerAuthorization', name: 'plant', detail: 'plant.yaml:1' })
  const who = { listener: 'default:8883', remoteAddress: '10.0.0.9:4711', clientId: 'pump' }
  expect(log.lines).toEqual([
    {
      level: 'info',
      event: 'audit_authentication_accepted',
      fields: { audit: true, purpose: 'connect', method: 'X509', ...who, userName: 'lock' },
    },
    {
      level: 'warn',
      event: 'audit_authentication_refused',
      fields: { audit: true, purpose: 'connect', method: 'X509', ...who, reason: 'NotAuthorized', cause: 'the certificate is revoked' },
    },
    {
      level: 'warn',
      event: 'audit_authentication_undecided',
      fields: { audit: true, purpose: 'connect', method: 'X509', ...who, cause: 'the API server does not answer' },
    },
    { level: 'warn', event: 'audit_refused', fields: { audit: true, ...REFUSAL } },
    {
      level: 'info',
      event: 'audit_change',
      fields: { audit: true, change: 'resource_taken', kind: 'BrokerAuthorization', name: 'plant', detail: 'plant.yaml:1' },
    },
  ])
})

describe('clients that are refused over and over', () => {
  test('fill so many lines, and the others are counted in one that is marked too', () => {
    const audit = open()
    for (let i = 0; i < 10; i++) audit.authentication(ENTRY)
    audit.refused(REFUSAL)
    expect(log.events).toEqual([...Array.from({ length: 3 }, () => 'audit_authentication_refused'), 'audit_refused'])
    timers.advance(1_000)
    expect(log.lines.at(-1)).toEqual({ level: 'warn', event: 'audit_authentication_refused', fields: { audit: true, suppressed: 7 } })
  })

  test('do not keep those who come in out of it, nor what operators do', () => {
    const audit = open()
    for (let i = 0; i < 10; i++) audit.authentication(ENTRY)
    audit.authentication({ ...ENTRY, verdict: 'accepted' })
    for (let i = 0; i < 10; i++) audit.change({ change: 'x', kind: 'k', name: 'n', detail: '' })
    expect(log.events.slice(3)).toEqual(['audit_authentication_accepted', ...Array.from({ length: 10 }, () => 'audit_change')])
  })

  test('what is not written yet is when the process ends', () => {
    const audit = open()
    for (let i = 0; i < 6; i++) audit.authentication({ ...ENTRY, verdict: 'accepted' })
    for (let i = 0; i < 4; i++) audit.authentication(ENTRY)
    audit.flush()
    expect(log.lines.slice(-2).map(({ fields }) => fields['suppressed'])).toEqual([1, 1])
    expect(timers.pendingCount).toBe(0)
  })
})

test('texts of clients are cut, and nothing in them acts on a terminal or makes another line', () => {
  const lines: string[] = []
  const audit = new Audit({ log: openLog('info', line => lines.push(line)), clock, timers, refusalsPerSecond: 3 })
  audit.authentication({ ...ENTRY, clientId: `a\n{"audit":true}\u001b[2J\u009b\u202e${'x'.repeat(70_000)}`, userName: 'u'.repeat(70_000) })
  audit.refused({ ...REFUSAL, topic: `t/${'y'.repeat(70_000)}`, cause: 'z'.repeat(70_000) })
  expect(lines).toHaveLength(2)
  for (const line of lines) {
    expect(line.length).toBeLessThan(1_200)
    expect(line.trimEnd()).not.toMatch(/[\p{Cc}\u202e]/u)
    expect(JSON.parse(line)).toMatchObject({ audit: true })
  }
})
