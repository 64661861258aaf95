import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { ByteReader } from '#shared/base/byte-reader.ts'
import { readPermit } from '#shared/authorization/permit.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { Grant, Verdict } from '#shared/rpc/authentication.ts'
import { REQUEST_DEADLINE_MS, VERSION_WAIT_MS } from './authentication-service.ts'
import { EXCHANGE_BYTES_MAX, EXCHANGE_MS_MAX, ROUNDS_MAX } from './method-flow.ts'
import type { MethodVerdict } from './methods/authentication-method.ts'
import { ALL_MAY_CONNECT, type Answer, CUSTOM, SCRAM, ServiceRig, TOKEN, USERS, valid, X509 } from './service-rig.contract.ts'
import { WorkersBusy } from './worker/workers.ts'

const INVALID: MethodVerdict = { is: 'invalid', reason: ReasonCode.BadUserNameOrPassword, cause: 'wrong' }
const UNREACHABLE: MethodVerdict = { is: 'unreachable', cause: 'no answer' }
const IRRELEVANT: MethodVerdict = { is: 'irrelevant' }

let rig: ServiceRig

function newRig(...given: ConstructorParameters<typeof ServiceRig>): ServiceRig {
  const made = new ServiceRig(...given)
  onTestFinished(() => made.service.close())
  return made
}

beforeEach(() => {
  rig = newRig()
  rig.apply({ authentications: { main: [X509, CUSTOM, TOKEN] } })
})

/** In short: what it is, by which method or with which reason. */
function short(verdict: Verdict): string {
  if (verdict.is === 'accepted') return `accepted ${verdict.grant.method}`
  return verdict.is === 'refused' ? `refused ${verdict.reason.toString(16)} ${verdict.method}` : verdict.is
}

function grantOf(verdict: Verdict): Grant {
  if (verdict.is !== 'accepted') throw new Error(JSON.stringify(verdict))
  return verdict.grant
}

describe('the order of the methods', () => {
  test.each<[string, readonly Answer[], string, number]>([
    ['the first that is relevant accepts', [valid(), INVALID, INVALID], 'accepted X509', 1],
    ['the first that is relevant refuses', [INVALID, valid(), valid()], 'refused 86 X509', 1],
    ['who is irrelevant is passed over', [IRRELEVANT, IRRELEVANT, valid()], 'accepted ServiceAccountToken', 3],
    ['Custom that answers ends it', [IRRELEVANT, INVALID, valid()], 'refused 86 Custom', 2],
    ['Custom out of reach is passed over', [IRRELEVANT, UNREACHABLE, valid()], 'accepted ServiceAccountToken', 3],
    ['Custom out of reach and a later one refuses', [IRRELEVANT, UNREACHABLE, INVALID], 'refused 86 ServiceAccountToken', 3],
    ['Custom out of reach and nothing else', [IRRELEVANT, UNREACHABLE, IRRELEVANT], 'unavailable', 3],
    ['another out of reach ends it', [UNREACHABLE, valid(), valid()], 'unavailable', 1],
    ['a fault of the method ends it', ['throws', valid(), valid()], 'unavailable', 1],
    ['a fault of Custom ends it too', [IRRELEVANT, 'throws', valid()], 'unavailable', 2],
    ['nobody is relevant', [IRRELEVANT, IRRELEVANT, IRRELEVANT], 'refused 87 none', 3],
    ['a refusal that is none becomes one', [{ ...INVALID, reason: ReasonCode.Success }, valid(), valid()], 'refused 87 X509', 1],
  ])('%s', async (_, [x509, custom, token], expected, asked) => {
    rig.answer('X509', x509!)
    rig.answer('Custom', custom!)
    rig.answer('ServiceAccountToken', token!)
    expect([short(await rig.ask()), rig.asked.length]).toEqual([expected, asked])
  })

  test('decision 2: 0x8C for an Authentication Method that no method knows, 0x87 for one that none finds relevant', async () => {
    expect(short(await rig.ask({ authenticationMethod: 'other' }))).toBe('refused 8c none')
    expect(short(await rig.ask({ authenticationMethod: 'own-X509' }))).toBe('refused 87 none')
  })

  test('a refusal tells the client nothing of its cause', async () => {
    rig.answer('X509', INVALID)
    expect(await rig.ask()).toMatchObject({ detail: 'not authorized', cause: 'wrong' })
  })

  test('a fault is logged and counted, and its text goes nowhere else', async () => {
    rig.answer('X509', 'throws')
    expect(JSON.stringify(await rig.ask())).not.toContain('a fault of the method')
    expect([rig.parts.log.events, rig.service.counters.failures]).toEqual([['authentication_failed'], 1])
  })

  test('busy worker threads are no fault: the client is told to come back', async () => {
    rig.answers.set('X509', () => {
      throw new WorkersBusy()
    })
    expect(short(await rig.ask())).toBe('unavailable')
    expect([rig.service.counters.shed, rig.service.counters.failures, rig.parts.log.lines]).toEqual([1, 0, []])
  })

  test('what the method says of the client stands in the grant', async () => {
    const attributes = new Map([['floor', '2']])
    rig.answer('X509', valid({ userName: 'lock', attributes, expiresMs: rig.parts.clock.wallMs() + 1, data: Buffer.from('d') }))
    expect(grantOf(await rig.ask())).toMatchObject({
      method: 'X509',
      identity: { userName: 'lock', attributes },
      permit: null,
      expiresMs: rig.parts.clock.wallMs() + 1,
      authenticationData: Buffer.from('d'),
    })
  })

  test('a credential that has expired lets nobody in', async () => {
    rig.answer('X509', valid({ expiresMs: rig.parts.clock.wallMs() }))
    expect(short(await rig.ask())).toBe('refused 87 X509')
  })

  test('evidence that no connection could keep is a fault of the method', async () => {
    rig.answer('X509', valid({ evidence: Buffer.alloc(1_025) }))
    expect([short(await rig.ask()), rig.parts.log.events]).toEqual(['unavailable', ['authentication_failed']])
  })
})

describe('authorization', () => {
  beforeEach(() => {
    rig.apply({
      authentications: { main: [X509] },
      authorizations: {
        all: ALL_MAY_CONNECT,
        none: { rules: [{ principals: { usernames: ['nobody'] }, brokerResources: [{ method: 'Connect' }] }] },
        topics: {
          rules: [
            {
              principals: { usernames: ['u'] },
              brokerResources: [{ method: 'Connect' }, { method: 'Publish', topics: ['a/{principal.clientId}'] }],
            },
          ],
        },
      },
    })
    rig.answer('X509', valid())
  })

  test('the permit is compiled for the client', async () => {
    const { permit } = grantOf(await rig.ask({ policy: rig.policy(['topics']) }))
    const read = readPermit(new ByteReader(permit!))
    expect([read.mayPublish('a/pump'), read.mayPublish('a/other')]).toEqual([true, false])
  })

  test('who may not connect is refused by the method that knew it; only the cause names the policy', async () => {
    const verdict = await rig.ask({ policy: rig.policy(['none']) })
    expect([short(verdict), verdict]).toMatchObject([
      'refused 87 X509',
      { detail: 'not authorized', cause: 'no rule of none allows Connect (user name u)' },
    ])
  })

  test('authorize decides the same anew, for a client that is known', async () => {
    const identity = { userName: 'u', attributes: new Map<string, string>() }
    const ask = (...names: string[]) =>
      rig.service.authorize({ authorizations: names.map(name => rig.refOf('authorizations', name)), clientId: 'pump', identity })
    expect(await ask()).toEqual({ is: 'allowed', permit: null })
    expect(await ask('none')).toEqual({ is: 'refused', cause: 'no rule of none allows Connect (user name u)' })
    const unbounded = await rig.service.authorize({
      authorizations: [rig.refOf('authorizations', 'none')],
      clientId: 'pump',
      identity: { ...identity, userName: 'x'.repeat(65_535) },
    })
    expect(unbounded).toEqual({ is: 'refused', cause: `no rule of none allows Connect (user name ${'x'.repeat(128)}… (65535 characters))` })
    expect(await ask('none', 'topics')).toMatchObject({ is: 'allowed', permit: expect.any(Uint8Array) as unknown })
  })
})

describe('versions', () => {
  test('the version before is answered for as long as frontends may not know the new one', async () => {
    rig.answer('X509', valid())
    const before = rig.policy()
    rig.apply({ authentications: { main: [X509] } })
    expect(short(await rig.ask({ policy: before }))).toBe('accepted X509')
    rig.parts.pass(29_999)
    expect(short(await rig.ask({ policy: before }))).toBe('accepted X509')
    rig.parts.pass(1)
    const late = rig.ask({ policy: before })
    rig.parts.pass(VERSION_WAIT_MS)
    expect(short(await late)).toBe('unavailable')
    expect(rig.made.filter(({ isClosed }) => isClosed).map(({ name }) => name)).toEqual(['Custom', 'ServiceAccountToken'])
  })

  test('one that is not there yet is waited for', async () => {
    rig.answer('X509', valid())
    const waiting = rig.ask({ policy: { authentication: { name: 'main', version: 'next' }, authorizations: [] } })
    const other = new ServiceRig()
    other.apply({ authentications: { main: [X509] }, authorizations: { all: ALL_MAY_CONNECT } })
    const both = rig.ask({ policy: other.policy(['all']) })
    expect(rig.service.versionWaiters).toBe(2)
    rig.apply({ authentications: { main: [X509] } })
    expect(rig.service.versionWaiters).toBe(1)
    await Promise.resolve()
    rig.parts.pass(VERSION_WAIT_MS - 1)
    rig.apply({ authentications: { main: [X509] }, authorizations: { all: ALL_MAY_CONNECT } })
    expect(short(await both)).toBe('accepted X509')
    rig.parts.pass(1)
    expect([short(await waiting), rig.service.counters.versionsMissed]).toEqual(['unavailable', 1])
  })

  test('one that was taken away is answered for a while, then no more', async () => {
    rig.answer('X509', valid())
    const before = rig.policy()
    rig.apply({})
    expect(short(await rig.ask({ policy: before }))).toBe('accepted X509')
    rig.parts.pass(30_000)
    expect(rig.made.every(({ isClosed }) => isClosed)).toBe(true)
  })

  test('of many changes in a short time the first versions go early', async () => {
    const versions = Array.from({ length: 8 }, (_, i) => {
      rig.apply({ authentications: { main: [{ ...TOKEN, serviceAccountTokenSettings: { audiences: [String(i)] } }] } })
      return rig.policy()
    })
    rig.answer('ServiceAccountToken', valid())
    const answers = versions.map(policy => rig.ask({ policy }))
    await Promise.resolve()
    rig.parts.pass(VERSION_WAIT_MS)
    const got = (await Promise.all(answers)).map(({ is }) => is)
    expect(got).toEqual([...Array.from({ length: 3 }, () => 'unavailable'), ...Array.from({ length: 5 }, () => 'accepted')])
  })

  test('what is the same in another version is not made anew, and closed with the last version that has it', () => {
    rig.apply({ authentications: { main: [X509] } })
    expect(rig.made).toHaveLength(3)
    const x509 = rig.made[0]!
    rig.apply({ authentications: { main: [X509, CUSTOM] } })
    rig.parts.pass(30_000)
    expect([x509.isClosed, rig.made.map(({ name }) => name)]).toEqual([false, ['X509', 'Custom', 'ServiceAccountToken']])
    rig.apply({})
    rig.parts.pass(30_000)
    expect(x509.isClosed).toBe(true)
  })
})

describe('what methods refer to', () => {
  const authentications = { main: [SCRAM], other: [X509] }
  const changed: string[] = []

  beforeEach(() => {
    rig.apply({ authentications, secrets: USERS })
    rig.answer('Scram', valid())
    changed.length = 0
    rig.service.listen(name => changed.push(name))
  })

  test('a change of it makes the method anew and is told; other changes are not', async () => {
    const [before] = rig.service.standings()
    rig.apply({ authentications, secrets: { ...USERS, unused: { a: '1' } } })
    expect([changed, [...rig.service.standings()][0]]).toEqual([[], before])
    rig.apply({ authentications, secrets: { users: { alice: 'y' } } })
    expect(changed).toEqual(['main'])
    expect(rig.made.filter(({ name }) => name === 'Scram').map(({ isClosed }) => isClosed)).toEqual([true, false])
    expect([...rig.service.standings()][0]).not.toEqual(before)
    expect(short(await rig.ask())).toBe('accepted Scram')
  })

  test('two services with the same say the same of it', () => {
    const second = newRig()
    second.apply({ authentications, secrets: USERS })
    expect([...second.service.standings()]).toEqual([...rig.service.standings()])
  })

  test('a change that breaks it is refused, and what was there before goes on', async () => {
    rig.apply({ authentications, secrets: { users: { broken: '' } } })
    rig.apply({ authentications, secrets: { users: { broken: '' }, unused: { a: '1' } } })
    expect([changed, rig.service.faultOf('main'), short(await rig.ask())]).toEqual([[], null, 'accepted Scram'])
    expect(rig.service.impaired()).toEqual([expect.stringContaining('main: authenticationMethods[0] (Scram): a line of the Secret')])
    expect(rig.parts.log.events).toEqual(['authentication_update_refused'])
    rig.apply({ authentications, secrets: { users: { bob: 'x' } } })
    expect([changed, rig.service.impaired()]).toEqual([['main'], []])
  })

  test('what is taken away closes: nobody is let in by it any more', async () => {
    rig.apply({ authentications })
    expect(rig.service.faultOf('main')).toBe('authenticationMethods[0] (Scram): there is no Secret users')
    expect(changed).toEqual(['main'])
    expect(await rig.ask()).toEqual({
      is: 'unavailable',
      cause: 'BrokerAuthentication main: authenticationMethods[0] (Scram): there is no Secret users',
    })
    rig.apply({ authentications, secrets: USERS })
    expect([rig.service.faultOf('main'), short(await rig.ask()), changed]).toEqual([null, 'accepted Scram', ['main', 'main']])
  })

  test('a document that cannot be used closes, whatever was there before; its predecessor is answered for a while', async () => {
    const before = rig.policy()
    rig.apply({ authentications: { main: [X509, { ...SCRAM, scramSettings: { secretRef: 'nobody' } }], other: [X509] }, secrets: USERS })
    expect(rig.service.faultOf('main')).toBe('authenticationMethods[1] (Scram): there is no Secret nobody')
    expect([short(await rig.ask()), short(await rig.ask({ policy: before }))]).toEqual(['unavailable', 'accepted Scram'])
    expect([...rig.service.standings()].map(([name]) => name)).toEqual(['other'])
  })

  test('a fault of ours keeps the whole list out of use, and its text is in the log alone', () => {
    rig.apply({ authentications: { main: [{ method: 'Password', passwordSettings: { secretRef: 'users' } }] }, secrets: USERS })
    expect(rig.service.faultOf('main')).toBe('authenticationMethods[0] (Password): it could not be made, see the log')
    expect(rig.parts.log.events).toEqual(['authentication_method_failed', 'authentication_unusable'])
  })

  test('methods that want it are rechecked at intervals, which other changes do not put off', () => {
    rig.recheckAfterMs = 600_000
    rig.apply({ authentications: { timed: [X509, CUSTOM] } })
    rig.parts.pass(300_000)
    rig.apply({ authentications: { timed: [X509, CUSTOM], other: [TOKEN] } })
    rig.parts.pass(300_000)
    expect(changed).toEqual(['timed'])
    rig.parts.pass(600_000)
    expect(changed).toEqual(['timed', 'other', 'timed'])
    rig.apply({})
    rig.parts.pass(6_000_000)
    expect(changed).toHaveLength(3)
  })
})

describe('an exchange of several rounds', () => {
  const METHOD = { authenticationMethod: 'own-Scram' }

  beforeEach(() => {
    rig.apply({ authentications: { main: [SCRAM] }, secrets: USERS })
    // Lets in who answers the challenge with what came before it.
    rig.answers.set('Scram', ({ authenticationData }, state) => {
      if (state === null) return { is: 'challenge', data: Buffer.from('challenge'), state: Buffer.from(authenticationData ?? []) }
      return Buffer.compare(state, authenticationData ?? Buffer.alloc(0)) === 0 ? valid({ data: Buffer.from('final') }) : INVALID
    })
  })

  async function begin(more: object = {}): Promise<Uint8Array> {
    const verdict = await rig.ask({ ...METHOD, authenticationData: Buffer.from('first'), ...more })
    if (verdict.is !== 'challenge') throw new Error(JSON.stringify(verdict))
    expect(verdict.data).toEqual(Buffer.from('challenge'))
    return verdict.sealedState
  }

  test('comes to its end with any service of the cluster', async () => {
    const sealedState = await begin()
    const second = newRig()
    second.answers.set('Scram', rig.answers.get('Scram')!)
    second.apply({ authentications: { main: [SCRAM] }, secrets: USERS })
    const verdict = await second.ask({ ...METHOD, sealedState, authenticationData: Buffer.from('first') })
    expect(grantOf(verdict)).toMatchObject({ method: 'Scram', authenticationData: Buffer.from('final') })
  })

  test('a wrong answer refuses', async () => {
    expect(short(await rig.ask({ ...METHOD, sealedState: await begin(), authenticationData: Buffer.from('x') }))).toBe('refused 86 Scram')
  })

  test.each([
    ['of another client', { clientId: 'other' }],
    ['on another port', { listener: 'other:1883' }],
    ['of another Authentication Method', { authenticationMethod: 'other' }],
    ['in a re-authentication', { purpose: 'reauthenticate' as const }],
  ])('its state does not open for an answer %s', async (_, other) => {
    const proof = await rig.proof({ ...METHOD, sealedState: await begin(), authenticationData: Buffer.from('first') })
    const answer = { ...METHOD, sealedState: await begin(), authenticationData: Buffer.from('first'), proof, ...other }
    expect([short(await rig.ask(answer)), rig.service.counters.sealsRefused]).toEqual(['refused 87 none', 1])
  })

  test('its state does not open when it was changed', async () => {
    const sealedState = await begin()
    sealedState[40]! ^= 1
    expect(short(await rig.ask({ ...METHOD, sealedState, authenticationData: Buffer.from('first') }))).toBe('refused 87 none')
  })

  test('decision 10: at most so many rounds', async () => {
    rig.answers.set('Scram', () => ({ is: 'challenge', data: null, state: Buffer.alloc(0) }))
    let sealedState: Uint8Array | null = null
    for (let round = 1; round < ROUNDS_MAX; round++) {
      const verdict: Verdict = await rig.ask({ ...METHOD, sealedState })
      if (verdict.is !== 'challenge') throw new Error(JSON.stringify(verdict))
      sealedState = verdict.sealedState
    }
    expect(await rig.ask({ ...METHOD, sealedState })).toMatchObject({ is: 'refused', cause: `more than ${ROUNDS_MAX} rounds` })
  })

  test('decision 10: at most so many bytes in both directions', async () => {
    const half = Buffer.alloc(EXCHANGE_BYTES_MAX / 2)
    const tooMuch = { ...METHOD, sealedState: await begin({ authenticationData: half }), authenticationData: half }
    expect(await rig.ask(tooMuch)).toMatchObject({ is: 'refused', cause: 'too much Authentication Data' })
    const less = {
      ...METHOD,
      sealedState: await begin({ authenticationData: half }),
      authenticationData: half.subarray('challenge'.length),
    }
    expect(await rig.ask(less)).toMatchObject({ is: 'refused', cause: 'wrong' })
  })

  test('decision 10: at most so long', async () => {
    const answer = { ...METHOD, sealedState: await begin(), authenticationData: Buffer.from('first') }
    rig.parts.pass(EXCHANGE_MS_MAX)
    expect(short(await rig.ask(answer))).toBe('accepted Scram')
    rig.parts.pass(1)
    expect(await rig.ask(answer)).toMatchObject({ is: 'refused', cause: 'the exchange takes too long' })
  })

  test('a client without an Authentication Method is not asked for more', async () => {
    expect(short(await rig.ask({ authenticationData: Buffer.from('first') }))).toBe('refused 87 Scram')
  })

  test('a method that is gone meanwhile refuses', async () => {
    const sealedState = await begin()
    rig.apply({ authentications: { main: [X509] } })
    expect(short(await rig.ask({ ...METHOD, sealedState, authenticationData: Buffer.from('first') }))).toBe('refused 87 none')
  })
})

describe('re-authentication and recheck', () => {
  const AGAIN = { purpose: 'reauthenticate' as const, authenticationMethod: 'own-ServiceAccountToken' }

  beforeEach(() => {
    rig.answer('ServiceAccountToken', valid())
  })

  test('only the method that let it in is asked, with its evidence', async () => {
    const proof = await rig.proof()
    rig.answer('X509', valid({ userName: 'another' }))
    rig.answers.set('ServiceAccountToken', (_, __, evidence) => valid({ userName: String(Buffer.from(evidence!)) }))
    rig.asked.length = 0
    expect(grantOf(await rig.ask({ ...AGAIN, proof })).identity.userName).toBe('evidence')
    expect(rig.asked).toEqual(['ServiceAccountToken'])
  })

  test.each<[string, Answer, string]>([
    ['refused', INVALID, 'refused 86 ServiceAccountToken'],
    ['out of reach', UNREACHABLE, 'unavailable'],
    ['no affair of it any more', IRRELEVANT, 'refused 87 ServiceAccountToken'],
    ['a fault', 'throws', 'unavailable'],
  ])('%s stays so, no other method is asked', async (_, answer, expected) => {
    const proof = await rig.proof()
    rig.answer('ServiceAccountToken', answer)
    rig.answer('X509', valid())
    expect(short(await rig.ask({ ...AGAIN, proof }))).toBe(expected)
  })

  test('without a proof, or with one of another client, it is refused', async () => {
    const proof = await rig.proof()
    expect(short(await rig.ask({ ...AGAIN, proof: null }))).toBe('refused 87 none')
    expect(short(await rig.ask({ ...AGAIN, proof, clientId: 'other' }))).toBe('refused 87 none')
    expect(short(await rig.ask({ ...AGAIN, proof: Buffer.from('made up') }))).toBe('refused 87 none')
  })

  test('an exchange belongs to the connection that began it', async () => {
    const challenge: MethodVerdict = { is: 'challenge', data: null, state: Buffer.alloc(0) }
    const [one, two] = [await rig.proof(), await rig.proof()]
    rig.answers.set('ServiceAccountToken', (_, state) => (state === null ? challenge : valid()))
    const begun = await rig.ask({ ...AGAIN, proof: one })
    if (begun.is !== 'challenge') throw new Error(begun.is)
    expect(short(await rig.ask({ ...AGAIN, proof: two, sealedState: begun.sealedState }))).toBe('refused 87 none')
    expect(short(await rig.ask({ ...AGAIN, proof: one, sealedState: begun.sealedState }))).toBe('accepted ServiceAccountToken')
  })

  test('permit and Connect permission are decided anew', async () => {
    const resources = { authentications: { main: [TOKEN] }, authorizations: { all: ALL_MAY_CONNECT } }
    rig.apply(resources)
    const proof = await rig.proof({ policy: rig.policy(['all']) })
    rig.answer('ServiceAccountToken', valid({ userName: 'somebody else' }))
    expect(await rig.ask({ ...AGAIN, proof, policy: rig.policy(['all']) })).toMatchObject({
      is: 'refused',
      cause: 'no rule of all allows Connect (user name somebody else)',
    })
  })

  async function recheck(outcome: Awaited<ReturnType<ServiceRig['onRecheck']>>, more: object = {}): Promise<unknown> {
    const proof = await rig.proof()
    rig.onRecheck = (name, evidence) =>
      name === 'ServiceAccountToken' && Buffer.from(evidence).toString() === 'evidence' ? outcome : 'throws'
    return await rig.service.recheck({ policy: rig.policy(), clientId: 'pump', peerCertificates: null, proof, ...more })
  }

  test('a recheck asks the method that let the client in', async () => {
    expect(await recheck({ is: 'holds' })).toEqual({ is: 'holds' })
    expect(await recheck({ is: 'invalid', cause: 'revoked' })).toEqual({ is: 'refused', cause: 'revoked' })
    expect(await recheck({ is: 'unreachable', cause: 'away' })).toEqual({ is: 'unavailable', cause: 'away' })
    expect(await recheck('throws')).toMatchObject({ is: 'unavailable' })
    expect(await recheck({ is: 'holds' }, { clientId: 'other' })).toMatchObject({ is: 'refused' })
  })

  test('whose method is not there any more is refused', async () => {
    const proof = await rig.proof()
    rig.apply({ authentications: { main: [X509, CUSTOM] } })
    expect(await rig.service.recheck({ policy: rig.policy(), clientId: 'pump', peerCertificates: null, proof })).toEqual({
      is: 'refused',
      cause: 'ServiceAccountToken is not among the methods any more',
    })
  })
})

describe('limits', () => {
  function hanging(): { readonly promise: Promise<MethodVerdict>; readonly settle: (verdict: MethodVerdict) => void } {
    let settle: (verdict: MethodVerdict) => void = () => undefined
    const promise = new Promise<MethodVerdict>(resolve => (settle = resolve))
    return { promise, settle }
  }

  test('so many run, so many wait, and the next one is told to come back', async () => {
    rig = newRig({ requestsMax: 2 })
    rig.apply({ authentications: { main: [X509] } })
    const answer = hanging()
    rig.answer('X509', answer.promise)
    const all = Array.from({ length: 13 }, () => rig.ask())
    expect(short(await all[12]!)).toBe('unavailable')
    expect([rig.service.runningCount, rig.service.openCount, rig.service.counters.shed, rig.asked.length]).toEqual([2, 12, 1, 2])
    answer.settle(valid())
    expect((await Promise.all(all.slice(0, 12))).map(short)).toEqual(Array.from({ length: 12 }, () => 'accepted X509'))
    expect([rig.service.runningCount, rig.service.openCount]).toEqual([0, 0])
  })

  test('a method that does not answer is not waited for longer than the deadline, and frees its place', async () => {
    rig = newRig({ requestsMax: 1 })
    rig.apply({ authentications: { main: [X509] } })
    const answer = hanging()
    rig.answer('X509', answer.promise)
    const [late, waiting] = [rig.ask(), rig.ask()]
    await Promise.resolve()
    rig.parts.pass(REQUEST_DEADLINE_MS)
    expect([short(await late), short(await waiting), rig.service.counters.late]).toEqual(['unavailable', 'unavailable', 2])
    rig.answer('X509', valid())
    expect(short(await rig.ask())).toBe('accepted X509')
    answer.settle(valid())
    await Promise.resolve()
    expect([rig.service.runningCount, rig.service.counters.answersOf('connect', 'accepted')]).toEqual([0, 1])
  })

  test('everything is counted, by request and outcome and by method and verdict', async () => {
    rig.answer('X509', valid())
    await rig.ask()
    rig.answer('X509', INVALID)
    await rig.ask()
    const { counters } = rig.service
    expect([counters.answersOf('connect', 'accepted'), counters.answersOf('connect', 'refused')]).toEqual([1, 1])
    expect([...counters.verdicts()]).toEqual([
      { method: 'X509', verdict: 'valid', count: 1 },
      { method: 'X509', verdict: 'invalid', count: 1 },
    ])
  })

  test('no timer stays behind', async () => {
    rig.answer('X509', valid())
    await rig.ask()
    rig.apply({ authentications: { main: [X509] } })
    rig.service.close()
    expect(rig.parts.timers.pendingCount).toBe(0)
  })
})
