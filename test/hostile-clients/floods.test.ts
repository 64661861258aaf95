import { afterAll, beforeAll, expect, test } from 'vitest'
import { makePasswordHash } from '../../authsvc/credentials/password-hash.ts'
import { makeScramKey } from '../../authsvc/credentials/scram-key.ts'
import { ScramExchange } from '../clients/scram.ts'
import * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { resource, secret } from '../specification/configured-broker.ts'
import { HostileStage, keepSecret, NOT_AUTHORIZED, PASSWORD } from './hostile-stage.ts'

const IDLE_MAX = 1_000
const GUESSERS = 200
const MIB = 1024 * 1024
const BOBS_PASSWORD = keepSecret('a password that nobody has shown yet')

let stage: HostileStage<'scram' | 'passwords' | 'proxied'>

beforeAll(async () => {
  const users = JSON.stringify([
    { name: 'alice', password: makePasswordHash('argon2id', Buffer.from(PASSWORD)), scram: [makeScramKey('SCRAM-SHA-256', PASSWORD)] },
    { name: 'bob', password: makePasswordHash('argon2id', Buffer.from(BOBS_PASSWORD)) },
  ])
  const of = (method: string, settings: string): object => ({ method, [settings]: { secretRef: 'users' } })
  const proxyProtocol = { trustedSources: ['127.0.0.0/8'] }
  stage = await HostileStage.start(
    {
      scram: { authenticationRef: 'scram' },
      passwords: { authenticationRef: 'passwords' },
      proxied: { authenticationRef: 'passwords', proxyProtocol },
    },
    {
      who: [
        secret('users', { list: users }),
        resource('BrokerAuthentication', 'scram', { authenticationMethods: [of('Scram', 'scramSettings')] }),
        resource('BrokerAuthentication', 'passwords', { authenticationMethods: [of('Password', 'passwordSettings')] }),
      ],
    },
  )
})

afterAll(() => stage.expectUnharmed())

test('a thousand clients that begin an exchange and never go on: others are served, memory holds', async () => {
  const { broker } = stage.configured
  const before = await broker.residentBytes()
  // Each holds as much as it can: what CONNECT says stays in memory until it is decided.
  const will = { topic: 'w', payload: Buffer.alloc(50_000) }
  const idle: RawClient[] = []
  for (let at = 0; at < IDLE_MAX; at += 50) {
    const some = await Promise.all(Array.from({ length: 50 }, () => stage.open('scram')))
    for (const client of some)
      client.sendConnect({ clientId: 'x'.repeat(50_000), properties: new ScramExchange('alice', PASSWORD).first, will })
    await Promise.all(some.map(client => client.next()))
    idle.push(...some)
  }
  const packetsOf = idle.map(client => client.received[0]?.type ?? 'closed')
  const asked = packetsOf.filter(type => type === 'auth').length
  // 64 MiB of them at most (unauthenticatedBytesTotal).
  expect(asked).toBeGreaterThan(100)
  expect(asked).toBeLessThanOrEqual((64 * MIB) / 100_000)
  expect((await broker.residentBytes()) - before).toBeLessThan(250 * MIB)
  const exchange = new ScramExchange('alice', PASSWORD)
  const client = await stage.open('scram')
  client.sendConnect({ clientId: 'legitimate', properties: exchange.first })
  client.send(await exchange.challenged(client))
  expect((await client.expect('connack')).reason).toBe(0)
  await client.ping()
  for (const each of [...idle, client]) each.drop()
})

test('passwords guessed over 200 connections: who is connected keeps its rate, and who comes from elsewhere comes in', async () => {
  const publisher = await stage.connect('passwords', { clientId: 'publisher', userName: 'alice', password: PASSWORD })
  const subscriber = await stage.connect('passwords', { clientId: 'subscriber', userName: 'alice', password: PASSWORD })
  await subscriber.subscribe({ filter: 'measured', qos: 1 })
  let isOver = false
  let guesses = 0
  const guess = async (at: number): Promise<void> => {
    for (let i = 0; !isOver; i++) {
      const client = await stage.open('passwords')
      client.sendConnect({
        clientId: `guesser-${at}`,
        userName: i % 2 === 0 ? 'alice' : 'nobody',
        password: keepSecret(`guess-${at}-${i}-of-a-password`),
      })
      const answer = await client.next()
      expect(answer === 'closed' || (answer.type === 'connack' && answer.reason >= 0x80)).toBe(true)
      guesses++
    }
  }
  const guessers = Array.from({ length: GUESSERS }, (_, at) => guess(at))
  await expect.poll(() => guesses, { timeout: 20_000 }).toBeGreaterThan(20)
  for (let i = 1; i <= 300; i++) {
    expect((await publisher.publish({ topic: 'measured', payload: String(i), qos: 1 }))!.reason).toBe(0)
    expect(String((await subscriber.receive()).payload)).toBe(String(i))
  }
  // From another address, as the proxy tells it: in its turn among addresses, not among guesses.
  const before = guesses
  const legitimate = await stage.open('proxied')
  legitimate.send(Buffer.from('PROXY TCP4 203.0.113.7 127.0.0.1 4711 1883\r\n'))
  await legitimate.connect({ clientId: 'legitimate', userName: 'bob', password: BOBS_PASSWORD })
  const meanwhile = guesses - before
  isOver = true
  await Promise.all(guessers)
  expect(meanwhile).toBeLessThan(GUESSERS / 2)
  await publisher.ping()
  expect([publisher, subscriber].some(client => client.received.some(({ type }) => type === 'disconnect'))).toBe(false)
  for (const each of [publisher, subscriber, legitimate]) each.drop()
}, 60_000)

test('PUBLISH before CONNACK, from many: kept within bounds, done only for those who come in', async () => {
  const witness = await stage.connect('passwords', { clientId: 'witness', userName: 'alice', password: PASSWORD })
  await witness.subscribe({ filter: 'early/#' })
  const early = (password: string): Buffer =>
    Buffer.concat([
      packets.connect({ clientId: 'early', userName: 'alice', password }),
      ...Array.from({ length: 20 }, (_, at) =>
        packets.publish({ topic: `early/${at}`, payload: password === PASSWORD ? 'right' : 'wrong' }),
      ),
    ])
  const refused = await Promise.all(Array.from({ length: 10 }, () => stage.open('passwords')))
  for (const client of refused) client.send(early('guess'))
  for (const client of refused) await client.expectRefused(NOT_AUTHORIZED)
  const accepted = await stage.open('passwords')
  accepted.send(early(PASSWORD))
  expect((await accepted.expect('connack')).reason).toBe(0)
  for (let at = 0; at < 20; at++) expect(await witness.receive()).toMatchObject({ topic: `early/${at}`, payload: Buffer.from('right') })
  await witness.expectNothing()
  const greedy = await stage.open('passwords')
  greedy.send(packets.connect({ clientId: 'greedy', userName: 'alice', password: 'guess' }), Buffer.alloc(1024 * 1024, packets.PINGREQ))
  await greedy.expectGivenUp()
  for (const each of [witness, accepted]) each.drop()
})
