import fc from 'fast-check'
import { X509Certificate } from 'node:crypto'
import { afterAll, describe, expect, test } from 'vitest'
import { AUTHORITY_EXTENSIONS, CertificateLab } from '../testing/certificates.ts'
import { CERTIFICATE_BYTES_MAX, CLIENT_AUTH, decodeCertificate, isSignedBy, KeyUsage, publicKeyOf } from './certificate.ts'
import { DerError } from './der.ts'
import { PemError, pemBlocks, pemOf } from './pem.ts'
import { decodeRevocationList, isListSignedBy } from './revocation-list.ts'
import { readTrustAnchors, TrustAnchorsError, trustedForClients } from './trust-anchors.ts'

const lab = new CertificateLab()
const root = lab.authority('/CN=root')
const rich = lab.issue({
  subject: '/CN=rich',
  issuer: root,
  extensions: [
    'basicConstraints=critical,CA:TRUE,pathlen:3',
    'keyUsage=critical,digitalSignature,keyCertSign',
    'extendedKeyUsage=clientAuth,serverAuth',
    'subjectAltName=DNS:a.example,email:a@b.example,URI:mqtt://a.example,IP:10.0.0.1,RID:1.2.3,dirName:there',
    'nameConstraints=permitted;DNS:a.example,excluded;IP:10.0.0.0/255.0.0.0',
    '1.2.3.4=critical,DER:0500',
    '1.2.3.5=DER:0500',
    '[there]',
    'CN=elsewhere',
  ],
})
const list = lab.list(root, { revoked: [rich, root], to: '20300101000000Z' })
const listDer = pemBlocks(list, ['X509 CRL'])[0]!

afterAll(() => lab.close())

describe('a certificate', () => {
  test('is read as openssl reads it', () => {
    const { extensions, ...certificate } = decodeCertificate(rich.der)
    const theirs = new X509Certificate(rich.der)
    expect(certificate).toMatchObject({
      fingerprint: theirs.fingerprint256.replaceAll(':', '').toLowerCase(),
      serial: theirs.serialNumber.toLowerCase(),
      notBeforeMs: Date.parse(theirs.validFrom),
      notAfterMs: Date.parse(theirs.validTo),
      publicKeyInfo: { family: 'EC', weakness: null },
      signatureAlgorithm: { family: 'EC', hash: 'sha256' },
    })
    expect(certificate.issuerKey).toBe(decodeCertificate(root.der).subjectKey)
    expect(extensions).toMatchObject({
      isAuthority: true,
      pathLength: 3,
      keyUsage: KeyUsage.DigitalSignature | KeyUsage.KeyCertSign,
      extendedKeyUsage: [CLIENT_AUTH, '1.3.6.1.5.5.7.3.1'],
      unknownCritical: ['1.2.3.4'],
    })
    expect(extensions.alternativeNames.map(name => name.is)).toEqual(['dns', 'email', 'uri', 'ip', 'other', 'directory'])
    expect(extensions.nameConstraints?.permitted).toEqual([{ is: 'dns', text: 'a.example' }])
    expect(extensions.nameConstraints?.excluded.map(name => name.is)).toEqual(['ip'])
  })

  test('knows who has signed it', () => {
    const certificate = decodeCertificate(rich.der)
    expect(isSignedBy(certificate, publicKeyOf(decodeCertificate(root.der)))).toBe(true)
    expect(isSignedBy(certificate, publicKeyOf(certificate))).toBe(false)
    expect(isSignedBy(certificate, publicKeyOf(decodeCertificate(lab.authority('/CN=rsa', { key: 'RSA' }).der)))).toBe(false)
  })

  test.each([
    ['RSA', 'RSA', null],
    ['RSA1024', 'RSA', 'an RSA key of 1024 bits, under 2048'],
    ['EC384', 'EC', null],
    ['secp256k1', 'EC', 'a curve other than P-256, P-384, P-521'],
    ['explicitCurve', 'EC', 'a curve other than P-256, P-384, P-521'],
    ['Ed25519', 'EdDSA', null],
    ['Ed448', 'EdDSA', null],
  ] as const)('with a key %s', (key, kind, weakness) => {
    expect(decodeCertificate(lab.issue({ subject: '/CN=key', key }).der).publicKeyInfo).toEqual({ family: kind, weakness })
  })

  test.each([
    ['md5', null],
    ['sha1', null],
    ['sha512', { family: 'RSA', hash: 'sha512', saltBytes: null }],
  ] as const)('with a signature over %s', (digest, algorithm) => {
    expect(decodeCertificate(lab.issue({ subject: '/CN=digest', key: 'RSA', digest }).der).signatureAlgorithm).toEqual(algorithm)
  })

  test('with PSS', () => {
    const read = (digest: 'sha1' | 'sha384'): unknown =>
      decodeCertificate(lab.issue({ subject: '/CN=pss', key: 'RSA', isPss: true, digest }).der).signatureAlgorithm
    expect(read('sha384')).toEqual({ family: 'RSA', hash: 'sha384', saltBytes: 48 })
    expect(read('sha1')).toBeNull()
  })

  test.each([
    ['another byte behind it', Buffer.concat([rich.der, Buffer.alloc(1)])],
    ['PEM', Buffer.from(rich.certificate)],
    ['more bytes than a certificate may have', Buffer.alloc(CERTIFICATE_BYTES_MAX + 1)],
    ['nothing', Buffer.alloc(0)],
    ['a revocation list', listDer],
  ])('is not %s', (_name, bytes) => {
    expect(() => decodeCertificate(bytes)).toThrow(DerError)
  })

  test('an extension must not stand twice', () => {
    const twice = lab.issue({ subject: '/CN=twice', extensions: [...AUTHORITY_EXTENSIONS, '1.2.3.4=DER:0500', '1.2.3.6=DER:0500'] })
    const der = Buffer.from(twice.der)
    der[der.indexOf(Buffer.from('06032a0306', 'hex')) + 4] = 0x04
    expect(() => decodeCertificate(der)).toThrow('stands twice')
  })
})

describe('bytes that are nearly', () => {
  const change = fc.array(fc.record({ at: fc.nat(2_000), to: fc.integer({ min: 0, max: 255 }) }), { minLength: 1, maxLength: 4 })

  test.each([
    ['a certificate', rich.der, decodeCertificate],
    ['a revocation list', listDer, decodeRevocationList],
  ] as const)('%s: read or refused, nothing else, and never with the signature still right', (_name, der, decode) => {
    const key = publicKeyOf(decodeCertificate(root.der))
    fc.assert(
      fc.property(change, fc.nat(4), (changes, cut) => {
        const changed = Buffer.from(der.subarray(0, der.length - (cut === 0 ? 7 : 0)))
        for (const { at, to } of changes) changed[at % changed.length] = to
        try {
          const found = decode(changed)
          const isSigned = 'raw' in found ? isSignedBy(found, key) : isListSignedBy(found, key)
          expect(isSigned && !changed.equals(der)).toBe(false)
        } catch (error) {
          expect(error).toBeInstanceOf(DerError)
        }
      }),
      { numRuns: 1_500 },
    )
  })
})

describe('a revocation list', () => {
  test('says who is revoked, by whom, until when', () => {
    const read = decodeRevocationList(listDer)
    expect(read.revoked).toEqual(new Set([rich.serial, root.serial].map(serial => serial.toLowerCase())))
    expect(read.issuerKey).toBe(decodeCertificate(root.der).subjectKey)
    expect(read.nextUpdateMs).toBe(Date.UTC(2030, 0, 1))
    expect(isListSignedBy(read, publicKeyOf(decodeCertificate(root.der)))).toBe(true)
    expect(isListSignedBy(read, publicKeyOf(decodeCertificate(rich.der)))).toBe(false)
  })

  test.each(['RSA', 'Ed25519', 'EC384'] as const)('of an authority with %s', key => {
    const authority = lab.authority('/CN=authority', { key })
    const read = decodeRevocationList(pemBlocks(lab.list(authority, { revoked: [] }), ['X509 CRL'])[0]!)
    expect(isListSignedBy(read, publicKeyOf(decodeCertificate(authority.der)))).toBe(true)
    expect(read.revoked.size).toBe(0)
  })

  test.each([
    ['SHA-1', { digest: 'sha1' }, 'signature algorithm'],
    ['changes only', { extensions: ['2.5.29.27=critical,DER:020101'] }, '2.5.29.27'],
    [
      'certificates of others',
      { extensions: ['issuingDistributionPoint=critical,@point', '[point]', 'indirectCRL=TRUE'] },
      'other issuers',
    ],
  ] as const)('with %s is refused', (_name, wish, message) => {
    const [der] = pemBlocks(lab.list(root, { revoked: [rich], ...wish }), ['X509 CRL'])
    expect(() => decodeRevocationList(der!)).toThrow(message)
  })

  test('of some certificates will do', () => {
    const extensions = ['issuingDistributionPoint=critical,@point', '[point]', 'onlyuser=TRUE']
    const [der] = pemBlocks(lab.list(root, { revoked: [rich], extensions }), ['X509 CRL'])
    expect(decodeRevocationList(der!).revoked.size).toBe(1)
  })
})

describe('PEM', () => {
  test('blocks of the wanted kinds, whatever stands between', () => {
    const text = `words\r\n${pemOf('A', Buffer.from([1]))}\r\n${pemOf('B', Buffer.alloc(100, 2))} ${pemOf('A', Buffer.from([3]))}`
    expect(pemBlocks(text, ['A'])).toEqual([Buffer.from([1])].concat(Buffer.from([3])))
    expect(pemBlocks(text, ['B'])).toEqual([Buffer.alloc(100, 2)])
    expect(pemBlocks('words', ['A'])).toEqual([])
  })

  test.each([
    ['-----BEGIN A-----\nAAAA', 'does not end'],
    ['-----BEGIN A-----\n-----BEGIN A-----', 'does not end'],
    ['-----END A-----', 'did not begin'],
    ['-----BEGIN A-----\n-----END B-----', 'did not begin'],
    ['-----BEGIN A-----\nAA*A\n-----END A-----', 'base64'],
    ['-----BEGIN A-----\nAAA\n-----END A-----', 'base64'],
    ['-----BEGIN A-----\n-----END A-----', 'base64'],
  ])('%j: %s', (text, message) => {
    expect(() => pemBlocks(text, ['A'])).toThrow(PemError)
    expect(() => pemBlocks(text, ['A'])).toThrow(message)
  })
})

describe('trust anchors', () => {
  test('are every certificate under every key, each once', () => {
    const configMap = new Map([
      ['a.pem', `${root.certificate}${rich.certificate}`],
      ['b.pem', root.certificate],
      ['notes', 'about them'],
    ])
    expect(readTrustAnchors('client-ca', configMap).map(anchor => anchor.fingerprint)).toEqual(
      [root, rich].map(each => decodeCertificate(each.der).fingerprint),
    )
  })

  test('for TLS are never nothing, which would be everybody', () => {
    expect(trustedForClients(`${root.certificate}words\n${rich.certificate}`).match(/BEGIN TRUSTED CERTIFICATE/g)).toHaveLength(2)
    for (const text of ['', 'words', root.key]) expect(() => trustedForClients(text)).toThrow(PemError)
  })

  test.each([
    ['no ConfigMap', null, 'ConfigMap client-ca with the certificates of client authorities is missing'],
    ['no key', [], 'ConfigMap client-ca holds no certificate in PEM'],
    ['no certificate', [['a', 'words']], 'ConfigMap client-ca holds no certificate in PEM'],
    ['half a certificate', [['a', root.certificate.slice(0, 200)]], 'ConfigMap client-ca, key a: a block CERTIFICATE does not end'],
    ['something else', [['a', pemOf('CERTIFICATE', Buffer.from('else'))]], 'ConfigMap client-ca, key a: tag 101 where 48 is due'],
  ] as const)('%s', (_name, entries, message) => {
    const configMap = entries === null ? null : new Map(entries.map(([key, text]) => [key, text]))
    expect(() => readTrustAnchors('client-ca', configMap)).toThrow(TrustAnchorsError)
    expect(() => readTrustAnchors('client-ca', configMap)).toThrow(message)
  })
})
