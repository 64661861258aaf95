import { expect, test } from 'vitest'
import { OPEN_TO_ALL, type PortRules } from '#shared/rpc/port-rules.ts'
import { rulesOf } from '../surroundings.contract.ts'
import { dutyOf, isSamePolicy } from './policies.ts'

const reevaluate = { onUpdate: 'Reevaluate' } as const
const other: PortRules = { ...rulesOf('1', '1'), policy: { authentication: { name: 'other', version: '1' }, authorizations: [] } }

test.each([
  ['nothing has changed', rulesOf('1', '1'), rulesOf('1', '1'), null],
  ['only times have', rulesOf('1', '1'), rulesOf('1', '1', { disconnectWithinMs: 9, disconnectsOnExpiry: true, ...reevaluate }), null],
  ['another version of an authorization', rulesOf('1', '1'), rulesOf('1', '2'), 'disconnect'],
  ['the same, and nobody is to be disconnected', rulesOf('1', '1'), rulesOf('1', '2', reevaluate), 'reevaluate'],
  ['that and another version of the authentication: rights first', rulesOf('1', '1'), rulesOf('2', '2', reevaluate), 'reevaluate'],
  ['authorizations appear', rulesOf('1', null), rulesOf('1', '1'), 'disconnect'],
  ['authorizations go', rulesOf('1', '1'), rulesOf('1', null, reevaluate), 'reevaluate'],
  ['another version of the authentication', rulesOf('1', '1'), rulesOf('2', '1'), 'recheck'],
  ['another authentication', rulesOf('1', '1'), { ...other, ...reevaluate }, 'disconnect'],
  ['authentication appears', OPEN_TO_ALL, rulesOf('1', null, reevaluate), 'disconnect'],
  ['authentication goes', rulesOf('1', '1'), { ...OPEN_TO_ALL, ...reevaluate }, 'disconnect'],
  ['there is none', OPEN_TO_ALL, OPEN_TO_ALL, null],
] as const)('%s', (_, before, after, duty) => {
  expect(dutyOf({ policy: before.policy, changesBehind: 0 }, after, false, 0)).toBe(duty)
  expect(dutyOf({ policy: before.policy, changesBehind: 0 }, after, true, 0)).toBe('remove')
  if (duty === null) expect(isSamePolicy(before.policy, after.policy)).toBe(true)
})

test('something behind the authentication that its version does not show', () => {
  const { policy } = rulesOf('1', '1')
  expect(dutyOf({ policy, changesBehind: 3 }, rulesOf('1', '1'), false, 3)).toBeNull()
  expect(dutyOf({ policy, changesBehind: 2 }, rulesOf('1', '1'), false, 3)).toBe('recheck')
})
