import { afterAll, beforeAll, expect, test } from 'vitest'
import { CertificateLab } from '#shared/testing/certificates.ts'
import { type CustomBehaviour, CustomServer } from '#shared/testing/custom-server.ts'
import { configMap, resource, serverCertificate } from '../specification/configured-broker.ts'
import { HostileStage, keepSecret, NOT_AUTHORIZED, PASSWORD, passwordDocuments } from './hostile-stage.ts'

const HEADER_SECRET = keepSecret('key of the broker for its server')
const UNAVAILABLE = 0x88

const lab = new CertificateLab()
const authority = lab.authority('/CN=site CA')
let custom: CustomServer
let elsewhere: CustomServer
let stage: HostileStage<'custom' | 'fallback'>

beforeAll(async () => {
  const server = serverCertificate(lab, authority)
  const tls = { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) }
  custom = await CustomServer.start({ tls })
  elsewhere = await CustomServer.start({ tls })
  const customSettings = { endpoint: custom.url, caCertConfigMap: 'server-ca', headers: { 'x-key': HEADER_SECRET } }
  const method = { method: 'Custom', customSettings }
  stage = await HostileStage.start(
    { custom: { authenticationRef: 'custom' }, fallback: { authenticationRef: 'fallback' } },
    {
      who: [
        ...passwordDocuments(),
        resource('BrokerAuthentication', 'custom', { authenticationMethods: [method] }),
        resource('BrokerAuthentication', 'fallback', {
          authenticationMethods: [method, { method: 'Password', passwordSettings: { secretRef: 'users' } }],
        }),
        configMap('server-ca', { any: authority.certificate }),
      ],
    },
  )
})

afterAll(async () => {
  await stage.expectUnharmed()
  await custom.close()
  await elsewhere.close()
  lab.close()
})

const answer = (status: number, body?: unknown, headers?: Readonly<Record<string, string>>): CustomBehaviour => ({
  is: 'answer',
  status,
  ...(body !== undefined && { body }),
  ...(headers !== undefined && { headers }),
})
const many = (count: number): object => Object.fromEntries(Array.from({ length: count }, (_, at) => [`name-${at}`, 'value']))

/** What is no acceptance, whatever it looks like; and that no fallback opens by it. */
const REFUSING: readonly (readonly [string, CustomBehaviour, number])[] = [
  ['200 without a body', answer(200), NOT_AUTHORIZED],
  ['200 with a body that is no JSON', answer(200, '<html>{}</html>'), NOT_AUTHORIZED],
  ['200 with null', answer(200, 'null'), NOT_AUTHORIZED],
  ['200 with a list', answer(200, '[]'), NOT_AUTHORIZED],
  ['200 with a text', answer(200, '"ok"'), NOT_AUTHORIZED],
  ['200 with two objects', answer(200, '{}{}'), NOT_AUTHORIZED],
  ['200 with a text where a character was lost: that is a text', answer(200, '{"attributes":{"a":"\ud800"}}'), 0],
  ['200 with half a character', answer(200, String.raw`{"attributes":{"a":"\ud800"}}`), NOT_AUTHORIZED],
  ['200 with attributes that are numbers', answer(200, { attributes: { floor: 3 } }), NOT_AUTHORIZED],
  ['200 with attributes that are objects', answer(200, { attributes: { floor: { toString: 'x' } } }), NOT_AUTHORIZED],
  ['200 with attributes in a list', answer(200, { attributes: ['admin'] }), NOT_AUTHORIZED],
  ['200 with more attributes than a client may have', answer(200, { attributes: many(129) }), NOT_AUTHORIZED],
  ['200 with a long attribute', answer(200, { attributes: { a: 'x'.repeat(4_097) } }), NOT_AUTHORIZED],
  ['200 with a nameless attribute', answer(200, { attributes: { '': 'x' } }), NOT_AUTHORIZED],
  ['200 with 60 KiB of brackets', answer(200, '['.repeat(60_000)), NOT_AUTHORIZED],
  ['200 that expired in the past', answer(200, { expiry: '2020-01-01T00:00:00Z' }), NOT_AUTHORIZED],
  ['200 that expires in the year 0', answer(200, { expiry: '0000-01-01T00:00:00Z' }), NOT_AUTHORIZED],
  ['200 that expires on the 30th of February', answer(200, { expiry: '2090-02-30T00:00:00Z' }), NOT_AUTHORIZED],
  ['200 that expires at a number', answer(200, { expiry: 4_102_444_800 }), NOT_AUTHORIZED],
  ['200 that expires at nothing', answer(200, { expiry: null }), NOT_AUTHORIZED],
  ['200 with a body without end', { is: 'endless', status: 200 }, NOT_AUTHORIZED],
  ['403 with a body without end', { is: 'endless', status: 403 }, NOT_AUTHORIZED],
  ['403 with reason 0', answer(403, { reason: 0 }), NOT_AUTHORIZED],
  ['403 with reason 4', answer(403, { reason: 4 }), 0x86],
  ['403 with reason 5', answer(403, { reason: 5 }), NOT_AUTHORIZED],
  ['403 with reason 0x18', answer(403, { reason: 0x18 }), NOT_AUTHORIZED],
  ['403 with reason 0xff', answer(403, { reason: 0xff }), NOT_AUTHORIZED],
  ['403 with reason 0x98, which CONNACK does not have', answer(403, { reason: 0x98 }), NOT_AUTHORIZED],
  ['403 with reason 256', answer(403, { reason: 256 }), NOT_AUTHORIZED],
  ['403 with reason -1', answer(403, { reason: -1 }), NOT_AUTHORIZED],
  ['403 without a body', answer(403), NOT_AUTHORIZED],
  ['201', answer(201, {}), NOT_AUTHORIZED],
  ['204', answer(204), NOT_AUTHORIZED],
  ['400', answer(400, 'no'), NOT_AUTHORIZED],
  ['401', answer(401, {}), NOT_AUTHORIZED],
  ['404', answer(404, {}), NOT_AUTHORIZED],
  ['422 without end', answer(422, { supportedVersions: ['0.5.0'] }), NOT_AUTHORIZED],
  ['422 for other versions', answer(422, { supportedVersions: ['9'] }), NOT_AUTHORIZED],
  ['what is not HTTP', { is: 'raw', text: 'SSH-2.0-x\r\n' }, NOT_AUTHORIZED],
  [
    'two answers in one',
    {
      is: 'raw',
      text: 'HTTP/1.1 403 No\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}',
    },
    NOT_AUTHORIZED,
  ],
  ['101 and another protocol', { is: 'raw', text: 'HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n' }, NOT_AUTHORIZED],
]

test.each(REFUSING)('%s', async (_, behaviour, code) => {
  custom.behave = () => behaviour
  const client = await stage.open('custom')
  client.sendConnect({ clientId: 'c', userName: 'anybody', password: PASSWORD })
  const { reason } = await client.expect('connack')
  expect(reason).toBe(code)
  client.drop()
  if (code === 0) return
  expect(await stage.refusal('fallback', { userName: 'anybody', password: PASSWORD })).toBe(code)
})

test('a redirect is not followed, and the secrets of the broker and its clients stay where they were sent', async () => {
  for (const status of [301, 302, 303, 307, 308]) {
    custom.behave = () => answer(status, {}, { location: `${elsewhere.url}/` })
    expect(await stage.refusal('custom', { userName: 'alice', password: PASSWORD })).toBe(NOT_AUTHORIZED)
  }
  expect(elsewhere.connectionCount).toBe(0)
})

test('of a body without end some is read, and no more', async () => {
  const before = custom.endlessBytes
  custom.behave = () => ({ is: 'endless', status: 200 })
  await Promise.all(Array.from({ length: 8 }, () => stage.refusal('custom', { userName: 'a', password: 'b' })))
  await custom.when(() => custom.openConnectionCount < 64)
  // What sockets of both sides hold besides.
  expect(custom.endlessBytes - before).toBeLessThan(8 * 8 * 1024 * 1024)
})

test('names that mean something to JavaScript are attributes like others, and no rights', async () => {
  custom.behave = () =>
    answer(200, '{"__proto__":{"attributes":{"a":"b"}},"attributes":{"__proto__":"x","constructor":"y","toString":"z"}}')
  const client = await stage.connect('custom', { userName: 'a', password: 'b' })
  await client.ping()
  client.drop()
})

test('what a client claims goes there as data: no header and no second request comes of it', async () => {
  custom.behave = () => answer(403, { reason: 0x86, message: `\u001b[2J\n{"event":"forged"} \u202e` })
  const before = custom.requests.length
  const userName = 'x\r\nx-key: other\r\n\r\nPOST / HTTP/1.1\r\n"},{"'
  expect(await stage.refusal('custom', { userName, password: PASSWORD })).toBe(0x86)
  const [request, ...others] = custom.requests.slice(before)
  expect(others).toEqual([])
  expect(request).toMatchObject({ path: '/?api-version=0.5.0', headers: { 'x-key': HEADER_SECRET }, body: { username: userName } })
  const { err } = stage.configured.broker
  expect(err.split('\n').some(line => line.startsWith('{"event":"forged"'))).toBe(false)
  expect([err.includes('\u001b'), err.includes('\u202e')]).toEqual([false, false])
})

test('only one that cannot be asked opens the fallback, and that asks for the password', async () => {
  for (const behaviour of [answer(500), answer(429), { is: 'cut' }, { is: 'cutInBody' }] satisfies CustomBehaviour[]) {
    custom.behave = () => behaviour
    expect(await stage.refusal('custom', { userName: 'alice', password: PASSWORD })).toBe(UNAVAILABLE)
    expect(await stage.refusal('fallback', { userName: 'alice', password: 'guess' })).toBe(NOT_AUTHORIZED)
    const client = await stage.connect('fallback', { userName: 'alice', password: PASSWORD })
    client.drop()
  }
})
