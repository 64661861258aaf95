import { expect, test } from 'vitest'
import { AddressRanges, addressText, plainAddress } from './client-address.ts'

test('an IPv4 client has one address, whichever socket it comes through', () => {
  expect(plainAddress('::ffff:192.0.2.7')).toBe('192.0.2.7')
  expect(plainAddress('::FFFF:192.0.2.7')).toBe('192.0.2.7')
  expect(plainAddress('2001:db8::7')).toBe('2001:db8::7')
  expect(addressText(Buffer.from('00000000000000000000ffffc0000207', 'hex'))).toBe('192.0.2.7')
  expect(addressText(Buffer.from([192, 0, 2, 7]))).toBe('192.0.2.7')
  expect(addressText(Buffer.from(`20010db8${'00'.repeat(11)}07`, 'hex'))).toBe('2001:db8::7')
  expect(addressText(Buffer.from(`${'00'.repeat(15)}01`, 'hex'))).toBe('::1')
})

test('ranges hold their addresses and no others', () => {
  const ranges = new AddressRanges(['10.0.0.0/8', '192.0.2.1', '2001:db8::/32', '::1'])
  for (const address of ['10.255.0.1', '192.0.2.1', '2001:db8:1::1', '::1']) expect(ranges.has(address)).toBe(true)
  for (const address of ['11.0.0.1', '192.0.2.2', '2001:db9::1', '::2', '', 'localhost', '0.0.0.0']) expect(ranges.has(address)).toBe(false)
  expect(new AddressRanges([]).has('127.0.0.1')).toBe(false)
  const all = new AddressRanges(['0.0.0.0/0', '::/0'])
  expect([all.has('203.0.113.9'), all.has('2001:db8::1')]).toEqual([true, true])
})

test.each(['', '10.0.0.0/33', '::/129', '10.0.0/8', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8/8', 'example.com/8', '10.0.0.0/1e1'])(
  '%j is not a CIDR',
  cidr => {
    expect(() => new AddressRanges([cidr])).toThrow(RangeError)
  },
)
