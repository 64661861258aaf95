import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ManualTimers } from '../base/timers.ts'
import { SettingsError } from '../config/settings-error.ts'
import { KubernetesApi } from '../testing/kubernetes-api.ts'
import { until } from '../testing/redis-server.ts'
import type { TokenReview } from './kubernetes-access.ts'
import { KubernetesUnavailable } from './kubernetes-access.ts'
import { KubernetesClient } from './kubernetes-client.ts'
import { type KubernetesConnection, openKubernetes, type OpenKubernetesOptions } from './open-kubernetes.ts'

let api: KubernetesApi
let connection: KubernetesConnection
let pod: string

async function connect(options: OpenKubernetesOptions = {}): Promise<KubernetesConnection> {
  const found = await openKubernetes(api.writePod(pod), { podDirectory: pod, ...options })
  connection = found!
  return connection
}

beforeEach(async () => {
  api = await KubernetesApi.open()
  pod = await mkdtemp(join(tmpdir(), 'millrace-pod-'))
  await connect()
})

afterEach(async () => {
  connection.close()
  await api.close()
  await rm(pod, { recursive: true })
})

function token(more: object = {}): string {
  return api.mintToken({ namespace: 'ns', serviceAccount: 'device', audiences: ['aio-internal'], ...more })
}

describe('a token review', () => {
  test('says who it is and for which of the audiences that were asked for', async () => {
    const account = api.createServiceAccount('ns', 'device')
    expect(await connection.access.reviewToken(token({ audiences: ['a', 'aio-internal'] }), ['aio-internal', 'b'])).toEqual({
      is: 'authenticated',
      userName: 'system:serviceaccount:ns:device',
      userUid: account.metadata.uid!,
      audiences: ['aio-internal'],
    } satisfies TokenReview)
  })

  test.each([
    ['has expired', () => token({ expirationSeconds: -60 }), /expired/],
    ['is for another audience', () => token({ audiences: ['other'] }), /audiences/],
    ['has another signature', () => `${token().slice(0, -8)}AAAAAAAA`, /cryptographic/],
    ['is no token', () => 'abc', /bearer token/],
    ['is empty', () => '', /refuses the review \(400\)/],
  ])('refuses a token that %s', async (_, make, words) => {
    api.createServiceAccount('ns', 'device')
    expect(await connection.access.reviewToken(make(), ['aio-internal'])).toEqual({
      is: 'refused',
      error: expect.stringMatching(words) as string,
    })
  })

  test('refuses a token whose ServiceAccount is gone', async () => {
    api.createServiceAccount('ns', 'device')
    const gone = token()
    api.deleteServiceAccount('ns', 'device')
    expect(await connection.access.reviewToken(gone, ['aio-internal'])).toMatchObject({ is: 'refused' })
  })

  test.each([
    ['answers 500', () => void (api.mood = 500)],
    ['answers 429', () => void (api.mood = 429)],
    ['cuts the connection off', () => void (api.mood = 'dropping')],
    ['does not let us ask', () => void api.refused.add('create tokenreviews.authentication.k8s.io')],
    ['does not know us', () => api.rotateBearerToken()],
  ])('is unavailable when the server %s, and no error has the token', async (_, make) => {
    api.createServiceAccount('ns', 'device')
    const secret = token()
    make()
    const error: unknown = await connection.access.reviewToken(secret, ['aio-internal']).catch((fault: unknown) => fault)
    expect(error).toBeInstanceOf(KubernetesUnavailable)
    const told = `${(error as Error).stack} ${JSON.stringify(error)}`
    for (const part of [...secret.split('.'), api.bearerToken]) expect(told).not.toContain(part)
  })

  test('that is not answered in time is unavailable, and its connection is given up', async () => {
    const timers = new ManualTimers()
    connection.close()
    await connect({ timers })
    api.createServiceAccount('ns', 'device')
    api.mood = 'silent'
    const asked = connection.access.reviewToken(token(), ['aio-internal'])
    await until(() => api.requests.length === 1, 'the server has the request')
    timers.advance(5_000)
    await expect(asked).rejects.toThrow(/POST \/apis\/authentication.k8s.io\/v1\/tokenreviews: no answer within 5000 ms/)
    await until(() => api.connectionCount === 0, 'the connection is closed')
    expect(timers.pendingCount).toBe(0)
  })

  test('does not believe a server that does not check audiences, and takes the token out of what a server says', async () => {
    const secret = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0xxxx.c2lnbmF0dXJl'
    const answering = (status: object): KubernetesClient =>
      new KubernetesClient({ send: async () => await Promise.resolve({ status: 201, body: { status } }) })
    const user = { username: 'system:serviceaccount:ns:device', uid: '1' }
    expect(await answering({ authenticated: true, user }).reviewToken(secret, ['a'])).toMatchObject({ is: 'refused' })
    expect(await answering({ authenticated: true, user, audiences: ['a'] }).reviewToken(secret, ['a'])).toMatchObject({
      is: 'authenticated',
    })
    expect(await answering({ authenticated: true, audiences: ['a'] }).reviewToken(secret, ['a'])).toMatchObject({ is: 'refused' })
    expect(await answering({ authenticated: 'true', user, audiences: ['a'] }).reviewToken(secret, ['a'])).toMatchObject({ is: 'refused' })
    const error = `cannot take ${secret}, nor ${secret.split('.')[1]} ${'x'.repeat(1_000)}`
    expect(await answering({ authenticated: false, error }).reviewToken(secret, ['a'])).toEqual({
      is: 'refused',
      error: `cannot take …, nor … ${'x'.repeat(1_000)}`.slice(0, 256),
    })
  })

  test('has a place in flight, or waits for one', async () => {
    connection.close()
    await connect({ inFlightMax: 2 })
    api.createServiceAccount('ns', 'device')
    const reviews = Array.from({ length: 20 }, () => connection.access.reviewToken(token(), ['aio-internal']))
    expect((await Promise.all(reviews)).every(each => each.is === 'authenticated')).toBe(true)
    expect(api.connectionCount).toBeLessThanOrEqual(2)
    expect(api.tokenReviewCount).toBe(20)
  })
})

describe('a ServiceAccount', () => {
  test('has its annotations; one that is not there, or can be none, has null', async () => {
    api.createServiceAccount('ns', 'device', { 'aio-broker-auth/room': 'kitchen' })
    api.createServiceAccount('ns', 'plain')
    const annotations = await connection.access.serviceAccountAnnotations('ns', 'device')
    expect([...annotations!]).toEqual([['aio-broker-auth/room', 'kitchen']])
    expect((await connection.access.serviceAccountAnnotations('ns', 'plain'))!.size).toBe(0)
    expect(await connection.access.serviceAccountAnnotations('ns', 'gone')).toBeNull()
    const asked = api.requests.length
    for (const name of ['../secrets', 'a/b', '', '..', 'a?b'])
      expect(await connection.access.serviceAccountAnnotations('ns', name)).toBeNull()
    expect(api.requests).toHaveLength(asked)
  })

  test('that we may not read is unavailable, with verb, resource and namespace', async () => {
    api.refused.add('get serviceaccounts')
    await expect(connection.access.serviceAccountAnnotations('ns', 'device')).rejects.toThrow(
      /cannot get serviceaccounts ns\/device: 403 .*cannot get resource "serviceaccounts" in the namespace "ns"/,
    )
  })
})

test('the keys of the cluster are those that sign tokens', async () => {
  const { keys } = JSON.parse(await connection.access.publishedKeys()) as { keys: { kid: string }[] }
  api.createServiceAccount('ns', 'device')
  const { kid } = JSON.parse(Buffer.from(token().split('.')[0]!, 'base64url').toString()) as { kid: string }
  expect(keys.map(key => key.kid)).toEqual([kid])
  api.mood = 503
  await expect(connection.access.publishedKeys()).rejects.toThrow(KubernetesUnavailable)
})

describe('the connection', () => {
  test('reads the token of the pod again when it is refused', async () => {
    await connection.access.publishedKeys()
    api.rotateBearerToken()
    await expect(connection.access.publishedKeys()).rejects.toThrow(/401/)
    api.writePod(pod)
    await expect(connection.access.publishedKeys()).resolves.toContain('keys')
  })

  test('survives that the server ends kept connections', async () => {
    await connection.access.publishedKeys()
    api.dropConnections()
    await expect(connection.access.publishedKeys()).resolves.toContain('keys')
  })

  test('trusts the authority of the cluster alone', async () => {
    const other = await KubernetesApi.open('own')
    await writeFile(join(pod, 'ca.crt'), other.ca)
    await other.close()
    const stranger = await openKubernetes(
      { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(api.port) },
      { podDirectory: pod },
    )
    await expect(stranger!.access.publishedKeys()).rejects.toThrow(/certificate/)
    expect(api.requests).toEqual([])
    stranger!.close()
  })

  test('is there with KUBECONFIG, reads that file again when it is refused, and has the namespace of its context', async () => {
    const found = (await openKubernetes(api.environment))!
    expect(found.namespace).toBe('azure-iot-operations')
    await expect(found.access.publishedKeys()).resolves.toContain('keys')
    api.rotateBearerToken()
    await expect(found.access.publishedKeys()).rejects.toThrow(/401/)
    api.writeKubeconfig(join(api.environment['KUBECONFIG']!, '..'))
    await expect(found.access.publishedKeys()).resolves.toContain('keys')
    found.close()
  })

  test('takes the token of a kubeconfig file from the file that it names, beside it, and reads that again', async () => {
    const file = api.environment['KUBECONFIG']!
    const config = JSON.parse(await readFile(file, 'utf8')) as object
    await writeFile(file, JSON.stringify({ ...config, users: [{ name: 'test', user: { tokenFile: 'token' } }] }))
    await writeFile(join(file, '../token'), api.bearerToken)
    const found = (await openKubernetes(api.environment))!
    await expect(found.access.publishedKeys()).resolves.toContain('keys')
    api.rotateBearerToken()
    await writeFile(join(file, '../token'), api.bearerToken)
    await expect(found.access.publishedKeys()).resolves.toContain('keys')
    found.close()
  })

  test('is none outside of a cluster, and in a pod without a token', async () => {
    expect(await openKubernetes({})).toBeNull()
    const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '1' }
    expect(await openKubernetes(environment, { podDirectory: join(pod, 'nothing') })).toBeNull()
  })

  test.each([
    ['is not there', null, /no such file/],
    ['names no cluster', { clusters: [], users: [], contexts: [] }, /names no cluster/],
    [
      'names a server without TLS',
      {
        'current-context': 'a',
        clusters: [{ name: 'a', cluster: { server: 'http://127.0.0.1:1' } }],
        users: [],
        contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
      },
      /no https/,
    ],
  ])('with a kubeconfig file that %s is an error that says so', async (_, config, words) => {
    const file = join(pod, 'kubeconfig')
    if (config !== null) await writeFile(file, JSON.stringify(config))
    const opened = openKubernetes({ KUBECONFIG: file })
    await expect(opened).rejects.toThrow(SettingsError)
    await expect(opened).rejects.toThrow(words)
  })
})
