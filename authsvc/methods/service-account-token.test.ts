import { createHmac, generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '#shared/base/clock.ts'
import { KubernetesUnavailable } from '#shared/kubernetes/kubernetes-access.ts'
import type { KubernetesAccess, TokenReview } from '#shared/kubernetes/kubernetes-access.ts'
import { openKubernetes } from '#shared/kubernetes/open-kubernetes.ts'
import type { KubernetesConnection } from '#shared/kubernetes/open-kubernetes.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ServiceAccountTokenSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { KubernetesApi } from '#shared/testing/kubernetes-api.ts'
import type { AuthenticationMethod, MethodVerdict } from './authentication-method.ts'
import { FAILURES_MAX, OPEN_MS_MIN } from './breaker.ts'
import { MethodRig, requestOf } from './method-rig.contract.ts'
import { makeServiceAccountToken } from './service-account-token.ts'
import { KEYS_AGE_MAX_MS } from './service-account-token-offline.ts'
import { TOKEN_BYTES_MAX } from './service-account-token-text.ts'
import { RETRY_FOR_MS } from './transient-retry.ts'

const AUDIENCE = 'aio-internal'
const START_MS = 1_700_000_000_000
const UID = 'uid-of-pump'

const opened: AuthenticationMethod[] = []
afterEach(() => {
  for (const method of opened.splice(0)) method.close()
})

function made(rig: MethodRig, settings: Partial<ServiceAccountTokenSettings> = {}): AuthenticationMethod {
  const method = makeServiceAccountToken({ audiences: [AUDIENCE], ...settings }, rig)
  opened.push(method)
  return method
}

function bySat(token: string | Uint8Array, fields: Partial<AuthenticationRequest> = {}): AuthenticationRequest {
  return requestOf({ authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(token), ...fields })
}

function accepted(verdict: MethodVerdict): MethodVerdict & { is: 'valid' } {
  if (verdict.is !== 'valid') throw new Error(JSON.stringify(verdict))
  return verdict
}

function encode(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
}

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })

interface TokenFields {
  readonly header?: object
  readonly claims?: object
  readonly key?: KeyObject
}

/** A token of `plant/pump`, valid for an hour. */
function token({ header = {}, claims = {}, key = rsa.privateKey }: TokenFields = {}): string {
  const signed = `${encode({ alg: 'RS256', kid: 'rsa', ...header })}.${encode({ ...CLAIMS, ...claims })}`
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' })
  return `${signed}.${signature.toString('base64url')}`
}

const CLAIMS = {
  iss: 'https://cluster',
  aud: [AUDIENCE],
  sub: 'system:serviceaccount:plant:pump',
  iat: START_MS / 1_000,
  nbf: START_MS / 1_000,
  exp: START_MS / 1_000 + 3_600,
  'kubernetes.io': { namespace: 'plant', serviceaccount: { name: 'pump', uid: UID } },
}

/** An API server in a few lines. */
class FakeKubernetes implements KubernetesAccess {
  review: TokenReview = { is: 'authenticated', userName: 'system:serviceaccount:plant:pump', userUid: UID, audiences: [AUDIENCE] }
  annotations: ReadonlyMap<string, string> | null = new Map([['aio-broker-auth/floor', '3']])
  keys: unknown = {
    keys: [
      { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'rsa', alg: 'RS256', use: 'sig' },
      { ...ec.publicKey.export({ format: 'jwk' }), kid: 'ec', alg: 'ES256', use: 'sig' },
      { kty: 'oct', k: encode('secret'), kid: 'oct', alg: 'HS256' },
    ],
  }
  error: Error | null = null
  reviews: { readonly token: string; readonly audiences: readonly string[] }[] = []
  accountReads = 0
  keyReads = 0

  async reviewToken(text: string, audiences: readonly string[]): Promise<TokenReview> {
    this.reviews.push({ token: text, audiences })
    return await this.#answer(this.review)
  }

  async serviceAccountAnnotations(): Promise<ReadonlyMap<string, string> | null> {
    this.accountReads++
    return await this.#answer(this.annotations)
  }

  async publishedKeys(): Promise<string> {
    this.keyReads++
    return await this.#answer(JSON.stringify(this.keys))
  }

  async #answer<T>(value: T): Promise<T> {
    if (this.error !== null) throw this.error
    return await Promise.resolve(value)
  }
}

interface Setup {
  readonly rig: MethodRig
  readonly api: FakeKubernetes
  readonly method: AuthenticationMethod
  readonly ask: (request: AuthenticationRequest) => Promise<MethodVerdict>
}

function setUp(settings: Partial<ServiceAccountTokenSettings> = {}): Setup {
  const rig = new MethodRig(START_MS)
  const api = new FakeKubernetes()
  rig.kubernetes = api
  const method = made(rig, settings)
  return { rig, api, method, ask: async request => await method.authenticate(request, null, null) }
}

const AWAY = new KubernetesUnavailable('Kubernetes API: cannot create tokenreviews: HTTP status 500')

describe('relevance', () => {
  test.each([
    ['Authentication Method K8S-SAT', { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(token()) }],
    ['with a user name of its own', { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(token()), userName: 'somebody' }],
    ['user name K8S-SAT, the token as password', { userName: 'K8S-SAT', password: Buffer.from(token()) }],
    ['MQTT 3.1.1, a user name that begins so', { userName: 'K8S-SAT/pump', password: Buffer.from(token()), protocolVersion: 4 }],
  ] satisfies [string, Partial<AuthenticationRequest>][])('%s: valid, and the user name is no identity', async (_, fields) => {
    expect(await setUp().ask(requestOf(fields))).toMatchObject({ is: 'valid', userName: '' })
  })

  test.each([
    ['nothing', {}],
    ['another Authentication Method', { authenticationMethod: 'SCRAM-SHA-256', authenticationData: Buffer.from(token()) }],
    ['another one with a user name that begins so', { authenticationMethod: 'X', userName: 'K8S-SAT', password: Buffer.from(token()) }],
    ['another spelling', { authenticationMethod: 'k8s-sat', authenticationData: Buffer.from(token()) }],
    ['a user name that ends so', { userName: 'x K8S-SAT', password: Buffer.from(token()) }],
    ['user name and password', { userName: 'pump', password: Buffer.from(token()) }],
  ] satisfies [string, Partial<AuthenticationRequest>][])('%s: irrelevant', async (_, fields) => {
    const { api, ask } = setUp()
    expect(await ask(requestOf(fields))).toEqual({ is: 'irrelevant' })
    expect(api.reviews).toEqual([])
  })

  test('K8S-SAT alone is its own', () => {
    const { method } = setUp()
    expect(['K8S-SAT', 'K8S-SAT2', ''].map(each => method.handles(each))).toEqual([true, false, false])
    expect(method.name).toBe('ServiceAccountToken')
  })
})

describe('what is no token is refused without asking the API server', () => {
  const [head, body, signature] = token().split('.') as [string, string, string]

  test.each([
    ['no data', null],
    ['empty', ''],
    ['one part', 'abc'],
    ['unsigned', `${head}.${body}.`],
    ['two parts', `${head}.${body}`],
    ['four parts', `${head}.${body}.${signature}.x`],
    ['standard base64', `${head}.${body}.ab+/`],
    ['padding', `${head}.${body}.abc=`],
    ['a line at the end', `${token()}\n`],
    ['no UTF-8', Buffer.concat([Buffer.from(token()), Buffer.of(0xff)])],
    ['alg none', `${encode({ alg: 'none' })}.${body}.${signature}`],
    ['alg HS256', `${encode({ alg: 'HS256' })}.${body}.${signature}`],
    ['no alg', `${encode({})}.${body}.${signature}`],
    ['a header that is no JSON', `${encode('{')}.${body}.${signature}`],
    ['claims that are no JSON', `${head}.${encode('{')}.${signature}`],
    ['claims null', `${head}.${encode('null')}.${signature}`],
    ['no exp', token({ claims: { exp: undefined } })],
    ['exp a text', token({ claims: { exp: '1900000000' } })],
    ['no iss', token({ claims: { iss: undefined } })],
    ['huge', `${head}.${body}.${'a'.repeat(TOKEN_BYTES_MAX)}`],
  ])('%s', async (_, text) => {
    const { api, ask } = setUp()
    const verdict = await ask(bySat('', { authenticationData: text === null ? null : Buffer.from(text) }))
    expect(verdict).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
    expect(api.reviews).toEqual([])
  })

  test('deep nesting costs nothing worth mentioning', async () => {
    const { ask } = setUp()
    expect(await ask(bySat(`${head}.${encode('['.repeat(12_000))}.${signature}`))).toMatchObject({ is: 'invalid' })
  })
})

describe('the review', () => {
  test('is asked with the configured audiences; expiry is that of the token', async () => {
    const { api, ask } = setUp({ audiences: ['other', AUDIENCE] })
    const text = token()
    expect(await ask(bySat(text))).toMatchObject({ is: 'valid', expiresMs: START_MS + 3_600_000, data: null })
    expect(api.reviews).toEqual([{ token: text, audiences: ['other', AUDIENCE] }])
  })

  test('refused: the cause has the words of the API server and not the token', async () => {
    const { api, ask } = setUp()
    api.review = { is: 'refused', error: 'token has been invalidated' }
    const text = token()
    const verdict = await ask(bySat(text))
    expect(verdict).toMatchObject({
      is: 'invalid',
      reason: ReasonCode.NotAuthorized,
      cause: expect.stringContaining('invalidated') as string,
    })
    expect(JSON.stringify(verdict)).not.toContain(text.split('.')[2])
  })

  test.each([
    ['another audience', { audiences: ['somebody-else'] }],
    ['no audience', { audiences: [] }],
    ['a person', { userName: 'alice' }],
    ['a node', { userName: 'system:node:worker-1' }],
    ['a part too much', { userName: 'system:serviceaccount:plant:pump:x' }],
    ['no name', { userName: 'system:serviceaccount:plant:' }],
    ['a path', { userName: 'system:serviceaccount:plant:../x' }],
  ])('authenticated as %s: invalid', async (_, review) => {
    const { api, ask } = setUp()
    api.review = { ...(api.review as TokenReview & { is: 'authenticated' }), ...review }
    expect(await ask(bySat(token()))).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
  })

  test('by our clock the token has ended', async () => {
    const { rig, ask } = setUp()
    rig.pass(3_600_000)
    expect(await ask(bySat(token()))).toMatchObject({ is: 'invalid', cause: expect.stringContaining('expired') as string })
  })

  test('one call for all who show the same token at once; then kept for 10 s', async () => {
    const { rig, api, ask } = setUp()
    const request = bySat(token())
    await Promise.all([ask(request), ask(request), ask(request)])
    rig.pass(9_999)
    expect(await ask(request)).toMatchObject({ is: 'valid' })
    expect(api.reviews).toHaveLength(1)
    rig.pass(1)
    await ask(request)
    await ask(bySat(token({ claims: { jti: 'another' } })))
    expect(api.reviews).toHaveLength(3)
  })

  test('never kept beyond the end of the token', async () => {
    const { rig, ask } = setUp()
    const request = bySat(token({ claims: { exp: START_MS / 1_000 + 5 } }))
    expect(await ask(request)).toMatchObject({ is: 'valid' })
    rig.pass(5_000)
    expect(await ask(request)).toMatchObject({ is: 'invalid' })
  })

  test('a refusal is kept for a second, a failure not at all', async () => {
    const { rig, api, ask } = setUp()
    api.error = AWAY
    expect(await ask(bySat(token()))).toMatchObject({ is: 'unreachable' })
    api.error = null
    api.review = { is: 'refused', error: 'no' }
    expect(await ask(bySat(token()))).toMatchObject({ is: 'invalid' })
    api.review = new FakeKubernetes().review
    rig.pass(999)
    expect(await ask(bySat(token()))).toMatchObject({ is: 'invalid' })
    rig.pass(1)
    expect(await ask(bySat(token()))).toMatchObject({ is: 'valid' })
    expect(api.reviews).toHaveLength(3)
  })

  test('the API server is away, or the call fails: unreachable, with a line for the operator', async () => {
    const { rig, api, ask } = setUp()
    api.error = AWAY
    expect(await ask(bySat(token()))).toMatchObject({ is: 'unreachable', cause: expect.stringContaining('HTTP status 500') as string })
    api.error = new TypeError('a bug')
    expect(await ask(bySat(token()))).toMatchObject({ is: 'unreachable' })
    expect(rig.log.lines).toMatchObject([
      { level: 'warn', event: 'service_account_api_unavailable' },
      { level: 'error', event: 'service_account_api_failed' },
    ])
  })

  test('an API server that is away is left alone for a while, so that nobody waits for it', async () => {
    const { rig, api, ask } = setUp()
    api.error = AWAY
    for (let i = 0; i <= FAILURES_MAX; i++) await ask(bySat(token({ claims: { jti: String(i) } })))
    expect(api.reviews).toHaveLength(FAILURES_MAX)
    api.error = null
    expect(await ask(bySat(token()))).toMatchObject({ is: 'unreachable', cause: expect.stringContaining('left alone') as string })
    rig.pass(OPEN_MS_MIN)
    expect(await ask(bySat(token()))).toMatchObject({ is: 'valid' })
  })

  test('without an API server the operator is told what to do', () => {
    expect(() => made(new MethodRig())).toThrow(
      expect.objectContaining({ name: 'MethodFault', message: expect.stringContaining('KUBECONFIG') as string }) as Error,
    )
  })
})

describe('attributes', () => {
  test('annotations with the prefix, its old form too; the present one wins', async () => {
    const { api, ask } = setUp()
    api.annotations = new Map([
      ['aio-broker-auth/floor', '3'],
      ['aio-mq-broker-auth/floor', '2'],
      ['aio-mq-broker-auth/plant', 'north'],
      ['aio-broker-auth/', 'nameless'],
      ['aio-broker-auth', 'x'],
      ['kubernetes.io/description', 'x'],
      ['aio-broker-auth/a/b', ''],
    ])
    expect(accepted(await ask(bySat(token()))).attributes).toEqual(
      new Map([
        ['floor', '3'],
        ['plant', 'north'],
        ['a/b', ''],
      ]),
    )
  })

  test('a document of the configuration comes before the API server', async () => {
    const { rig, api, ask } = setUp()
    rig.serviceAccounts.set('plant/pump', new Map([['aio-broker-auth/floor', '9']]))
    expect(accepted(await ask(bySat(token()))).attributes).toEqual(new Map([['floor', '9']]))
    expect(api.accountReads).toBe(0)
  })

  test('a change is seen at an authentication one second later', async () => {
    const { rig, api, ask } = setUp()
    await ask(bySat(token()))
    api.annotations = new Map([['aio-broker-auth/floor', '4']])
    rig.pass(1_000)
    expect(accepted(await ask(bySat(token()))).attributes).toEqual(new Map([['floor', '4']]))
    expect(api.reviews).toHaveLength(1)
  })

  test('no such account: invalid; attributes out of reach: unreachable, never without', async () => {
    const { rig, api, ask } = setUp()
    await ask(bySat(token()))
    api.annotations = null
    rig.pass(1_000)
    expect(await ask(bySat(token()))).toMatchObject({ is: 'invalid' })
    api.error = AWAY
    rig.pass(1_000)
    expect(await ask(bySat(token()))).toMatchObject({ is: 'unreachable' })
  })
})

describe('re-authentication', () => {
  const again = (fields: TokenFields = {}): AuthenticationRequest => bySat(token(fields), { purpose: 'reauthenticate' })

  test('the same account: new expiry and attributes', async () => {
    const { rig, api, method, ask } = setUp()
    const { evidence } = accepted(await ask(bySat(token())))
    expect(evidence.length).toBeLessThan(1_024)
    api.annotations = new Map([['aio-broker-auth/floor', '4']])
    rig.pass(1_000)
    const verdict = await method.authenticate(again({ claims: { exp: START_MS / 1_000 + 7_200 } }), null, evidence)
    expect(verdict).toMatchObject({ is: 'valid', expiresMs: START_MS + 7_200_000, attributes: new Map([['floor', '4']]), evidence })
  })

  test.each([
    ['another name', { userName: 'system:serviceaccount:plant:valve' }],
    ['another namespace', { userName: 'system:serviceaccount:office:pump' }],
    ['the name created anew', { userUid: 'another uid' }],
  ])('%s: invalid', async (_, review) => {
    const { api, method, ask } = setUp()
    const { evidence } = accepted(await ask(bySat(token())))
    api.review = { ...(api.review as TokenReview & { is: 'authenticated' }), ...review }
    const verdict = await method.authenticate(again({ claims: { jti: '2' } }), null, evidence)
    expect(verdict).toMatchObject({ is: 'invalid', cause: expect.stringContaining('another service account') as string })
  })

  test.each([[null], [Buffer.from('{')], [Buffer.from('{}')]])('evidence that is none (%s): invalid', async evidence => {
    const { api, method } = setUp()
    expect(await method.authenticate(again(), null, evidence)).toMatchObject({ is: 'invalid' })
    expect(api.reviews).toEqual([])
  })

  test('the API server is away for a moment: not noticed; for longer: unreachable after 2 s', async () => {
    const { rig, api, method, ask } = setUp()
    const { evidence } = accepted(await ask(bySat(token())))
    const request = again({ claims: { jti: '2' } })
    api.error = AWAY
    const saved = method.authenticate(request, null, evidence)
    await pausing(rig)
    api.error = null
    rig.pass(100)
    expect(await saved).toMatchObject({ is: 'valid' })

    api.error = AWAY
    rig.pass(10_000)
    const startMs = rig.timers.nowMs()
    const failing = method.authenticate(request, null, evidence)
    for (const pauseMs of [100, 200, 400, 800, 500]) {
      await pausing(rig)
      rig.pass(pauseMs)
    }
    expect(await failing).toMatchObject({ is: 'unreachable' })
    expect(rig.timers.nowMs() - startMs).toBe(RETRY_FOR_MS)
  })

  /** Until an attempt has failed and the next one waits. */
  async function pausing(rig: MethodRig): Promise<void> {
    while (rig.timers.pendingCount === 0) await new Promise(resolve => setImmediate(resolve))
  }
})

describe('recheck', () => {
  test('holds while an audience of the token is configured and the account is there', async () => {
    const { rig, api, ask } = setUp({ audiences: [AUDIENCE, 'second'] })
    api.review = { ...(api.review as TokenReview & { is: 'authenticated' }), audiences: [AUDIENCE, 'second'] }
    const { evidence } = accepted(await ask(bySat(token())))
    const recheck = async (audiences: readonly string[]): Promise<string> => {
      const outcome = await made(rig, { audiences: [...audiences] }).recheck(evidence, null)
      return outcome.is
    }
    expect(await recheck(['second', 'third'])).toBe('holds')
    expect(await recheck(['third'])).toBe('invalid')
    api.error = AWAY
    expect(await recheck(['second'])).toBe('unreachable')
    rig.serviceAccounts.set('plant/pump', new Map())
    expect(await recheck(['second'])).toBe('holds')
    rig.serviceAccounts.clear()
    api.error = null
    api.annotations = null
    expect(await recheck(['second'])).toBe('invalid')
  })

  test('evidence that is none: invalid', async () => {
    expect(await setUp().method.recheck(Buffer.from('[]'), null)).toMatchObject({ is: 'invalid' })
  })
})

describe('offline verification', () => {
  /** A method that has seen one token accepted, and whose API server is gone since. */
  async function offline(change: (api: FakeKubernetes) => void = () => undefined): Promise<Setup> {
    const setup = setUp({ offlineVerification: 'Enabled' })
    change(setup.api)
    accepted(await setup.ask(bySat(token({ claims: { jti: 'first' } }))))
    setup.api.error = AWAY
    setup.rig.pass(60_000)
    return setup
  }

  const cases: readonly (readonly [string, TokenFields, string])[] = [
    ['RS256', {}, 'valid'],
    ['ES256', { header: { alg: 'ES256', kid: 'ec' }, key: ec.privateKey }, 'valid'],
    ['aud a text', { claims: { aud: AUDIENCE } }, 'valid'],
    ['signed by somebody else', { key: generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey }, 'invalid'],
    ['another audience', { claims: { aud: ['other'] } }, 'invalid'],
    ['no audience', { claims: { aud: undefined } }, 'invalid'],
    ['another issuer', { claims: { iss: 'https://evil' } }, 'invalid'],
    ['ended', { claims: { exp: START_MS / 1_000 + 60 } }, 'invalid'],
    ['not begun', { claims: { nbf: START_MS / 1_000 + 120 } }, 'invalid'],
    ['sub of another account', { claims: { sub: 'system:serviceaccount:plant:valve' } }, 'invalid'],
    [
      'kubernetes.io of another account',
      { claims: { 'kubernetes.io': { namespace: 'plant', serviceaccount: { name: 'valve', uid: UID } } } },
      'invalid',
    ],
    ['no kubernetes.io', { claims: { 'kubernetes.io': undefined } }, 'invalid'],
    ['no uid', { claims: { 'kubernetes.io': { namespace: 'plant', serviceaccount: { name: 'pump' } } } }, 'invalid'],
    ['alg of another key', { header: { alg: 'ES256', kid: 'rsa' } }, 'unreachable'],
    ['a key that is not at hand', { header: { kid: 'newer' } }, 'unreachable'],
    ['a critical header that nobody knows', { header: { crit: ['x'], x: 1 } }, 'invalid'],
  ]

  test.each(cases)('%s: %s', async (_, fields, is) => {
    const { ask } = await offline()
    expect((await ask(bySat(token(fields)))).is).toBe(is)
  })

  test('the verdict is the one that the API server would have led to', async () => {
    const { rig, ask, method } = await offline()
    const verdict = accepted(await ask(bySat(token())))
    expect(verdict).toMatchObject({ userName: '', expiresMs: START_MS + 3_600_000, attributes: new Map([['floor', '3']]) })
    const again = bySat(token({ claims: { jti: 'new' } }), { purpose: 'reauthenticate' })
    expect(await method.authenticate(again, null, verdict.evidence)).toMatchObject({ is: 'valid', evidence: verdict.evidence })
    expect(rig.log.lines.every(({ level }) => level === 'warn')).toBe(true)
  })

  test('HMAC with the public key as secret', async () => {
    const { ask } = await offline()
    const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' })
    const signed = `${encode({ alg: 'HS256', kid: 'rsa' })}.${encode(CLAIMS)}`
    const forged = `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`
    expect(await ask(bySat(forged))).toMatchObject({ is: 'invalid' })
  })

  test('an account that was never seen, or too long ago: unreachable', async () => {
    const { rig, ask } = await offline()
    const other = {
      sub: 'system:serviceaccount:plant:valve',
      'kubernetes.io': { namespace: 'plant', serviceaccount: { name: 'valve', uid: 'u' } },
    }
    expect(await ask(bySat(token({ claims: other })))).toMatchObject({
      is: 'unreachable',
      cause: expect.stringContaining('plant/valve') as string,
    })
    rig.pass(3_600_000)
    expect(await ask(bySat(token({ claims: { exp: START_MS / 1_000 + 9_000 } })))).toMatchObject({ is: 'unreachable' })
  })

  test('keys that are too old are not used', async () => {
    const { rig, ask } = await offline()
    rig.pass(KEYS_AGE_MAX_MS)
    const late = { exp: START_MS / 1_000 + 200_000 }
    expect(await ask(bySat(token({ claims: late })))).toMatchObject({
      is: 'unreachable',
      cause: expect.stringContaining('no keys') as string,
    })
  })

  test('nothing seen before: unreachable; off by default', async () => {
    const enabled = setUp({ offlineVerification: 'Enabled' })
    enabled.api.error = AWAY
    expect(await enabled.ask(bySat(token()))).toMatchObject({
      is: 'unreachable',
      cause: expect.stringContaining('no token was reviewed') as string,
    })
    const early = setUp()
    await early.ask(bySat(token({ claims: { jti: '1' } })))
    early.api.error = AWAY
    expect(await early.ask(bySat(token()))).toMatchObject({ is: 'unreachable' })
    expect(early.api.keyReads).toBe(0)
  })

  test('keys are read again: soon after a failure, else every five minutes; close ends it', async () => {
    const rig = new MethodRig(START_MS)
    const api = new FakeKubernetes()
    rig.kubernetes = api
    api.keys = { keys: 'none' }
    const method = made(rig, { offlineVerification: 'Enabled' })
    const reads = async (count: number): Promise<void> => {
      while (api.keyReads < count || rig.timers.pendingCount === 0) await new Promise(resolve => setImmediate(resolve))
    }
    await reads(1)
    api.keys = new FakeKubernetes().keys
    rig.pass(10_000)
    await reads(2)
    rig.pass(299_999)
    expect(api.keyReads).toBe(2)
    rig.pass(1)
    await reads(3)
    method.close()
    expect(rig.timers.pendingCount).toBe(0)
    expect(rig.log.events).toEqual(['service_account_keys_unavailable'])
  })
})

describe('with an API server over HTTPS', () => {
  let api: KubernetesApi
  let directory: string
  let kubernetes: KubernetesConnection

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'millrace-sat-'))
    api = await KubernetesApi.open()
    const environment = api.writePod(directory)
    kubernetes = (await openKubernetes(environment, { podDirectory: directory }))!
  })
  afterAll(async () => {
    kubernetes.close()
    await api.close()
    await rm(directory, { recursive: true })
  })
  afterEach(() => {
    api.mood = 'serving'
    api.refused.clear()
  })

  function setUpReal(settings: Partial<ServiceAccountTokenSettings> = {}): Omit<Setup, 'api'> {
    const rig = new MethodRig(systemClock.wallMs())
    rig.kubernetes = kubernetes.access
    const method = made(rig, settings)
    return { rig, method, ask: async request => await method.authenticate(request, null, null) }
  }

  function account(name: string, annotations: Record<string, string> = {}): (seconds?: number, audiences?: string[]) => string {
    api.createServiceAccount('plant', name, annotations)
    return (expirationSeconds = 3_600, audiences = [AUDIENCE]) =>
      api.mintToken({ namespace: 'plant', serviceAccount: name, audiences, expirationSeconds })
  }

  test('a token of an account with annotations', async () => {
    const mint = account('pump', { 'aio-broker-auth/floor': '3', other: 'x' })
    const verdict = accepted(await setUpReal().ask(bySat(mint())))
    expect(verdict.attributes).toEqual(new Map([['floor', '3']]))
    expect(verdict.expiresMs! % 1_000).toBe(0)
    expect(Math.abs(verdict.expiresMs! - systemClock.wallMs() - 3_600_000)).toBeLessThan(60_000)
  })

  test('ended; for another audience; with a broken signature', async () => {
    const mint = account('valve')
    const { ask } = setUpReal()
    expect(await ask(bySat(mint(-10)))).toMatchObject({ is: 'invalid' })
    expect(await ask(bySat(mint(3_600, ['other'])))).toMatchObject({ is: 'invalid' })
    expect(await ask(bySat(mint().replace(/\.[^.]*$/, '.AAAA')))).toMatchObject({ is: 'invalid' })
  })

  test('the account is deleted, and created anew: neither its old tokens nor its new ones re-authenticate', async () => {
    const mint = account('fan')
    const { rig, method, ask } = setUpReal()
    const old = mint()
    const { evidence } = accepted(await ask(bySat(old)))
    expect(await method.recheck(evidence, null)).toEqual({ is: 'holds' })
    api.deleteServiceAccount('plant', 'fan')
    rig.pass(10_000)
    expect(await ask(bySat(old))).toMatchObject({ is: 'invalid' })
    expect(await method.recheck(evidence, null)).toMatchObject({ is: 'invalid' })
    api.createServiceAccount('plant', 'fan')
    rig.pass(10_000)
    expect(await ask(bySat(old))).toMatchObject({ is: 'invalid' })
    const again = bySat(mint(), { purpose: 'reauthenticate' })
    expect(await method.authenticate(again, null, evidence)).toMatchObject({
      is: 'invalid',
      cause: expect.stringContaining('another') as string,
    })
    expect(await ask(bySat(mint()))).toMatchObject({ is: 'valid' })
  })

  test.each([[500], [503], [429], ['dropping']] as const)('%s: unreachable; it comes back by itself', async mood => {
    const mint = account(`mood-${mood}`)
    const { ask } = setUpReal()
    const text = mint()
    api.mood = mood
    expect(await ask(bySat(text))).toMatchObject({ is: 'unreachable' })
    api.mood = 'serving'
    expect(await ask(bySat(text))).toMatchObject({ is: 'valid' })
  })

  test('it takes the question and never answers; it does not know us any more: unreachable', async () => {
    const mint = account('silent')
    const impatient = (await openKubernetes(api.writePod(directory), { podDirectory: directory, timeoutMs: 50 }))!
    const { rig } = setUpReal()
    rig.kubernetes = impatient.access
    api.mood = 'silent'
    expect(await made(rig).authenticate(bySat(mint()), null, null)).toMatchObject({ is: 'unreachable' })
    impatient.close()

    api.mood = 'serving'
    api.rotateBearerToken()
    const { ask } = setUpReal()
    expect(await ask(bySat(mint()))).toMatchObject({ is: 'unreachable', cause: expect.stringContaining('401') as string })
    api.writePod(directory)
    expect(await ask(bySat(mint()))).toMatchObject({ is: 'valid' })
  })

  test('we may not review tokens, or not read accounts: unreachable, and the operator reads why', async () => {
    const mint = account('lamp')
    const { rig, ask } = setUpReal()
    api.refused.add('create tokenreviews.authentication.k8s.io')
    expect(await ask(bySat(mint()))).toMatchObject({ is: 'unreachable' })
    api.refused.clear()
    api.refused.add('get serviceaccounts')
    expect(await ask(bySat(mint()))).toMatchObject({ is: 'unreachable' })
    expect(rig.log.events).toEqual(['service_account_api_unavailable', 'service_account_api_unavailable'])
    expect(rig.logged).toContain('serviceaccounts')
  })

  test('keys that it publishes serve while it is away; a key that it has since is not known', async () => {
    const mint = account('gate', { 'aio-broker-auth/side': 'left' })
    const { rig, ask } = setUpReal({ offlineVerification: 'Enabled' })
    while (rig.timers.pendingCount === 0) await new Promise(resolve => setImmediate(resolve))
    await ask(bySat(mint()))
    const later = mint()
    api.tokens.rotateKey()
    const newer = mint()
    api.mood = 503
    rig.pass(10_000)
    expect(await ask(bySat(later))).toMatchObject({ is: 'valid', attributes: new Map([['side', 'left']]) })
    expect(await ask(bySat(newer))).toMatchObject({ is: 'unreachable' })
  })
})
