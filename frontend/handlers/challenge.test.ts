import { describe, expect, test } from 'vitest'
import { encodeAuth } from '#shared/mqtt/auth-codec.ts'
import { encodeClientDisconnect, encodeConnect } from '#shared/mqtt/client-codec.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthenticationRequest, Verdict } from '#shared/rpc/authentication.ts'
import { decide, type Question } from '../connection/verdicts.ts'
import { type FakeClient, publishPacket, rulesOf, Surroundings } from '../surroundings.contract.ts'

const METHOD = 'STEPS'
const CONNECT = { properties: { authenticationMethod: METHOD, authenticationData: Buffer.from('first') } }

function answer(data: string, reason: 0x18 | 0x19 = ReasonCode.ContinueAuthentication, method = METHOD): Buffer {
  return encodeAuth(reason, { method, data: Buffer.from(data) })
}

/** Asks for more after each of `answers`, and then accepts with `last`. */
function stepwise(world: Surroundings, rounds: number, grant: { authenticationData?: Buffer } = {}): void {
  let round = 0
  world.authentication.verdict = (): Promise<Verdict> => {
    if (round++ >= rounds) return Promise.resolve(world.authentication.accepted({ authenticationData: null, ...grant }))
    return Promise.resolve({ is: 'challenge', data: Buffer.from(`more ${round}`), sealedState: Buffer.from(`state ${round}`) })
  }
}

function dataOf({ authenticationData, sealedState }: AuthenticationRequest): unknown {
  return [
    authenticationData === null ? null : Buffer.from(authenticationData).toString(),
    sealedState === null ? null : Buffer.from(sealedState).toString(),
  ]
}

async function sent(world: Surroundings, client: FakeClient, ...packets: Buffer[]): Promise<void> {
  client.send(...packets)
  await world.settled()
}

describe('an exchange before CONNACK', () => {
  test('[MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] each step goes to the service with what it gave away, the last words to CONNACK', async () => {
    const world = new Surroundings()
    const seen: unknown[] = []
    stepwise(world, 2, { authenticationData: Buffer.from('signature') })
    const { verdict } = world.authentication
    world.authentication.verdict = request => {
      seen.push([request.purpose, ...(dataOf(request) as unknown[])])
      return verdict(request)
    }
    const client = await world.connect(5, CONNECT)
    await sent(world, client, answer('second'))
    await sent(world, client, answer('third'))
    expect(seen).toEqual([
      ['connect', 'first', null],
      ['connect', 'second', 'state 1'],
      ['connect', 'third', 'state 2'],
    ])
    const properties = { authenticationMethod: METHOD }
    expect(client.packets).toMatchObject([
      {
        cmd: 'auth',
        reasonCode: ReasonCode.ContinueAuthentication,
        properties: { ...properties, authenticationData: Buffer.from('more 1') },
      },
      {
        cmd: 'auth',
        reasonCode: ReasonCode.ContinueAuthentication,
        properties: { ...properties, authenticationData: Buffer.from('more 2') },
      },
      { cmd: 'connack', reasonCode: 0, properties: { ...properties, authenticationData: Buffer.from('signature') } },
    ])
    expect(world.backend.attached).toHaveLength(1)
    expect(world.frontend.counters.categories.total('authenticationSuccesses')).toBe(1)
  })

  test('the answer may come together with what is for after CONNACK', async () => {
    const world = new Surroundings()
    stepwise(world, 1)
    const client = await world.connect(5, CONNECT)
    await sent(world, client, answer('second'), publishPacket('t'))
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(['auth', 'connack'])
    expect(world.backend.published).toHaveLength(1)
  })

  test('secrets are let go as soon as there is a verdict, and not before', async () => {
    const world = new Surroundings()
    let asked = 0
    world.authentication.verdict = () => {
      if (asked++ === 0) world.frontend.changeRules(world.port, rulesOf('1', '2'))
      return Promise.resolve(world.authentication.accepted())
    }
    const { connection } = world.open()
    const question = {
      purpose: 'connect',
      userName: 'u',
      password: Buffer.from('secret'),
      authenticationMethod: METHOD,
      authenticationData: Buffer.from('secret'),
      sealedState: null,
      proof: null,
    } as const
    const given: Question = { ...question }
    expect((await decide(connection, given)).verdict.is).toBe('accepted')
    expect(world.authentication.requests).toMatchObject(
      [question, question].map(({ password, authenticationData }) => ({ password, authenticationData })),
    )
    expect([given.password, given.authenticationData]).toEqual([null, null])
  })
})

describe('out of turn before CONNACK: CONNACK with a failure, as DISCONNECT may not come before it [MQTT-3.14.0-1]', () => {
  test.each([
    ['[MQTT-3.1.2-30] PUBLISH', publishPacket('t'), ReasonCode.ProtocolError],
    ['PINGREQ', Buffer.from([0xc0, 0]), ReasonCode.ProtocolError],
    ['a second CONNECT', encodeConnect(5, 'again'), ReasonCode.ProtocolError],
    ['AUTH 0x19', answer('x', ReasonCode.ReAuthenticate), ReasonCode.ProtocolError],
    ['AUTH without reason and properties', Buffer.from([0xf0, 0]), ReasonCode.ProtocolError],
    ['AUTH with another method', answer('x', ReasonCode.ContinueAuthentication, 'OTHER'), ReasonCode.BadAuthenticationMethod],
    ['[MQTT-3.15.1-1] AUTH with flags', Buffer.concat([Buffer.from([0xf1]), answer('x').subarray(1)]), ReasonCode.MalformedPacket],
  ])('%s', async (_, bytes, reason) => {
    const world = new Surroundings()
    stepwise(world, 1)
    const client = await world.connect(5, CONNECT)
    await sent(world, client.forget(), bytes)
    expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: reason }])
    expect([client.transport.isEnded, world.backend.attached.length, world.authentication.requests.length]).toEqual([true, 0, 1])
  })

  test('AUTH while the service is being asked waits for what it is', async () => {
    const world = new Surroundings()
    let verdict: (verdict: Verdict) => void = () => {}
    world.authentication.verdict = () => new Promise(resolve => (verdict = resolve))
    const client = await world.connect(5, CONNECT)
    await sent(world, client, answer('early'))
    expect(client.packets).toEqual([])
    verdict(world.authentication.accepted())
    await world.settled()
    // Then it is one of an open connection, and none was asked for.
    expect(client.packets).toMatchObject([{ cmd: 'connack' }, { cmd: 'disconnect', reasonCode: ReasonCode.ProtocolError }])
  })

  test('Authentication Data without a method (§3.1.2.11.10)', async () => {
    const world = new Surroundings()
    const client = await world.connect(5, { properties: { authenticationData: Buffer.from('x') } })
    expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: ReasonCode.ProtocolError }])
  })

  test('[MQTT-4.12.0-6] a challenge for a client that has no method is a fault of ours: closed, never open', async () => {
    for (const version of [5, 4] as const) {
      const world = new Surroundings()
      stepwise(world, 1)
      const client = await world.connect(version)
      expect(client.packets).toMatchObject([version === 5 ? { reasonCode: ReasonCode.ServerUnavailable } : { returnCode: 3 }])
      expect([client.transport.isEnded, world.log.events.includes('connect_failed')]).toEqual([true, true])
    }
  })
})

describe('an exchange ends', () => {
  test('when the client leaves with DISCONNECT or without', async () => {
    const world = new Surroundings()
    stepwise(world, 2)
    const [polite, cut] = [await world.connect(5, CONNECT), await world.connect(5, CONNECT)]
    await sent(world, polite, encodeClientDisconnect(5))
    cut.transport.cut()
    polite.transport.cut(null)
    await world.settled()
    expect([world.backend.attached.length, world.frontend.counters.connectionsOpen, world.backend.detached.length]).toEqual([0, 0, 0])
  })

  test('when the client was gone before it was asked, having sent more', async () => {
    const world = new Surroundings()
    let verdict: (verdict: Verdict) => void = () => {}
    world.authentication.verdict = () => new Promise(resolve => (verdict = resolve))
    const client = await world.connect(5, CONNECT)
    client.send(publishPacket('t').subarray(0, 2))
    client.transport.cut()
    verdict({ is: 'challenge', data: null, sealedState: Buffer.alloc(1) })
    await world.settled()
    expect(world.frontend.counters.connectionsOpen).toBe(0)
  })

  test('30 s after the first challenge, whatever the time for CONNECT', async () => {
    const world = new Surroundings({ connectDeadlineMs: 10_000 })
    stepwise(world, 5)
    const client = await world.connect(5, CONNECT)
    world.pass(20_000)
    await sent(world, client, answer('late'))
    expect(client.transport.isEnded).toBe(false)
    world.pass(9_800)
    expect(client.transport.isEnded).toBe(false)
    world.pass(400)
    expect(client.transport.isEnded).toBe(true)
  })

  test('after ten questions', async () => {
    const world = new Surroundings()
    stepwise(world, 100)
    const client = await world.connect(5, CONNECT)
    for (let i = 0; i < 20; i++) await sent(world, client, answer('again'))
    expect(world.authentication.requests).toHaveLength(10)
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'connack', reasonCode: ReasonCode.QuotaExceeded })
  })

  test('after 64 KiB of data, both ways counted', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.resolve({ is: 'challenge', data: Buffer.alloc(10_000), sealedState: Buffer.alloc(1) })
    const client = await world.connect(5, CONNECT)
    for (let i = 0; i < 5; i++) await sent(world, client, answer('x'.repeat(10_000)))
    expect(world.authentication.requests).toHaveLength(4)
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'connack', reasonCode: ReasonCode.QuotaExceeded })
  })

  test('what it makes us hold is limited as before: 256 KiB', async () => {
    const world = new Surroundings()
    stepwise(world, 1)
    const client = await world.connect(5, CONNECT)
    client.send(Buffer.concat([Buffer.from([0xf0, 0xff, 0xff, 0x7f]), Buffer.alloc(300 * 1024)]))
    expect([client.transport.isEnded, world.frontend.counters.connectionsOpen]).toEqual([true, 1])
  })
})

describe('a verdict about CONNECT', () => {
  test.each([
    ['refused', ReasonCode.NotAuthorized, 5, 'authenticationDenied'],
    ['refused', ReasonCode.BadAuthenticationMethod, 5, 'authenticationDenied'],
    ['refused', ReasonCode.BadUserNameOrPassword, 4, 'authenticationDenied'],
    ['refused', ReasonCode.ServerBusy, 3, 'authenticationDenied'],
    ['unavailable', ReasonCode.ServerUnavailable, 3, 'authenticationFailures'],
  ] as const)('%s 0x%x: %i before MQTT 5, counted as %s', async (is, reason, code, counted) => {
    for (const version of [5, 4, 3] as const) {
      const world = new Surroundings()
      const verdict: Verdict = is === 'refused' ? world.authentication.refused(reason) : { is, cause: 'the policy says so' }
      world.authentication.verdict = () => Promise.resolve(verdict)
      const client = await world.connect(version)
      expect(client.packets).toMatchObject([version === 5 ? { reasonCode: reason } : { returnCode: code }])
      expect(client.bytes.toString()).not.toContain('policy')
      expect(world.log.lines.at(-1)).toMatchObject({ event: 'connect_refused', fields: { cause: 'the policy says so' } })
      expect(world.frontend.counters.categories.total(counted)).toBe(1)
    }
  })

  test('a refusal never looks like an acceptance, whatever reason it gives', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.resolve(world.authentication.refused(ReasonCode.Success))
    const client = await world.connect(5)
    expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: ReasonCode.NotAuthorized }])
  })

  test('of policies that are not in force any more is not used: the newest are asked', async () => {
    const world = new Surroundings()
    const asked: string[] = []
    world.authentication.verdict = request => {
      asked.push(request.policy.authorizations[0]!.version)
      if (asked.length < 3) world.frontend.changeRules(world.port, rulesOf('1', `${asked.length + 1}`))
      return Promise.resolve(asked.length < 3 ? world.authentication.accepted() : world.authentication.refused())
    }
    const client = await world.connect(5, { userName: 'u', password: 'p' })
    expect(asked).toEqual(['1', '2', '3'])
    expect(world.authentication.requests.map(({ password }) => Buffer.from(password!).toString())).toEqual(['p', 'p', 'p'])
    expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: ReasonCode.NotAuthorized }])
  })

  test('of policies that change all the time cannot be had', async () => {
    const world = new Surroundings()
    let version = 1
    world.authentication.verdict = () => {
      world.frontend.changeRules(world.port, rulesOf('1', `${++version}`))
      return Promise.resolve(world.authentication.accepted())
    }
    const client = await world.connect(5)
    expect(client.packets).toMatchObject([{ reasonCode: ReasonCode.ServerUnavailable }])
    expect(world.authentication.requests).toHaveLength(5)
  })

  test('whose credential has expired by the time it comes is a refusal', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ expiresMs: world.clock.wallMs() }))
    const client = await world.connect(5)
    expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: ReasonCode.NotAuthorized }])
  })

  test('with a permit that cannot be read refuses', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ permit: Buffer.from([9, 9, 9]) }))
    const client = await world.connect(5)
    expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: ReasonCode.ServerUnavailable }])
    expect(world.backend.attached).toEqual([])
  })

  test('another connection takes the session over while the client is being asked for more: both go their way', async () => {
    const world = new Surroundings()
    stepwise(world, 1)
    const slow = await world.connect(5, CONNECT, 'same')
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted())
    const quick = await world.connect(5, {}, 'same')
    world.backend.attach = () => Promise.resolve({ is: 'refused', reason: ReasonCode.SessionTakenOver, detail: '' })
    await sent(world, slow.forget(), answer('second'))
    expect([quick.transport.isEnded, slow.transport.isEnded, slow.bytes.length]).toEqual([false, true, 0])
  })
})
