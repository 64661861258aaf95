import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemRandom } from '../base/random.ts'
import { systemTimers, type Timers } from '../base/timers.ts'
import { fastTimers } from '../testing/fast-timers.ts'
import { KubernetesApi } from '../testing/kubernetes-api.ts'
import { until } from '../testing/redis-server.ts'
import { SeededRandom } from '../testing/seeded-random.ts'
import { ObjectWatch } from './object-watch.ts'
import { type KubernetesConnection, openKubernetes } from './open-kubernetes.ts'

let api: KubernetesApi
let connection: KubernetesConnection
let watch: ObjectWatch
/** `NAME=VALUE` of all Secrets, at each change; `?` with trouble. */
let seen: string[]

beforeEach(async () => {
  api = await KubernetesApi.open()
  connection = (await openKubernetes(api.pod.environment, api.pod))!
  seen = []
  watch = watchOf(null)
})

afterEach(async () => {
  watch.stop()
  connection.close()
  await api.close()
})

function watchOf(name: string | null, watchSeconds = 60, timers: Timers = fastTimers(10)): ObjectWatch {
  const collection = { apiVersion: 'v1', kind: 'Secret', resource: 'secrets', namespace: api.namespace, name }
  return new ObjectWatch(collection, {
    requests: connection.requests,
    timers,
    random: systemRandom,
    watchSeconds,
    onChange: () => seen.push(watch.trouble === null ? values() : '?'),
  })
}

function put(name: string, value: string): void {
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { value } })
}

function values(): string {
  return [...watch.objects.values()].map(each => `${each.metadata.name}=${(each['data'] as { value: string }).value}`).join(' ')
}

async function untilSeen(text: string): Promise<void> {
  await until(() => watch.isListed && values() === text, text)
}

async function untilWatching(): Promise<void> {
  await until(() => api.watches.length > 0, 'the server has the watch')
}

function requests(kind: 'list' | 'watch'): readonly string[] {
  return api.requests.map(({ path }) => path).filter(path => path.includes('watch=1') === (kind === 'watch'))
}

async function started(): Promise<void> {
  put('a', '1')
  watch.start()
  await untilSeen('a=1')
  await untilWatching()
}

test('has every object of a list in pages, each with the kind that items of a list lack, and who may write what is left out', async () => {
  for (let index = 100; index < 350; index++) put(`s${index}`, 'x')
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'elsewhere', namespace: 'other' } })
  api.put({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 's100', managedFields: [{}] }, data: { value: 'y' } })
  watch.start()
  await until(() => watch.isListed, 'listed')
  expect(watch.objects.size).toBe(250)
  expect(watch.objects.get('s100')).toMatchObject({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 's100' } })
  expect(watch.objects.get('s100')!.metadata).not.toHaveProperty('managedFields')
  expect(requests('list')).toHaveLength(3)
})

test('sees each change, in order and once', async () => {
  await started()
  put('b', '2')
  put('a', '3')
  await untilSeen('a=3 b=2')
  api.delete('Secret', 'a')
  await untilSeen('b=2')
  expect(seen).toEqual(['a=1', 'a=1 b=2', 'a=3 b=2', 'b=2'])
  expect(requests('list')).toHaveLength(1)
})

test('does not take an object that it has for news when the server repeats it', async () => {
  await started()
  api.watches[0]!.writeRaw(`${JSON.stringify({ type: 'ADDED', object: api.get('Secret', 'a') })}\n`)
  put('b', '2')
  await untilSeen('a=1 b=2')
  expect(seen).toEqual(['a=1', 'a=1 b=2'])
})

test('of one name asks for that alone', async () => {
  watch = watchOf('a')
  await started()
  put('b', '2')
  put('a', '2')
  await untilSeen('a=2')
  expect(api.requests.every(({ path }) => path.includes('fieldSelector=metadata.name%3Da'))).toBe(true)
})

test('reads events that arrive in pieces, cut inside of characters too', async () => {
  api.splitsEvents = true
  await started()
  const text = '雨 größe '.repeat(2_000)
  put('b', text)
  await untilSeen(`a=1 b=${text}`)
})

describe('resumes', () => {
  test('where it was when the connection breaks: nothing is lost, nothing comes twice, nothing is listed again', async () => {
    await started()
    for (let round = 2; round < 6; round++) {
      const watches = requests('watch').length
      api.dropWatches()
      put('a', String(round))
      put(`b${round}`, 'x')
      await until(() => watch.objects.has(`b${round}`), `round ${round}`)
      await until(() => requests('watch').length > watches && api.watches.length === 1, 'the watch is there again')
    }
    expect(values()).toBe('a=5 b2=x b3=x b4=x b5=x')
    expect(seen.filter(each => each !== '?')).toEqual([...new Set(seen.filter(each => each !== '?'))])
    expect(requests('list')).toHaveLength(1)
  })

  test('when the server ends it in time', async () => {
    watch.stop()
    watch = watchOf(null, 1, systemTimers)
    await started()
    await until(() => requests('watch').length === 2, 'a second watch')
    put('b', '2')
    await untilSeen('a=1 b=2')
    expect(requests('list')).toHaveLength(1)
    expect(seen).not.toContain('?')
  })

  test('from a bookmark, when the version before it is forgotten', async () => {
    await started()
    api.compact()
    api.bookmark()
    put('b', '2')
    await untilSeen('a=1 b=2')
    api.dropWatches()
    await until(() => requests('watch').length === 2 && api.watches.length === 1, 'a second watch')
    put('c', '3')
    await untilSeen('a=1 b=2 c=3')
    expect(requests('list')).toHaveLength(1)
  })

  test.each(['event', 'status'] as const)('with a list when its version is forgotten (410 as %s)', async goneAs => {
    api.goneAs = goneAs
    await started()
    put('b', '2')
    await untilSeen('a=1 b=2')
    api.mood = 503
    api.dropWatches()
    await until(() => watch.trouble !== null, 'the server is missed')
    api.delete('Secret', 'a')
    put('b', '3')
    api.compact()
    api.mood = 'serving'
    await untilSeen('b=3')
    expect(requests('list').length).toBeGreaterThan(1)
    await until(() => watch.trouble === null, 'the watch is there again')
  })

  test('when the connection is there and nothing comes: the server would have ended the watch', async () => {
    watch.stop()
    watch = watchOf(null, 1, fastTimers(5))
    await started()
    api.freezeWatches()
    put('b', '2')
    await untilSeen('a=1 b=2')
    expect(seen).not.toContain('?')
  })

  test.each([
    ['is no JSON', 'no json\n'],
    ['has no version', '{"type":"MODIFIED","object":{"metadata":{"name":"a"}}}\n'],
    ['says that the server failed', '{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n'],
  ])('with a list after an event that %s', async (_, line) => {
    await started()
    api.watches[0]!.writeRaw(line)
    await until(() => requests('list').length === 2, 'a second list')
    put('b', '2')
    await untilSeen('a=1 b=2')
  })
})

describe('trouble', () => {
  test('with the server leaves everything as it was, is told, and passes', async () => {
    await started()
    api.mood = 'dropping'
    api.dropConnections()
    await until(() => watch.trouble !== null, 'trouble')
    expect(watch.trouble).toMatchObject({ refusal: null })
    expect(values()).toBe('a=1')
    api.mood = 'serving'
    await until(() => watch.trouble === null, 'no trouble')
    put('b', '2')
    await untilSeen('a=1 b=2')
  })

  test.each(['list', 'watch'])('is a refusal when we may not %s', async verb => {
    api.refused.add(`${verb} secrets`)
    watch.start()
    await until(() => watch.trouble !== null, 'trouble')
    expect(watch.trouble).toMatchObject({
      text: expect.stringMatching(`cannot ${verb} secrets in namespace azure-iot-operations: 403 .*cannot ${verb}`) as string,
      refusal: 403,
    })
    api.refused.clear()
    await until(() => watch.trouble === null && watch.isListed, 'let in')
  })

  test('with a server that accepts and does not answer is told', async () => {
    await started()
    api.mood = 'silent'
    api.dropWatches()
    await until(() => watch.trouble !== null, 'trouble')
    expect(watch.trouble!.text).toContain('does not answer')
  })
})

test.each([1, 2, 3])('has in the end what the server has, whatever happens on the way (seed %i)', async seed => {
  const random = new SeededRandom(seed)
  await started()
  const disturbances = [
    () => api.dropWatches(),
    () => api.dropConnections(),
    () => api.freezeWatches(),
    () => api.compact(),
    () => api.bookmark(),
    () => void (api.mood = 503),
    () => void (api.mood = 'dropping'),
    () => void (api.mood = 'serving'),
    () => void (api.goneAs = api.goneAs === 'event' ? 'status' : 'event'),
    () => void (api.splitsEvents = !api.splitsEvents),
  ]
  watch.stop()
  watch = watchOf(null, 1)
  watch.start()
  for (let step = 0; step < 150; step++) {
    const name = `s${random.int(0, 9)}`
    if (random.chance(0.3) && api.get('Secret', name) !== null) api.delete('Secret', name)
    else put(name, String(step))
    if (random.chance(0.2)) random.pick(disturbances)()
    if (random.chance(0.5)) await nextTurn()
    if (random.chance(0.05)) await until(() => api.mood !== 'serving' || api.watches.length > 0, 'a watch')
  }
  api.mood = 'serving'
  const all = api.objects.list('v1/secrets', api.namespace, null)
  const expected = all.map(each => `${each.metadata.name} ${each.metadata.resourceVersion}`)
  await until(() => {
    const found = [...watch.objects.values()].map(each => `${each.metadata.name} ${each.metadata.resourceVersion}`)
    return found.sort().join() === expected.join()
  }, 'everything is there')
  await until(() => watch.trouble === null && api.watches.length > 0, 'a watch without trouble')
})

test('that is stopped asks for nothing more', async () => {
  await started()
  watch.stop()
  await until(() => api.watches.length === 0, 'the watch is closed')
  const asked = api.requests.length
  put('a', '2')
  await connection.access.publishedKeys()
  expect(api.requests).toHaveLength(asked + 1)
  expect(values()).toBe('a=1')
})
