import { expect, test } from 'vitest'
import { storeClock } from './hybrid-clock.ts'
import { isSupportedVersion, notificationProperties, unsupportedVersionProperties } from './properties.ts'

test('any version 1 of the protocol is understood, and no other', () => {
  expect([null, '1.0', '1', '1.7'].map(isSupportedVersion)).toEqual([true, true, true, true])
  expect(['2.0', '0.1', '10.0', '', 'x', '1.', '1.0.0', '1.0\n'].map(isSupportedVersion)).toEqual(Array.from({ length: 8 }, () => false))
})

test('what notifications, and responses to another version, carry', () => {
  const clock = storeClock(1_696_374_425_000, 1)
  const ts = ['__ts', '001696374425000:00001:StateStore']
  expect(notificationProperties(clock)).toEqual([ts])
  expect(notificationProperties(clock, clock)).toEqual([ts, ['__prev', ts[1]]])
  expect(unsupportedVersionProperties('2.0')).toEqual([
    ['__stat', '505'],
    ['__supProtMajVer', '1'],
    ['__requestProtVer', '2.0'],
  ])
})
