import { expect, test } from 'vitest'
import { PASSING } from '#shared/testing/cutting-proxy.ts'
import type { Auth } from '../conformance/decode.ts'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { ScramExchange } from '../clients/scram.ts'
import { ACCEPTED, NOT_AUTHORIZED, UNAVAILABLE, UNAVAILABLE_311 } from './codes.ts'
import type { FaultCluster, Service } from './fault-cluster.ts'
import { useFaultCluster } from './stage.ts'

// Each case begins with both services up (`healthy` starts those that the one before has killed), whatever it leaves behind.
const stage = useFaultCluster()

const RESENT = 'millrace_authentication_calls_resent_total'

async function healthyCluster(): Promise<{ readonly cluster: FaultCluster; readonly first: Service; readonly second: Service }> {
  const { cluster } = stage
  await cluster.healthy()
  const [first, second] = cluster.services as [Service, Service]
  return { cluster, first, second }
}

async function killAll(cluster: FaultCluster): Promise<void> {
  await Promise.all(cluster.services.map(each => cluster.kill(each)))
}

/** Clients that come at once, so that every service is asked. */
async function allComeIn(cluster: FaultCluster): Promise<void> {
  expect(new Set(await Promise.all(Array.from({ length: 6 }, () => cluster.passwordCode())))).toEqual(new Set([ACCEPTED]))
}

/** What is done to the cluster makes a frontend ask another service as well. */
async function asksAgain(cluster: FaultCluster, act: () => Promise<void>): Promise<void> {
  const before = await cluster.frontend.metric(RESENT)
  await act()
  await cluster.calls('resent_total', count => count > before)
}

/** A client that came in with SCRAM and authenticates itself again. */
class Scrammer {
  readonly client: RawClient
  #exchange = new ScramExchange('bob', 'bob')

  private constructor(client: RawClient) {
    this.client = client
  }

  static async connect(cluster: FaultCluster): Promise<Scrammer> {
    const scrammer = new Scrammer(await cluster.open('scram'))
    const { client } = scrammer
    client.sendConnect({ clientId: cluster.uniqueId(), properties: scrammer.#exchange.first })
    client.send(await scrammer.#exchange.challenged(client))
    expect((await client.expect('connack')).reason).toBe(ACCEPTED)
    return scrammer
  }

  begin(reason: 0x18 | 0x19 = 0x19): void {
    this.client.send(packets.auth(reason, this.#exchange.first))
  }

  /** Takes the challenge; what comes back sends the answer and takes what ends it. */
  async challenged(): Promise<() => Promise<Auth>> {
    const final = await this.#exchange.challenged(this.client)
    return async () => {
      this.client.send(final)
      return await this.client.expect('auth')
    }
  }

  /** What it had, it may still do. */
  async stillMay(): Promise<void> {
    expect((await this.client.publish({ topic: 'background/scrammer', qos: 1 }))?.reason).toBe(0)
  }
}

test('1: one of two is killed while CONNECTs run: the other one answers all of them', async () => {
  const { cluster, first } = await healthyCluster()
  const codes = cluster.slowCodes(0, 12)
  await Promise.any(codes)
  await cluster.kill(first)
  expect(new Set(await Promise.all(codes))).toEqual(new Set([ACCEPTED]))
  expect(await cluster.passwordCode('alice', 5, 'wrong')).toBe(NOT_AUTHORIZED)
})

test('2: both are killed: 0x88, in MQTT 3.1.1 code 3, right or wrong, by any method; the frontend says so', async () => {
  const { cluster } = stage
  await killAll(cluster)
  await cluster.linked(0)
  const codes = [
    cluster.passwordCode(),
    cluster.passwordCode('alice', 5, 'wrong'),
    cluster.passwordCode('alice', 4),
    cluster.satCode(),
    cluster.codeOf('x509', {}),
    cluster.codeOf('custom', {}),
  ]
  expect(await Promise.all(codes)).toEqual([UNAVAILABLE, UNAVAILABLE, UNAVAILABLE_311, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE])
  await cluster.saysImpaired('authentication: no service is in reach', 'frontend')
})

test('3: both are started again: all is as before', async () => {
  const { cluster } = await healthyCluster()
  const codes = [
    cluster.passwordCode(),
    cluster.passwordCode('alice', 4, 'wrong'),
    cluster.scramCode(),
    cluster.satCode(),
    cluster.codeOf('x509', {}),
    cluster.codeOf('custom', { userName: 'alice' }),
  ]
  expect(await Promise.all(codes)).toEqual([0, 5, 0, 0, 0, 0])
  await cluster.unimpaired()
})

test('4: one stands still: what it does not answer goes to the other one', async () => {
  const { cluster, first } = await healthyCluster()
  await asksAgain(cluster, async () => {
    first.process.pause()
    await allComeIn(cluster)
  })
})

test('5: both stand still: 0x88, and nobody hangs', async () => {
  const { cluster } = stage
  for (const { process } of cluster.services) process.pause()
  const codes = await Promise.all([cluster.passwordCode(), cluster.passwordCode('alice', 4), cluster.satCode()])
  expect(codes).toEqual([UNAVAILABLE, UNAVAILABLE_311, UNAVAILABLE])
  await cluster.calls('open', count => count === 0)
})

test('6: they go on: all is as before', async () => {
  const { cluster } = stage
  for (const { process } of cluster.services) process.resume()
  await cluster.linked(2)
  expect(await Promise.all([cluster.passwordCode(), cluster.scramCode(), cluster.satCode()])).toEqual([0, 0, 0])
  await cluster.unimpaired()
})

test('7: killed between the rounds of SCRAM: the other one ends the exchange, of a CONNECT and of a re-authentication', async () => {
  const { cluster, first, second } = await healthyCluster()
  const connected = await Scrammer.connect(cluster)
  await cluster.kill(second)
  await cluster.linked(1)
  connected.begin()
  const answer = await connected.challenged()
  const code = cluster.scramCode(async () => {
    await cluster.healthy()
    await cluster.kill(first)
  })
  expect(await code).toBe(ACCEPTED)
  expect((await answer()).reason).toBe(0)
  await connected.stillMay()
})

test('8: all are killed between the rounds: 0x88', async () => {
  const { cluster } = await healthyCluster()
  expect(await cluster.scramCode(() => killAll(cluster))).toBe(UNAVAILABLE)
})

test('9: all are started again between the rounds: the exchange ends well, as what they seal with follows from the cluster key', async () => {
  const { cluster } = await healthyCluster()
  const code = cluster.scramCode(async () => {
    await killAll(cluster)
    await cluster.linked(0)
    await cluster.healthy()
  })
  expect(await code).toBe(ACCEPTED)
})

test('10: one is killed while a re-authentication is with it or the other: it succeeds', async () => {
  const { cluster, first, second } = await healthyCluster()
  const connected = await Scrammer.connect(cluster)
  for (const each of [first, second]) {
    await cluster.healthy()
    connected.begin()
    await cluster.kill(each)
    const answer = await connected.challenged()
    expect((await answer()).reason).toBe(0)
    await connected.stillMay()
  }
})

test('11: all are away during a re-authentication: AUTH 0x18 says so, the old credential stays, a later attempt succeeds', async () => {
  const { cluster } = await healthyCluster()
  const connected = await Scrammer.connect(cluster)
  await killAll(cluster)
  await cluster.linked(0)
  connected.begin()
  expect(await connected.client.expect('auth')).toMatchObject({
    reason: 0x18,
    properties: { authenticationMethod: 'SCRAM-SHA-256', reasonString: 'transient, retry later' },
  })
  await connected.stillMay()
  await cluster.healthy()
  // By the book AUTH 0x18 is answered with AUTH 0x18.
  connected.begin(0x18)
  const answer = await connected.challenged()
  expect((await answer()).reason).toBe(0)
  await connected.stillMay()
})

test('12: slow links: CONNECT succeeds, late', async () => {
  const { cluster } = await healthyCluster()
  await asksAgain(cluster, async () => {
    // There and back takes longer than a service is waited for alone, and not as long as is waited for any.
    for (const { proxy } of cluster.services) proxy.flow({ is: 'delayed', delayMs: 1_600 })
    expect(await cluster.passwordCode()).toBe(ACCEPTED)
    for (const { proxy } of cluster.services) proxy.flow(PASSING)
  })
})

test('13: a half-open link: what was sent over it is sent over another one; it is used again when it is whole', async () => {
  const { cluster, first } = await healthyCluster()
  await asksAgain(cluster, async () => {
    first.proxy.flow({ is: 'halfOpen', stopped: ['toServer', 'toClient'] })
    await allComeIn(cluster)
  })
  first.proxy.flow(PASSING)
  await cluster.linked(2)
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
})

test('14: a link that is cut under calls: another one takes them, and it is dialed again', async () => {
  const { cluster, first } = await healthyCluster()
  first.proxy.flow({ is: 'delayed', delayMs: 60_000 })
  const codes = Array.from({ length: 6 }, () => cluster.passwordCode())
  await cluster.calls('open', count => count > 0)
  // What is delayed is lost with the connection.
  first.proxy.cut()
  first.proxy.flow(PASSING)
  expect(new Set(await Promise.all(codes))).toEqual(new Set([ACCEPTED]))
  await cluster.linked(2)
})

test('22: one is told to stop (SIGTERM) under load: every CONNECT is answered, and it ends in order', async () => {
  const { cluster, first } = await healthyCluster()
  const codes = cluster.slowCodes(12, 24)
  await Promise.any(codes)
  let isGone = false
  const drained = cluster.drain(first).then(() => (isGone = true))
  while (!isGone) codes.push(Promise.resolve(await cluster.passwordCode()))
  await drained
  expect(new Set(await Promise.all(codes))).toEqual(new Set([ACCEPTED]))
})
