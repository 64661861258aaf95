import { generateKeyPairSync, randomBytes, scryptSync } from 'node:crypto'
import { exportJWK, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeScramKey } from '../../authsvc/credentials/scram-key.ts'
import { CertificateLab, type IssuedCertificate } from '#shared/testing/certificates.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { ScramExchange } from '../clients/scram.ts'
import type * as packets from '../conformance/packets.ts'
import { configMap, ConfiguredBroker, HOST, resource, secret, serverCertificate, tlsSecret } from './configured-broker.ts'

/** As they are listed; a custom server that nobody can reach stands for a method of its own. */
const METHODS = ['X509', 'ServiceAccountToken', 'Custom', 'CustomAway', 'Scram', 'Password', 'Jwt'] as const
type Method = (typeof METHODS)[number]

const NOT_AUTHORIZED = 0x87
const BAD_METHOD = 0x8c
const UNAVAILABLE = 0x88
/** What this custom server refuses with, unlike all others. */
const BAD_CREDENTIALS = 0x86
/** How it ends where TLS refuses: without any packet. */
const CLOSED = 'closed'
const CODE_OF_311: Readonly<Record<number, number>> = { 0: 0, [NOT_AUTHORIZED]: 5, [UNAVAILABLE]: 3, [BAD_CREDENTIALS]: 4 }
const PASSWORD = 'open sesame'
const CONCURRENT = 8

interface Credential {
  readonly name: string
  readonly certificate?: 'known' | 'foreign'
  readonly connect?: Omit<packets.Connect, 'version'>
  readonly exchange?: () => ScramExchange
  /** What each method says to it: 0 when it lets the client in; absent: not its own. */
  readonly says: Partial<Record<Method, number>>
}

const lab = new CertificateLab()
const authority = lab.authority('/CN=site CA')
const foreignAuthority = lab.authority('/CN=somebody else')
const certificates = {
  known: lab.issue({ subject: '/CN=pump-7', issuer: authority }),
  foreign: lab.issue({ subject: '/CN=pump-7', issuer: foreignAuthority }),
}
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const keySet = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256', use: 'sig' }] })
const jwt = await new SignJWT({})
  .setProtectedHeader({ alg: 'ES256', kid: 'one' })
  .setIssuer('issuer')
  .setAudience('broker')
  .setSubject('pump-7')
  .setExpirationTime('1h')
  .sign(privateKey)
const api = await KubernetesApi.open()
api.createServiceAccount('plant', 'pump')
const goodToken = api.mintToken({ namespace: 'plant', serviceAccount: 'pump', audiences: ['aio-internal'] })
const otherToken = api.mintToken({ namespace: 'plant', serviceAccount: 'pump', audiences: ['somebody-else'] })

const enhanced = (authenticationMethod: string, data: string): Pick<packets.Connect, 'properties'> => ({
  properties: { authenticationMethod, authenticationData: Buffer.from(data) },
})
const refusedByAll = { Password: NOT_AUTHORIZED, Custom: BAD_CREDENTIALS }

const CREDENTIALS: readonly Credential[] = [
  { name: 'nothing', says: { Custom: BAD_CREDENTIALS } },
  { name: 'the right password', connect: { userName: 'alice', password: PASSWORD }, says: { Password: 0, Custom: 0 } },
  { name: 'a wrong password', connect: { userName: 'alice', password: 'guess' }, says: refusedByAll },
  { name: 'a certificate', certificate: 'known', says: { X509: 0, Custom: BAD_CREDENTIALS } },
  {
    name: 'a certificate and a wrong password',
    certificate: 'known',
    connect: { userName: 'alice', password: 'guess' },
    says: { ...refusedByAll, X509: 0 },
  },
  { name: 'a certificate of somebody else', certificate: 'foreign', says: { Custom: BAD_CREDENTIALS } },
  {
    name: 'a certificate of somebody else and the right password',
    certificate: 'foreign',
    connect: { userName: 'alice', password: PASSWORD },
    says: { Password: 0, Custom: 0 },
  },
  { name: 'a token', connect: enhanced('K8S-SAT', goodToken), says: { ServiceAccountToken: 0, Custom: BAD_CREDENTIALS } },
  {
    name: 'a token for somebody else',
    connect: enhanced('K8S-SAT', otherToken),
    says: { ServiceAccountToken: NOT_AUTHORIZED, Custom: BAD_CREDENTIALS },
  },
  {
    name: 'a certificate and a token for somebody else',
    certificate: 'known',
    connect: enhanced('K8S-SAT', otherToken),
    says: { X509: 0, ServiceAccountToken: NOT_AUTHORIZED, Custom: BAD_CREDENTIALS },
  },
  {
    name: 'a token as password',
    connect: { userName: 'K8S-SAT', password: goodToken },
    says: { ...refusedByAll, ServiceAccountToken: 0, Jwt: NOT_AUTHORIZED },
  },
  {
    name: 'something else as password of K8S-SAT',
    connect: { userName: 'K8S-SAT-pump', password: 'guess' },
    says: { ...refusedByAll, ServiceAccountToken: NOT_AUTHORIZED },
  },
  {
    name: 'SCRAM',
    connect: { properties: new ScramExchange('alice', PASSWORD).first },
    exchange: () => new ScramExchange('alice', PASSWORD),
    says: { Scram: 0, Custom: BAD_CREDENTIALS },
  },
  {
    name: 'SCRAM with a wrong password',
    connect: { properties: new ScramExchange('alice', 'guess').first },
    exchange: () => new ScramExchange('alice', 'guess'),
    says: { Scram: NOT_AUTHORIZED, Custom: BAD_CREDENTIALS },
  },
  { name: 'a JWT', connect: enhanced('JWT', jwt), says: { Jwt: 0, Custom: BAD_CREDENTIALS } },
  { name: 'a JWT as password', connect: { userName: 'any', password: jwt }, says: { ...refusedByAll, Jwt: 0 } },
  { name: 'an Authentication Method of nobody', connect: enhanced('X-NOBODY', 'data'), says: { Custom: BAD_CREDENTIALS } },
]

const LISTS: readonly (readonly Method[])[] = [
  ...METHODS.map(method => [method]),
  ['X509', 'Password'],
  ['Password', 'X509'],
  ['X509', 'Custom'],
  ['Custom', 'X509'],
  ['Scram', 'Password'],
  ['Password', 'Scram'],
  ['ServiceAccountToken', 'Password'],
  ['Password', 'ServiceAccountToken'],
  ['Jwt', 'ServiceAccountToken'],
  ['ServiceAccountToken', 'Jwt'],
  ['CustomAway', 'Password'],
  ['Password', 'CustomAway'],
  ['CustomAway', 'Custom'],
  ['Custom', 'CustomAway'],
  ['X509', 'ServiceAccountToken', 'Custom'],
  ['Custom', 'ServiceAccountToken', 'X509'],
  ['ServiceAccountToken', 'X509', 'CustomAway'],
  ['CustomAway', 'Jwt', 'Scram'],
  ['Jwt', 'Password', 'Scram'],
  ['Password', 'Jwt', 'Scram'],
  ['X509', 'ServiceAccountToken', 'Scram', 'Password', 'Jwt', 'Custom'],
  ['Custom', 'Jwt', 'Password', 'Scram', 'ServiceAccountToken', 'X509'],
]

/** Authentication Methods that each of them knows; a custom server is asked about any. */
const KNOWS: Partial<Record<Method, string>> = { ServiceAccountToken: 'K8S-SAT', Scram: 'SCRAM-SHA-256', Jwt: 'JWT' }

/** Reason Code of CONNACK as the specification has it: the first method to which the credentials belong decides. */
function expected(list: readonly Method[], { certificate, connect, says }: Credential): number | typeof CLOSED {
  if (list.includes('X509') && certificate === 'foreign') return CLOSED
  if (list.every(method => method === 'X509') && certificate === undefined) return CLOSED
  const decisive = list.find(method => says[method] !== undefined)
  if (decisive !== undefined) return says[decisive]!
  if (list.includes('CustomAway')) return UNAVAILABLE
  const properties = connect?.properties as { authenticationMethod?: string } | undefined
  const named = properties?.authenticationMethod
  return named === undefined || list.some(method => KNOWS[method] === named) ? NOT_AUTHORIZED : BAD_METHOD
}

const ports = await freePorts(LISTS.length)
let configured: ConfiguredBroker
let custom: CustomServer

function settingsOf(method: Method): object {
  const settings: Readonly<Record<Method, object>> = {
    X509: { method: 'X509', x509Settings: {} },
    ServiceAccountToken: { method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: ['aio-internal'] } },
    Custom: { method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'server-ca' } },
    CustomAway: { method: 'Custom', customSettings: { endpoint: 'https://127.0.0.1:1', caCertConfigMap: 'server-ca' } },
    Scram: { method: 'Scram', scramSettings: { secretRef: 'users' } },
    Password: { method: 'Password', passwordSettings: { secretRef: 'users' } },
    Jwt: { method: 'Jwt', jwtSettings: { jwksConfigMap: 'keys', issuer: 'issuer', audiences: ['broker'] } },
  }
  return settings[method]
}

/** Of the least cost there is: what costs time is tested elsewhere. */
function cheapHash(password: string): string {
  const salt = randomBytes(16)
  const hash = scryptSync(password, salt, 32, { cost: 16, blockSize: 8, parallelization: 1 })
  return `$scrypt$ln=4,r=8,p=1$${[salt, hash].map(bytes => bytes.toString('base64').replace(/=+$/, '')).join('$')}`
}

beforeAll(async () => {
  const server: IssuedCertificate = serverCertificate(lab, authority)
  custom = await CustomServer.start({ tls: { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) } })
  custom.behave = ({ body }) => {
    const { username, password } = body as { username?: string; password?: string }
    const isRight = username === 'alice' && password === Buffer.from(PASSWORD).toString('base64')
    return { is: 'answer', ...(isRight ? { status: 200, body: {} } : { status: 403, body: { reason: BAD_CREDENTIALS } }) }
  }
  const users = JSON.stringify([{ name: 'alice', password: cheapHash(PASSWORD), scram: [makeScramKey('SCRAM-SHA-256', PASSWORD)] }])
  const tls = { mode: 'Manual', manual: { secretRef: 'server' } }
  const listener = { ports: ports.map((port, at) => ({ port, host: HOST, tls, authenticationRef: `list-${at}` })) }
  configured = await ConfiguredBroker.start(
    {
      listener: [resource('BrokerListener', 'plant', listener), tlsSecret('server', server)],
      who: LISTS.map((list, at) =>
        resource('BrokerAuthentication', `list-${at}`, { authenticationMethods: list.map(each => settingsOf(each)) }),
      ),
      known: [
        configMap('client-ca', { any: authority.certificate }),
        configMap('server-ca', { any: authority.certificate }),
        configMap('keys', { 'jwks.json': keySet }),
        secret('users', { list: users }),
      ],
    },
    api.environment,
  )
})

afterAll(async () => {
  await custom.close()
  await api.close()
  lab.close()
})

/** How a CONNECT with this credential ends. */
async function outcome(port: number, version: packets.Version, credential: Credential): Promise<number | typeof CLOSED> {
  const { certificate, connect, exchange } = credential
  const chain = certificate === undefined ? [] : [certificates[certificate]]
  const client = await configured.open(port, version, { ca: authority, chain })
  client.sendConnect({ clientId: '', ...connect })
  let packet = await client.next()
  if (packet !== 'closed' && packet.type === 'auth' && exchange !== undefined) {
    client.send(exchange().final(packet.properties.authenticationData!))
    packet = await client.next()
  }
  if (packet === 'closed') return CLOSED
  if (packet.type !== 'connack') throw new Error(`no CONNACK but ${packet.type}`)
  if (packet.reason === 0) client.drop()
  else await client.expectClosed()
  return packet.reason
}

describe('methods in their order (authentication.md 2)', () => {
  test.each(LISTS.map((list, at) => ({ list, at })))('$list', async ({ list, at }) => {
    const versions: readonly packets.Version[] = [5, 4]
    const all = CREDENTIALS.flatMap(credential =>
      versions.filter(version => version === 5 || credential.connect?.properties === undefined).map(version => ({ credential, version })),
    )
    const found: unknown[] = []
    for (let begun = 0; begun < all.length; begun += CONCURRENT) {
      const some = all.slice(begun, begun + CONCURRENT)
      found.push(
        ...(await Promise.all(
          some.map(async ({ credential, version }) => [credential.name, version, await outcome(ports[at]!, version, credential)]),
        )),
      )
    }
    expect(found).toEqual(
      all.map(({ credential, version }) => {
        const code = expected(list, credential)
        return [credential.name, version, code === CLOSED || version === 5 ? code : CODE_OF_311[code]]
      }),
    )
  })

  test('every outcome that there is was among them', () => {
    const outcomes = new Set(LISTS.flatMap(list => CREDENTIALS.map(credential => expected(list, credential))))
    expect([...outcomes].map(String).sort()).toEqual(
      [0, BAD_CREDENTIALS, NOT_AUTHORIZED, UNAVAILABLE, BAD_METHOD, CLOSED].map(String).sort(),
    )
  })
})
