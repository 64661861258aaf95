import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { MethodVerdict } from '../../authsvc/methods/authentication-method.ts'
import { requestOf } from '../../authsvc/methods/method-rig.contract.ts'
import { SCRAM, USERS, valid, X509 } from '../../authsvc/service-rig.contract.ts'
import type { AuthenticationRequest, Verdict } from '#shared/rpc/authentication.ts'
import { until } from '#shared/testing/redis-server.ts'
import { LinkedFrontend, LinkedService } from './services.contract.ts'

const RESOURCES = { authentications: { main: [X509] } }

let frontend: LinkedFrontend

function open(...given: ConstructorParameters<typeof LinkedFrontend>): LinkedFrontend {
  const made = new LinkedFrontend(...given)
  onTestFinished(() => made.close())
  return made
}

beforeEach(() => {
  frontend = open()
})

/** Asks of any of the services, which all have the same. */
async function ask(service: LinkedService, more: Partial<AuthenticationRequest> = {}): Promise<Verdict> {
  return await frontend.calls.authenticate(requestOf({ policy: service.rig.policy(), ...more }))
}

/** Two services with the same resources, of which the first to be asked never answers. */
async function oneThatHangs(): Promise<{ readonly hung: () => LinkedService | undefined; readonly all: readonly LinkedService[] }> {
  const all = [await frontend.link(), await frontend.link()]
  let hung: LinkedService | undefined
  for (const service of all) {
    service.apply(RESOURCES)
    service.rig.answers.set('X509', () => {
      if (hung !== undefined) return valid()
      hung = service
      return new Promise<MethodVerdict>(() => undefined)
    })
  }
  return { hung: () => hung, all }
}

test('a link that breaks while a request is under way: another service answers it', async () => {
  const { hung, all } = await oneThatHangs()
  const answer = ask(all[0]!)
  await until(() => hung() !== undefined, 'one service was asked')
  await hung()!.kill()
  expect(await answer).toMatchObject({ is: 'accepted' })
  expect(frontend.calls.counters.resent).toBe(1)
})

test('a service that does not answer: another one does', async () => {
  frontend = open({ answerMs: 50 })
  const { all } = await oneThatHangs()
  expect(await ask(all[0]!)).toMatchObject({ is: 'accepted' })
  expect(frontend.calls.counters).toMatchObject({ resent: 1, unanswered: 0 })
})

test('no service answers: unavailable, and nobody is let in later', async () => {
  frontend = open({ answerMs: 50, deadlineMs: 150 })
  const service = await frontend.link()
  let settle: (verdict: MethodVerdict) => void = () => undefined
  service.apply(RESOURCES)
  service.rig.answer('X509', new Promise<MethodVerdict>(resolve => (settle = resolve)))
  expect(await ask(service)).toEqual({ is: 'unavailable', cause: 'no answer within 150 ms' })
  settle(valid())
  await until(() => frontend.calls.counters.late === 1, 'the late answer came')
  expect(frontend.calls.openCount).toBe(0)
})

test('a service with too much to do says so, and is asked again when it has less', async () => {
  const service = await frontend.link(new LinkedService({ requestsMax: 1 }))
  let settle: (verdict: MethodVerdict) => void = () => undefined
  service.apply(RESOURCES)
  service.rig.answer('X509', new Promise<MethodVerdict>(resolve => (settle = resolve)))
  const taken = Array.from({ length: 6 }, () => ask(service))
  await until(() => service.rig.service.openCount === 6, 'they were taken')
  expect(await ask(service)).toEqual({ is: 'unavailable', cause: 'the authentication service has too much to do' })
  settle(valid())
  expect((await Promise.all(taken)).map(({ is }) => is)).toEqual(Array.from({ length: 6 }, () => 'accepted'))
  expect(await ask(service)).toMatchObject({ is: 'accepted' })
})

describe('an exchange of two rounds', () => {
  const METHOD = { authenticationMethod: 'own-Scram' }
  const TWO_ROUNDS = { authentications: { main: [SCRAM] }, secrets: USERS }

  async function scramService(): Promise<LinkedService> {
    const service = await frontend.link()
    service.apply(TWO_ROUNDS)
    service.rig.answers.set('Scram', ({ authenticationData }, state) => {
      if (state === null) return { is: 'challenge', data: Buffer.from('nonce'), state: Buffer.from(authenticationData ?? []) }
      return valid({ userName: Buffer.from(state).toString(), data: Buffer.from('final') })
    })
    return service
  }

  test('goes on with a service that was started after the first round, the first one being gone', async () => {
    const first = await scramService()
    const challenge = await ask(first, { ...METHOD, authenticationData: Buffer.from('alice') })
    if (challenge.is !== 'challenge') throw new Error(challenge.is)
    await first.kill()
    await until(() => frontend.calls.linkCount === 0, 'the link is gone')
    const second = await scramService()
    const verdict = await ask(second, { ...METHOD, authenticationData: Buffer.from('answer'), sealedState: challenge.sealedState })
    expect(verdict).toMatchObject({ is: 'accepted', grant: { identity: { userName: 'alice' } } })
    // What it was given lets it re-authenticate with either.
    if (verdict.is !== 'accepted') throw new Error(verdict.is)
    const again = { ...METHOD, purpose: 'reauthenticate' as const, proof: verdict.grant.proof, authenticationData: Buffer.from('alice') }
    expect(await ask(second, again)).toMatchObject({ is: 'challenge' })
  })

  test('with two services that take turns comes to its end', async () => {
    const services = [await scramService(), await scramService()]
    for (let round = 0; round < 4; round++) {
      const challenge = await ask(services[0]!, { ...METHOD, authenticationData: Buffer.from('bob') })
      if (challenge.is !== 'challenge') throw new Error(challenge.is)
      const answer = { ...METHOD, authenticationData: Buffer.from('answer'), sealedState: challenge.sealedState }
      expect(await ask(services[0]!, answer)).toMatchObject({ is: 'accepted' })
    }
    expect(services.every(({ rig }) => rig.asked.length > 0)).toBe(true)
  })
})

test('a version that the service hears of after the frontend is waited for', async () => {
  const [ahead, behind] = [open(), frontend]
  const known = await ahead.link()
  known.apply(RESOURCES)
  const service = await behind.link()
  service.rig.answer('X509', valid())
  const answer = frontend.calls.authenticate(requestOf({ policy: known.rig.policy() }))
  await until(() => service.rig.service.versionWaiters === 1, 'it waits')
  service.apply(RESOURCES)
  expect(await answer).toMatchObject({ is: 'accepted' })
})

test('what changes behind a document is told to frontends, also what changed while there was no link', async () => {
  const resources = (text: string) => ({ authentications: { main: [SCRAM] }, secrets: { users: { alice: text } } })
  const heard: string[] = []
  frontend = open({ mergeMs: 1 })
  frontend.calls.listen(name => heard.push(name))
  const service = await frontend.link()
  service.apply(resources('1'))
  service.apply({ ...resources('1'), configMaps: { unused: { a: '1' } } })
  service.apply(resources('2'))
  await until(() => heard.length === 1, 'the change was told')
  await service.kill()
  await until(() => frontend.calls.linkCount === 0, 'the link is gone')
  const [same, other] = [new LinkedService(), new LinkedService()]
  same.apply(resources('2'))
  other.apply(resources('3'))
  await frontend.link(same)
  await frontend.link(other)
  await until(() => heard.length === 2, 'the difference was noticed')
  expect(heard).toEqual(['main', 'main'])
})

test('a service that leaves answers what it was asked and is asked nothing more', async () => {
  const leaving = await frontend.link()
  leaving.apply(RESOURCES)
  let settle: (verdict: MethodVerdict) => void = () => undefined
  leaving.rig.answer('X509', new Promise<MethodVerdict>(resolve => (settle = resolve)))
  const before = ask(leaving)
  await until(() => leaving.rig.service.openCount === 1, 'it was asked')
  leaving.askers.leave()
  await until(() => frontend.calls.linkCount === 0, 'it said so')
  const other = await frontend.link()
  other.apply(RESOURCES)
  other.rig.answer('X509', valid({ userName: 'other' }))
  expect(await ask(other)).toMatchObject({ is: 'accepted', grant: { identity: { userName: 'other' } } })
  settle(valid({ userName: 'leaving' }))
  expect(await before).toMatchObject({ is: 'accepted', grant: { identity: { userName: 'leaving' } } })
  expect(leaving.rig.asked).toHaveLength(1)
})

test('passwords are wiped out of memory once it is decided; what a method may still be at work with is not', async () => {
  const service = await frontend.link()
  service.apply(RESOURCES)
  const seen: Uint8Array[] = []
  service.rig.answers.set('X509', ({ password }) => {
    seen.push(password!)
    return password![0] === 0x61 ? valid() : { is: 'unreachable', cause: 'away' }
  })
  const password = Buffer.from('a secret')
  await ask(service, { password })
  await ask(service, { password: Buffer.from('b secret') })
  expect(seen.map(bytes => Buffer.from(bytes).toString())).toEqual(['\0'.repeat(8), 'b secret'])
  expect(password.toString()).toBe('a secret')
})
