import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteReaderError } from '../base/byte-reader.ts'
import { ByteWriter } from '../base/byte-writer.ts'
import { ReasonCode } from '../mqtt/reason-code.ts'
import { readWillGuard, writeWillGuard } from '../authorization/will-guard.ts'
import { readPermit } from '../authorization/permit.ts'
import {
  writeAuthenticationRequest,
  writeAuthorizationRequest,
  writeAuthorizationVerdict,
  writeRecheckRequest,
  writeRecheckVerdict,
  writeVerdict,
} from './auth-bodies.ts'
import { AuthAskerDispatch, AuthServiceDispatch } from './auth-dispatch.ts'
import type { AuthAskerPort, AuthServicePort } from './auth-port.ts'
import type { AuthenticationRequest, Grant, Verdict } from './authentication.ts'
import { AuthAskerMethod, AuthServiceMethod } from './methods.ts'

const BYTES = Uint8Array.from({ length: 40 }, (_, at) => at * 7)
const POLICY = { authentication: { name: 'who', version: 'v1' }, authorizations: [{ name: 'rules', version: 'v2' }] }
const IDENTITY = {
  userName: 'pump',
  attributes: new Map([
    ['site', 'north'],
    ['floor', '3'],
  ]),
}
const REQUEST: AuthenticationRequest = {
  purpose: 'reauthenticate',
  listener: 'plant:8883',
  policy: POLICY,
  remoteAddress: '192.0.2.1',
  clientId: 'pump',
  protocolVersion: 5,
  sealedState: BYTES,
  proof: BYTES,
  userName: 'pump',
  password: BYTES,
  authenticationMethod: 'SCRAM-SHA-256',
  authenticationData: BYTES,
  peerCertificates: [BYTES, BYTES],
}
const GRANT: Grant = {
  method: 'Custom',
  identity: IDENTITY,
  permit: BYTES,
  expiresMs: 1_900_000_000_000,
  authenticationData: BYTES,
  proof: BYTES,
}
const REFUSED: Verdict = { is: 'refused', reason: ReasonCode.NotAuthorized, detail: 'not authorized', cause: 'x', method: 'Custom' }

interface Frame {
  readonly method: number
  readonly bytes: Buffer
}

function frame(method: number, write: (writer: ByteWriter) => void): Frame {
  const writer = new ByteWriter()
  writer.varint(7)
  write(writer)
  return { method, bytes: Buffer.from(writer.take()) }
}

const TO_SERVICE: readonly Frame[] = [
  frame(AuthServiceMethod.Authenticate, writer => writeAuthenticationRequest(writer, REQUEST)),
  frame(AuthServiceMethod.Authorize, writer =>
    writeAuthorizationRequest(writer, { authorizations: POLICY.authorizations, clientId: 'c', identity: IDENTITY }),
  ),
  frame(AuthServiceMethod.Recheck, writer =>
    writeRecheckRequest(writer, { policy: POLICY, clientId: 'c', peerCertificates: [BYTES], proof: BYTES }),
  ),
]
const TO_ASKER: readonly Frame[] = [
  frame(AuthAskerMethod.Verdict, writer => writeVerdict(writer, { is: 'accepted', grant: GRANT })),
  frame(AuthAskerMethod.Verdict, writer => writeVerdict(writer, { is: 'challenge', data: BYTES, sealedState: BYTES })),
  frame(AuthAskerMethod.Verdict, writer => writeVerdict(writer, REFUSED)),
  frame(AuthAskerMethod.Authorized, writer => writeAuthorizationVerdict(writer, { is: 'allowed', permit: BYTES })),
  frame(AuthAskerMethod.Rechecked, writer => writeRecheckVerdict(writer, { is: 'refused', cause: 'x' })),
]

/** What became of a frame; anything else than these two is a fault of ours. */
function outcome(dispatch: (reader: ByteReader) => void, bytes: Buffer): 'taken' | 'malformed' {
  try {
    dispatch(new ByteReader(bytes))
    return 'taken'
  } catch (error) {
    if (error instanceof ByteReaderError) return 'malformed'
    throw error
  }
}

const takesAll: AuthServicePort & AuthAskerPort = {
  authenticate: () => undefined,
  authorize: () => undefined,
  recheck: () => undefined,
  verdict: (_, verdict) => {
    // A mutation must not make an acceptance without what an acceptance holds, nor a refusal that reads as one.
    if (verdict.is === 'refused') expect(verdict.reason).toBeGreaterThanOrEqual(0x80)
    if (verdict.is === 'accepted') expect(verdict.grant.proof).toBeInstanceOf(Uint8Array)
  },
  authorized: () => undefined,
  rechecked: () => undefined,
  standing: () => undefined,
  leaving: () => undefined,
}
const service = new AuthServiceDispatch(takesAll, false)
const asker = new AuthAskerDispatch(takesAll, false)
const methods = fc.oneof(fc.constantFrom(...Object.values(AuthServiceMethod), ...Object.values(AuthAskerMethod)), fc.nat(255))

/** Bytes of a right frame after a few blows: changed, cut out, put in, cut off, repeated. */
const blows = fc.array(
  fc.record({ kind: fc.constantFrom('change', 'remove', 'insert', 'cut', 'repeat', 'huge'), at: fc.nat(400), value: fc.nat(255) }),
  { minLength: 1, maxLength: 4 },
)
type Blow = typeof blows extends fc.Arbitrary<(infer B)[]> ? B : never

function struck(bytes: Buffer, { kind, at, value }: Blow): Buffer {
  const place = bytes.length === 0 ? 0 : at % bytes.length
  const [before, after] = [bytes.subarray(0, place), bytes.subarray(place)]
  switch (kind) {
    case 'change': {
      const changed = Buffer.from(bytes)
      if (changed.length > 0) changed[place] = value
      return changed
    }
    case 'remove':
      return Buffer.concat([before, after.subarray(1)])
    case 'insert':
      return Buffer.concat([before, Buffer.of(value), after])
    case 'cut':
      return before
    case 'repeat':
      return Buffer.concat([bytes, after])
    default:
      // A length or a count of 2^48.
      return Buffer.concat([before, Buffer.of(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40), after])
  }
}

describe.each([
  ['an authentication service', TO_SERVICE, service],
  ['a frontend', TO_ASKER, asker],
] as const)('frames to %s', (_, frames, dispatch) => {
  test('right ones are taken', () => {
    for (const { method, bytes } of frames) expect(outcome(reader => dispatch.dispatch(method, reader), bytes)).toBe('taken')
  })

  test('cut off at any byte, or with one more: malformed', () => {
    for (const { method, bytes } of frames) {
      for (let end = 0; end < bytes.length; end++) {
        expect(outcome(reader => dispatch.dispatch(method, reader), bytes.subarray(0, end))).toBe('malformed')
      }
      expect(outcome(reader => dispatch.dispatch(method, reader), Buffer.concat([bytes, Buffer.of(0)]))).toBe('malformed')
    }
  })

  test('random bytes: taken or malformed, nothing else', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(methods, fc.uint8Array({ maxLength: 300 }), (method, bytes) => {
        seen.add(outcome(reader => dispatch.dispatch(method, reader), Buffer.from(bytes)))
      }),
      { numRuns: 3_000 },
    )
    expect(seen.has('malformed')).toBe(true)
  })

  test('mutated ones: taken or malformed, nothing else', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(fc.constantFrom(...frames), blows, ({ method, bytes }, all) => {
        seen.add(outcome(reader => dispatch.dispatch(method, reader), all.reduce(struck, bytes)))
      }),
      { numRuns: 10_000 },
    )
    expect([...seen].sort()).toEqual(['malformed', 'taken'])
  })
})

test('permits and guards of Wills: read, or malformed', () => {
  const guard = writeWillGuard({ authorizations: ['rules'], clientId: 'c', ...IDENTITY })
  fc.assert(
    fc.property(blows, fc.uint8Array({ maxLength: 200 }), (all, bytes) => {
      outcome(() => void readWillGuard(all.reduce(struck, Buffer.from(guard))), Buffer.alloc(0))
      outcome(reader => void readPermit(reader), Buffer.from(bytes))
    }),
    { numRuns: 3_000 },
  )
})
