import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import * as packets from '../conformance/packets.ts'
import { configMap, resource } from '../specification/configured-broker.ts'
import { HostileStage, keepSecret, NOT_AUTHORIZED } from './hostile-stage.ts'

const AUDIENCE = 'aio-internal'
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const own = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const foreign = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const KEYS = { keys: [{ ...own.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'RS256', use: 'sig' }] }

interface Forged {
  readonly header?: object
  readonly claims?: object
  readonly key?: KeyObject
  readonly signature?: (signed: string) => Buffer
}

let nowSeconds: number
let api: KubernetesApi
let stage: HostileStage<'sat' | 'jwt' | 'both'>

const rsa = (key: KeyObject) => (signed: string) => sign('sha256', Buffer.from(signed), key)

/** A token of the claims that are right for `jwt`, but for what is given. */
function forged({ header = {}, claims = {}, key = own.privateKey, signature = rsa(key) }: Forged = {}): string {
  const right = { iss: 'issuer', aud: 'broker', sub: 'pump', iat: nowSeconds - 10, exp: nowSeconds + 3_600 }
  const signed = `${encode({ alg: 'RS256', kid: 'one', ...header })}.${encode({ ...right, ...claims })}`
  const token = `${signed}.${signature(signed).toString('base64url')}`
  for (const part of token.split('.').slice(1)) if (part.length > 20) keepSecret(part)
  return token
}

/** Of a service account, right but for what is given. */
function forgedSat(given: Forged = {}): string {
  const account = { namespace: 'plant', serviceaccount: { name: 'pump', uid: 'x' } }
  const claims = {
    iss: 'https://kubernetes.default.svc.cluster.local',
    aud: [AUDIENCE],
    sub: 'system:serviceaccount:plant:pump',
    'kubernetes.io': account,
  }
  return forged({ ...given, claims: { ...claims, ...given.claims } })
}

const byMethod = (method: string, token: string | Buffer): packets.Connect => ({
  clientId: 'forger',
  properties: { authenticationMethod: method, authenticationData: Buffer.from(token as string) },
})

beforeAll(async () => {
  api = await KubernetesApi.open()
  api.createServiceAccount('plant', 'pump')
  api.createServiceAccount('plant', 'deleted')
  const right = api.mintToken({ namespace: 'plant', serviceAccount: 'pump', audiences: [AUDIENCE] })
  nowSeconds = (JSON.parse(Buffer.from(right.split('.')[1]!, 'base64url').toString()) as { iat: number }).iat
  const sat = { method: 'ServiceAccountToken', serviceAccountTokenSettings: { audiences: [AUDIENCE] } }
  const jwt = {
    method: 'Jwt',
    jwtSettings: { jwksConfigMap: 'keys', issuer: 'issuer', audiences: ['broker'], attributeClaims: { group: 'group' } },
  }
  const of = (name: string, ...authenticationMethods: readonly object[]): object =>
    resource('BrokerAuthentication', name, { authenticationMethods })
  stage = await HostileStage.start(
    { sat: { authenticationRef: 'sat' }, jwt: { authenticationRef: 'jwt' }, both: { authenticationRef: 'both' } },
    { who: [of('sat', sat), of('jwt', jwt), of('both', sat, jwt)], known: [configMap('keys', { 'jwks.json': JSON.stringify(KEYS) })] },
    api.environment,
  )
})

afterAll(async () => {
  await stage.expectUnharmed()
  await api.close()
})

const publicPem = own.publicKey.export({ type: 'spki', format: 'pem' }) as string
const hmac = (secret: string | Buffer) => (signed: string) => createHmac('sha256', secret).update(signed).digest()

/** What is wrong with a token, whoever issues such. */
const FORGERIES: readonly (readonly [string, () => Forged])[] = [
  ['alg none, without a signature', () => ({ header: { alg: 'none' }, signature: () => Buffer.alloc(0) })],
  ['alg none in other cases', () => ({ header: { alg: 'nOnE' }, signature: () => Buffer.alloc(0) })],
  ['alg none, with a signature', () => ({ header: { alg: 'none' } })],
  ['no alg', () => ({ header: { alg: undefined } })],
  ['alg a list', () => ({ header: { alg: ['RS256', 'none'] } })],
  ['HMAC with the public key as PEM', () => ({ header: { alg: 'HS256' }, signature: hmac(publicPem) })],
  [
    'HMAC with the public key as DER',
    () => ({ header: { alg: 'HS256' }, signature: hmac(own.publicKey.export({ type: 'spki', format: 'der' })) }),
  ],
  ['HMAC with the modulus', () => ({ header: { alg: 'HS256' }, signature: hmac(own.publicKey.export({ format: 'jwk' }).n!) })],
  ['HMAC with nothing', () => ({ header: { alg: 'HS256' }, signature: hmac('') })],
  ['a key of its own in the header', () => ({ header: { jwk: foreign.publicKey.export({ format: 'jwk' }) }, key: foreign.privateKey })],
  [
    'a place of keys in the header',
    () => ({ header: { jku: 'https://127.0.0.1:1/keys', x5u: 'https://127.0.0.1:1/' }, key: foreign.privateKey }),
  ],
  ['a name that leads elsewhere', () => ({ header: { kid: '../../../../etc/passwd' }, key: foreign.privateKey })],
  ['a name that is a query', () => ({ header: { kid: "' OR 1=1 --" }, key: foreign.privateKey })],
  ['no name of a key', () => ({ header: { kid: undefined }, key: foreign.privateKey })],
  ['an extension that must be known', () => ({ header: { crit: ['b64'], b64: false } })],
  ['signed by somebody else', () => ({ key: foreign.privateKey })],
  ['signature of another token', () => ({ signature: () => rsa(own.privateKey)('another.token') })],
  ['unsigned', () => ({ signature: () => Buffer.alloc(0) })],
  ['a signature of zeros', () => ({ signature: () => Buffer.alloc(256) })],
  ['expired', () => ({ claims: { exp: nowSeconds - 60 } })],
  ['expired in 1970', () => ({ claims: { exp: 1 } })],
  ['expires before it was made', () => ({ claims: { exp: -1 } })],
  ['without an end', () => ({ claims: { exp: undefined } })],
  ['an end that is a text', () => ({ claims: { exp: '9999999999' } })],
  ['an end that is null', () => ({ claims: { exp: null } })],
  ['of the future', () => ({ claims: { nbf: nowSeconds + 3_600 } })],
  ['for somebody else', () => ({ claims: { aud: 'somebody' } })],
  ['for nobody', () => ({ claims: { aud: [] } })],
  ['for whoever', () => ({ claims: { aud: ['*'] } })],
]

describe('tokens of an issuer', () => {
  test('a right one comes in', async () => {
    const client = await stage.connect('jwt', byMethod('JWT', forged()))
    client.drop()
  })

  test.each(FORGERIES)('%s: 0x87, by the method and as a password', async (_, forgery) => {
    const token = forged(forgery())
    expect(await stage.refusal('jwt', byMethod('JWT', token))).toBe(NOT_AUTHORIZED)
    expect(await stage.refusal('jwt', { userName: 'pump', password: token })).toBe(NOT_AUTHORIZED)
    expect(await stage.refusal('jwt', { userName: 'pump', password: token, version: 4 })).toBe(5)
  })

  test.each([
    ['another issuer', { iss: 'issuer2' }],
    ['a list of issuers', { iss: ['issuer'] }],
    ['no issuer', { iss: undefined }],
  ])('%s: 0x87', async (_, claims) => {
    expect(await stage.refusal('jwt', byMethod('JWT', forged({ claims })))).toBe(NOT_AUTHORIZED)
  })

  test('names in claims that mean something to JavaScript are nobody, and no attributes', async () => {
    for (const sub of ['__proto__', 'constructor', { toString: 'x' }, ['alice'], 17, '', null]) {
      const client = await stage.connect('jwt', byMethod('JWT', forged({ claims: { sub, group: { __proto__: 'admin' } } })))
      client.drop()
    }
  })
})

describe('tokens of service accounts', () => {
  test('a right one comes in', async () => {
    const token = keepSecret(api.mintToken({ namespace: 'plant', serviceAccount: 'pump', audiences: [AUDIENCE] }))
    const client = await stage.connect('sat', byMethod('K8S-SAT', token))
    client.drop()
  })

  test.each(FORGERIES)('%s: 0x87, by the method and as a password', async (_, forgery) => {
    const token = forgedSat(forgery())
    expect(await stage.refusal('sat', byMethod('K8S-SAT', token))).toBe(NOT_AUTHORIZED)
    expect(await stage.refusal('sat', { userName: 'K8S-SAT', password: token, version: 4 })).toBe(5)
  })

  test.each([
    ['expired', { expirationSeconds: -60 }, NOT_AUTHORIZED],
    ['for another audience', { audiences: ['somebody'] }, NOT_AUTHORIZED],
    ['for the API server', { audiences: ['https://kubernetes.default.svc.cluster.local'] }, NOT_AUTHORIZED],
  ])('rightly signed, %s: 0x87', async (_, request, code) => {
    const token = keepSecret(api.mintToken({ namespace: 'plant', serviceAccount: 'pump', audiences: [AUDIENCE], ...request }))
    expect(await stage.refusal('sat', byMethod('K8S-SAT', token))).toBe(code)
  })

  test('of an account that was deleted, and of one that came under its name: 0x87', async () => {
    const token = keepSecret(api.mintToken({ namespace: 'plant', serviceAccount: 'deleted', audiences: [AUDIENCE] }))
    api.objects.delete('v1/serviceaccounts', 'plant', 'deleted')
    expect(await stage.refusal('sat', byMethod('K8S-SAT', token))).toBe(NOT_AUTHORIZED)
    api.createServiceAccount('plant', 'deleted')
    const other = keepSecret(api.mintToken({ namespace: 'plant', serviceAccount: 'deleted', audiences: [AUDIENCE] }))
    const client = await stage.connect('sat', byMethod('K8S-SAT', other))
    client.drop()
    expect(await stage.refusal('sat', byMethod('K8S-SAT', token))).toBe(NOT_AUTHORIZED)
  })
})

describe('what is no token', () => {
  const garbage: readonly (readonly [string, Buffer])[] = [
    ['nothing', Buffer.alloc(0)],
    ['a byte', Buffer.of(0)],
    ['16 KiB of parts', Buffer.from('a.'.repeat(8_000))],
    ['just above what a token may have', Buffer.from(`${'a'.repeat(8_000)}.${'b'.repeat(8_000)}.${'c'.repeat(400)}`)],
    ['65,535 bytes', Buffer.alloc(65_535, 'a')],
    [
      'a payload of 12 KiB of brackets',
      Buffer.from(`${encode({ alg: 'RS256', kid: 'one' })}.${Buffer.from('['.repeat(8_900)).toString('base64url')}.AAAA`),
    ],
    ['65,535 random bytes', Buffer.from(Array.from({ length: 65_535 }, (_, at) => (at * 7_919) & 0xff))],
    ['control characters', Buffer.from('\r\n\0\x1b[31m{"level":"fatal"}')],
  ]

  test.each(garbage)('%s: 0x87 from all that take tokens', async (_, bytes) => {
    for (const port of ['sat', 'both'] as const) expect(await stage.refusal(port, byMethod('K8S-SAT', bytes))).toBe(NOT_AUTHORIZED)
    for (const port of ['jwt', 'both'] as const) expect(await stage.refusal(port, byMethod('JWT', bytes))).toBe(NOT_AUTHORIZED)
    expect(await stage.refusal('both', { userName: 'K8S-SAT', password: bytes })).toBe(NOT_AUTHORIZED)
    expect(await stage.refusal('both', { userName: 'anybody', password: bytes })).toBe(NOT_AUTHORIZED)
  })

  test('a method that nobody has, of 65,535 bytes: 0x8C, and no part of it as a line of its own', async () => {
    const method = `${'x'.repeat(65_000)}\n{"event":"forged"}`
    expect(await stage.refusal('both', byMethod(method, 'x'))).toBe(0x8c)
    expect(stage.configured.broker.err.split('\n').some(line => line.startsWith('{"event":"forged"'))).toBe(false)
  })

  test('a re-authentication with a token of somebody else ends the connection', async () => {
    const client = await stage.connect('jwt', byMethod('JWT', forged()))
    client.send(packets.auth(0x19, { authenticationMethod: 'JWT', authenticationData: Buffer.from(forged({ claims: { sub: 'valve' } })) }))
    await client.expectDisconnect(NOT_AUTHORIZED)
  })
})
