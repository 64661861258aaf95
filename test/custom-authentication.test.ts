import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { systemClock } from '#shared/base/clock.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { CustomSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import { createTestPki } from '#shared/testing/pki.ts'
import type { TestPki } from '#shared/testing/pki.ts'
import { isPasswordOf, makePasswordHash, parsePasswordHash } from '../authsvc/credentials/password-hash.ts'
import type { AuthenticationMethod, MethodVerdict } from '../authsvc/methods/authentication-method.ts'
import { makeCustom } from '../authsvc/methods/custom.ts'
import { MethodRig, requestOf } from '../authsvc/methods/method-rig.contract.ts'

const MAIN = fileURLToPath(new URL('../deploy/custom-authentication/main.ts', import.meta.url))
const OPENAPI = fileURLToPath(new URL('../deploy/custom-authentication/openapi.yaml', import.meta.url))
const EXAMPLE = fileURLToPath(new URL('../deploy/custom-authentication/users.example.json', import.meta.url))

let directory: string
let pki: TestPki
const toEnd: { close(): unknown }[] = []

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-template-'))
  pki = await createTestPki(directory)
})
afterAll(async () => {
  for (const each of toEnd.reverse()) await each.close()
  await rm(directory, { recursive: true })
})

/** The template as a user starts it. */
class Template {
  readonly port: number
  readonly lines: Record<string, unknown>[]
  readonly #child: ChildProcess

  static async start(env: Readonly<Record<string, string>>): Promise<Template> {
    const files = { TLS_CERT: join(directory, 'server.crt'), TLS_KEY: join(directory, 'server.key') }
    const child = spawn(process.execPath, [MAIN], {
      env: { HOST: '127.0.0.1', PORT: '0', ...files, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const lines: Record<string, unknown>[] = []
    const reader = createInterface(child.stdout)
    reader.on('line', line => lines.push(JSON.parse(line) as Record<string, unknown>))
    await Promise.race([once(reader, 'line'), once(child, 'exit').then(() => Promise.reject(new Error('the template has ended')))])
    const template = new Template(child, lines)
    toEnd.push(template)
    return template
  }

  private constructor(child: ChildProcess, lines: Record<string, unknown>[]) {
    this.#child = child
    this.lines = lines
    this.port = Number(lines[0]!['port'])
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`
  }

  /** SIGTERM, and its exit code. */
  async stop(): Promise<unknown> {
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    return (await exit)[0] as unknown
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exit = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await exit
    }
  }
}

function method(url: string, settings: Partial<CustomSettings> = {}): AuthenticationMethod {
  const rig = new MethodRig(systemClock.wallMs())
  rig.configMaps.set('ca', new Map([['ca.pem', pki.ca.toString()]]))
  rig.secrets.set(
    'own',
    new Map([
      ['tls.crt', pki.clientCert],
      ['tls.key', pki.clientKey],
    ]),
  )
  const made = makeCustom({ endpoint: url, caCertConfigMap: 'ca', ...settings }, rig)
  toEnd.push(made)
  return made
}

async function ask(url: string, fields: Partial<AuthenticationRequest>): Promise<MethodVerdict> {
  return await method(url).authenticate(requestOf(fields), null, null)
}

function hashOf(password: string): string {
  return spawnSync(process.execPath, [MAIN, 'hash'], { input: `${password}\n`, encoding: 'utf8' }).stdout.trim()
}

const plain = (userName: string, password: string): Partial<AuthenticationRequest> => ({
  authenticationMethod: 'PLAIN',
  authenticationData: Buffer.from(`\0${userName}\0${password}`),
})

interface Reply {
  readonly status: number
  readonly body: string
}

/** A request that the broker would not send. */
async function send(url: string, path: string, options: { method?: string; contentType?: string; body?: string }): Promise<Reply> {
  const { method: verb = 'POST', contentType = 'application/json', body = '{"type":"connect"}' } = options
  return await new Promise((resolve, reject) => {
    const request = httpsRequest(
      `${url}${path}`,
      { ca: pki.ca, method: verb, agent: false, headers: { 'content-type': contentType } },
      response => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => resolve({ status: response.statusCode!, body: Buffer.concat(chunks).toString() }))
        response.on('error', reject)
      },
    )
    request.on('error', reject)
    request.end(verb === 'GET' ? undefined : body)
  })
}

describe('the template', () => {
  let template: Template
  let users: string
  let hash: string

  const write = async (change: object = {}): Promise<void> => {
    const password = hash
    const certificateSha256 = new X509Certificate(pki.clientCert).fingerprint256
    const all = {
      pump: { password, attributes: { floor: '3' }, expiresInSeconds: 600 },
      lasting: { password },
      gone: { password, disabled: true },
      carded: { password, certificateSha256 },
      ...change,
    }
    await writeFile(users, JSON.stringify({ users: all }))
  }

  beforeAll(async () => {
    users = join(directory, 'users.json')
    hash = hashOf('correct')
    await write()
    template = await Template.start({ USERS: users })
  })

  test('user name and password: attributes and expiry from the file', async () => {
    const startMs = systemClock.wallMs()
    const verdict = await ask(template.url, { userName: 'pump', password: Buffer.from('correct') })
    expect(verdict).toMatchObject({ is: 'valid', userName: 'pump', attributes: new Map([['floor', '3']]) })
    const { expiresMs } = verdict as MethodVerdict & { is: 'valid' }
    expect(expiresMs).toBeGreaterThanOrEqual(startMs + 600_000)
    expect(expiresMs).toBeLessThanOrEqual(systemClock.wallMs() + 600_000)
    expect(await ask(template.url, { userName: 'lasting', password: Buffer.from('correct') })).toMatchObject({
      is: 'valid',
      expiresMs: null,
    })
  })

  test.each([
    ['a wrong password', { userName: 'pump', password: Buffer.from('wrong') }, ReasonCode.BadUserNameOrPassword],
    ['an unknown user', { userName: 'nobody', password: Buffer.from('correct') }, ReasonCode.BadUserNameOrPassword],
    ['a name of every object', { userName: '__proto__', password: Buffer.from('correct') }, ReasonCode.BadUserNameOrPassword],
    ['no password', { userName: 'pump' }, ReasonCode.BadUserNameOrPassword],
    ['nothing', {}, ReasonCode.BadUserNameOrPassword],
    ['somebody who is disabled', { userName: 'gone', password: Buffer.from('correct') }, ReasonCode.Banned],
    ['no certificate', { userName: 'carded', password: Buffer.from('correct') }, ReasonCode.BadUserNameOrPassword],
    [
      'another Authentication Method',
      { authenticationMethod: 'X', userName: 'pump', password: Buffer.from('correct') },
      ReasonCode.BadAuthenticationMethod,
    ],
    ['PLAIN for another user name', { ...plain('pump', 'correct'), userName: 'lasting' }, ReasonCode.BadUserNameOrPassword],
    ['PLAIN without data', { authenticationMethod: 'PLAIN', userName: 'pump' }, ReasonCode.BadUserNameOrPassword],
  ] satisfies [string, Partial<AuthenticationRequest>, number][])('%s is refused', async (_, fields, reason) => {
    expect(await ask(template.url, fields)).toMatchObject({ is: 'invalid', reason })
  })

  test('a certificate that the file asks for', async () => {
    const credentials = { userName: 'carded', password: Buffer.from('correct') }
    const [own, other] = [pki.clientCert, pki.serverCert].map(pem => new X509Certificate(pem).raw) as [Buffer, Buffer]
    expect(await ask(template.url, { ...credentials, peerCertificates: [own, other] })).toMatchObject({ is: 'valid' })
    expect(await ask(template.url, { ...credentials, peerCertificates: [other, own] })).toMatchObject({ is: 'invalid' })
  })

  test('PLAIN, and re-authentication with it', async () => {
    const custom = method(template.url)
    const first = await custom.authenticate(requestOf({ ...plain('pump', 'correct'), userName: 'pump' }), null, null)
    if (first.is !== 'valid') throw new Error(first.is)
    const again = (password: string): AuthenticationRequest => requestOf({ ...plain('pump', password), purpose: 'reauthenticate' })
    expect(await custom.authenticate(again('correct'), null, first.evidence)).toMatchObject({ is: 'valid', userName: 'pump' })
    expect(await custom.authenticate(again('wrong'), null, first.evidence)).toMatchObject({ is: 'invalid' })
  })

  test('it takes the scrypt hashes of millrace passwd, and the method Password takes its own', async () => {
    await write({ moved: { password: makePasswordHash('scrypt', Buffer.from('carried over')) } })
    const moved = (password: string): Promise<MethodVerdict> => ask(template.url, { userName: 'moved', password: Buffer.from(password) })
    expect(await moved('carried over')).toMatchObject({ is: 'valid' })
    expect(await moved('another')).toMatchObject({ is: 'invalid' })
    await write()

    const taken = parsePasswordHash(hash)!
    expect([isPasswordOf(taken, Buffer.from('correct')), isPasswordOf(taken, Buffer.from('another'))]).toEqual([true, false])
  })

  test('the file is read again when it has changed; a mistake changes nothing', async () => {
    await write({ fan: { password: hash, attributes: { floor: '4' } } })
    const fan = { userName: 'fan', password: Buffer.from('correct') }
    expect(await ask(template.url, fan)).toMatchObject({ is: 'valid', attributes: new Map([['floor', '4']]) })
    await write({ fan: { password: 'correct' } })
    expect(await ask(template.url, fan)).toMatchObject({ is: 'valid' })
    expect(template.lines.some(({ event }) => event === 'users_refused')).toBe(true)
    await write()
    expect(await ask(template.url, fan)).toMatchObject({ is: 'invalid' })
  })

  test.each([
    ['/', { method: 'POST' }, 400],
    ['/?api-version=0.5.0', { method: 'GET' }, 405],
    ['/?api-version=0.5.0', { method: 'PUT' }, 405],
    ['/auth?api-version=0.5.0', {}, 404],
    ['/?api-version=0.5.0', { contentType: 'text/plain' }, 400],
    ['/?api-version=0.5.0', { body: '' }, 400],
    ['/?api-version=0.5.0', { body: '[]' }, 400],
    ['/?api-version=0.5.0', { body: '{"type":"disconnect"}' }, 400],
    ['/?api-version=0.5.0', { body: '{"type":"auth"}' }, 400],
    ['/?api-version=0.5.0', { body: '{"type":"connect","username":1}' }, 400],
    ['/?api-version=0.5.0', { body: '{"type":"connect","password":"a"}' }, 400],
    ['/?api-version=0.5.0', { body: `{"type":"connect","certs":"${'x'.repeat(300_000)}"}` }, 413],
    ['/?api-version=0.4.0', {}, 422],
  ])('%s %j: %d', async (path, options, status) => {
    const reply = await send(template.url, path, options)
    expect(reply.status).toBe(status)
    if (status === 422) expect(JSON.parse(reply.body)).toEqual({ supportedVersions: ['0.5.0'] })
  })

  test('no password in its log', async () => {
    await ask(template.url, { userName: 'pump', password: Buffer.from('hunter2') })
    const logged = JSON.stringify(template.lines)
    expect(logged).toContain('denied')
    for (const secret of ['hunter2', 'correct', Buffer.from('hunter2').toString('base64')]) expect(logged).not.toContain(secret)
  })

  test('brokers without a certificate are not answered when it asks for one; SIGTERM ends it in order', async () => {
    const strict = await Template.start({ USERS: users, CLIENT_CA: join(directory, 'ca.crt') })
    const pump = requestOf({ userName: 'pump', password: Buffer.from('correct') })
    expect(await method(strict.url).authenticate(pump, null, null)).toMatchObject({ is: 'unreachable' })
    const shown = method(strict.url, { auth: { x509: { secretRef: 'own' } } })
    expect(await shown.authenticate(pump, null, null)).toMatchObject({ is: 'valid' })
    shown.close()
    expect(await strict.stop()).toBe(0)
  })

  test('the example is a file that it takes', async () => {
    const copy = join(directory, 'example.json')
    await copyFile(EXAMPLE, copy)
    const example = await Template.start({ USERS: copy })
    const credentials = { userName: 'pump-1', password: Buffer.from('pump-1-password') }
    expect(await ask(example.url, credentials)).toMatchObject({
      is: 'valid',
      attributes: new Map(Object.entries({ floor: '3', role: 'sensor' })),
    })
  })

  test.each([
    ['no JSON', '{'],
    ['no users', '{}'],
    ['no hash', '{"users":{"a":{"password":"x"}}}'],
    ['a hash that takes all memory', '{"users":{"a":{"password":"$scrypt$ln=30,r=8,p=1$AAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"}}}'],
  ])('it does not start with a file that has a mistake: %s', async (_, text) => {
    const file = join(directory, 'broken.json')
    await writeFile(file, text)
    const env = {
      USERS: file,
      PORT: '0',
      HOST: '127.0.0.1',
      TLS_CERT: join(directory, 'server.crt'),
      TLS_KEY: join(directory, 'server.key'),
    }
    const { status, stderr } = spawnSync(process.execPath, [MAIN], { env, encoding: 'utf8' })
    expect(status).toBe(1)
    expect(stderr).not.toBe('')
  })
})

type Json = { readonly [name: string]: Json } & readonly Json[]

describe('openapi.yaml', () => {
  let document: Json
  beforeAll(async () => {
    document = parse(await readFile(OPENAPI, 'utf8'), { strict: true, uniqueKeys: true }) as Json
  })

  /** The schema of that name as a check. `isStrict`: unknown fields are faults. */
  function schema(name: string, isStrict = false): z.ZodType {
    const text = JSON.stringify(document['components']!['schemas'])
    const defs = JSON.parse(text.replaceAll('#/components/schemas/', '#/$defs/'), (key, value: unknown) => {
      if (typeof value !== 'object' || value === null || !('properties' in value) || !isStrict)
        return key === 'discriminator' ? undefined : value
      return { ...value, additionalProperties: false }
    }) as Record<string, object>
    return z.fromJSONSchema({ $schema: 'https://json-schema.org/draft/2020-12/schema', $defs: defs, ...defs[name]! } as Parameters<
      typeof z.fromJSONSchema
    >[0])
  }

  test('describes version 0.5.0 and nothing that refers to nothing', () => {
    expect(document).toMatchObject({ openapi: '3.1.0', info: { version: '0.5.0' } })
    const text = JSON.stringify(document)
    const names = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(found => found[1]!)
    expect(new Set(names).size).toBeGreaterThan(5)
    for (const name of names) expect(document['components']!['schemas'], name).toHaveProperty(name)
    const { examples } = document['paths']!['/']!['post']!['requestBody']!['content']!['application/json']!
    for (const { value } of Object.values(examples as unknown as Record<string, { value: unknown }>)) {
      expect(schema('AuthenticationRequest', true).safeParse(value).success).toBe(true)
    }
  })

  test('takes every body that the broker sends, and none with another field', async () => {
    const server = await CustomServer.start({ tls: pki })
    toEnd.push(server)
    const requests: Partial<AuthenticationRequest>[] = [
      {},
      { userName: 'ü', password: Buffer.of(0, 255) },
      { userName: '', password: Buffer.alloc(0), peerCertificates: [new X509Certificate(pki.clientCert).raw] },
      { ...plain('a', 'b'), userName: 'a' },
      { authenticationMethod: 'X' },
      { ...plain('a', 'b'), purpose: 'reauthenticate', userName: 'a' },
    ]
    for (const request of requests) await ask(server.url, request)
    expect(server.requests).toHaveLength(requests.length)
    const strict = schema('AuthenticationRequest', true)
    for (const { body } of server.requests) {
      expect(strict.safeParse(body), JSON.stringify(body)).toMatchObject({ success: true })
      expect(strict.safeParse({ ...(body as object), clientId: 'x' }).success).toBe(false)
    }
  })

  test.each([
    ['AuthenticationRequest', { type: 'auth' }],
    ['AuthenticationRequest', { username: 'a' }],
    ['AuthenticationRequest', { type: 'connect', password: 'not base64' }],
    ['AuthenticationRequest', { type: 'connect', enhancedAuthentication: {} }],
    ['Acceptance', { attributes: { a: 1 } }],
    ['Acceptance', { attributes: { '': 'a' } }],
    ['Refusal', {}],
    ['Refusal', { reason: 256 }],
    ['Refusal', { reason: 1.5 }],
    ['VersionRefusal', { supportedVersions: '0.5.0' }],
  ])('%s is not %j', (name, body) => {
    expect(schema(name).safeParse(body).success).toBe(false)
  })

  test('describes every answer of the template', async () => {
    const users = join(directory, 'described.json')
    await writeFile(users, JSON.stringify({ users: { a: { password: hashOf('b'), attributes: { c: 'd' }, expiresInSeconds: 60 } } }))
    const { url } = await Template.start({ USERS: users })
    const path = '/?api-version=0.5.0'
    const right = { type: 'connect', username: 'a', password: Buffer.from('b').toString('base64') }
    const answers = [
      ['Acceptance', 200, await send(url, path, { body: JSON.stringify(right) })],
      ['Refusal', 403, await send(url, path, {})],
      ['VersionRefusal', 422, await send(url, '/?api-version=9', {})],
    ] as const
    for (const [name, status, reply] of answers) {
      expect(reply.status).toBe(status)
      expect(schema(name, true).safeParse(JSON.parse(reply.body)), reply.body).toMatchObject({ success: true })
    }
    const described = Object.keys(document['paths']!['/']!['post']!['responses']!)
    expect(described).toEqual(expect.arrayContaining(['200', '400', '403', '404', '405', '413', '422', '429', '5XX']))
  })
})
