import { X509Certificate } from 'node:crypto'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { CustomSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { CustomServer, DeafServer } from '#shared/testing/custom-server.ts'
import type { CustomBehaviour } from '#shared/testing/custom-server.ts'
import { createTestPki } from '#shared/testing/pki.ts'
import type { TestPki } from '#shared/testing/pki.ts'
import type { AuthenticationMethod, MethodVerdict } from './authentication-method.ts'
import { IN_FLIGHT_MAX, makeCustom, WAITING_MAX } from './custom.ts'
import { FAILURES_MAX, OPEN_MS_MIN } from './breaker.ts'
import { BODY_BYTES_MAX } from './custom/exchange.ts'
import { MethodRig, requestOf } from './method-rig.contract.ts'
import { RETRY_FOR_MS } from './transient-retry.ts'

let pki: TestPki
let strangers: TestPki
const open: { close(): unknown }[] = []

beforeAll(async () => {
  ;[pki, strangers] = await Promise.all([createTestPki(), createTestPki()])
})

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

interface Setup {
  readonly rig: MethodRig
  readonly server: CustomServer
  readonly method: AuthenticationMethod
  readonly ask: (fields?: Partial<AuthenticationRequest>) => Promise<MethodVerdict>
}

async function startServer(options: Partial<Parameters<typeof CustomServer.start>[0]> = {}): Promise<CustomServer> {
  const server = await CustomServer.start({ tls: pki, ...options })
  open.push(server)
  return server
}

function rigWithCa(): MethodRig {
  const rig = new MethodRig()
  rig.configMaps.set('custom-ca', new Map([['ca.pem', pki.ca.toString()]]))
  return rig
}

function methodAt(endpoint: string, rig: MethodRig, settings: Partial<CustomSettings> = {}): AuthenticationMethod {
  const method = makeCustom({ endpoint, caCertConfigMap: 'custom-ca', ...settings }, rig)
  open.push(method)
  return method
}

async function setUp(settings: Partial<CustomSettings> = {}, behaviour?: CustomBehaviour): Promise<Setup> {
  const rig = rigWithCa()
  const server = await startServer()
  if (behaviour !== undefined) server.behave = () => behaviour
  const method = methodAt(`${server.url}${settings.endpoint ?? ''}`, rig, {
    ...settings,
    endpoint: `${server.url}${settings.endpoint ?? ''}`,
  })
  return { rig, server, method, ask: async (fields = {}) => await method.authenticate(requestOf(fields), null, null) }
}

const answer = (status: number, body?: unknown, headers?: Record<string, string>): CustomBehaviour => ({
  is: 'answer',
  status,
  ...(body !== undefined && { body }),
  ...(headers !== undefined && { headers }),
})

describe('the question', () => {
  test('POST to the root with the version of the API; nothing but the type when the client shows nothing', async () => {
    const { server, ask } = await setUp()
    await ask()
    expect(server.requests[0]).toMatchObject({ method: 'POST', path: '/?api-version=0.5.0', body: { type: 'connect' } })
    expect(server.requests[0]!.headers).toMatchObject({ 'content-type': 'application/json', accept: 'application/json' })
    expect(server.requests[0]!.headers['content-length']).toBe('18')
    expect(server.requests[0]!.body).toEqual({ type: 'connect' })
  })

  test.each([
    ['/', '/?api-version=0.5.0'],
    ['/auth/v1', '/auth/v1/?api-version=0.5.0'],
    ['/auth/v1/', '/auth/v1/?api-version=0.5.0'],
    ['/auth//', '/auth/?api-version=0.5.0'],
  ])('an endpoint with the path %s is asked at %s', async (endpoint, path) => {
    const { server, ask } = await setUp({ endpoint })
    await ask()
    expect(server.requests[0]!.path).toBe(path)
  })

  test('user name as text, password in base64, certificates as PEM, leaf first; no client id, no address', async () => {
    const { server, ask } = await setUp()
    const ders = [pki.clientCert, pki.ca].map(pem => new X509Certificate(pem).raw)
    await ask({ userName: 'Wärter "1"', password: Buffer.from([0, 255, 1]), peerCertificates: ders })
    const body = server.requests[0]!.body as Record<string, string>
    expect(Object.keys(body)).toEqual(['type', 'username', 'password', 'certs'])
    expect(body).toMatchObject({ type: 'connect', username: 'Wärter "1"', password: 'AP8B' })
    expect(
      body['certs']!.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g)!.map(pem => new X509Certificate(pem).raw),
    ).toEqual(ders)
    expect(body['certs']!.split('\n').every(line => line.length <= 64)).toBe(true)
  })

  test('empty user name and empty password are said; an empty chain is not', async () => {
    const { server, ask } = await setUp()
    await ask({ userName: '', password: Buffer.alloc(0), peerCertificates: [] })
    expect(server.requests[0]!.body).toEqual({ type: 'connect', username: '', password: '' })
  })

  test.each([
    ['Disabled', 'GS2-KRB5'],
    ['Enabled', 'R1MyLUtSQjU='],
  ] as const)('enhanced authentication; encodesMethod %s', async (encodesMethod, method) => {
    const { server, ask } = await setUp({ encodesMethod })
    await ask({ userName: 'a', authenticationMethod: 'GS2-KRB5', authenticationData: Buffer.from('data') })
    await ask({ authenticationMethod: 'GS2-KRB5' })
    expect(server.requests.map(({ body }) => body)).toEqual([
      { type: 'connect', username: 'a', enhancedAuthentication: { method, data: 'ZGF0YQ==' } },
      { type: 'connect', enhancedAuthentication: { method } },
    ])
  })

  test('re-authentication: type auth with the enhanced fields alone; the user name of CONNECT stays', async () => {
    const { server, method } = await setUp()
    const first = await method.authenticate(requestOf({ userName: 'pump', authenticationMethod: 'X' }), null, null)
    if (first.is !== 'valid') throw new Error(first.is)
    const again = requestOf({ purpose: 'reauthenticate', authenticationMethod: 'X', authenticationData: Buffer.from('new') })
    expect(await method.authenticate(again, null, first.evidence)).toMatchObject({
      is: 'valid',
      userName: 'pump',
      evidence: first.evidence,
    })
    expect(server.requests[1]!.body).toEqual({ type: 'auth', enhancedAuthentication: { method: 'X', data: 'bmV3' } })
  })

  test('evidence stays small: who has a user name over 1,000 bytes cannot re-authenticate', async () => {
    const { method } = await setUp()
    const first = await method.authenticate(requestOf({ userName: 'n'.repeat(1_001) }), null, null)
    if (first.is !== 'valid') throw new Error(first.is)
    expect(first.evidence.length).toBeLessThan(1_024)
    const again = requestOf({ purpose: 'reauthenticate', authenticationMethod: 'X' })
    expect(await method.authenticate(again, null, first.evidence)).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(await method.authenticate(again, null, null)).toMatchObject({ is: 'invalid' })
    expect(await method.authenticate(requestOf({ purpose: 'reauthenticate', userName: 'a' }), null, null)).toMatchObject({ is: 'invalid' })
  })

  test('headers of the settings go along; one connection serves one request after the other', async () => {
    const { server, ask } = await setUp({ headers: { Authorization: 'Bearer x', 'X-Plant': '7' } })
    await ask()
    await ask()
    expect(server.requests[1]!.headers).toMatchObject({ authorization: 'Bearer x', 'x-plant': '7' })
    expect(server.connectionCount).toBe(1)
  })
})

describe('status 200', () => {
  test('an empty object: valid for ever, without attributes, with the user name of CONNECT', async () => {
    const { ask } = await setUp()
    expect(await ask({ userName: 'pump' })).toMatchObject({
      is: 'valid',
      userName: 'pump',
      expiresMs: null,
      attributes: new Map(),
      data: null,
    })
    expect(await ask()).toMatchObject({ is: 'valid', userName: '' })
  })

  test('expiry and attributes; fields of a later version are passed over; __proto__ is a name like any other', async () => {
    const body = '{"expiry":"2099-01-02T03:04:05.678+01:00","attributes":{"floor":"3","__proto__":"x"},"later":[]}'
    const { ask } = await setUp({}, answer(200, body))
    expect(await ask()).toMatchObject({
      is: 'valid',
      expiresMs: Date.UTC(2099, 0, 2, 2, 4, 5, 678),
      attributes: new Map([
        ['floor', '3'],
        ['__proto__', 'x'],
      ]),
    })
  })

  test.each([
    ['no body', ''],
    ['no JSON', '{'],
    ['null', 'null'],
    ['a list', '[]'],
    ['a text', '"{}"'],
    ['a byte order mark', '\ufeff{}'],
    ['attributes as a list', '{"attributes":["a"]}'],
    ['attributes null', '{"attributes":null}'],
    ['an attribute that is a number', '{"attributes":{"a":1}}'],
    ['an attribute without a name', '{"attributes":{"":"x"}}'],
    ['half a surrogate pair', '{"attributes":{"a":"\\ud800"}}'],
    ['a value too long', JSON.stringify({ attributes: { a: 'x'.repeat(4_097) } })],
    ['a name too long', JSON.stringify({ attributes: { ['x'.repeat(257)]: '' } })],
    ['too many attributes', JSON.stringify({ attributes: Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`a${i}`, ''])) })],
    ['expiry null', '{"expiry":null}'],
    ['expiry a number', '{"expiry":1900000000}'],
    ['expiry a date alone', '{"expiry":"2099-01-01"}'],
    ['expiry without a zone', '{"expiry":"2099-01-01T00:00:00"}'],
    ['expiry that is no day', '{"expiry":"2099-02-29T00:00:00Z"}'],
    ['expiry in the past', '{"expiry":"2001-01-01T00:00:00Z"}'],
    ['expiry now', JSON.stringify({ expiry: new Date(1_700_000_000_000).toISOString() })],
  ])('%s refuses with NotAuthorized and tells the operator', async (_, body) => {
    const { rig, ask } = await setUp({}, answer(200, body))
    expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(rig.log.lines).toMatchObject([{ level: 'error', event: 'custom_authentication_faulty' }])
  })

  test(`a body over ${BODY_BYTES_MAX} bytes is not read on`, async () => {
    const { server, ask } = await setUp({}, { is: 'endless', status: 200 })
    expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    await server.when(() => server.openConnectionCount === 0)
    // What lies in buffers of both sides and on the way.
    expect(server.endlessBytes).toBeLessThan(32 * 1024 * 1024)
  })
})

describe('status 403', () => {
  test.each([
    [0x86, ReasonCode.BadUserNameOrPassword],
    [0x87, ReasonCode.NotAuthorized],
    [0x8a, ReasonCode.Banned],
    [0x9f, ReasonCode.ConnectionRateExceeded],
    [0, ReasonCode.NotAuthorized],
    [1, ReasonCode.UnsupportedProtocolVersion],
    [2, ReasonCode.ClientIdentifierNotValid],
    [3, ReasonCode.ServerUnavailable],
    [4, ReasonCode.BadUserNameOrPassword],
    [5, ReasonCode.NotAuthorized],
    [6, ReasonCode.NotAuthorized],
    [0x18, ReasonCode.NotAuthorized],
    [0x8d, ReasonCode.NotAuthorized],
    [0x8e, ReasonCode.NotAuthorized],
    [0xff, ReasonCode.NotAuthorized],
  ])('reason %d refuses with %d', async (given, reason) => {
    const { ask } = await setUp({}, answer(403, { reason: given, message: 'locked' }))
    expect(await ask()).toMatchObject({ is: 'invalid', reason })
  })

  test('the message is logged and in no cause', async () => {
    const { rig, ask } = await setUp({}, answer(403, { reason: 134, message: 'locked since May' }))
    const verdict = await ask()
    expect(JSON.stringify(verdict)).not.toContain('May')
    expect(rig.log.lines).toMatchObject([{ level: 'info', event: 'custom_authentication_denied', fields: { message: 'locked since May' } }])
  })

  test.each([
    [undefined],
    ['no'],
    ['{}'],
    ['{"reason":"135"}'],
    ['{"reason":256}'],
    ['{"reason":-1}'],
    ['{"reason":135.5}'],
    ['{"reason":135,"message":1}'],
  ])('malformed (%s) refuses all the same', async body => {
    const { rig, ask } = await setUp({}, answer(403, body))
    expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(rig.log.events).toEqual(['custom_authentication_faulty'])
  })
})

describe('status 422', () => {
  test('a common version: asked again, once', async () => {
    const { server, ask } = await setUp()
    server.behave = () => (server.requests.length === 1 ? answer(422, { supportedVersions: ['0.4.0', '0.5.0'] }) : answer(200, {}))
    expect(await ask()).toMatchObject({ is: 'valid' })
    server.behave = () => answer(422, { supportedVersions: ['0.5.0'] })
    expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(server.requests).toHaveLength(4)
  })

  test.each([[{ supportedVersions: ['0.6.0'] }], [{ supportedVersions: [] }], [{ supportedVersions: '0.5.0' }], [{}], ['x']])(
    'none in common (%j): refused',
    async body => {
      const { server, rig, ask } = await setUp({}, answer(422, body))
      expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
      expect(server.requests).toHaveLength(1)
      expect(rig.log.events).toEqual(['custom_authentication_faulty'])
    },
  )
})

describe('other answers', () => {
  test.each([201, 204, 301, 302, 307, 308, 400, 401, 404, 405, 408, 415])('status %d refuses and tells the operator', async status => {
    const { server, rig, ask } = await setUp({})
    server.behave = () => answer(status, 'x', { location: `${server.url}/elsewhere` })
    expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(rig.log.lines).toMatchObject([{ level: 'error', fields: { cause: `status ${status}` } }])
    expect(server.requests, 'redirects are not followed').toHaveLength(1)
  })

  test.each([429, 500, 502, 503, 504])('status %d counts as unreachable', async status => {
    const { ask } = await setUp({}, answer(status, 'x'))
    expect(await ask()).toMatchObject({ is: 'unreachable', cause: expect.stringContaining(`status ${status}`) as string })
  })

  test('a status 500 with an endless body is unreachable and not read on', async () => {
    const { server, ask } = await setUp({}, { is: 'endless', status: 500 })
    expect(await ask()).toMatchObject({ is: 'unreachable' })
    await server.when(() => server.openConnectionCount === 0)
  })

  test.each([
    ['something else than HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n'],
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'],
    ['headers without end', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`],
  ])('%s refuses', async (_, text) => {
    const { ask } = await setUp({}, { is: 'raw', text })
    expect(await ask()).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
  })
})

describe('out of reach', () => {
  test.each([['cut'], ['cutInBody']] as const)('connection %s', async is => {
    const { ask } = await setUp({}, { is })
    expect(await ask()).toMatchObject({ is: 'unreachable' })
  })

  test.each([['hold'], ['headersOnly']] as const)('%s: the time is for everything, and the connection is given up', async is => {
    const { rig, server, ask } = await setUp({ timeoutSeconds: 7 }, { is })
    const verdict = ask()
    await server.received(1)
    rig.pass(6_999)
    expect(server.openConnectionCount).toBe(1)
    rig.pass(1)
    expect(await verdict).toMatchObject({ is: 'unreachable', cause: expect.stringContaining('no answer in time') as string })
    await server.when(() => server.openConnectionCount === 0)
    expect(rig.timers.pendingCount).toBe(0)
  })

  test('TCP accepts, TLS never answers: 5 s by default', async () => {
    const deaf = await DeafServer.start()
    open.push(deaf)
    const rig = rigWithCa()
    const verdict = methodAt(deaf.url, rig).authenticate(requestOf({}), null, null)
    await deaf.connected()
    rig.pass(5_000)
    expect(await verdict).toMatchObject({ is: 'unreachable' })
  })

  test('nobody listens; no such host', async () => {
    const { server, rig } = await setUp()
    const { url } = server
    await server.close()
    expect(await methodAt(url, rig).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
    expect(await methodAt('https://nowhere.invalid', rig).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
  })

  test('a certificate of an authority that is not trusted; with the public roots as well', async () => {
    const { rig, server } = await setUp()
    const stranger = await startServer({ tls: strangers })
    expect(await methodAt(stranger.url, rig).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
    const method = makeCustom({ endpoint: server.url }, rig)
    open.push(method)
    expect(await method.authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
    expect(stranger.requests.length + server.requests.length).toBe(0)
  })

  test('a certificate for another name', async () => {
    const { rig, server } = await setUp()
    const method = methodAt(`https://127.0.0.2:${server.port}`, rig)
    const other = await CustomServer.start({ tls: pki })
    open.push(other)
    expect(await method.authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
    expect(server.requests).toHaveLength(0)
  })

  test('all keys of the ConfigMap are trusted', async () => {
    const rig = new MethodRig()
    const server = await startServer()
    rig.configMaps.set(
      'custom-ca',
      new Map([
        ['a', strangers.ca.toString()],
        ['b', `# ours\n${pki.ca.toString()}`],
      ]),
    )
    expect(await methodAt(server.url, rig).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'valid' })
  })

  test('TLS 1.2 will do, TLS 1.1 will not', async () => {
    const server = await CustomServer.start({ tls: pki, maxVersion: 'TLSv1.2' })
    open.push(server)
    expect(await methodAt(server.url, rigWithCa()).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'valid' })
    const old = await CustomServer.start({ tls: pki, maxVersion: 'TLSv1.1' })
    open.push(old)
    expect(await methodAt(old.url, rigWithCa()).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
  })

  test('a client certificate is shown from the Secret; without one the server hangs up', async () => {
    const server = await startServer({ clientCa: pki.ca })
    const rig = rigWithCa()
    rig.secrets.set(
      'own',
      new Map([
        ['tls.crt', pki.clientCert],
        ['tls.key', pki.clientKey],
      ]),
    )
    const auth = { x509: { secretRef: 'own' } }
    expect(await methodAt(server.url, rig, { auth }).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'valid' })
    expect(server.requests[0]!.clientName).not.toBeNull()
    expect(await methodAt(server.url, rig).authenticate(requestOf({}), null, null)).toMatchObject({ is: 'unreachable' })
    expect(server.requests).toHaveLength(1)
  })

  test('a kept connection that the server has just closed is no failure', async () => {
    const { server, ask } = await setUp()
    await ask()
    let isFirst = true
    server.behave = () => {
      const behaviour: CustomBehaviour = isFirst ? { is: 'cut' } : answer(200, {})
      isFirst = false
      return behaviour
    }
    expect(await ask()).toMatchObject({ is: 'valid' })
    expect(server.connectionCount).toBe(2)
  })
})

describe('limits', () => {
  test(`${IN_FLIGHT_MAX} in flight, ${WAITING_MAX} wait in order, the next is told at once`, async () => {
    const { server, ask } = await setUp({}, { is: 'hold' })
    const asked = Array.from({ length: IN_FLIGHT_MAX + WAITING_MAX }, (_, i) => ask({ userName: String(i) }))
    expect(await ask({ userName: 'too many' })).toMatchObject({
      is: 'unreachable',
      cause: expect.stringContaining('wait already') as string,
    })
    await server.received(IN_FLIGHT_MAX)
    expect(server.requests).toHaveLength(IN_FLIGHT_MAX)
    server.behave = () => answer(200, {})
    server.release()
    const verdicts = await Promise.all(asked)
    expect(verdicts.every(({ is }) => is === 'valid')).toBe(true)
    expect(server.connectionCount).toBe(IN_FLIGHT_MAX)
    const names = server.requests.map(({ body }) => Number((body as { username: string }).username))
    expect(names.slice(0, IN_FLIGHT_MAX).sort((a, b) => a - b)).toEqual(Array.from({ length: IN_FLIGHT_MAX }, (_, i) => i))
  })

  test('who waits for its turn waits no longer than its time', async () => {
    const { rig, server, ask } = await setUp({}, { is: 'hold' })
    const asked = Array.from({ length: IN_FLIGHT_MAX + 1 }, () => ask())
    await server.received(IN_FLIGHT_MAX)
    rig.pass(5_000)
    const verdicts = await Promise.all(asked)
    expect(verdicts.every(({ is }) => is === 'unreachable')).toBe(true)
    expect(server.requests).toHaveLength(IN_FLIGHT_MAX)
  })

  test(`after ${FAILURES_MAX} failures the server is left alone; one probe after ${OPEN_MS_MIN} ms; an answer ends it`, async () => {
    const { rig, server, ask } = await setUp({}, answer(503))
    for (let i = 0; i < FAILURES_MAX; i++) await ask()
    expect(await ask()).toMatchObject({ is: 'unreachable', cause: expect.stringContaining('left alone') as string })
    expect(server.requests).toHaveLength(FAILURES_MAX)
    rig.pass(OPEN_MS_MIN)
    server.behave = () => ({ is: 'hold' })
    const probe = ask()
    await server.received(FAILURES_MAX + 1)
    expect(await ask()).toMatchObject({ is: 'unreachable' })
    server.release()
    expect(await probe).toMatchObject({ is: 'valid' })
    server.behave = () => answer(403, { reason: 135 })
    expect(await ask()).toMatchObject({ is: 'invalid' })
  })

  test('a refusal is an answer: it does not count as a failure', async () => {
    const { server, ask } = await setUp({}, answer(400))
    for (let i = 0; i < FAILURES_MAX * 2; i++) expect(await ask()).toMatchObject({ is: 'invalid' })
    expect(server.requests).toHaveLength(FAILURES_MAX * 2)
  })

  test('re-authentication: tried again for 2 s, then unreachable', async () => {
    const { rig, server, method } = await setUp({}, answer(503))
    const again = requestOf({ purpose: 'reauthenticate', authenticationMethod: 'X', userName: 'a' })
    const failing = method.authenticate(again, null, null)
    for (const [attempts, pauseMs] of [100, 200, 400, 800, 500].entries()) {
      await paused(rig, attempts + 1)
      rig.pass(pauseMs)
    }
    expect(await failing).toMatchObject({ is: 'unreachable' })
    expect(rig.timers.nowMs()).toBe(RETRY_FOR_MS)
    expect(server.requests, 'the sixth attempt finds it left alone').toHaveLength(FAILURES_MAX)
  })

  test('re-authentication: trouble that passes is not noticed', async () => {
    const { rig, server, method } = await setUp({}, answer(503))
    const verdict = method.authenticate(requestOf({ purpose: 'reauthenticate', authenticationMethod: 'X', userName: 'a' }), null, null)
    await paused(rig, 1)
    server.behave = () => answer(200, { attributes: { a: '1' } })
    rig.pass(100)
    expect(await verdict).toMatchObject({ is: 'valid', attributes: new Map([['a', '1']]) })
  })
})

/** Until so many attempts have had their answer: then only a pause is pending. */
async function paused(rig: MethodRig, attempts: number): Promise<void> {
  while (rig.log.lines.length < attempts || rig.timers.pendingCount === 0) await new Promise(resolve => setImmediate(resolve))
}

describe('life', () => {
  test('close ends kept connections; what is under way still answers', async () => {
    const { server, ask, method } = await setUp()
    server.behave = () => ({ is: 'hold' })
    const verdict = ask()
    await server.received(1)
    method.close()
    server.release()
    expect(await verdict).toMatchObject({ is: 'valid' })
    await server.when(() => server.openConnectionCount === 0)
  })

  test('close of a method that nothing asks ends its connections at once', async () => {
    const { server, ask, method } = await setUp()
    await ask()
    method.close()
    await server.when(() => server.openConnectionCount === 0)
    expect(server.connectionCount).toBe(1)
  })

  test('every Authentication Method may be its own; a client that is connected stays so', async () => {
    const { method } = await setUp()
    expect(method.name).toBe('Custom')
    expect(method.handles('K8S-SAT')).toBe(true)
    expect(await method.recheck(Buffer.alloc(0), null)).toEqual({ is: 'holds' })
  })

  test('no password, token or header value in any log or cause', async () => {
    const { rig, server, ask } = await setUp({ headers: { authorization: 'header-secret' } })
    const behaviours: CustomBehaviour[] = [answer(403, { reason: 134 }), answer(400), answer(200, 'x'), answer(503), { is: 'cut' }]
    const verdicts: MethodVerdict[] = []
    for (const behaviour of behaviours) {
      server.behave = () => behaviour
      verdicts.push(
        await ask({ userName: 'a', password: Buffer.from('hunter2'), authenticationMethod: 'X', authenticationData: Buffer.from('token') }),
      )
    }
    const said = JSON.stringify(verdicts) + rig.logged
    for (const secret of ['hunter2', Buffer.from('hunter2').toString('base64'), Buffer.from('token').toString('base64'), 'header-secret'])
      expect(said).not.toContain(secret)
    expect(rig.log.lines.length).toBe(behaviours.length)
  })
})

describe('settings that cannot be used', () => {
  const faults: readonly (readonly [string, Partial<CustomSettings>, RegExp])[] = [
    ['no ConfigMap', { caCertConfigMap: 'missing' }, /no ConfigMap missing/],
    ['an empty ConfigMap', { caCertConfigMap: 'empty' }, /no certificate in ConfigMap empty/],
    ['a broken certificate', { caCertConfigMap: 'broken' }, /certificate 1 of ConfigMap broken/],
    ['no Secret', { auth: { x509: { secretRef: 'missing' } } }, /no Secret missing/],
    ['half a Secret', { auth: { x509: { secretRef: 'half' } } }, /Secret half needs tls.crt and tls.key/],
    ['a key of another certificate', { auth: { x509: { secretRef: 'mixed' } } }, /cannot be used/],
    ['user name in the endpoint', { endpoint: 'https://u:p@127.0.0.1' }, /headers/],
    ['query in the endpoint', { endpoint: 'https://127.0.0.1/?a=b' }, /path alone/],
    ['http', { endpoint: 'http://127.0.0.1' }, /https/],
    ['a header twice', { headers: { 'X-A': '1', 'x-a': '2' } }, /twice/],
    ['no header name', { headers: { 'a b': '1' } }, /no HTTP header/],
    ...[
      'Host',
      'content-length',
      'Connection',
      'TRANSFER-ENCODING',
      'te',
      'Upgrade',
      'Trailer',
      'Keep-Alive',
      'Content-Type',
      'Expect',
    ].map(header => [header, { headers: { [header]: 'x' } }, /cannot be set/] as const),
  ]

  function rig(): MethodRig {
    const made = rigWithCa()
    made.configMaps.set('empty', new Map([['a', 'no PEM']]))
    made.configMaps.set('broken', new Map([['a', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----']]))
    made.secrets.set('half', new Map([['tls.crt', pki.clientCert]]))
    made.secrets.set(
      'mixed',
      new Map([
        ['tls.crt', pki.clientCert],
        ['tls.key', strangers.clientKey],
      ]),
    )
    return made
  }

  test.each(faults)('%s', (_, settings, text) => {
    const make = (): unknown => makeCustom({ endpoint: 'https://127.0.0.1', ...settings }, rig())
    expect(make).toThrow(text)
    expect(make).toThrow(expect.objectContaining({ name: 'MethodFault' }) as Error)
  })

  test('a value that would begin another header is not repeated in the fault', () => {
    const make = (): unknown => makeCustom({ endpoint: 'https://127.0.0.1', headers: { a: 'secret\r\nHost: x' } }, rig())
    expect(make).toThrow(/no HTTP header/)
    expect(make).not.toThrow(/secret/)
  })
})
