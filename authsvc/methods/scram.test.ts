import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { deriveScramKey, makeScramKey, parseScramKey, SCRAM_HASHES, type ScramMechanism } from '../credentials/scram-key.ts'
import { type AuthenticationMethod, MethodFault, type MethodVerdict } from './authentication-method.ts'
import { MethodRig, requestOf } from './method-rig.contract.ts'
import { makeScram } from './scram.ts'

function keyText(mechanism: ScramMechanism, password: string, salt: Uint8Array, iterations: number): string {
  const { storedKey, serverKey } = deriveScramKey(mechanism, password, salt, iterations)
  const [saltText, stored, server] = [salt, storedKey, serverKey].map(bytes => Buffer.from(bytes).toString('base64'))
  return `${mechanism}$${iterations}:${saltText}$${stored}:${server}`
}

interface World {
  readonly users: readonly { readonly name: string; readonly scram: readonly string[]; readonly attributes?: Record<string, string> }[]
  readonly mechanisms?: ScramMechanism[]
  readonly serverNonce?: string
}

function scram({ users, mechanisms, serverNonce = 'server-nonce' }: World): AuthenticationMethod {
  const rig = new MethodRig()
  rig.secrets.set('users', new Map([['list', Buffer.from(JSON.stringify(users))]]))
  const parts = Object.assign(rig, { random: { uuid: () => serverNonce } })
  return makeScram({ secretRef: 'users', ...(mechanisms !== undefined && { mechanisms }) }, parts)
}

const ask = (
  method: AuthenticationMethod,
  mechanism: string,
  data: string | null,
  state: Uint8Array | null = null,
  evidence: Uint8Array | null = null,
) =>
  method.authenticate(
    requestOf({ authenticationMethod: mechanism, authenticationData: data === null ? null : Buffer.from(data) }),
    state,
    evidence,
  )

function challenge(verdict: MethodVerdict): { readonly text: string; readonly state: Uint8Array } {
  if (verdict.is !== 'challenge') throw new Error(`${verdict.is} instead of a challenge`)
  return { text: Buffer.from(verdict.data!).toString(), state: verdict.state }
}

/** What a client answers, computed from the RFC and not with the server's code. */
function clientFinal(mechanism: ScramMechanism, password: string, firstBare: string, serverFirst: string, gs2 = 'n,,'): string {
  const { hash, bytes } = SCRAM_HASHES[mechanism]
  const [nonce, salt, iterations] = serverFirst.split(',').map(part => part.slice(2)) as [string, string, string]
  const salted = pbkdf2Sync(password, Buffer.from(salt, 'base64'), Number(iterations), bytes, hash)
  const clientKey = createHmac(hash, salted).update('Client Key').digest()
  const withoutProof = `c=${Buffer.from(gs2).toString('base64')},r=${nonce}`
  const stored = createHash(hash).update(clientKey).digest()
  const signature = createHmac(hash, stored).update(`${firstBare},${serverFirst},${withoutProof}`).digest()
  return `${withoutProof},p=${Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!)).toString('base64')}`
}

async function exchange(
  method: AuthenticationMethod,
  mechanism: ScramMechanism,
  user: string,
  password: string,
  evidence: Uint8Array | null = null,
) {
  const bare = `n=${user},r=client-nonce`
  const { text, state } = challenge(await ask(method, mechanism, `n,,${bare}`, null, evidence))
  return ask(method, mechanism, clientFinal(mechanism, password, bare, text), state, evidence)
}

describe('test vectors', () => {
  test('RFC 5802 section 5: SCRAM-SHA-1', async () => {
    const salt = Buffer.from('QSXCR+Q6sek8bf92', 'base64')
    const method = scram({
      users: [{ name: 'user', scram: [keyText('SCRAM-SHA-1', 'pencil', salt, 4_096)] }],
      mechanisms: ['SCRAM-SHA-1'],
      serverNonce: '3rfcNHYJY1ZVvWVs7j',
    })
    const first = challenge(await ask(method, 'SCRAM-SHA-1', 'n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL'))
    expect(first.text).toBe('r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096')
    const final = 'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts='
    const verdict = await ask(method, 'SCRAM-SHA-1', final, first.state)
    expect(verdict).toMatchObject({ is: 'valid', userName: 'user' })
    expect(verdict.is === 'valid' && Buffer.from(verdict.data!).toString()).toBe('v=rmF9pqV8S7suAoZWja4dJRkFsKQ=')
  })

  test('RFC 7677 section 3: SCRAM-SHA-256', async () => {
    const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')
    const method = scram({
      users: [{ name: 'user', scram: [keyText('SCRAM-SHA-256', 'pencil', salt, 4_096)] }],
      serverNonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
    })
    const first = challenge(await ask(method, 'SCRAM-SHA-256', 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO'))
    expect(first.text).toBe('r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096')
    const final = 'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ='
    const verdict = await ask(method, 'SCRAM-SHA-256', final, first.state)
    expect(verdict.is === 'valid' && Buffer.from(verdict.data!).toString()).toBe('v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')
  })
})

const SALT = Buffer.from('0123456789abcdef')
const ALICE = { name: 'alice', scram: [keyText('SCRAM-SHA-256', 'secret', SALT, 4_096)], attributes: { group: 'plant' } }

describe('an exchange', () => {
  test.each(['SCRAM-SHA-256', 'SCRAM-SHA-512'] as const)('%s: with a fresh entry of millrace passwd', async mechanism => {
    const method = scram({ users: [{ name: 'bob', scram: [makeScramKey(mechanism, 'geheim')], attributes: { a: 'b' } }] })
    expect(await exchange(method, mechanism, 'bob', 'geheim')).toMatchObject({
      is: 'valid',
      userName: 'bob',
      attributes: new Map([['a', 'b']]),
      expiresMs: null,
    })
    expect(await exchange(method, mechanism, 'bob', 'falsch')).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
  })

  test('a client that waits to be asked gets an empty challenge first', async () => {
    const method = scram({ users: [ALICE] })
    const asked = await ask(method, 'SCRAM-SHA-256', null)
    expect(asked).toMatchObject({ is: 'challenge', data: null })
    const state = asked.is === 'challenge' ? asked.state : null
    expect(challenge(await ask(method, 'SCRAM-SHA-256', 'n,,n=alice,r=x', state)).text).toMatch(/^r=xserver-nonce,/)
  })

  test('somebody unknown is answered as somebody known is, the same each time, and fails at the end', async () => {
    const [method, other] = [scram({ users: [ALICE] }), scram({ users: [ALICE] })]
    const first = challenge(await ask(method, 'SCRAM-SHA-256', 'n,,n=eve,r=client-nonce')).text
    expect(first).toMatch(/^r=client-nonceserver-nonce,s=[A-Za-z0-9+/]{22}==,i=4096$/)
    expect(challenge(await ask(other, 'SCRAM-SHA-256', 'n,,n=eve,r=client-nonce')).text).toBe(first)
    expect(await exchange(method, 'SCRAM-SHA-256', 'eve', 'secret')).toMatchObject({ is: 'invalid', cause: 'SCRAM: unknown user' })
  })

  test('a name is prepared and unescaped (RFC 4013, RFC 5802 section 5.1)', async () => {
    const method = scram({
      users: [
        { ...ALICE, name: 'a,b=c' },
        { ...ALICE, name: 'IX' },
      ],
    })
    expect(await exchange(method, 'SCRAM-SHA-256', 'a=2Cb=3Dc', 'secret')).toMatchObject({ is: 'valid', userName: 'a,b=c' })
    expect(await exchange(method, 'SCRAM-SHA-256', '\u2168', 'secret')).toMatchObject({ is: 'valid', userName: 'IX' })
  })

  test('another Authentication Method is not its own; SHA-1 only by name', async () => {
    const method = scram({ users: [ALICE] })
    expect([method.handles('SCRAM-SHA-256'), method.handles('SCRAM-SHA-1'), method.handles('K8S-SAT')]).toEqual([true, false, false])
    for (const name of ['SCRAM-SHA-1', 'K8S-SAT']) expect(await ask(method, name, 'n,,n=alice,r=x')).toEqual({ is: 'irrelevant' })
    expect(await method.authenticate(requestOf({ userName: 'alice', password: Buffer.from('secret') }), null, null)).toEqual({
      is: 'irrelevant',
    })
  })

  test('re-authentication proves the same user; a later check finds a password that was changed', async () => {
    const method = scram({ users: [ALICE, { ...ALICE, name: 'bob' }] })
    const verdict = await exchange(method, 'SCRAM-SHA-256', 'alice', 'secret')
    const evidence = verdict.is === 'valid' ? verdict.evidence : null
    expect(await exchange(method, 'SCRAM-SHA-256', 'alice', 'secret', evidence)).toMatchObject({ is: 'valid' })
    expect(await exchange(method, 'SCRAM-SHA-256', 'bob', 'secret', evidence)).toMatchObject({ is: 'invalid' })
    expect(await method.recheck(evidence!, null)).toEqual({ is: 'holds' })
    const changed = scram({ users: [{ ...ALICE, scram: [makeScramKey('SCRAM-SHA-256', 'another')] }] })
    expect(await changed.recheck(evidence!, null)).toMatchObject({ is: 'invalid' })
    expect(await scram({ users: [{ ...ALICE, name: 'bob' }] }).recheck(evidence!, null)).toMatchObject({ is: 'invalid' })
  })
})

describe('what is refused', () => {
  test.each<[name: string, first: string]>([
    ['channel binding', 'p=tls-unique,,n=alice,r=x'],
    ['no GS2 header', 'n=alice,r=x'],
    ['another flag', 'q,,n=alice,r=x'],
    ['a mandatory extension', 'n,,m=1,n=alice,r=x'],
    ['no nonce', 'n,,n=alice'],
    ['an empty nonce', 'n,,n=alice,r='],
    ['an empty name', 'n,,n=,r=x'],
    ['a name with a bare equals sign', 'n,,n=a=b,r=x'],
    ['acting for another', 'n,a=root,n=alice,r=x'],
    ['bytes that are no text', 'n,,n=\ud800,r=\u0000'],
    ['a long message', `n,,n=alice,r=${'x'.repeat(5_000)}`],
  ])('client-first: %s', async (_, first) => {
    expect(await ask(scram({ users: [ALICE] }), 'SCRAM-SHA-256', first)).toMatchObject({ is: 'invalid', reason: ReasonCode.NotAuthorized })
  })

  test('client-final: another nonce, another channel binding, a changed proof, none, a state of somebody else', async () => {
    const method = scram({ users: [ALICE] })
    const bare = 'n=alice,r=client-nonce'
    const { text, state } = challenge(await ask(method, 'SCRAM-SHA-256', `n,,${bare}`))
    const right = clientFinal('SCRAM-SHA-256', 'secret', bare, text)
    const wrong = [
      right.replace('client-nonce', 'client-nonse'),
      clientFinal('SCRAM-SHA-256', 'secret', bare, text, 'y,,'),
      right.replace(/p=./, found => (found === 'p=A' ? 'p=B' : 'p=A')),
      right.replace(/,p=.*/, ''),
      right.replace(/p=.*/, 'p='),
      `${right}AAAA`,
    ]
    for (const final of wrong) expect(await ask(method, 'SCRAM-SHA-256', final, state)).toMatchObject({ is: 'invalid' })
    expect(await ask(method, 'SCRAM-SHA-256', right, state.subarray(3))).toMatchObject({ is: 'invalid' })
    expect(await ask(method, 'SCRAM-SHA-256', right, state)).toMatchObject({ is: 'valid' })
  })

  test('any bytes are refused and never throw', async () => {
    const method = scram({ users: [ALICE] })
    const { state } = challenge(await ask(method, 'SCRAM-SHA-256', 'n,,n=alice,r=x'))
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.boolean(), async (data, isFinal) => {
        const request = requestOf({ authenticationMethod: 'SCRAM-SHA-256', authenticationData: data })
        const verdict = await method.authenticate(request, isFinal ? state : null, null)
        expect(verdict.is).toBe('invalid')
      }),
    )
  })
})

test.each<[name: string, list: string, fault: RegExp]>([
  ['no YAML', '{', /list: is not YAML$/],
  ['no list', 'a: 1', /is not a list of users/],
  ['an unknown field', '[{name: a, pasword: x}]', /is not a list of users/],
  ['the same user twice', '[{name: a, scram: []}, {name: a, scram: []}]', /user 2: there is a user of this name already/],
  ['too few iterations', `[{name: a, scram: ["${keyText('SCRAM-SHA-256', 'x', SALT, 4_095)}"]}]`, /user 1: scram: expected/],
  ['nobody with a key', '[{name: a}]', /no user of the secret has a scram entry/],
])('a Secret with %s keeps the port closed, and its text stays out of the words', (_, list, fault) => {
  const rig = new MethodRig()
  rig.secrets.set('users', new Map([['list', Buffer.from(list)]]))
  expect(() => makeScram({ secretRef: 'users' }, rig)).toThrow(MethodFault)
  expect(() => makeScram({ secretRef: 'users' }, rig)).toThrow(fault)
  expect(() => makeScram({ secretRef: 'nothing' }, rig)).toThrow('there is no secret nothing')
})

test('an entry is read back as it was made', () => {
  const key = parseScramKey(makeScramKey('SCRAM-SHA-512', 'x'))!
  expect([key.mechanism, key.iterations, key.storedKey.length]).toEqual(['SCRAM-SHA-512', 15_000, 64])
  expect(deriveScramKey('SCRAM-SHA-512', 'x', key.salt, key.iterations).storedKey).toEqual(key.storedKey)
  for (const text of ['', 'SCRAM-SHA-256$4096:$a:b', 'SCRAM-MD5$4096:AA==$AA==:AA==']) expect(parseScramKey(text)).toBeNull()
})
