import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { DerReader, Tag } from './der.ts'
import { decodePublicKeyInfo } from './signature-algorithm.ts'
import type { PublicKeyInfo } from './signature-algorithm.ts'

function rsaWith(bits: number, exponent: readonly number[]): PublicKeyInfo {
  const modulus = Buffer.alloc(bits / 8, 0xa5)
  const jwk = { kty: 'RSA', n: modulus.toString('base64url'), e: Buffer.from(exponent).toString('base64url') }
  const der = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'der' })
  return decodePublicKeyInfo(new DerReader(der).content(Tag.Sequence))
}

test.each([
  [2_048, [1, 0, 1], null],
  [8_192, [3], null],
  [2_040, [1, 0, 1], 'an RSA key of 2040 bits, under 2048'],
  [8_200, [1, 0, 1], 'an RSA key of 8200 bits, over 8192'],
  [3_072, [0xff, 1, 0, 1], null],
  [3_072, [1, 0, 0, 0, 1], 'an RSA key with an exponent of 33 bits'],
])('RSA of %i bits with the exponent %j: %s', (bits, exponent, weakness) => {
  expect(rsaWith(bits, exponent)).toEqual({ family: 'RSA', weakness })
})

test('a key for something else than signatures of TLS', () => {
  const der = generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'der' })
  const { family, weakness } = decodePublicKeyInfo(new DerReader(der).content(Tag.Sequence))
  expect([family, weakness]).toEqual([null, expect.stringContaining('neither RSA nor EC')])
})
