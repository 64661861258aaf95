import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ByteReader, ByteReaderError } from '../base/byte-reader.ts'
import { PROOF_BYTES, decodeHello, encodeHello, helloVersions } from './hello.ts'
import type { Hello } from './hello.ts'
import { LinkMethod } from './link-methods.ts'
import type { PeerIdentity, Role } from './link.ts'

/** Of the protocol between services. Grows with each change that the version before does not understand. */
export const PROTOCOL_VERSION = 3
/** The oldest that we still speak: so that services of neighbouring versions understand each other while they are replaced. */
export const PROTOCOL_VERSION_LOWEST = 1

/** Since when a backend can be told what a client may do: `rights` of attach, and restrict. */
export const PROTOCOL_VERSION_RIGHTS = 2
/** The first with a state store: OwnerPort.askStore, and hand-overs to a session. */
export const PROTOCOL_VERSION_STORE = 3

/** How services know that the other one belongs to them. `key`: both prove that they know it. `mtls`: the certificate is the proof. */
export type LinkProof = { readonly is: 'key'; readonly key: Buffer } | { readonly is: 'mtls' } | { readonly is: 'none' }

/** Who we are to others. Texts: 1 to 255 bytes. */
export interface LinkIdentity {
  /** Services of different clusters refuse each other. */
  readonly cluster: string
  /** As are those that count shards differently: they would look for the same session in different places. */
  readonly shards: number
  readonly role: Role
  readonly id: string
  readonly instance: string
}

export interface HandshakeSettings {
  readonly self: LinkIdentity
  readonly proof: LinkProof
  /** Of our sending direction: what the peer grants credit for. Bytes. */
  readonly windowBytes: number
  /** Default: PROTOCOL_VERSION and PROTOCOL_VERSION_LOWEST. */
  readonly version?: number
  readonly versionLowest?: number
}

/** Whom a dialer means to reach. What is left out is not compared. */
export interface ExpectedPeer {
  readonly role?: Role
  readonly id?: string
  readonly instance?: string
}

/** Why there is no link. The place in the list goes over the wire: append only. */
export const LINK_REFUSALS = [
  /** Bytes that are no handshake. */
  'malformed',
  /** Neither understands the other's protocol version. */
  'version',
  'cluster',
  'shards',
  /** One asks for another kind of proof than the other gives. */
  'proofKind',
  /** Not the same key, or no certificate. */
  'badProof',
  /** Not a service of the kind that was looked for, such as a frontend where a backend should be. */
  'role',
  /** Another one (id or instance) than was looked for: the address is somebody else's by now. */
  'peer',
  /** The service itself does not want the link; it says why. */
  'declined',
  /** The handshake took too long. */
  'timeout',
  /** Too many connections that have not proven anything. */
  'tooMany',
  /** The connection ended in the handshake. */
  'closed',
  /** TLS: no certificate, or one that is not trusted. */
  'tls',
] as const
export type LinkRefusal = (typeof LINK_REFUSALS)[number]

/** What comes of a frame of the handshake. */
export type HandshakeStep =
  | { readonly is: 'send'; readonly method: number; readonly body: Buffer }
  /** Dialer: the link stands. Listener: it does once the service has agreed and `body` has gone out as Ready. */
  | { readonly is: 'proven'; readonly peer: PeerIdentity; readonly peerWindowBytes: number; readonly body: Buffer }
  /** `tell`: the peer hears the reason (never the detail); null when it said so itself, or would learn from it. */
  | { readonly is: 'refused'; readonly reason: LinkRefusal; readonly detail: string; readonly tell: Buffer | null }

/** Largest frame of a handshake: method and body. Each side receives two, so an unproven connection holds at most 4 KiB. */
export const HANDSHAKE_FRAME_BYTES_MAX = 2_048
const DECLINED_DETAIL_BYTES_MAX = 255

/**
 * The side that dialed. Hello → ← Hello, Proof → ← Ready; in the place of each answer Refused may come. The dialer proves first: who
 * can connect to us, but knows no key, gets nothing to try keys on. Both proofs cover both Hellos, with a random nonce in each.
 *   hello ─Hello→ ready ─Ready→ over
 */
export class DialerHandshake {
  readonly #settings: HandshakeSettings
  readonly #expected: ExpectedPeer
  readonly #own: Buffer
  #phase: 'hello' | 'ready' | 'over' = 'hello'
  #theirs: Buffer = Buffer.alloc(0)
  #peer: Hello | null = null

  constructor(settings: HandshakeSettings, expected: ExpectedPeer = {}) {
    this.#settings = settings
    this.#expected = expected
    this.#own = ownHello(settings)
  }

  /** Body of the Hello that opens the handshake. */
  begin(): Buffer {
    return this.#own
  }

  onFrame(method: number, body: Buffer): HandshakeStep {
    const step = guarded(() => this.#onFrame(method, body))
    if (step.is === 'proven' || step.is === 'refused') this.#phase = 'over'
    return step
  }

  #onFrame(method: number, body: Buffer): HandshakeStep {
    if (method === LinkMethod.Refused && this.#phase !== 'over') return toldRefusal(body)
    if (method === LinkMethod.Hello && this.#phase === 'hello') return this.#onHello(body)
    if (method === LinkMethod.Ready && this.#phase === 'ready') return this.#onReady(body)
    return refused('malformed', `method ${method} in phase ${this.#phase}`)
  }

  #onHello(body: Buffer): HandshakeStep {
    const hello = judgeHello(body, this.#settings)
    if ('is' in hello) return hello
    const { role, id, instance } = this.#expected
    if (role !== undefined && hello.role !== role) return refused('role', `not a ${role} but a ${hello.role}`)
    if ((id !== undefined && hello.id !== id) || (instance !== undefined && hello.instance !== instance)) {
      return refused('peer', `${hello.id} (${hello.instance}) answers`)
    }
    this.#theirs = Buffer.from(body)
    this.#peer = hello
    this.#phase = 'ready'
    return { is: 'send', method: LinkMethod.Proof, body: proofOf('dialer', this.#settings.proof, this.#own, this.#theirs) }
  }

  #onReady(body: Buffer): HandshakeStep {
    const expected = proofOf('listener', this.#settings.proof, this.#own, this.#theirs)
    if (!isSame(body, expected)) return refused('badProof', 'the listener does not prove that it knows the key')
    return proven(this.#peer!, this.#settings, Buffer.alloc(0))
  }
}

/**
 * The side that listens.
 *   hello ─Hello→ proof ─Proof→ over
 */
export class ListenerHandshake {
  readonly #settings: HandshakeSettings
  readonly #isCertified: boolean
  readonly #own: Buffer
  #phase: 'hello' | 'proof' | 'over' = 'hello'
  #theirs: Buffer = Buffer.alloc(0)
  #peer: Hello | null = null

  /** @param isCertified TLS has found the dialer's certificate to be of our authority */
  constructor(settings: HandshakeSettings, isCertified: boolean) {
    this.#settings = settings
    this.#isCertified = isCertified
    this.#own = ownHello(settings)
  }

  onFrame(method: number, body: Buffer): HandshakeStep {
    const step = guarded(() => this.#onFrame(method, body))
    if (step.is === 'proven' || step.is === 'refused') this.#phase = 'over'
    return step
  }

  #onFrame(method: number, body: Buffer): HandshakeStep {
    if (method === LinkMethod.Hello && this.#phase === 'hello') return this.#onHello(body)
    if (method === LinkMethod.Proof && this.#phase === 'proof') return this.#onProof(body)
    if (method === LinkMethod.Refused && this.#phase !== 'over') return toldRefusal(body)
    return refused('malformed', `method ${method} in phase ${this.#phase}`)
  }

  #onHello(body: Buffer): HandshakeStep {
    const hello = judgeHello(body, this.#settings)
    if ('is' in hello) return hello
    if (this.#settings.proof.is === 'mtls' && !this.#isCertified) return refused('badProof', 'no certificate')
    this.#theirs = Buffer.from(body)
    this.#peer = hello
    this.#phase = 'proof'
    return { is: 'send', method: LinkMethod.Hello, body: this.#own }
  }

  #onProof(body: Buffer): HandshakeStep {
    const { proof } = this.#settings
    if (!isSame(body, proofOf('dialer', proof, this.#theirs, this.#own))) return refused('badProof', `${this.#peer!.id} has another key`)
    return proven(this.#peer!, this.#settings, proofOf('listener', proof, this.#theirs, this.#own))
  }
}

/** Body of the Refused that tells why; `detail` only to who has proven itself. */
export function refusalBody(reason: LinkRefusal, detail = ''): Buffer {
  const text = Buffer.from(detail, 'utf8').subarray(0, DECLINED_DETAIL_BYTES_MAX)
  return Buffer.concat([Buffer.from([LINK_REFUSALS.indexOf(reason)]), text])
}

function toldRefusal(body: Buffer): HandshakeStep {
  const reason = LINK_REFUSALS[new ByteReader(body).u8()] ?? 'declined'
  const detail = body.toString('utf8', 1, 1 + DECLINED_DETAIL_BYTES_MAX)
  return { is: 'refused', reason, detail: detail === '' ? 'said the peer' : `said the peer: ${detail}`, tell: null }
}

function refused(reason: LinkRefusal, detail: string): HandshakeStep & { is: 'refused' } {
  return { is: 'refused', reason, detail, tell: reason === 'malformed' ? null : refusalBody(reason) }
}

function guarded(step: () => HandshakeStep): HandshakeStep {
  try {
    return step()
  } catch (error) {
    if (error instanceof ByteReaderError) return refused('malformed', error.message)
    throw error
  }
}

function ownHello({ self, proof, windowBytes, ...versions }: HandshakeSettings): Buffer {
  const { version = PROTOCOL_VERSION, versionLowest = PROTOCOL_VERSION_LOWEST } = versions
  return encodeHello({ ...self, version, versionLowest, proof: proof.is, windowBytes, nonce: randomBytes(PROOF_BYTES) })
}

/** @throws {ByteReaderError} not a Hello */
function judgeHello(body: Buffer, settings: HandshakeSettings): Hello | (HandshakeStep & { is: 'refused' }) {
  const { self, proof, version = PROTOCOL_VERSION, versionLowest = PROTOCOL_VERSION_LOWEST } = settings
  // Before the rest, which another version may have laid out differently.
  const theirs = helloVersions(body)
  if (theirs.version < versionLowest || theirs.versionLowest > version) {
    return refused('version', `${theirs.versionLowest} to ${theirs.version}, not ${versionLowest} to ${version}`)
  }
  const hello = decodeHello(body)
  if (hello.cluster !== self.cluster) return refused('cluster', `${hello.cluster}, not ${self.cluster}`)
  if (hello.shards !== self.shards) return refused('shards', `${hello.shards}, not ${self.shards}`)
  if (hello.proof !== proof.is) return refused('proofKind', `${hello.proof}, not ${proof.is}`)
  return hello
}

function proven(peer: Hello, settings: HandshakeSettings, body: Buffer): HandshakeStep {
  const protocolVersion = Math.min(peer.version, settings.version ?? PROTOCOL_VERSION)
  const { role, id, instance, windowBytes } = peer
  return { is: 'proven', peer: { role, id, instance, protocolVersion }, peerWindowBytes: windowBytes, body }
}

/** Empty when the proof is not the handshake's business. The side's name keeps one side's proof from serving as the other's. */
function proofOf(side: 'dialer' | 'listener', proof: LinkProof, dialerHello: Buffer, listenerHello: Buffer): Buffer {
  if (proof.is !== 'key') return Buffer.alloc(0)
  const lengths = Buffer.alloc(8)
  lengths.writeUInt32LE(dialerHello.length, 0)
  lengths.writeUInt32LE(listenerHello.length, 4)
  return createHmac('sha256', proof.key)
    .update(`millrace link ${side}\0`)
    .update(lengths)
    .update(dialerHello)
    .update(listenerHello)
    .digest()
}

function isSame(given: Buffer, expected: Buffer): boolean {
  return given.length === expected.length && timingSafeEqual(given, expected)
}
