import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { isFailure } from '#shared/mqtt/reason-code.ts'
import type {
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  Credentials,
  Grant,
  Identity,
  PortPolicy,
  RecheckRequest,
  RecheckVerdict,
  ResourceRef,
  Verdict,
} from './authentication.ts'
import { readBelow, readCount, readFlag, readMqttText, readReason, readText, writeFlag } from './body-fields.ts'

/*
 * Bodies of the calls between frontends and authentication services. What is read is a copy: an answer comes later than the frame goes.
 */

/** Binary Data (§1.5.6): password, Authentication Data. */
const BINARY_BYTES_MAX = 65_535
/**
 * Certificates of one client in all. TLS itself takes no chain of more than about 100 KiB, so no client can make a frontend send what
 * would end its link.
 */
const CERTIFICATES_BYTES_MAX = 2 ** 20
/** Two texts, each with its length. */
const REF_BYTES_MIN = 2
const ATTRIBUTE_BYTES_MIN = 2

const IS_REAUTHENTICATION = 1
const HAS_USER_NAME = 2
const HAS_PASSWORD = 4
const HAS_METHOD = 8
const HAS_DATA = 16
const HAS_CERTIFICATES = 32
const HAS_STATE = 64
const HAS_PROOF = 128

export function writeAuthenticationRequest(writer: ByteWriter, request: AuthenticationRequest): void {
  const { userName, password, authenticationMethod, authenticationData, peerCertificates, sealedState, proof } = request
  writer.u8(
    (request.purpose === 'reauthenticate' ? IS_REAUTHENTICATION : 0) |
      (userName === null ? 0 : HAS_USER_NAME) |
      (password === null ? 0 : HAS_PASSWORD) |
      (authenticationMethod === null ? 0 : HAS_METHOD) |
      (authenticationData === null ? 0 : HAS_DATA) |
      (peerCertificates === null ? 0 : HAS_CERTIFICATES) |
      (sealedState === null ? 0 : HAS_STATE) |
      (proof === null ? 0 : HAS_PROOF),
  )
  writer.u8(request.protocolVersion)
  writer.text(request.listener)
  writePolicy(writer, request.policy)
  writer.text(request.remoteAddress)
  writer.text(request.clientId)
  if (userName !== null) writer.text(userName)
  if (password !== null) writer.bytes(password)
  if (authenticationMethod !== null) writer.text(authenticationMethod)
  if (authenticationData !== null) writer.bytes(authenticationData)
  if (peerCertificates !== null) writeCertificates(writer, peerCertificates)
  if (sealedState !== null) writer.bytes(sealedState)
  if (proof !== null) writer.bytes(proof)
}

/** @throws {ByteReaderError} */
export function readAuthenticationRequest(reader: ByteReader): AuthenticationRequest {
  const flags = reader.u8()
  const protocolVersion = readProtocolVersion(reader)
  const listener = readText(reader)
  const policy = readPolicy(reader)
  const remoteAddress = readText(reader)
  const clientId = readMqttText(reader)
  return {
    purpose: (flags & IS_REAUTHENTICATION) === 0 ? 'connect' : 'reauthenticate',
    protocolVersion,
    listener,
    policy,
    remoteAddress,
    clientId,
    ...readCredentials(reader, flags),
    sealedState: (flags & HAS_STATE) === 0 ? null : readBytes(reader),
    proof: (flags & HAS_PROOF) === 0 ? null : readBytes(reader),
  }
}

/** Properties are read in the order in which they stand here. */
function readCredentials(reader: ByteReader, flags: number): Credentials {
  return {
    userName: (flags & HAS_USER_NAME) === 0 ? null : readMqttText(reader),
    password: (flags & HAS_PASSWORD) === 0 ? null : readBinary(reader),
    authenticationMethod: (flags & HAS_METHOD) === 0 ? null : readMqttText(reader),
    authenticationData: (flags & HAS_DATA) === 0 ? null : readBinary(reader),
    peerCertificates: (flags & HAS_CERTIFICATES) === 0 ? null : readCertificates(reader),
  }
}

function readProtocolVersion(reader: ByteReader): 3 | 4 | 5 {
  const version = reader.u8()
  if (version === 3 || version === 4 || version === 5) return version
  throw new ByteReaderError(`protocol version ${version}`)
}

export function writeAuthorizationRequest(writer: ByteWriter, { authorizations, clientId, identity }: AuthorizationRequest): void {
  writeRefs(writer, authorizations)
  writer.text(clientId)
  writeIdentity(writer, identity)
}

/** @throws {ByteReaderError} */
export function readAuthorizationRequest(reader: ByteReader): AuthorizationRequest {
  return { authorizations: readRefs(reader), clientId: readMqttText(reader), identity: readIdentity(reader) }
}

export function writeRecheckRequest(writer: ByteWriter, { policy, clientId, peerCertificates, proof }: RecheckRequest): void {
  writePolicy(writer, policy)
  writer.text(clientId)
  writeFlag(writer, peerCertificates !== null)
  if (peerCertificates !== null) writeCertificates(writer, peerCertificates)
  writer.bytes(proof)
}

/** @throws {ByteReaderError} */
export function readRecheckRequest(reader: ByteReader): RecheckRequest {
  return {
    policy: readPolicy(reader),
    clientId: readMqttText(reader),
    peerCertificates: readFlag(reader) ? readCertificates(reader) : null,
    proof: readBytes(reader),
  }
}

/** Order is the wire's: append only. */
const VERDICTS = ['accepted', 'challenge', 'refused', 'unavailable'] as const satisfies readonly Verdict['is'][]

export function writeVerdict(writer: ByteWriter, verdict: Verdict): void {
  writer.u8(VERDICTS.indexOf(verdict.is))
  switch (verdict.is) {
    case 'accepted':
      return writeGrant(writer, verdict.grant)
    case 'challenge':
      writeOptionalBytes(writer, verdict.data)
      return writer.bytes(verdict.sealedState)
    case 'refused':
      writer.u8(verdict.reason)
      writer.text(verdict.detail)
      writer.text(verdict.cause)
      return writer.text(verdict.method)
    case 'unavailable':
      return writer.text(verdict.cause)
  }
}

/** @throws {ByteReaderError} */
export function readVerdict(reader: ByteReader): Verdict {
  const is = VERDICTS[readBelow(reader, VERDICTS.length, 'a verdict')]!
  switch (is) {
    case 'accepted':
      return { is, grant: readGrant(reader) }
    case 'challenge':
      return { is, data: readOptionalBinary(reader), sealedState: readBytes(reader) }
    case 'refused':
      return readRefusal(reader)
    case 'unavailable':
      return { is, cause: readText(reader) }
  }
}

function readRefusal(reader: ByteReader): Verdict {
  const reason = readReason(reader)
  // A refusal that reads as success would let the client in.
  if (!isFailure(reason)) throw new ByteReaderError(`a refusal with Reason Code ${reason}`)
  return { is: 'refused', reason, detail: readText(reader), cause: readText(reader), method: readText(reader) }
}

function writeGrant(writer: ByteWriter, grant: Grant): void {
  writer.text(grant.method)
  writeIdentity(writer, grant.identity)
  writeOptionalBytes(writer, grant.permit)
  writeFlag(writer, grant.expiresMs !== null)
  if (grant.expiresMs !== null) writer.f64(grant.expiresMs)
  writeOptionalBytes(writer, grant.authenticationData)
  writer.bytes(grant.proof)
}

function readGrant(reader: ByteReader): Grant {
  return {
    method: readText(reader),
    identity: readIdentity(reader),
    permit: readFlag(reader) ? readBytes(reader) : null,
    expiresMs: readFlag(reader) ? readTime(reader) : null,
    authenticationData: readOptionalBinary(reader),
    proof: readBytes(reader),
  }
}

export function writeAuthorizationVerdict(writer: ByteWriter, verdict: AuthorizationVerdict): void {
  writer.u8(AUTHORIZATION_VERDICTS.indexOf(verdict.is))
  if (verdict.is === 'allowed') writeOptionalBytes(writer, verdict.permit)
  else writer.text(verdict.cause)
}

/** Order is the wire's: append only. */
const AUTHORIZATION_VERDICTS = ['allowed', 'refused', 'unavailable'] as const satisfies readonly AuthorizationVerdict['is'][]

/** @throws {ByteReaderError} */
export function readAuthorizationVerdict(reader: ByteReader): AuthorizationVerdict {
  const is = AUTHORIZATION_VERDICTS[readBelow(reader, AUTHORIZATION_VERDICTS.length, 'a verdict')]!
  if (is === 'allowed') return { is, permit: readFlag(reader) ? readBytes(reader) : null }
  return { is, cause: readText(reader) }
}

/** Order is the wire's: append only. */
const RECHECK_VERDICTS = ['holds', 'refused', 'unavailable'] as const satisfies readonly RecheckVerdict['is'][]

export function writeRecheckVerdict(writer: ByteWriter, verdict: RecheckVerdict): void {
  writer.u8(RECHECK_VERDICTS.indexOf(verdict.is))
  if (verdict.is !== 'holds') writer.text(verdict.cause)
}

/** @throws {ByteReaderError} */
export function readRecheckVerdict(reader: ByteReader): RecheckVerdict {
  const is = RECHECK_VERDICTS[readBelow(reader, RECHECK_VERDICTS.length, 'a verdict')]!
  return is === 'holds' ? { is } : { is, cause: readText(reader) }
}

function writeRef(writer: ByteWriter, { name, version }: ResourceRef): void {
  writer.text(name)
  writer.text(version)
}

function readRef(reader: ByteReader): ResourceRef {
  return { name: readText(reader), version: readText(reader) }
}

function writeRefs(writer: ByteWriter, refs: readonly ResourceRef[]): void {
  writer.varint(refs.length)
  for (const ref of refs) writeRef(writer, ref)
}

function readRefs(reader: ByteReader): ResourceRef[] {
  const refs: ResourceRef[] = []
  for (let left = readCount(reader, REF_BYTES_MIN); left > 0; left--) refs.push(readRef(reader))
  return refs
}

function writePolicy(writer: ByteWriter, { authentication, authorizations }: PortPolicy): void {
  writeRef(writer, authentication)
  writeRefs(writer, authorizations)
}

function readPolicy(reader: ByteReader): PortPolicy {
  return { authentication: readRef(reader), authorizations: readRefs(reader) }
}

function writeIdentity(writer: ByteWriter, { userName, attributes }: Identity): void {
  writer.text(userName)
  writer.varint(attributes.size)
  for (const [name, value] of attributes) {
    writer.text(name)
    writer.text(value)
  }
}

function readIdentity(reader: ByteReader): Identity {
  const userName = readText(reader)
  const attributes = new Map<string, string>()
  for (let left = readCount(reader, ATTRIBUTE_BYTES_MIN); left > 0; left--) {
    const name = readText(reader)
    if (attributes.has(name)) throw new ByteReaderError('an attribute comes twice')
    attributes.set(name, readText(reader))
  }
  return { userName, attributes }
}

function writeCertificates(writer: ByteWriter, certificates: readonly Uint8Array[]): void {
  writer.varint(certificates.length)
  for (const certificate of certificates) writer.bytes(certificate)
}

function readCertificates(reader: ByteReader): Uint8Array[] {
  const certificates: Uint8Array[] = []
  const start = reader.at
  for (let left = readCount(reader, 1); left > 0; left--) {
    certificates.push(readBytes(reader))
    if (reader.at - start > CERTIFICATES_BYTES_MAX) throw new ByteReaderError(`certificates of ${reader.at - start} bytes and more`)
  }
  return certificates
}

function writeOptionalBytes(writer: ByteWriter, bytes: Uint8Array | null): void {
  writeFlag(writer, bytes !== null)
  if (bytes !== null) writer.bytes(bytes)
}

function readOptionalBinary(reader: ByteReader): Uint8Array | null {
  return readFlag(reader) ? readBinary(reader) : null
}

function readBinary(reader: ByteReader): Uint8Array {
  const bytes = reader.bytes()
  if (bytes.length > BINARY_BYTES_MAX) throw new ByteReaderError(`Binary Data of ${bytes.length} bytes`)
  return Uint8Array.from(bytes)
}

function readBytes(reader: ByteReader): Uint8Array {
  return Uint8Array.from(reader.bytes())
}

/** Milliseconds of the wall clock. */
function readTime(reader: ByteReader): number {
  const ms = reader.f64()
  if (!Number.isFinite(ms)) throw new ByteReaderError(`${ms} as a time`)
  return ms
}
