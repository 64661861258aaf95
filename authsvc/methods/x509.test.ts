import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemTimers } from '#shared/base/timers.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { X509Settings } from '#shared/resources/broker-authentication.ts'
import { AUTHORITY_EXTENSIONS, CertificateLab } from '#shared/testing/certificates.ts'
import type { IssuedCertificate } from '#shared/testing/certificates.ts'
import { openWorkers } from '../worker/piscina-workers.ts'
import { MethodFault } from './authentication-method.ts'
import type { MethodParts } from './authentication-method.ts'
import { ask, makeRig, NOW_MS } from './x509-rig.contract.ts'
import type { ConfigMaps, X509Rig } from './x509-rig.contract.ts'

const lab = new CertificateLab()
const root = lab.authority('/C=US/O=Contoso/CN=Root CA')
const middle = lab.authority('/C=US/OU=Engineering/CN=Fans', { issuer: root })
const leaf = lab.issue({ subject: '/OU=fans/CN=smart-fan', issuer: middle, to: '20270101000000Z' })
const stranger = lab.issue({ subject: '/CN=stranger' })

afterAll(() => lab.close())

function make(settings: X509Settings, configMaps: ConfigMaps = {}, more: Partial<MethodParts> = {}): X509Rig {
  return makeRig(settings, { 'client-ca': { 'root.pem': root.certificate }, ...configMaps }, more)
}

async function attributesOf(rig: X509Rig, certificates: readonly IssuedCertificate[]): Promise<unknown> {
  const verdict = await ask(rig, certificates)
  return verdict.is === 'valid' ? Object.fromEntries(verdict.attributes) : verdict
}

describe('a client with a certificate', () => {
  test('is who its Common Name says, until the certificate ends', async () => {
    expect(await ask(make({}), [leaf, middle])).toMatchObject({
      is: 'valid',
      userName: 'smart-fan',
      attributes: new Map(),
      expiresMs: Date.UTC(2027, 0, 1),
      data: null,
    })
  })

  test('has the last of several Common Names, or an empty name', async () => {
    const several = lab.issue({ subject: '/CN=first/CN=last', issuer: middle })
    const none = lab.issue({ subject: '/O=none', issuer: middle })
    expect(await ask(make({}), [several, middle])).toMatchObject({ userName: 'last' })
    expect(await ask(make({}), [none, middle])).toMatchObject({ userName: '' })
  })

  test('is refused for the whole list when nothing vouches for it, and handed on when a later entry might', async () => {
    expect(await ask(make({}), [stranger])).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(await ask(make({}, {}, { hasLaterOfSameMethod: true }), [stranger])).toEqual({ is: 'irrelevant' })
  })

  test('that chains and is bad is refused, whatever comes later', async () => {
    const expired = lab.issue({ subject: '/CN=expired', issuer: root, to: '20210101000000Z' })
    const verdict = await ask(make({}, {}, { hasLaterOfSameMethod: true }), [expired])
    expect(verdict).toMatchObject({ is: 'invalid', cause: 'CN = expired: it has expired' })
  })

  test('does not authenticate again over MQTT', async () => {
    expect(await ask(make({}), [leaf, middle], { purpose: 'reauthenticate' })).toMatchObject({ is: 'invalid' })
    expect(make({}).method.handles('K8S-SAT')).toBe(false)
  })

  test('is refused when what it sends is no certificate, or too many', async () => {
    const junk = { ...leaf, der: Buffer.from('junk') }
    expect(await ask(make({}), [junk, middle])).toMatchObject({ is: 'invalid', cause: expect.stringContaining('cannot be read') })
    expect(await ask(make({}), [leaf, junk, middle])).toMatchObject({ is: 'valid' })
    expect(await ask(make({}), [leaf, ...Array.from({ length: 16 }, () => middle)])).toMatchObject({ is: 'invalid' })
  })
})

test('a client without a certificate is not ours', async () => {
  expect(await ask(make({}), null)).toEqual({ is: 'irrelevant' })
  expect(await ask(make({}), [])).toEqual({ is: 'irrelevant' })
})

describe('attributes', () => {
  const rules = {
    root: { subject: 'CN = Root CA, O = Contoso, C = US', attributes: { organization: 'contoso' } },
    middle: { subject: 'C=US,OU=Engineering,CN=Fans', attributes: { building: '17', organization: 'fans' } },
    leaf: { subject: '/OU=fans/CN=smart-fan', attributes: { id: '7' } },
  }

  test.each([
    ['the leaf', rules, { id: '7' }],
    ['the intermediate, without those of the root', { root: rules.root, middle: rules.middle }, { building: '17', organization: 'fans' }],
    ['the root, which was not sent', { root: rules.root }, { organization: 'contoso' }],
    ['nobody', { other: { subject: 'CN=other', attributes: { a: 'b' } } }, {}],
    ['nobody for a name in other case', { leaf: { subject: 'CN=Smart-Fan,OU=fans', attributes: { a: 'b' } } }, {}],
    ['nobody for a part of a name', { leaf: { subject: 'CN=smart-fan', attributes: { a: 'b' } } }, {}],
  ])('of %s', async (_name, authorizationAttributes, attributes) => {
    expect(await attributesOf(make({ authorizationAttributes }), [leaf, middle])).toEqual(attributes)
  })

  test('of the root when the intermediate is trusted as well', async () => {
    const both = { 'client-ca': { all: `${middle.certificate}${root.certificate}` } }
    expect(await attributesOf(make({ authorizationAttributes: { root: rules.root } }, both), [leaf])).toEqual({ organization: 'contoso' })
    const one = { 'client-ca': { all: middle.certificate } }
    expect(await attributesOf(make({ authorizationAttributes: { root: rules.root } }, one), [leaf, middle, root])).toEqual({})
  })

  test('of a subject with characters that are escaped', async () => {
    const odd = lab.issue({ subject: '/O=Fans, Inc./OU=a \\+ b/CN="x"', issuer: middle })
    const authorizationAttributes = { odd: { subject: 'CN = \\"x\\", OU = a \\+ b, O = "Fans, Inc."', attributes: { odd: 'yes' } } }
    expect(await attributesOf(make({ authorizationAttributes }), [odd, middle])).toEqual({ odd: 'yes' })
  })
})

describe('what is missing or broken closes the port, and the operator reads why', () => {
  const subject = (text: string): X509Settings => ({ authorizationAttributes: { label: { subject: text, attributes: {} } } })
  test.each([
    ['anchors', { trustedClientCaCert: 'mine' }, {}, 'ConfigMap mine with the certificates of client authorities is missing'],
    ['empty anchors', {}, { 'client-ca': {} }, 'ConfigMap client-ca holds no certificate in PEM'],
    ['broken anchors', {}, { 'client-ca': { a: '-----BEGIN CERTIFICATE-----' } }, 'ConfigMap client-ca, key a: '],
    ['lists', { revocationListConfigMap: 'crl' }, {}, 'ConfigMap crl with lists of revoked certificates is missing'],
    ['empty lists', { revocationListConfigMap: 'crl' }, { crl: { a: '' } }, 'ConfigMap crl holds no list of revoked certificates'],
    ['broken lists', { revocationListConfigMap: 'crl' }, { crl: { a: '???' } }, 'ConfigMap crl, key a: neither PEM nor base64'],
    ['no list', { revocationListConfigMap: 'crl' }, { crl: { a: 'AAAA' } }, 'ConfigMap crl, key a: '],
    ['a registry', { additionalValidation: 'AzureDeviceRegistry' }, {}, 'needs deviceRegistryConfigMap'],
    [
      'its ConfigMap',
      { additionalValidation: 'AzureDeviceRegistry', deviceRegistryConfigMap: 'devices' },
      {},
      'ConfigMap devices, the registry of devices, is missing',
    ],
    [
      'a state',
      { additionalValidation: 'AzureDeviceRegistry', deviceRegistryConfigMap: 'devices' },
      { devices: { a: 'maybe' } },
      'ConfigMap devices, key a: ',
    ],
    ['the check', { deviceRegistryConfigMap: 'devices' }, { devices: {} }, 'only with additionalValidation'],
    ['a name', subject('XY=a'), {}, "authorizationAttributes.label.subject: 'XY' is no known attribute type"],
  ] as const)('%s', (_name, settings, configMaps, message) => {
    expect(() => make(settings, configMaps)).toThrow(MethodFault)
    expect(() => make(settings, configMaps)).toThrow(message)
  })

  test('two labels with one subject', () => {
    const authorizationAttributes = { a: { subject: 'CN=a,OU=b', attributes: {} }, b: { subject: 'OU = b, CN = a', attributes: {} } }
    expect(() => make({ authorizationAttributes })).toThrow('authorizationAttributes.b: another label has the same subject')
  })
})

describe('the registry of devices', () => {
  const settings: X509Settings = { additionalValidation: 'AzureDeviceRegistry', deviceRegistryConfigMap: 'devices' }

  test.each([
    ['Enabled\n', 'valid'],
    ['disabled', 'invalid'],
    [null, 'invalid'],
  ])('a device that is %s', async (state, is) => {
    const rig = make(settings, { devices: { other: 'enabled', ...(state !== null && { 'smart-fan': state }) } })
    expect((await ask(rig, [leaf, middle])).is).toBe(is)
  })

  test('is asked again every ten minutes; without it nothing is', () => {
    expect(make(settings, { devices: {} }).method.recheckAfterMs).toBe(600_000)
    expect(make({}).method.recheckAfterMs).toBeUndefined()
  })
})

describe('lists of revoked certificates', () => {
  test('PEM under one key, DER in base64 under another', async () => {
    const pem = lab.list(root, { revoked: [] })
    const base64 = lab.list(middle, { revoked: [leaf] }).replace(/-----.*-----/g, '')
    const rig = make({ revocationListConfigMap: 'crl' }, { crl: { 'root.crl': pem, 'middle.crl': base64 } })
    expect(await ask(rig, [leaf, middle])).toMatchObject({ is: 'invalid', cause: expect.stringContaining('revoked') })
    expect(rig.log.events).toEqual([])
  })

  test('one of another key under the name of an anchor revokes nothing, and is reported', async () => {
    const twin = lab.authority('/C=US/O=Contoso/CN=Root CA')
    const rig = make({ revocationListConfigMap: 'crl' }, { crl: { list: lab.list(twin, { revoked: [middle] }) } })
    expect(rig.log.lines).toMatchObject([{ level: 'warn', event: 'x509_revocation_list_of_another_key' }])
    expect(await ask(rig, [leaf, middle])).toMatchObject({ is: 'valid' })
  })

  test('one that is out of date counts, and says so', async () => {
    const list = lab.list(middle, { revoked: [leaf], to: '20261201000000Z' })
    const other = lab.issue({ subject: '/CN=other', issuer: middle })
    const rig = make({ revocationListConfigMap: 'crl' }, { crl: { list } })
    expect(rig.log.events).toEqual([])
    rig.clock.advance(20 * 86_400_000)
    expect(await ask(rig, [leaf, middle])).toMatchObject({ is: 'invalid' })
    expect(await ask(rig, [other, middle])).toMatchObject({ is: 'valid' })
    expect(rig.log.lines[0]).toMatchObject({
      level: 'warn',
      event: 'x509_revocation_list_out_of_date',
      fields: { nextUpdate: '2026-12-01T00:00:00.000Z' },
    })
  })
})

describe('a recheck', () => {
  async function evidence(): Promise<Uint8Array> {
    const verdict = await ask(make({}), [leaf, middle])
    return verdict.is === 'valid' ? verdict.evidence : new Uint8Array()
  }

  test('holds while nothing has changed, and ends with the certificate', async () => {
    const rig = make({})
    expect(await rig.method.recheck(await evidence(), [leaf.der, middle.der])).toEqual({ is: 'holds' })
    rig.clock.advance(Date.UTC(2027, 0, 2) - NOW_MS)
    expect(await rig.method.recheck(await evidence(), [leaf.der, middle.der])).toMatchObject({
      is: 'invalid',
      cause: expect.stringContaining('expired'),
    })
  })

  test.each([
    ['another anchor', {}, { 'client-ca': { a: stranger.certificate } }],
    ['a list with the leaf', { revocationListConfigMap: 'crl' }, { crl: { a: lab.list(middle, { revoked: [leaf] }) } }],
    ['a registry without it', { additionalValidation: 'AzureDeviceRegistry', deviceRegistryConfigMap: 'devices' }, { devices: {} }],
  ] as const)('fails with %s, although an answer is remembered', async (_name, settings, configMaps) => {
    const { method } = make(settings, configMaps)
    expect(await method.recheck(await evidence(), [leaf.der, middle.der])).toMatchObject({ is: 'invalid' })
  })

  test('fails for another certificate, and for none', async () => {
    const { method } = make({})
    const other = lab.issue({ subject: '/OU=fans/CN=smart-fan', issuer: middle })
    for (const certificates of [[other.der, middle.der], [], null]) {
      expect(await method.recheck(await evidence(), certificates)).toMatchObject({ is: 'invalid' })
    }
  })
})

describe('in worker threads, unless the chain is short', () => {
  let workers: ReturnType<typeof openWorkers>

  beforeAll(() => {
    workers = openWorkers({ threads: 2, queueMax: 1_000, timers: systemTimers })
  })
  afterAll(() => workers.close())

  test.each([
    ['short', 0, 0],
    ['long', 2, 3],
  ])('what is remembered of a %s chain ends when one of it does, and never serves other anchors', async (_, useless, tasks) => {
    const short = lab.authority('/CN=short', { issuer: root, extensions: AUTHORITY_EXTENSIONS, to: '20261201000000Z' })
    const below = lab.issue({ subject: '/CN=below', issuer: short })
    const chain = [below, short, ...Array.from({ length: useless }, (_, index) => lab.authority(`/CN=useless ${index}`))]
    const before = workers.figures().completed
    const rig = make({}, {}, { workers })
    expect(await ask(rig, chain)).toMatchObject({ is: 'valid' })
    rig.clock.advance(20 * 86_400_000)
    expect(await ask(rig, chain)).toMatchObject({ is: 'invalid', cause: 'CN = short: it has expired' })
    rig.clock.advance(-20 * 86_400_000)
    expect(await ask(rig, chain)).toMatchObject({ is: 'valid' })
    const elsewhere = make({}, { 'client-ca': { a: stranger.certificate } }, { workers })
    expect(await ask(elsewhere, chain)).toMatchObject({ is: 'invalid' })
    // Found good, found to have expired, and judged by other anchors; good again was from memory.
    expect(workers.figures().completed - before).toBe(tasks)
  })
})
