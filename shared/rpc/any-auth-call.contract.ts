import fc from 'fast-check'
import { isFailure, ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { AnyArguments } from './any-call.contract.ts'
import type { AuthAskerPort, AuthServicePort } from './auth-port.ts'
import type { AuthenticationRequest, Verdict } from './authentication.ts'

/** Arguments of every call between frontends and authentication services, as anyone may make them. */

const number = fc.oneof(fc.nat(300), fc.maxSafeNat())
/** Without NUL, as MQTT has it (§1.5.4). */
const text = fc.string({ unit: 'grapheme', maxLength: 20 }).map(each => each.replaceAll('\0', ''))
const bytes = fc.uint8Array({ maxLength: 60 })
const optionalText = fc.option(text)
const optionalBytes = fc.option(bytes)
const certificates = fc.option(fc.array(bytes, { maxLength: 3 }))
const ref = fc.record({ name: text, version: text })
const refs = fc.array(ref, { maxLength: 3 })
const policy = fc.record({ authentication: ref, authorizations: refs })
const attributes = fc.array(fc.tuple(text, text), { maxLength: 4 }).map(each => new Map(each))
const identity = fc.record({ userName: text, attributes })

const authenticationRequest: fc.Arbitrary<AuthenticationRequest> = fc.record({
  purpose: fc.constantFrom<('connect' | 'reauthenticate')[]>('connect', 'reauthenticate'),
  listener: text,
  policy,
  remoteAddress: text,
  clientId: text,
  protocolVersion: fc.constantFrom<(3 | 4 | 5)[]>(3, 4, 5),
  userName: optionalText,
  password: optionalBytes,
  authenticationMethod: optionalText,
  authenticationData: optionalBytes,
  peerCertificates: certificates,
  sealedState: optionalBytes,
  proof: optionalBytes,
})

const verdict: fc.Arbitrary<Verdict> = fc.oneof(
  fc.record({
    is: fc.constant('accepted' as const),
    grant: fc.record({
      method: text,
      identity,
      permit: optionalBytes,
      expiresMs: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true })),
      authenticationData: optionalBytes,
      proof: bytes,
    }),
  }),
  fc.record({ is: fc.constant('challenge' as const), data: optionalBytes, sealedState: bytes }),
  fc.record({
    is: fc.constant('refused' as const),
    reason: fc.constantFrom(...Object.values(ReasonCode).filter(isFailure)),
    detail: text,
    cause: text,
    method: text,
  }),
  fc.record({ is: fc.constant('unavailable' as const), cause: text }),
)

const withCause = <Is extends string>(is: Is) => fc.record({ is: fc.constant(is), cause: text })

export const authServiceArguments: AnyArguments<AuthServicePort> = {
  authenticate: fc.tuple(number, authenticationRequest),
  authorize: fc.tuple(number, fc.record({ authorizations: refs, clientId: text, identity })),
  recheck: fc.tuple(number, fc.record({ policy, clientId: text, peerCertificates: certificates, proof: bytes })),
}

export const authAskerArguments: AnyArguments<AuthAskerPort> = {
  verdict: fc.tuple(number, verdict),
  authorized: fc.tuple(
    number,
    fc.oneof(
      fc.record({ is: fc.constant('allowed' as const), permit: optionalBytes }),
      withCause('refused' as const),
      withCause('unavailable' as const),
    ),
  ),
  rechecked: fc.tuple(
    number,
    fc.oneof(fc.record({ is: fc.constant('holds' as const) }), withCause('refused' as const), withCause('unavailable' as const)),
  ),
  standing: fc.tuple(text, text, fc.boolean()),
  leaving: fc.constant([]),
}
