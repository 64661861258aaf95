import { scryptSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { isPasswordOf, makePasswordHash, parsePasswordHash } from '../credentials/password-hash.ts'
import { sameThreadWorkers } from '../worker/same-thread-workers.contract.ts'
import { type AuthenticationMethod, MethodFault } from './authentication-method.ts'
import { MethodRig, requestOf } from './method-rig.contract.ts'
import { makePassword } from './password.ts'

const ALICE = { name: 'alice', password: makePasswordHash('argon2id', Buffer.from('secret')), attributes: { group: 'plant' } }
const BOB = { name: 'bob', password: makePasswordHash('scrypt', Buffer.from('geheim')) }

function password(users: unknown, rig = new MethodRig()): AuthenticationMethod {
  rig.secrets.set('users', new Map([['list', Buffer.from(JSON.stringify(users))]]))
  rig.workers = sameThreadWorkers
  return makePassword({ secretRef: 'users' }, rig)
}

const login = (method: AuthenticationMethod, userName: string | null, given: string | null) =>
  method.authenticate(requestOf({ userName, password: given === null ? null : Buffer.from(given) }), null, null)

test('the right password is valid, with the attributes of the entry; a wrong one and somebody unknown are refused alike', async () => {
  const method = password([ALICE, BOB])
  expect(await login(method, 'alice', 'secret')).toMatchObject({
    is: 'valid',
    userName: 'alice',
    attributes: new Map([['group', 'plant']]),
    expiresMs: null,
  })
  expect(await login(method, 'bob', 'geheim')).toMatchObject({ is: 'valid', userName: 'bob' })
  for (const [user, given] of [
    ['alice', 'geheim'],
    ['alice', ''],
    ['Alice', 'secret'],
    ['eve', 'secret'],
    ['__proto__', 'x'],
  ] as const) {
    expect(await login(method, user, given)).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
  }
})

test('credentials of others are none of its own', async () => {
  const method = password([ALICE])
  expect(await login(method, 'alice', null)).toEqual({ is: 'irrelevant' })
  expect(await login(method, null, 'secret')).toEqual({ is: 'irrelevant' })
  const withMethod = requestOf({ userName: 'alice', password: Buffer.from('secret'), authenticationMethod: 'K8S-SAT' })
  expect(await method.authenticate(withMethod, null, null)).toEqual({ is: 'irrelevant' })
})

test('a password that was right a moment ago is not computed again, a wrong one is', async () => {
  const rig = new MethodRig()
  const method = password([ALICE], rig)
  let runs = 0
  rig.workers = { ...sameThreadWorkers, run: (name, input) => (runs++, sameThreadWorkers.run(name, input)) }
  for (const given of ['secret', 'secret', 'wrong', 'wrong', 'secret']) await login(method, 'alice', given)
  expect(runs).toBe(3)
  rig.pass(60_000)
  await login(method, 'alice', 'secret')
  expect(runs).toBe(4)
})

test('too many checks at a time: come back later', async () => {
  const rig = new MethodRig()
  const method = password([ALICE], rig)
  const { WorkersBusy } = await import('../worker/workers.ts')
  rig.workers = { ...sameThreadWorkers, run: () => Promise.reject(new WorkersBusy()) }
  expect(await login(method, 'alice', 'secret')).toMatchObject({ is: 'unreachable' })
})

test('a later check finds a user who is gone and a password that was changed', async () => {
  const verdict = await login(password([ALICE]), 'alice', 'secret')
  const evidence = verdict.is === 'valid' ? verdict.evidence : new Uint8Array()
  expect(await password([ALICE, BOB]).recheck(evidence, null)).toEqual({ is: 'holds' })
  expect(await password([BOB]).recheck(evidence, null)).toMatchObject({ is: 'invalid' })
  const changed = { ...ALICE, password: makePasswordHash('argon2id', Buffer.from('secret')) }
  expect(await password([changed]).recheck(evidence, null)).toMatchObject({ is: 'invalid' })
})

test.each([
  '$argon2id$v=19$m=999999999,t=2,p=1$c29tZXNhbHQ$c29tZWhhc2g',
  '$argon2id$v=19$m=19456,t=999,p=1$c29tZXNhbHQ$c29tZWhhc2g',
  '$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$c29tZWhhc2g',
  '$scrypt$ln=30,r=8,p=1$c29tZXNhbHQ$c29tZWhhc2g',
  '$scrypt$ln=15,r=8,p=0$c29tZXNhbHQ$c29tZWhhc2g',
  '$2b$12$abcdefghijklmnopqrstuv',
  'plain-text',
])('%s is no entry: unknown, or too expensive to check', text => {
  expect(parsePasswordHash(text)).toBeNull()
  expect(() => password([{ name: 'a', password: text }])).toThrow(MethodFault)
  try {
    password([{ name: 'a', password: text }])
  } catch (error) {
    expect(String(error)).not.toContain(text)
  }
})

test('hashes of other programs are understood: the argon2 command, passlib', () => {
  // echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24 (test vector of the reference implementation)
  const argon2 = parsePasswordHash('$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc')!
  expect(isPasswordOf(argon2, Buffer.from('password'))).toBe(true)
  expect(isPasswordOf(argon2, Buffer.from('Password'))).toBe(false)
  const salt = Buffer.from('saltsalt')
  const hash = scryptSync('password', salt, 32, { cost: 2 ** 14, blockSize: 8, parallelization: 1 })
  const text = `$scrypt$ln=14,r=8,p=1$${salt.toString('base64').replace(/=+$/, '')}$${hash.toString('base64').replace(/=+$/, '')}`
  expect(isPasswordOf(parsePasswordHash(text)!, Buffer.from('password'))).toBe(true)
})
