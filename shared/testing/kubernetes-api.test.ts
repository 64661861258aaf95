import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { KubernetesApi } from './kubernetes-api.ts'

const SECRETS = '/api/v1/namespaces/azure-iot-operations/secrets'
let api: KubernetesApi

beforeAll(async () => {
  api = await KubernetesApi.open()
})

afterAll(() => api.close())

interface Answer {
  readonly status: number
  readonly body: { readonly [field: string]: unknown }
}

async function call(method: string, path: string, body?: object, contentType = 'application/json'): Promise<Answer> {
  const headers = { authorization: `Bearer ${api.bearerToken}`, 'content-type': contentType }
  const sent = request(`${api.url}${path}`, { method, ca: api.ca, headers, agent: false })
  sent.end(body === undefined ? undefined : JSON.stringify(body))
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return { status: response.statusCode!, body: JSON.parse(text) as Answer['body'] }
}

async function review(token: string, audiences: readonly string[]): Promise<unknown> {
  const answer = await call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { spec: { token, audiences } })
  expect(answer.status).toBe(201)
  return answer.body['status']
}

test('a token is good for its audience while its ServiceAccount and its pod are there', async () => {
  const account = api.createServiceAccount('ns', 'device')
  api.put({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'pod-1', namespace: 'ns' } })
  const before = api.tokenReviewCount
  const mint = (more: object = {}): string => api.mintToken({ namespace: 'ns', serviceAccount: 'device', audiences: ['a', 'b'], ...more })
  const token = mint()
  const bound = mint({ boundPod: 'pod-1' })
  expect(await review(token, ['b', 'c'])).toMatchObject({
    authenticated: true,
    audiences: ['b'],
    user: { username: 'system:serviceaccount:ns:device', uid: account.metadata.uid },
  })
  expect(await review(token, ['c'])).toMatchObject({ error: expect.stringContaining('is invalid for the target audiences') as string })
  expect(await review(mint({ expirationSeconds: -1 }), ['a'])).toMatchObject({ error: expect.stringContaining('expired') as string })
  expect(await review(`${token.slice(0, -4)}AAAA`, ['a'])).toMatchObject({ error: expect.stringContaining('cryptographic') as string })
  expect(await review(bound, ['a'])).toMatchObject({ authenticated: true })
  api.delete('Pod', 'pod-1', 'ns')
  expect(await review(bound, ['a'])).toMatchObject({ error: expect.stringContaining('pods "pod-1" not found') as string })
  api.deleteServiceAccount('ns', 'device')
  expect(await review(token, ['a'])).toMatchObject({ error: expect.stringContaining('not found') as string })
  api.createServiceAccount('ns', 'device')
  expect(await review(token, ['a'])).toMatchObject({ error: expect.stringContaining('does not match claim') as string })
  expect(api.tokenReviewCount - before).toBe(8)
})

test('a write with an old resourceVersion is a conflict, and status and the rest are written apart', async () => {
  const path = '/apis/mqttbroker.iotoperations.azure.com/v1/namespaces/azure-iot-operations/brokers'
  const broker = { apiVersion: 'mqttbroker.iotoperations.azure.com/v1', kind: 'Broker', metadata: { name: 'default' }, spec: { a: 1 } }
  const created = await call('POST', path, broker)
  expect(created).toMatchObject({ status: 201, body: { metadata: { generation: 1 } } })
  expect(await call('POST', path, broker)).toMatchObject({ status: 409, body: { reason: 'AlreadyExists' } })
  const merge = 'application/merge-patch+json'
  const written = await call('PATCH', `${path}/default/status`, { status: { x: 1 }, spec: { a: 2 } }, merge)
  expect(written.body).toMatchObject({ spec: { a: 1 }, status: { x: 1 }, metadata: { generation: 1 } })
  const metadata = created.body['metadata'] as object
  expect(await call('PUT', `${path}/default`, { ...broker, metadata })).toMatchObject({ status: 409, body: { reason: 'Conflict' } })
  const changed = await call('PATCH', `${path}/default`, { spec: { a: null, b: 1 }, status: { x: 2 } }, merge)
  expect(changed.body).toMatchObject({ spec: { b: 1 }, status: { x: 1 }, metadata: { generation: 2 } })
  expect(changed.body['spec']).not.toHaveProperty('a')
})

test('lists come in pages, of one name alone when asked, and a refused verb is 403', async () => {
  for (const name of ['s1', 's2', 's3']) api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: {} })
  const first = await call('GET', `${SECRETS}?limit=2`)
  expect(first.body['items']).toMatchObject([{ metadata: { name: 's1' } }, { metadata: { name: 's2' } }])
  const { continue: next } = first.body['metadata'] as { continue: string }
  expect((await call('GET', `${SECRETS}?limit=2&continue=${next}`)).body['items']).toMatchObject([{ metadata: { name: 's3' } }])
  const one = await call('GET', `${SECRETS}?fieldSelector=metadata.name%3Ds2`)
  expect(one.body['items']).toMatchObject([{ metadata: { name: 's2' } }])
  api.refused.add('list secrets')
  expect(await call('GET', SECRETS)).toMatchObject({ status: 403, body: { reason: 'Forbidden' } })
  expect((await call('GET', `${SECRETS}/s1`)).status).toBe(200)
  api.refused.clear()
})

test('a watch has what happened since its revision, and 410 once that is forgotten', async () => {
  const { resourceVersion } = (await call('GET', SECRETS)).body['metadata'] as { resourceVersion: string }
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'later' }, data: {} })
  const headers = { authorization: `Bearer ${api.bearerToken}` }
  const path = `${SECRETS}?watch=1&resourceVersion=${resourceVersion}`
  const watch = request(`${api.url}${path}`, { ca: api.ca, headers, agent: false })
  watch.end()
  const [response] = (await once(watch, 'response')) as [IncomingMessage]
  const [line] = (await once(response, 'data')) as [Buffer]
  expect(JSON.parse(String(line))).toMatchObject({ type: 'ADDED', object: { kind: 'Secret', metadata: { name: 'later' } } })
  watch.destroy()
  api.compact()
  expect((await call('GET', path)).body).toMatchObject({ type: 'ERROR', object: { code: 410 } })
  api.goneAs = 'status'
  expect((await call('GET', path)).status).toBe(410)
})
