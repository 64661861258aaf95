import { expect, test } from 'vitest'
import { PASSING } from '#shared/testing/cutting-proxy.ts'
import { until } from '#shared/testing/redis-server.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { ACCEPTED, NOT_AUTHORIZED, UNAVAILABLE, UNAVAILABLE_311 } from './codes.ts'
import { type FaultCluster, PATIENCE_MS, type Port, type Service, USERS } from './fault-cluster.ts'
import { useFaultCluster } from './stage.ts'

// All cases leave the cluster healthy; the last ones leave it without a client or a user that they are about.
const stage = useFaultCluster()

const ADMINISTRATIVE_ACTION = 0x98
const BOTH_SIDES = { is: 'halfOpen', stopped: ['toServer', 'toClient'] } as const
const TRANSIENT = { reason: 0x18, properties: { reasonString: 'transient, retry later' } }
const SUCCESS = { reason: 0 }

/** A connected client with an Authentication Method of one step. */
class OneStep {
  readonly client: RawClient
  readonly #method: string

  private constructor(client: RawClient, method: string) {
    this.client = client
    this.#method = method
  }

  static async connect(cluster: FaultCluster, port: Port, method: string, data: string): Promise<OneStep> {
    const one = new OneStep(await cluster.open(port), method)
    await one.client.connect({ clientId: cluster.uniqueId(), userName: 'alice', properties: one.#properties(data) })
    return one
  }

  /** The answer to AUTH. */
  async again(data: string, reason: 0x18 | 0x19 = 0x19): Promise<unknown> {
    this.client.send(packets.auth(reason, this.#properties(data)))
    return await this.client.expect('auth')
  }

  async stillMay(): Promise<void> {
    expect((await this.client.publish({ topic: 'background/one-step', qos: 1 }))?.reason).toBe(0)
  }

  #properties(data: string): { authenticationMethod: string; authenticationData: Buffer } {
    return { authenticationMethod: this.#method, authenticationData: Buffer.from(data) }
  }
}

/** Resolves once clients are let in by whichever service: each has a breaker of its own. */
async function bothLetIn(code: () => Promise<number>): Promise<void> {
  // Asked at once, they go to both.
  const codes = async (): Promise<number[]> => await Promise.all(Array.from({ length: 6 }, code))
  await until(async () => (await codes()).every(each => each === ACCEPTED), 'both let clients in', PATIENCE_MS)
}

const customCode = (version: packets.Version = 5) => stage.cluster.codeOf('custom', { version, userName: 'alice' })
const fallbackCode = (password: string) => stage.cluster.codeOf('customThenPassword', { userName: 'alice', password })

test('18: the custom server is dead: the next method decides, or nobody does; soon it is not asked any more; it comes back', async () => {
  const { cluster } = stage
  const connected = await OneStep.connect(cluster, 'custom', 'own', 'first')
  expect(await fallbackCode('nobody asks for it')).toBe(ACCEPTED)
  await cluster.customProxy.refuse()
  cluster.customProxy.cut()
  expect([await customCode(), await customCode(4)]).toEqual([UNAVAILABLE, UNAVAILABLE_311])
  expect([await fallbackCode('alice'), await fallbackCode('wrong')]).toEqual([ACCEPTED, NOT_AUTHORIZED])
  expect(await connected.again('second')).toMatchObject(TRANSIENT)
  await connected.stillMay()
  const leftAlone = async (): Promise<boolean> => {
    expect(await customCode()).toBe(UNAVAILABLE)
    return (await Promise.all(cluster.services.map(each => cluster.logOf(each)))).every(log => log.includes('is left alone for a while'))
  }
  await until(leftAlone, 'both services leave it alone', PATIENCE_MS)
  await cluster.customProxy.accept()
  await bothLetIn(customCode)
  // Of this BrokerAuthentication the methods are others, with breakers of their own.
  await bothLetIn(() => fallbackCode('nobody asks for it'))
  expect(await connected.again('third')).toMatchObject(SUCCESS)
})

test('19: the custom server does not say a word: the same, within its 5 s and our 8 s', async () => {
  const { cluster } = stage
  cluster.customProxy.flow(BOTH_SIDES)
  expect(await Promise.all([customCode(), customCode(4), fallbackCode('alice')])).toEqual([UNAVAILABLE, UNAVAILABLE_311, ACCEPTED])
  cluster.customProxy.flow(PASSING)
  await bothLetIn(customCode)
  await bothLetIn(() => fallbackCode('nobody asks for it'))
})

test('20, 21: the Kubernetes API is away: CONNECT gets 0x88, a re-authentication AUTH 0x18; it comes back', async () => {
  const { cluster } = stage
  const connected = await OneStep.connect(cluster, 'sat', 'K8S-SAT', cluster.token())
  expect(await connected.again(cluster.token())).toMatchObject(SUCCESS)
  await cluster.apiProxy.refuse()
  cluster.apiProxy.cut()
  const again = connected.again(cluster.token())
  expect(await cluster.satCode()).toBe(UNAVAILABLE)
  expect(await cluster.codeOf('sat', { version: 4, userName: 'K8S-SAT', password: cluster.token() })).toBe(UNAVAILABLE_311)
  expect(await again).toMatchObject(TRANSIENT)
  await connected.stillMay()
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
  await cluster.apiProxy.accept()
  await bothLetIn(() => cluster.satCode())
  expect(await cluster.satCode('not a token')).toBe(NOT_AUTHORIZED)
  expect(await connected.again(cluster.token(), 0x18)).toMatchObject(SUCCESS)
  await connected.stillMay()
})

test('21: the Kubernetes API answers in the time that a re-authentication is tried again: the client hears of no trouble', async () => {
  const { cluster } = stage
  const connected = await OneStep.connect(cluster, 'sat', 'K8S-SAT', cluster.token())
  const before = cluster.api.requests.length
  cluster.api.mood = 'dropping'
  const again = connected.again(cluster.token())
  await until(() => cluster.api.requests.length > before, 'it was asked', PATIENCE_MS)
  cluster.api.mood = 'serving'
  expect(await again).toMatchObject(SUCCESS)
})

test('20, 21: the Kubernetes API does not say a word: the same, within its 5 s and our 8 s', async () => {
  const { cluster } = stage
  await bothLetIn(() => cluster.satCode())
  const connected = await OneStep.connect(cluster, 'sat', 'K8S-SAT', cluster.token())
  cluster.apiProxy.flow(BOTH_SIDES)
  const again = connected.again(cluster.token())
  expect(await cluster.satCode()).toBe(UNAVAILABLE)
  expect(await again).toMatchObject(TRANSIENT)
  cluster.apiProxy.flow(PASSING)
  await bothLetIn(() => cluster.satCode())
  expect(await connected.again(cluster.token(), 0x18)).toMatchObject(SUCCESS)
})

test('20: one service alone cannot reach the Kubernetes API and has other resources: the other one lets clients in', async () => {
  const { cluster } = stage
  await bothLetIn(() => cluster.satCode())
  const [first] = cluster.services as [Service, Service]
  const [nobodyThere] = await freePorts(1)
  const resources = await cluster.resources.copyTo(`${cluster.resources.path}-of-another`)
  const authenticationMethods = [{ method: 'Password', passwordSettings: { secretRef: 'users' } }]
  await resources.resource('BrokerAuthentication', 'password', { authenticationMethods, expiryDisconnect: 'Enabled' })
  await cluster.kill(first)
  await cluster.linked(1)
  await cluster.launch(first, { environment: { KUBECONFIG: await cluster.kubeconfig(nobodyThere!) }, resources })
  await cluster.linked(2)
  // More than it takes to leave that server alone: it then answers sooner than the one that works, and has least to do.
  for (let round = 0; round < 5; round++) {
    expect(new Set(await Promise.all(Array.from({ length: 4 }, () => cluster.satCode())))).toEqual(new Set([ACCEPTED]))
  }
  expect(new Set(await Promise.all(Array.from({ length: 4 }, () => cluster.passwordCode())))).toEqual(new Set([ACCEPTED]))
  await cluster.kill(first)
  await cluster.healthy()
})

test('23: resources with a fault: what was in force stays, every process says so, and mended they count again', async () => {
  const { cluster } = stage
  const { resources } = cluster
  await cluster.unimpaired()
  await resources.write('broken.yaml', 'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerAuthentication\nspec: {')
  await cluster.saysImpaired('broken.yaml')
  expect(await Promise.all([cluster.passwordCode(), cluster.scramCode(), cluster.satCode(), cluster.codeOf('x509', {})])).toEqual([
    0, 0, 0, 0,
  ])
  await resources.remove('broken.yaml')
  await cluster.unimpaired()
  // One that reads well and cannot be used.
  await resources.users('users', [...USERS, { name: 'carol', password: 'in the clear' }])
  await cluster.saysImpaired('password: expected', 'services')
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
  expect(await cluster.passwordCode('carol')).toBe(NOT_AUTHORIZED)
  await resources.users('users', USERS)
  await cluster.unimpaired()
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
})

test('Redis stands still: who comes in is decided all the same, connected clients stay', async () => {
  const { cluster } = stage
  const connected = await OneStep.connect(cluster, 'sat', 'K8S-SAT', cluster.token())
  cluster.redis.pause()
  try {
    const processes = [cluster.frontend, ...cluster.services.map(({ process }) => process)]
    const unready = async (): Promise<boolean> => (await Promise.all(processes.map(each => each.unready()))).every(why => why !== null)
    await until(unready, 'nobody has a lease any more', PATIENCE_MS)
    expect(await connected.again(cluster.token())).toMatchObject(SUCCESS)
    expect(await cluster.passwordCode('alice', 5, 'wrong')).toBe(NOT_AUTHORIZED)
    expect(await cluster.satCode('not a token')).toBe(NOT_AUTHORIZED)
  } finally {
    cluster.redis.resume()
  }
  await until(async () => (await cluster.passwordCode()) === ACCEPTED, 'clients come in', PATIENCE_MS)
  await cluster.linked(2)
})

test('Redis stands still while a service is told to stop: it ends in order all the same', async () => {
  const { cluster } = stage
  cluster.redis.pause()
  try {
    await cluster.drain(cluster.services[0]!)
    expect(await cluster.passwordCode('alice', 5, 'wrong')).toBe(NOT_AUTHORIZED)
  } finally {
    cluster.redis.resume()
  }
  await cluster.healthy()
  await until(async () => (await cluster.passwordCode()) === ACCEPTED, 'clients come in', PATIENCE_MS)
})

test('24: a user whose entry goes: its client gets DISCONNECT 0x87, nobody else', async () => {
  const { cluster } = stage
  const [alice, bob] = [await cluster.open('password'), await cluster.open('password')]
  await alice.connect({ clientId: 'alice', userName: 'alice', password: 'alice' })
  await bob.connect({ clientId: 'bob', userName: 'bob', password: 'bob' })
  await cluster.resources.users(
    'users',
    USERS.filter(({ name }) => name !== 'bob'),
  )
  await bob.expectDisconnect(NOT_AUTHORIZED)
  await alice.expectNothing()
  await until(async () => (await cluster.passwordCode('bob')) === NOT_AUTHORIZED, 'it is not let in any more', PATIENCE_MS)
})

test('24: the same while no service runs: the frontend notices when there is one again', async () => {
  const { cluster } = stage
  const alice = await cluster.open('password')
  await alice.connect({ clientId: 'alice', userName: 'alice', password: 'alice' })
  await Promise.all(cluster.services.map(each => cluster.kill(each)))
  await cluster.linked(0)
  await cluster.resources.users(
    'users',
    USERS.filter(({ name }) => name !== 'alice'),
  )
  await alice.expectNothing()
  await cluster.healthy()
  await alice.expectDisconnect(NOT_AUTHORIZED)
  await cluster.resources.users('users', USERS)
  await until(async () => (await cluster.passwordCode()) === ACCEPTED, 'it is let in again', PATIENCE_MS)
})

test('24: the trusted certificates go: the port closes, its clients are sent away, others stay; it opens again', async () => {
  const { cluster, background } = stage
  background.release('mqtt.js X509')
  const certified = await cluster.open('x509')
  await certified.connect({ clientId: 'certified' })
  await cluster.resources.remove('configmaps/client-ca')
  // Because the port closes, or because a service was the first to hear of it and lets it in no more.
  await certified.expectDisconnect(ADMINISTRATIVE_ACTION, NOT_AUTHORIZED)
  await expect(cluster.open('x509')).rejects.toThrow('ECONNREFUSED')
  await cluster.saysImpaired('client-ca')
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
  await cluster.resources.write('configmaps/client-ca/ca.crt', cluster.pki.ca)
  await until(async () => (await cluster.codeOf('x509', {})) === ACCEPTED, 'it is open again', PATIENCE_MS)
  await cluster.unimpaired()
})
