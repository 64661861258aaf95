import fc from 'fast-check'
import { execFileSync } from 'node:child_process'
import { afterAll, describe, expect, test } from 'vitest'
import { CertificateLab } from '../testing/certificates.ts'
import { decodeCertificate } from './certificate.ts'
import { chainingKey, commonNameOf, NameError, nameKey, nameText, parseName, sameName } from './distinguished-name.ts'
import type { DistinguishedName } from './distinguished-name.ts'

const CN = '2.5.4.3'
const OU = '2.5.4.11'

function same(a: string, b: string): boolean {
  return sameName(parseName(a), parseName(b))
}

describe('two texts of one name', () => {
  test.each([
    ['CN = Contoso Root CA Cert, OU = Engineering, C = US', 'CN=Contoso Root CA Cert,OU=Engineering,C=US'],
    ['CN = a, OU = b, C = US', 'C = US, OU = b, CN = a'],
    ['cn=a,ou=b', 'CN = a , Ou = b'],
    ['2.5.4.3=a', 'CN=a'],
    ['OID.2.5.4.3=a', 'commonName=a'],
    ['CN=a,OU=b', '/OU=b/CN=a'],
    ['/C=US/CN=a', 'CN=a,C=US'],
    ['CN=a+OU=b,C=US', 'OU=b + CN=a, C=US'],
    ['CN=a\\, b', 'CN="a, b"'],
    ['CN=a\\2c b', 'CN=a\\, b'],
    ['CN=\\C3\\BC', 'CN=ü'],
    ['CN=#0c0161', 'CN=a'],
    ['CN=#130161', 'CN=a'],
    ['CN=a;OU=b', 'CN=a,OU=b'],
    ['CN=\\#a', 'CN="#a"'],
    ['CN=a/b', '/CN=a\\/b'],
    ['UID=1', 'userId=1'],
    ['emailAddress=a@b', 'E=a@b'],
    ['CN=,OU=b', 'CN="",OU=b'],
    ['CN=a\\=b', 'CN=a=b'],
  ])('%s is %s', (a, b) => {
    expect(same(a, b)).toBe(true)
  })

  test.each([
    ['CN=a', 'CN=A'],
    ['CN=a', 'CN=a,OU=b'],
    ['CN=a,OU=b,O=c', 'OU=b,CN=a,O=c'],
    ['CN=a,OU=b', 'CN=a+OU=b'],
    ['CN=a b', 'CN=a  b'],
    ['CN=a\\ ', 'CN=a'],
    ['CN=a', 'OU=a'],
    ['CN=a\\,OU=b', 'CN=a,OU=b'],
    ['CN="a,OU=b"', 'CN=a,OU=b'],
    ['CN=#0400', 'CN=\\#0400'],
    ['CN=a,CN=b,CN=c', 'CN=b,CN=a,CN=c'],
  ])('%s is not %s', (a, b) => {
    expect(same(a, b)).toBe(false)
  })

  test.each([
    '',
    '   ',
    'CN',
    'a',
    '=a',
    'XY=a',
    'CN=a,',
    ',CN=a',
    'CN=a,,OU=b',
    'CN="a',
    'CN="a"b',
    'CN=a\\',
    'CN=\\q',
    'CN=\\FF',
    'CN=\\00',
    'CN=#0',
    'CN=#zz',
    'CN=#',
    'CN=#0400ff',
    '/',
    '/CN',
    '1.2.=a',
    `CN=${'a'.repeat(9_000)}`,
    Array.from({ length: 200 }, () => 'CN=a').join(),
  ])('%s is none', text => {
    expect(() => parseName(text)).toThrow(NameError)
  })
})

describe('any name', () => {
  const value = fc.string({ unit: 'binary', maxLength: 12 }).filter(text => !text.includes('\0'))
  const attribute = fc.record({ type: fc.constantFrom(CN, OU, '2.5.4.6', '1.2.840.113549.1.9.1', '1.3.6.1.4.1.99'), value })
  const name = fc.array(fc.array(attribute, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 6 })

  /** RFC 4514, every character that may be escaped is. */
  function written(parts: DistinguishedName, between: string): string {
    const octets = (text: string): string => Buffer.from(text).toString('hex').replace(/../g, '\\$&')
    return parts
      .map(part => part.map(({ type, value: text }) => `${type}${between}=${between}${octets(text)}`).join('+'))
      .join(`${between},`)
  }

  test('is read from what is written of it, in both orders', () => {
    fc.assert(
      fc.property(name, fc.constantFrom('', ' '), (parts, between) => {
        expect(parseName(written(parts, between))).toEqual(parts)
        expect(sameName(parts, parseName(written(parts.toReversed(), between)))).toBe(true)
      }),
    )
  })

  test('differs from a name with another value, and from one with a part more', () => {
    fc.assert(
      fc.property(name, parts => {
        const changed = parts.map((part, index) => (index === 0 ? part.map(each => ({ ...each, value: `${each.value}!` })) : part))
        expect(sameName(parts, changed)).toBe(parts.length > 1 && sameName(changed, parts))
        expect(nameKey(parts)).not.toBe(nameKey([...parts, [{ type: CN, value: 'more' }]]))
      }),
    )
  })

  test('no text makes the reader throw anything but its own error', () => {
    const piece = fc.constantFrom('CN', '=', ',', '+', ' ', '"', '\\', '#', '/', ';', '0c01', 'a', 'ü', '1.2', '\\2c')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), pieces => {
        try {
          parseName(pieces.join(''))
        } catch (error) {
          expect(error).toBeInstanceOf(NameError)
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('the subject of a certificate', () => {
  const lab = new CertificateLab()
  afterAll(() => lab.close())

  function subjectOf(subject: string, stringMask: 'utf8only' | 'nombstr' = 'utf8only'): DistinguishedName {
    return decodeCertificate(lab.issue({ subject, stringMask }).der).subject
  }

  test.each([
    '/CN=Contoso Root CA Cert/OU=Engineering/C=US',
    '/C=US/O=a, b/CN=c + d',
    '/CN=with "quotes" and \\\\ and #/OU=#hash/L= spaces /ST=ünïcödé 漢字',
    '/CN=a+OU=b/C=US',
    '/DC=example/DC=org/UID=7/emailAddress=a@b.example',
    '/CN=<a;b>=c',
  ])('%s is what openssl prints of it, in every form', subject => {
    const { der, certificate } = lab.issue({ subject: subject.replace('c + d', 'c \\+ d') })
    const name = decodeCertificate(der).subject
    const printed = (format: string): string =>
      execFileSync('openssl', ['x509', '-noout', '-subject', '-nameopt', format], { input: certificate })
        .toString()
        .replace(/^subject=|\n$/g, '')
    for (const format of ['oneline', 'RFC2253', 'oneline,utf8,-esc_msb', 'RFC2253,dump_all,oid']) {
      expect(sameName(name, parseName(printed(format))), `${format}: ${printed(format)}`).toBe(true)
    }
    expect(nameText(name)).toContain('=')
  })

  test('gives the last Common Name, or none', () => {
    expect(commonNameOf(subjectOf('/CN=first/O=x/CN=last'))).toBe('last')
    expect(commonNameOf(subjectOf('/O=x'))).toBe('')
    expect(commonNameOf(parseName('CN=#0400'))).toBe('')
  })

  test('is the same whatever the type of its texts', () => {
    expect(subjectOf('/CN=plain', 'nombstr')).toEqual(subjectOf('/CN=plain'))
  })

  test('chains with a name that differs in case and spaces alone', () => {
    expect(chainingKey(parseName('CN=A  b,OU=C'))).toBe(chainingKey(parseName('CN=a b,OU=c')))
    expect(chainingKey(parseName('CN=a,OU=c'))).not.toBe(chainingKey(parseName('OU=c,CN=a')))
    expect(chainingKey(parseName('CN=ä'))).not.toBe(chainingKey(parseName('CN=Ä')))
  })
})
