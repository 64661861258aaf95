import { expect, expectTypeOf, test } from 'vitest'
import * as errors from './errors.ts'

const classes = Object.entries(errors).filter(([name]) => name.endsWith('Error'))

test.each(classes)('%s says its name, and is a StateStoreError', (name, made) => {
  const error = made === errors.BrokerRefusedError ? new made('what', 0x87) : new (made as typeof errors.StateStoreError)('what')
  expect(error).toBeInstanceOf(errors.StateStoreError)
  expect(error.name).toBe(name)
  expect(String(error)).toContain(`${name}: what`)
})

test('what the store refuses is a RefusedError, nothing else is', () => {
  const refused = classes.filter(([, made]) => made === errors.RefusedError || made.prototype instanceof errors.RefusedError)
  expect(refused.map(([name]) => name).sort()).toEqual([
    'ClockAheadError',
    'FencingTokenOutdatedError',
    'FencingTokenRequiredError',
    'NotAuthorizedError',
    'QuotaExceededError',
    'RefusedError',
  ])
})

test('TypeScript tells the classes apart: what is not the one may still be the other', () => {
  const error: errors.StateStoreError = new errors.ConnectionLostError('lost')
  if (error instanceof errors.ClosedError) expectTypeOf(error.name).toEqualTypeOf<'ClosedError'>()
  else expectTypeOf(error).toEqualTypeOf<errors.StateStoreError>()
  expect(error).not.toBeInstanceOf(errors.ClosedError)
})
