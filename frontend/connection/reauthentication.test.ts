import { describe, expect, test } from 'vitest'
import { encodeAuth } from '#shared/mqtt/auth-codec.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AuthorizationVerdict, Verdict } from '#shared/rpc/authentication.ts'
import { OPEN_TO_ALL } from '#shared/rpc/port-rules.ts'
import { type FakeClient, permitOf, publishPacket, rulesOf, Surroundings } from '../surroundings.contract.ts'

const METHOD = 'K8S-SAT'
const CONTINUE = ReasonCode.ContinueAuthentication
const CONNECT = { properties: { authenticationMethod: METHOD, authenticationData: Buffer.from('old') } }

function again(data = 'new', reason: 0x18 | 0x19 = ReasonCode.ReAuthenticate, method = METHOD): Buffer {
  return encodeAuth(reason, { method, data: Buffer.from(data) })
}

async function connected(world: Surroundings): Promise<FakeClient> {
  return (await world.connect(5, CONNECT)).forget()
}

async function sent(world: Surroundings, client: FakeClient, ...packets: Buffer[]): Promise<void> {
  client.send(...packets)
  await world.settled()
}

/** Verdicts that the test gives one after the other. */
function verdictsByHand(world: Surroundings): (verdict: Verdict) => Promise<void> {
  const waiting: ((verdict: Verdict) => void)[] = []
  world.authentication.verdict = () => new Promise(resolve => waiting.push(resolve))
  return async verdict => {
    waiting.shift()!(verdict)
    await world.settled()
  }
}

const unavailable: Verdict = { is: 'unavailable', cause: 'out of reach' }

function restricts(world: Surroundings): readonly (readonly unknown[])[] {
  return world.backend.calls.filter(([name]) => name === 'restrict')
}

describe('[MQTT-4.12.1-1] AUTH 0x19', () => {
  test('accepted: new identity, proof, expiry and permit; AUTH 0x00 once the session knows', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ proof: Buffer.from('proof 1') }))
    const client = await connected(world)
    world.authentication.permit = permitOf(['b'])
    const identity = { userName: 'someone', attributes: new Map([['k', 'v']]) }
    const expiresMs = world.clock.wallMs() + 60_000
    const grant = { identity, expiresMs, proof: Buffer.from('proof 2'), authenticationData: Buffer.from('bye') }
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted(grant))
    await sent(world, client, publishPacket('a', 1), again())
    const asked = world.authentication.requests[1]!
    expect(asked).toMatchObject({ purpose: 'reauthenticate', authenticationMethod: METHOD, userName: null, password: null })
    expect([asked.authenticationData, asked.proof].map(bytes => Buffer.from(bytes!).toString())).toEqual(['new', 'proof 1'])
    // Acknowledged last, and in its place among the answers.
    expect(client.packets).toEqual([])
    const [, ticket, rights] = restricts(world)[0]!
    expect(rights).toHaveProperty('willGuard')
    world.frontend.acknowledged(client.connection.id, 0, ReasonCode.Success)
    world.frontend.subscribed(client.connection.id, ticket as number, [])
    world.turn.run()
    expect(client.packets).toMatchObject([
      { cmd: 'puback' },
      { cmd: 'auth', reasonCode: 0, properties: { authenticationMethod: METHOD, authenticationData: Buffer.from('bye') } },
    ])
    await sent(world, client.forget(), publishPacket('a', 2), publishPacket('b', 3))
    expect(world.backend.published.map(({ message }) => message.topic.name)).toEqual(['a', 'b'])
    expect(client.connection.grant).toMatchObject({ identity, expiresMs })
    world.pass(60_200)
    expect(client.transport.isEnded).toBe(true)
  })

  test('accepted with the same rights: the session need not be told', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const client = await connected(world)
    await sent(world, client, again())
    expect(client.packets).toMatchObject([{ cmd: 'auth', reasonCode: 0 }])
    expect(restricts(world)).toEqual([])
  })

  test('[MQTT-4.12.1-2] refused: DISCONNECT 0x87 without what the policy says; the Will goes out', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    world.authentication.verdict = () => Promise.resolve(world.authentication.refused(ReasonCode.BadAuthenticationMethod))
    await sent(world, client, again())
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.NotAuthorized }])
    expect(client.bytes.toString()).not.toContain('policy')
    expect(world.backend.detached[0]!.end).toEqual({ discardWill: false, sessionExpirySeconds: null })
    expect(world.refusals).toMatchObject([{ action: 'reauthenticate', cause: 'the policy says so' }])
  })

  test('traffic goes on by the old permit meanwhile', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const client = await connected(world)
    const decide = verdictsByHand(world)
    await sent(world, client, again(), publishPacket('a', 1), publishPacket('b', 2))
    expect(world.backend.published.map(({ message }) => message.topic.name)).toEqual(['a'])
    await decide(unavailable)
    await sent(world, client, publishPacket('a', 3))
    expect(world.backend.published).toHaveLength(2)
  })

  test('in several steps', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = verdictsByHand(world)
    await sent(world, client, again('first'))
    await decide({ is: 'challenge', data: Buffer.from('nonce'), sealedState: Buffer.from('sealed') })
    expect(client.packets).toMatchObject([
      { cmd: 'auth', reasonCode: CONTINUE, properties: { authenticationMethod: METHOD, authenticationData: Buffer.from('nonce') } },
    ])
    await sent(world, client.forget(), again('second', CONTINUE))
    expect(Buffer.from(world.authentication.requests[2]!.sealedState!).toString()).toBe('sealed')
    await decide(world.authentication.accepted({ authenticationData: Buffer.from('last') }))
    expect(client.packets).toMatchObject([{ cmd: 'auth', reasonCode: 0, properties: { authenticationData: Buffer.from('last') } }])
    // And once more from the start.
    await sent(world, client.forget(), again('third'))
    expect(world.authentication.requests[3]!.sealedState).toBeNull()
  })

  test('on a port without authentication, which ignores that method: success', async () => {
    const world = new Surroundings()
    world.port.rules = OPEN_TO_ALL
    const client = await connected(world)
    await sent(world, client, again())
    expect(client.packets).toMatchObject([{ cmd: 'auth', reasonCode: 0 }])
    expect(world.authentication.requests).toEqual([])
  })
})

describe('out of turn', () => {
  test.each([
    ['AUTH 0x18 that nobody asked for', [again('x', CONTINUE)]],
    ['a second AUTH 0x19 while one is decided', [again(), again()]],
    ['AUTH 0x18 while one is decided', [again(), again('x', CONTINUE)]],
    ['[MQTT-4.12.1-1] another method', [again('x', ReasonCode.ReAuthenticate, 'OTHER')]],
    ['AUTH 0x00', [encodeAuth(ReasonCode.Success, { method: METHOD })]],
    ['AUTH without reason and properties', [Buffer.from([0xf0, 0])]],
  ])('%s: DISCONNECT 0x82', async (_, packets) => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = verdictsByHand(world)
    await sent(world, client, ...packets)
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ProtocolError }])
    if (world.authentication.requests.length === 2) await decide(world.authentication.accepted())
    expect([client.packets.length, world.backend.detached.length]).toEqual([1, 1])
  })

  test('AUTH 0x19 instead of the answer to a challenge', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = verdictsByHand(world)
    await sent(world, client, again())
    await decide({ is: 'challenge', data: null, sealedState: Buffer.alloc(1) })
    await sent(world, client.forget(), again())
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ProtocolError }])
  })

  test('[MQTT-4.12.0-7] AUTH of a client whose CONNECT had no method, such as one with a certificate', async () => {
    const world = new Surroundings()
    const client = (await world.connect(5)).forget()
    await sent(world, client, again())
    expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.ProtocolError }])
    expect(world.authentication.requests).toHaveLength(1)
  })

  test('AUTH before MQTT 5', async () => {
    const world = new Surroundings()
    const client = (await world.connect(4)).forget()
    await sent(world, client, again())
    expect([client.bytes.length, client.transport.isEnded]).toEqual([0, true])
  })
})

describe('when it cannot be decided', () => {
  test('AUTH 0x18 says so: at once, then not before 1, 2, 4 … 30 s have passed since; 0x18 and 0x19 are new attempts', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    world.authentication.verdict = () => Promise.resolve(unavailable)
    await sent(world, client, again())
    const waits: number[] = []
    for (let attempt = 0; attempt < 7; attempt++) {
      expect(client.packets).toMatchObject([
        { cmd: 'auth', reasonCode: CONTINUE, properties: { authenticationMethod: METHOD, reasonString: 'transient, retry later' } },
      ])
      await sent(world, client.forget(), again(`attempt ${attempt}`, attempt % 2 === 0 ? CONTINUE : ReasonCode.ReAuthenticate))
      let waitedMs = 0
      for (; client.packets.length === 0; waitedMs += 100) world.pass(100)
      waits.push(Math.floor(waitedMs / 1_000))
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 30, 30])
    const asked = world.authentication.requests.at(-1)!
    expect([Buffer.from(asked.authenticationData!).toString(), asked.sealedState]).toEqual(['attempt 6', null])
    // The old credential holds; and the next one that is accepted ends it all.
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted())
    await sent(world, client.forget(), again('good', CONTINUE))
    expect(client.packets).toMatchObject([{ cmd: 'auth', reasonCode: 0 }])
    world.authentication.verdict = () => Promise.resolve(unavailable)
    await sent(world, client.forget(), again())
    expect(client.packets).toMatchObject([{ cmd: 'auth', reasonCode: CONTINUE }])
  })

  test('a service that fails and a permit that cannot be read count as such; rights stay', async () => {
    const world = new Surroundings()
    world.authentication.permit = permitOf(['a'])
    const client = await connected(world)
    const { permit } = client.connection
    world.authentication.verdict = () => Promise.reject(new Error('oops'))
    await sent(world, client, again())
    world.pass(1_000)
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ permit: Buffer.from([9]) }))
    await sent(world, client, again('x', CONTINUE))
    expect(client.packets).toMatchObject([
      { cmd: 'auth', reasonCode: CONTINUE },
      { cmd: 'auth', reasonCode: CONTINUE },
    ])
    expect(client.connection.permit).toBe(permit)
    expect(world.frontend.counters.categories.total('authenticationFailures')).toBe(1)
  })

  test('the old credential ends when it ends', async () => {
    const world = new Surroundings()
    world.authentication.verdict = () => Promise.resolve(world.authentication.accepted({ expiresMs: world.clock.wallMs() + 5_000 }))
    const client = await connected(world)
    world.authentication.verdict = () => Promise.resolve(unavailable)
    await sent(world, client, again())
    world.pass(4_900)
    expect(client.transport.isEnded).toBe(false)
    world.pass(300)
    expect(client.transport.isEnded).toBe(true)
  })
})

describe('limits', () => {
  test('30 s for the answers to challenges', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = verdictsByHand(world)
    await sent(world, client, again())
    await decide({ is: 'challenge', data: null, sealedState: Buffer.alloc(1) })
    world.pass(20_000)
    await sent(world, client, again('x', CONTINUE))
    await decide({ is: 'challenge', data: null, sealedState: Buffer.alloc(1) })
    world.pass(9_800)
    expect(client.transport.isEnded).toBe(false)
    world.pass(500)
    expect(client.packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: ReasonCode.NotAuthorized })
  })

  test('ten rounds, 64 KiB', async () => {
    for (const bytes of [1, 20_000]) {
      const world = new Surroundings()
      const client = await connected(world)
      world.authentication.verdict = () => Promise.resolve({ is: 'challenge', data: Buffer.alloc(bytes), sealedState: Buffer.alloc(1) })
      await sent(world, client, again())
      while (!client.transport.isEnded) await sent(world, client, again('x', CONTINUE))
      expect(client.packets.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: ReasonCode.QuotaExceeded })
      expect(world.authentication.requests.length - 1).toBe(bytes === 1 ? 10 : 4)
    }
  })
})

describe('while policies change', () => {
  test('a verdict of old ones is not used', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = verdictsByHand(world)
    world.authentication.authorization = () => new Promise(() => {})
    await sent(world, client, again())
    world.frontend.changeRules(world.port, rulesOf('1', '2', { onUpdate: 'Reevaluate' }))
    world.authentication.permit = permitOf(['new'])
    await decide(world.authentication.accepted())
    expect(world.authentication.requests.at(-1)!.policy.authorizations[0]!.version).toBe('2')
    // It is held until its new rights are stored, by whichever way they come first.
    await decide(world.authentication.accepted())
    expect([client.connection.phase, client.packets.length]).toEqual(['held', 0])
    world.frontend.subscribed(client.connection.id, restricts(world)[0]![1] as number, [])
    world.turn.run()
    expect(client.connection.phase).toBe('open')
    expect(client.packets).toMatchObject([{ cmd: 'auth', reasonCode: 0 }])
    await sent(world, client, publishPacket('new', 1))
    expect(world.backend.published).toHaveLength(1)
  })

  test('an answer about the rights of who it was before is not used', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    const decide = verdictsByHand(world)
    let allow: (verdict: AuthorizationVerdict) => void = () => {}
    world.authentication.authorization = () => new Promise(resolve => (allow = resolve))
    world.frontend.changeRules(world.port, rulesOf('1', '2', { onUpdate: 'Reevaluate' }))
    world.frontend.changeRules(world.port, rulesOf('1', '1'))
    await sent(world, client, again())
    world.frontend.changeRules(world.port, rulesOf('1', '2', { onUpdate: 'Reevaluate' }))
    world.authentication.permit = permitOf(['mine'])
    await decide(world.authentication.accepted())
    await decide(world.authentication.accepted())
    allow(world.authentication.allowed(permitOf(['of before'])))
    await world.settled()
    expect(restricts(world)).toHaveLength(1)
    expect(client.connection.phase).toBe('held')
    world.frontend.subscribed(client.connection.id, restricts(world)[0]![1] as number, [])
    await sent(world, client, publishPacket('mine', 1), publishPacket('of before', 2))
    expect(world.backend.published.map(({ message }) => message.topic.name)).toEqual(['mine'])
  })

  test('it does not save one that is to be disconnected', async () => {
    const world = new Surroundings()
    const [first, client] = [await connected(world), await connected(world)]
    const decide = verdictsByHand(world)
    await sent(world, client, again())
    world.frontend.changeRules(world.port, rulesOf('1', '2'))
    await decide(world.authentication.accepted())
    await decide(world.authentication.accepted())
    world.pass(6_000)
    for (const { packets } of [first, client])
      expect(packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.AdministrativeAction }])
  })
})

test('the connection ends while it is decided, or while an answer waits: nothing more happens', async () => {
  const world = new Surroundings()
  const [deciding, waiting] = [await connected(world), await connected(world)]
  world.authentication.verdict = () => Promise.resolve(unavailable)
  await sent(world, waiting, again())
  await sent(world, waiting, again('x', CONTINUE))
  const decide = verdictsByHand(world)
  await sent(world, deciding, again())
  for (const { transport } of [deciding, waiting]) transport.cut()
  await decide(world.authentication.accepted())
  world.pass(5_000)
  expect([deciding.packets.length, waiting.packets.length, world.backend.detached.length]).toEqual([0, 1, 2])
  expect(restricts(world)).toEqual([])
})
