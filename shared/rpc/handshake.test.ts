import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DialerHandshake, HANDSHAKE_FRAME_BYTES_MAX, LINK_REFUSALS, ListenerHandshake, PROTOCOL_VERSION, refusalBody } from './handshake.ts'
import type { ExpectedPeer, HandshakeSettings, HandshakeStep, LinkIdentity } from './handshake.ts'
import { decodeHello, encodeHello } from './hello.ts'
import { LinkMethod } from './link-methods.ts'

const KEY = Buffer.from('0123456789abcdef')

function settings(self: Partial<LinkIdentity> = {}, more: Partial<HandshakeSettings> = {}): HandshakeSettings {
  const identity = { cluster: 'c', shards: 64, role: 'backend' as const, id: 'b', instance: 'b-1', ...self }
  return { self: identity, proof: { is: 'key', key: KEY }, windowBytes: 1_000, ...more }
}

const FRONTEND = { role: 'frontend' as const, id: 'f', instance: 'f-1' }

/** Runs both sides against each other: how it ends at each of them; null: not at all. */
function run(dialer: DialerHandshake, listener: ListenerHandshake): { dialed: HandshakeStep | null; listened: HandshakeStep | null } {
  let dialed: HandshakeStep | null = null
  let listened: HandshakeStep | null = null
  let method: number = LinkMethod.Hello
  let body: Buffer | null = dialer.begin()
  while (body !== null) {
    const answer = listener.onFrame(method, body)
    body = null
    if (answer.is !== 'send') listened = answer
    const reply = frameOf(answer)
    if (reply === null) break
    const next = dialer.onFrame(reply.method, reply.body)
    if (next.is !== 'send') dialed = next
    const sent = frameOf(next)
    if (next.is !== 'proven' && sent !== null) ({ method, body } = sent)
  }
  return { dialed, listened }
}

function frameOf(step: HandshakeStep): { method: number; body: Buffer } | null {
  if (step.is === 'send') return step
  if (step.is === 'proven') return { method: LinkMethod.Ready, body: step.body }
  return step.tell === null ? null : { method: LinkMethod.Refused, body: step.tell }
}

function reasons(
  dialer: HandshakeSettings,
  listener: HandshakeSettings,
  expected: ExpectedPeer = {},
  isCertified = false,
): readonly string[] {
  const { dialed, listened } = run(new DialerHandshake(dialer, expected), new ListenerHandshake(listener, isCertified))
  return [dialed, listened].map(step => (step === null ? '' : step.is === 'refused' ? step.reason : step.is))
}

describe('the handshake', () => {
  test('tells each side who the other is', () => {
    const { dialed, listened } = run(new DialerHandshake(settings(FRONTEND)), new ListenerHandshake(settings(), false))
    expect(dialed).toMatchObject({
      is: 'proven',
      peer: { role: 'backend', id: 'b', instance: 'b-1', protocolVersion: PROTOCOL_VERSION },
      peerWindowBytes: 1_000,
    })
    expect(listened).toMatchObject({ is: 'proven', peer: { ...FRONTEND, protocolVersion: PROTOCOL_VERSION } })
  })

  test('neighbouring versions agree on the older one, others do not', () => {
    const older = settings(FRONTEND, { version: 3, versionLowest: 2 })
    const newer = settings({}, { version: 4, versionLowest: 3 })
    const { dialed, listened } = run(new DialerHandshake(older), new ListenerHandshake(newer, false))
    expect([dialed, listened]).toMatchObject([{ peer: { protocolVersion: 3 } }, { peer: { protocolVersion: 3 } }])
    expect(reasons(older, settings({}, { version: 5, versionLowest: 4 }))).toEqual(['version', 'version'])
    expect(reasons(settings(FRONTEND, { version: 5, versionLowest: 4 }), older)).toEqual(['version', 'version'])
  })

  test.each([
    ['another cluster', settings({ ...FRONTEND, cluster: 'other' }), settings(), 'cluster'],
    ['another number of shards', settings({ ...FRONTEND, shards: 128 }), settings(), 'shards'],
    ['another key', settings(FRONTEND, { proof: { is: 'key', key: Buffer.from('another key, yes') } }), settings(), 'badProof'],
    ['no key', settings(FRONTEND, { proof: { is: 'none' } }), settings(), 'proofKind'],
    ['a key where none is asked for', settings(FRONTEND), settings({}, { proof: { is: 'none' } }), 'proofKind'],
    ['no certificate', settings(FRONTEND, { proof: { is: 'mtls' } }), settings({}, { proof: { is: 'mtls' } }), 'badProof'],
  ])('%s is refused, and the dialer told', (_what, dialer, listener, reason) => {
    expect(reasons(dialer, listener)).toEqual([reason, reason])
  })

  test('no proof, and a certificate, where the settings say so', () => {
    expect(reasons(settings(FRONTEND, { proof: { is: 'none' } }), settings({}, { proof: { is: 'none' } }))).toEqual(['proven', 'proven'])
    const mtls = { proof: { is: 'mtls' as const } }
    expect(reasons(settings(FRONTEND, mtls), settings({}, mtls), {}, true)).toEqual(['proven', 'proven'])
  })

  test('the dialer refuses who it did not look for', () => {
    expect(reasons(settings(FRONTEND), settings({ role: 'authsvc' }), { role: 'backend' })).toEqual(['role', 'role'])
    expect(reasons(settings(FRONTEND), settings(), { role: 'backend', id: 'b', instance: 'b-2' })).toEqual(['peer', 'peer'])
    expect(reasons(settings(FRONTEND), settings(), { role: 'backend', id: 'x' })).toEqual(['peer', 'peer'])
    expect(reasons(settings(FRONTEND), settings(), { role: 'backend', id: 'b', instance: 'b-1' })).toEqual(['proven', 'proven'])
  })

  test('a listener that does not know the key is found out, whatever it answers', () => {
    const dialer = new DialerHandshake(settings(FRONTEND))
    const listener = new ListenerHandshake(settings(), false)
    const hello = listener.onFrame(LinkMethod.Hello, dialer.begin())
    const proof = dialer.onFrame(LinkMethod.Hello, frameOf(hello)!.body)
    // The dialer's own proof, sent back to it.
    expect(dialer.onFrame(LinkMethod.Ready, frameOf(proof)!.body)).toMatchObject({ is: 'refused', reason: 'badProof' })
  })

  test('a proof serves once: another connection has other nonces', () => {
    const recorded: Buffer[] = []
    const dialer = new DialerHandshake(settings(FRONTEND))
    const first = new ListenerHandshake(settings(), false)
    recorded.push(
      dialer.begin(),
      frameOf(dialer.onFrame(LinkMethod.Hello, frameOf(first.onFrame(LinkMethod.Hello, dialer.begin()))!.body))!.body,
    )
    const second = new ListenerHandshake(settings(), false)
    second.onFrame(LinkMethod.Hello, recorded[0]!)
    expect(second.onFrame(LinkMethod.Proof, recorded[1]!)).toMatchObject({ is: 'refused', reason: 'badProof' })
    expect(first.onFrame(LinkMethod.Proof, recorded[1]!)).toMatchObject({ is: 'proven' })
    expect(first.onFrame(LinkMethod.Proof, recorded[1]!)).toMatchObject({ is: 'refused', reason: 'malformed' })
  })

  test('who changes the identity on the way breaks the proof', () => {
    const dialer = new DialerHandshake(settings(FRONTEND))
    const listener = new ListenerHandshake(settings(), false)
    const changed = encodeHello({ ...decodeHello(dialer.begin()), id: 'evil' })
    const hello = frameOf(listener.onFrame(LinkMethod.Hello, changed))!.body
    const proof = frameOf(dialer.onFrame(LinkMethod.Hello, hello))!.body
    expect(listener.onFrame(LinkMethod.Proof, proof)).toMatchObject({ is: 'refused', reason: 'badProof' })
  })

  test('the key is in no frame', () => {
    const dialer = new DialerHandshake(settings(FRONTEND))
    const listener = new ListenerHandshake(settings(), false)
    const hello = frameOf(listener.onFrame(LinkMethod.Hello, dialer.begin()))!.body
    const proof = frameOf(dialer.onFrame(LinkMethod.Hello, hello))!.body
    for (const body of [dialer.begin(), hello, proof]) expect(body.includes(KEY)).toBe(false)
  })

  test('the reason that a service gives is told, cut to its limit', () => {
    const dialer = new DialerHandshake(settings(FRONTEND))
    expect(dialer.onFrame(LinkMethod.Refused, refusalBody('declined', 'draining'))).toEqual({
      is: 'refused',
      reason: 'declined',
      detail: 'said the peer: draining',
      tell: null,
    })
    expect(refusalBody('declined', 'x'.repeat(10_000)).length).toBe(256)
  })

  test('the largest Hello fits, a longer text is a mistake of the settings', () => {
    const id = 'x'.repeat(255)
    expect(new DialerHandshake(settings({ id, instance: id, cluster: id })).begin().length).toBeLessThan(HANDSHAKE_FRAME_BYTES_MAX)
    expect(() => new DialerHandshake(settings({ id: `${id}x` }))).toThrow(RangeError)
    expect(() => new DialerHandshake(settings({ id: '' }))).toThrow(RangeError)
  })

  test('what a later version appends to a Hello is ignored', () => {
    const dialer = new DialerHandshake(settings(FRONTEND))
    const longer = Buffer.concat([dialer.begin(), Buffer.from('more')])
    expect(new ListenerHandshake(settings(), false).onFrame(LinkMethod.Hello, longer).is).toBe('send')
  })

  test('any frames end in a step, never in an exception, and never in a link', () => {
    const hello = new DialerHandshake(settings(FRONTEND)).begin()
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.record({ at: fc.nat(hello.length - 1), to: fc.nat(255) }).map(({ at, to }) => Uint8Array.from(hello).fill(to, at, at + 1)),
      fc.nat(hello.length - 1).map(size => Uint8Array.from(hello.subarray(0, size))),
    )
    const frames = fc.array(fc.tuple(fc.oneof(fc.integer({ min: 250, max: 253 }), fc.nat(255)), body), { maxLength: 6 })
    fc.assert(
      fc.property(frames, all => {
        for (const side of [new DialerHandshake(settings(FRONTEND)), new ListenerHandshake(settings(), false)]) {
          for (const [method, bytes] of all) {
            const step = side.onFrame(method, Buffer.from(bytes))
            expect(step.is).not.toBe('proven')
            if (step.is === 'refused') expect(LINK_REFUSALS).toContain(step.reason)
          }
        }
      }),
    )
  })
})
