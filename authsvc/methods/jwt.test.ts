import { createHmac, generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { exportJWK, type JWTPayload, SignJWT } from 'jose'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { JwtSettings } from '#shared/resources/broker-authentication.ts'
import { createTestPki } from '#shared/testing/pki.ts'
import { sameThreadWorkers } from '../worker/same-thread-workers.contract.ts'
import { type AuthenticationMethod, MethodFault } from './authentication-method.ts'
import { makeJwt } from './jwt.ts'
import { MethodRig, requestOf } from './method-rig.contract.ts'

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwkOf = async (key: typeof publicKey, kid: string) => ({ ...(await exportJWK(key)), kid, alg: 'ES256', use: 'sig' })
const KEYS = JSON.stringify({ keys: [await jwkOf(publicKey, 'one')] })

const nowSeconds = Math.floor(Date.now() / 1_000)
const sign = (claims: JWTPayload = {}, { kid = 'one', key = privateKey } = {}) =>
  new SignJWT({ iss: 'issuer', aud: 'broker', sub: 'pump-7', exp: nowSeconds + 3_600, ...claims })
    .setProtectedHeader({ alg: 'ES256', kid })
    .sign(key)

function jwt(settings: Partial<JwtSettings> = {}, rig = new MethodRig()): AuthenticationMethod {
  rig.workers = sameThreadWorkers
  rig.configMaps.set('keys', new Map([['jwks.json', KEYS]]))
  const source = settings.jwksUrl === undefined ? { jwksConfigMap: 'keys' } : {}
  return makeJwt({ ...source, issuer: 'issuer', audiences: ['broker'], ...settings }, rig)
}

const show = (method: AuthenticationMethod, token: string, evidence: Uint8Array | null = null) =>
  method.authenticate(requestOf({ authenticationMethod: 'JWT', authenticationData: Buffer.from(token) }), null, evidence)

describe('a token', () => {
  test('of the issuer is valid until it expires, with user name and attributes from its claims', async () => {
    const method = jwt({ attributeClaims: { group: 'realm.group', level: 'level', 'with.dot': 'x.y', gone: 'nothing', list: 'roles' } })
    const token = await sign({ realm: { group: 'plant' }, level: 3, 'x.y': true, roles: ['a'] })
    expect(await show(method, token)).toMatchObject({
      is: 'valid',
      userName: 'pump-7',
      attributes: new Map([
        ['group', 'plant'],
        ['level', '3'],
        ['with.dot', 'true'],
      ]),
      expiresMs: (nowSeconds + 3_600) * 1_000,
    })
    expect(await show(jwt({ userNameClaim: 'email' }), token)).toMatchObject({ is: 'valid', userName: '' })
  })

  test('is the password of clients without an Authentication Method', async () => {
    const password = Buffer.from(await sign())
    expect(await jwt().authenticate(requestOf({ password, protocolVersion: 4 }), null, null)).toMatchObject({ is: 'valid' })
    expect(await jwt().authenticate(requestOf({ password: Buffer.from('secret') }), null, null)).toEqual({ is: 'irrelevant' })
    expect(await jwt().authenticate(requestOf({ password, authenticationMethod: 'K8S-SAT' }), null, null)).toEqual({ is: 'irrelevant' })
  })

  test.each<[name: string, token: () => Promise<string> | string]>([
    ['expired', () => sign({ exp: nowSeconds - 60 })],
    ['not valid yet', () => sign({ nbf: nowSeconds + 600 })],
    ['without expiry', () => sign({ exp: undefined })],
    ['for another audience', () => sign({ aud: 'somebody' })],
    ['of another issuer', () => sign({ iss: 'somebody' })],
    ['of another key under the same name', () => sign({}, { key: other.privateKey })],
    ['of a key that is not published', () => sign({}, { kid: 'two', key: other.privateKey })],
    ['with algorithm none', () => `${part({ alg: 'none' })}.${part({ iss: 'issuer', aud: 'broker', exp: nowSeconds + 60 })}.`],
    ['signed with the public key as a secret', () => confused()],
    [
      'changed',
      async () => (await sign()).replace(/\.[^.]+\./, `.${part({ iss: 'issuer', aud: 'broker', sub: 'root', exp: nowSeconds + 60 })}.`),
    ],
    ['huge', () => 'a'.repeat(20_000)],
    ['no token', () => 'hello'],
    ['empty', () => ''],
  ])('%s is refused', async (_, token) => {
    expect(await show(jwt(), await token())).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
  })

  test('of another subject does not re-authenticate; the issuer must still be trusted', async () => {
    const first = await show(jwt(), await sign())
    const evidence = first.is === 'valid' ? first.evidence : new Uint8Array()
    expect(await show(jwt(), await sign({ exp: nowSeconds + 7_200 }), evidence)).toMatchObject({ is: 'valid' })
    expect(await show(jwt(), await sign({ sub: 'pump-8' }), evidence)).toMatchObject({ is: 'invalid' })
    const long = await show(jwt(), await sign({ sub: `${'x'.repeat(2_000)}7` }))
    const ofLong = long.is === 'valid' ? long.evidence : new Uint8Array()
    expect(await show(jwt(), await sign({ sub: `${'x'.repeat(2_000)}8` }), ofLong)).toMatchObject({ is: 'invalid' })
    expect(await jwt().recheck(evidence, null)).toEqual({ is: 'holds' })
    expect(await jwt({ issuer: 'another' }).recheck(evidence, null)).toMatchObject({ is: 'invalid' })
  })
})

function part(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function confused(): string {
  const head = `${part({ alg: 'HS256', kid: 'one' })}.${part({ iss: 'issuer', aud: 'broker', exp: nowSeconds + 60 })}`
  const pem = publicKey.export({ type: 'spki', format: 'pem' })
  return `${head}.${createHmac('sha256', pem).update(head).digest('base64url')}`
}

/** Serves whatever `answer` says. */
async function keyServer(answer: () => { readonly status?: number; readonly body: string }) {
  const pki = await createTestPki()
  let requests = 0
  const server = createServer({ cert: pki.serverCert, key: pki.serverKey }, (_, response) => {
    requests++
    const { status = 200, body } = answer()
    response.writeHead(status).end(body)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const rig = new MethodRig()
  rig.configMaps.set('ca', new Map([['ca.crt', String(pki.ca)]]))
  const jwksUrl = `https://localhost:${(server.address() as AddressInfo).port}/keys`
  return { rig, settings: { jwksUrl, caCertConfigMap: 'ca' }, requests: () => requests }
}

describe('keys behind a URL', () => {
  test('are fetched once, and again for a key that is new', async () => {
    let body = KEYS
    const { rig, settings, requests } = await keyServer(() => ({ body }))
    const method = jwt(settings, rig)
    for (let i = 0; i < 5; i++) expect(await show(method, await sign())).toMatchObject({ is: 'valid' })
    expect(requests()).toBe(1)
    body = JSON.stringify({ keys: [await jwkOf(publicKey, 'one'), await jwkOf(other.publicKey, 'two')] })
    const rotated = await sign({}, { kid: 'two', key: other.privateKey })
    expect(await show(method, rotated)).toMatchObject({ is: 'invalid' })
    rig.pass(30_000)
    expect(await show(method, rotated)).toMatchObject({ is: 'valid' })
    expect(requests()).toBe(2)
  })

  test.each([
    ['an error', { status: 500, body: KEYS }],
    ['no JSON', { body: '<html>' }],
    ['no key set', { body: '{"keys": 1}' }],
    ['more than there is room for', { body: `{"keys": [], "x": "${'x'.repeat(2 ** 20)}"}` }],
    ['a redirect', { status: 302, body: '' }],
  ])('%s in their place: later, not refused, and not asked for each client', async (_, answer) => {
    const { rig, settings, requests } = await keyServer(() => answer)
    const method = jwt(settings, rig)
    for (let i = 0; i < 3; i++) expect(await show(method, await sign())).toMatchObject({ is: 'unreachable' })
    expect(requests()).toBe(1)
  })

  test('stay in use while the server is away', async () => {
    let status = 200
    const { rig, settings, requests } = await keyServer(() => ({ status, body: KEYS }))
    const method = jwt(settings, rig)
    await show(method, await sign())
    status = 503
    rig.pass(600_000)
    expect(await show(method, await sign())).toMatchObject({ is: 'valid' })
    await expect.poll(requests).toBe(2)
    expect(await show(method, await sign())).toMatchObject({ is: 'valid' })
  })

  test('of a server with a certificate of somebody else are not taken', async () => {
    const { rig, settings } = await keyServer(() => ({ body: KEYS }))
    rig.configMaps.set('ca', new Map([['ca.crt', String((await createTestPki()).ca)]]))
    expect(await show(jwt(settings, rig), await sign())).toMatchObject({ is: 'unreachable' })
  })
})

test('keys that are missing or none, and symmetric ones', async () => {
  expect(() => jwt({ jwksConfigMap: 'nothing' })).toThrow(MethodFault)
  const rig = new MethodRig()
  const method = jwt({}, rig)
  expect(method.handles('JWT')).toBe(true)
  rig.configMaps.set('bad', new Map([['jwks.json', 'x']]))
  expect(() => makeJwt({ jwksConfigMap: 'bad', issuer: 'issuer', audiences: ['broker'] }, rig)).toThrow('expected a JWK Set')
  const secret = JSON.stringify({ keys: [{ kty: 'oct', kid: 'one', k: 'c2VjcmV0' }] })
  rig.configMaps.set('oct', new Map([['jwks.json', secret]]))
  const symmetric = makeJwt({ jwksConfigMap: 'oct', issuer: 'issuer', audiences: ['broker'] }, rig)
  expect(await show(symmetric, await sign())).toMatchObject({ is: 'invalid' })
})
