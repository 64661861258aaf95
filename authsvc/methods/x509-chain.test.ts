import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemTimers } from '#shared/base/timers.ts'
import { CertificateLab } from '#shared/testing/certificates.ts'
import type { IssuedCertificate } from '#shared/testing/certificates.ts'
import { makeChainCases } from '#shared/testing/certificates-chains.ts'
import type { ChainCase } from '#shared/testing/certificates-chains.ts'
import { decodeCertificate, isSignedBy, publicKeyOf } from '#shared/x509/certificate.ts'
import { pemBlocks } from '#shared/x509/pem.ts'
import { decodeRevocationList, isListSignedBy } from '#shared/x509/revocation-list.ts'
import { trustedForClients } from '#shared/x509/trust-anchors.ts'
import { openWorkers } from '../worker/piscina-workers.ts'
import { ask, makeRig, NOW_MS } from './x509-rig.contract.ts'
import { makeTrust, verifyChain } from './x509-chain.ts'
import type { ChainVerdict, Signatures } from './x509-chain.ts'

const lab = new CertificateLab()
const cases = makeChainCases(lab)
const server = lab.issue({
  subject: '/CN=localhost',
  extensions: ['basicConstraints=critical,CA:FALSE', 'subjectAltName=DNS:localhost', 'extendedKeyUsage=serverAuth'],
})

afterAll(() => lab.close())

/** Nothing is remembered: each case stands alone. */
const signatures: Signatures = {
  has: (certificate, issuer) => isSignedBy(certificate, publicKeyOf(issuer)),
  hasList: (list, issuer) => isListSignedBy(list, publicKeyOf(issuer)),
}

function judged({ presented, anchors, lists = [] }: ChainCase, nowMs = NOW_MS): ChainVerdict {
  const decode = (each: IssuedCertificate) => decodeCertificate(each.der)
  const decodedLists = lists.flatMap(pem => pemBlocks(pem, ['X509 CRL'])).map(der => decodeRevocationList(der))
  return verifyChain(presented.map(decode), makeTrust(anchors.map(decode), decodedLists), signatures, nowMs)
}

function caseOf(name: string): ChainCase {
  return cases.find(each => each.name === name)!
}

describe('a chain', () => {
  test.each(cases.map(each => [each.name, each.verdict, each] as const))('%s: %s', (_name, verdict, each) => {
    const found = judged(each)
    expect(found.is, JSON.stringify(found, ['cause'])).toBe(verdict)
  })

  test('both kinds are tried in number', () => {
    expect(cases.filter(each => each.verdict === 'trusted').length).toBeGreaterThan(35)
    expect(cases.filter(each => each.verdict !== 'trusted').length).toBeGreaterThan(45)
    expect(new Set(cases.map(each => each.name)).size).toBe(cases.length)
  })

  test('is judged by the time that is asked about', () => {
    const good = caseOf('a root is trusted')
    expect(judged(good, Date.UTC(2019, 11, 31)).is).toBe('refused')
    expect(judged(good, Date.UTC(2070, 0, 2)).is).toBe('refused')
    expect(judged(caseOf('a leaf that has expired'), Date.UTC(2020, 6, 1)).is).toBe('trusted')
    expect(judged(good)).toMatchObject({ fromMs: Date.UTC(2020, 0, 1), toMs: Date.UTC(2070, 0, 1) })
  })

  test('goes on over anchors that have signed each other, so that a root can give attributes', () => {
    const pathLengthOf = (name: string): number => {
      const verdict = judged(caseOf(name))
      return verdict.is === 'trusted' ? verdict.path.length : 0
    }
    expect(pathLengthOf('the intermediate is not sent, and both are trusted')).toBe(3)
    expect(pathLengthOf('only the intermediate is trusted')).toBe(2)
    expect(pathLengthOf('a leaf that signs itself is trusted')).toBe(1)
  })

  test('has eight certificates at most', () => {
    const authorities = [lab.authority('/CN=0')]
    for (let depth = 1; depth <= 7; depth++) authorities.push(lab.authority(`/CN=${depth}`, { issuer: authorities[depth - 1]! }))
    const verdictUnder = (count: number): string => {
      const leaf = lab.issue({ subject: '/CN=leaf', issuer: authorities[count - 1]! })
      const presented = [leaf, ...authorities.slice(1, count).toReversed()]
      return judged({ name: '', presented, anchors: [authorities[0]!], verdict: 'trusted' }).is
    }
    expect([verdictUnder(7), verdictUnder(8)]).toEqual(['trusted', 'unchained'])
  })

  test('of a weak authority is refused without a look at the signature', () => {
    const weak = lab.authority('/CN=weak', { key: 'RSA1024' })
    const leaf = lab.issue({ subject: '/CN=leaf', issuer: weak, key: 'RSA' })
    const never: Signatures = { has: () => expect.fail('looked'), hasList: () => expect.fail('looked') }
    const verdict = verifyChain([decodeCertificate(leaf.der)], makeTrust([decodeCertificate(weak.der)], []), never, NOW_MS)
    expect(verdict).toEqual({ is: 'refused', cause: 'CN = weak: an RSA key of 1024 bits, under 2048' })
  })

  test('of many cross-signed certificates costs a bounded number of signatures', () => {
    const key = lab.authority('/CN=maze')
    const maze = Array.from({ length: 12 }, () => lab.authority('/CN=maze', { keyOf: key, issuer: key }))
    let checked = 0
    const counting: Signatures = { ...signatures, has: (...pair) => (++checked, signatures.has(...pair)) }
    const leaf = lab.issue({ subject: '/CN=lost', issuer: key })
    const presented = [leaf, ...maze].map(each => decodeCertificate(each.der))
    const trust = makeTrust([decodeCertificate(caseOf('a root is trusted').anchors[0]!.der)], [])
    expect(verifyChain(presented, trust, counting, NOW_MS)).toMatchObject({
      is: 'refused',
      cause: expect.stringContaining('32 signatures'),
    })
    expect(checked).toBe(32)
  })
})

/** Whether node:tls, as the listener of the frontend sets it up, takes the chain. */
async function tlsVerdict({ presented, anchors }: ChainCase): Promise<string> {
  const tlsServer = createServer({
    cert: server.certificate,
    key: server.key,
    requestCert: true,
    rejectUnauthorized: false,
    ca: trustedForClients(anchors.map(each => each.certificate).join('')),
  })
  tlsServer.on('tlsClientError', () => undefined)
  const [leaf] = presented
  const answer = new Promise<string>(resolve => {
    tlsServer.on('secureConnection', (socket: TLSSocket) => {
      resolve(socket.authorized ? 'accepts' : String(socket.authorizationError))
      socket.destroy()
    })
    tlsServer.on('tlsClientError', error => resolve(`fails: ${error.message}`))
  })
  await once(tlsServer.listen(0, '127.0.0.1'), 'listening')
  const { port } = tlsServer.address() as AddressInfo
  try {
    // Our own side must not refuse to load what it is to present.
    const client = connect({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      cert: presented.map(each => each.certificate).join(''),
      key: leaf!.key,
      ciphers: 'DEFAULT@SECLEVEL=0',
    })
    client.on('error', () => undefined)
    return await answer
  } catch (error) {
    return `client: ${(error as Error).message}`
  } finally {
    tlsServer.close()
  }
}

describe('node:tls', () => {
  const verdicts = new Map<string, string>()

  beforeAll(async () => {
    for (const each of cases) verdicts.set(each.name, await tlsVerdict(each))
  })

  test.each(cases.map(each => [each.name, each] as const))('with the same anchors: %s', (name, each) => {
    const accepts = each.tlsAccepts ?? each.verdict === 'trusted'
    expect(verdicts.get(name)! === 'accepts', verdicts.get(name)).toBe(accepts)
  })
})

test('worker threads judge every chain as it is judged here, the first time and from memory', async () => {
  const workers = openWorkers({ threads: 2, queueMax: 1_000, timers: systemTimers })

  const outcomes = await Promise.all(
    cases.map(async ({ name, presented, anchors, lists = [] }) => {
      const settings = lists.length === 0 ? {} : { revocationListConfigMap: 'crl' }
      const configMaps = { 'client-ca': { all: anchors.map(each => each.certificate).join('') }, crl: { all: lists.join('') } }
      const rig = makeRig(settings, configMaps, { workers })
      const verdicts = [await ask(rig, presented), await ask(rig, presented), await ask(rig, presented)]
      return [name, ...verdicts.map(each => each.is)]
    }),
  )
  expect(outcomes).toEqual(
    cases.map(({ name, verdict }) => [name, ...Array.from({ length: 3 }, () => (verdict === 'trusted' ? 'valid' : 'invalid'))]),
  )
  await workers.close()
})
