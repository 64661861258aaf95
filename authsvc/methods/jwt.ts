import { createHash } from 'node:crypto'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { JwtSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'
import { requestSource } from '../request-source.ts'
import { WorkersBusy } from '../worker/workers.ts'
import {
  type AuthenticationMethod,
  MethodFault,
  type MethodParts,
  type MethodVerdict,
  type RecheckOutcome,
} from './authentication-method.ts'
import { FetchedKeys, fixedKeys, joinKeySets, type JwtKeySource } from './jwt-keys.ts'
import type { JwtResult } from './jwt-task.ts'

/** Authentication Method of clients that send a token in Authentication Data. */
const JWT_METHOD = 'JWT'
const TOKEN_BYTES_MAX = 16_384
/** Three parts in base64url, the last of them the signature. */
const TOKEN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/
const ALGORITHMS_DEFAULT = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA']
const USER_NAME_CLAIM = 'sub'
/** Of a user name and of an attribute that come from a claim. */
const CLAIM_LENGTH_MAX = 4_096

/**
 * Extension: tokens of an issuer whose public keys are in a ConfigMap or behind a URL; works without a cluster. The token is the
 * Authentication Data of the method `JWT`, or the password of a client without Authentication Method (MQTT 3.1.1).
 * @throws {MethodFault} keys or authority are missing or cannot be used
 */
export function makeJwt(settings: JwtSettings, parts: MethodParts): AuthenticationMethod {
  return new Jwt(settings, parts)
}

class Jwt implements AuthenticationMethod {
  readonly name = 'Jwt'
  readonly #settings: JwtSettings
  readonly #parts: MethodParts
  readonly #source: JwtKeySource

  constructor(settings: JwtSettings, parts: MethodParts) {
    this.#settings = settings
    this.#parts = parts
    this.#source = sourceOf(settings, parts)
  }

  handles(authenticationMethod: string): boolean {
    return authenticationMethod === JWT_METHOD
  }

  async authenticate(request: AuthenticationRequest, _state: Uint8Array | null, evidence: Uint8Array | null): Promise<MethodVerdict> {
    const token = tokenOf(request)
    if (token === null) return { is: 'irrelevant' }
    if (token === '') return invalid('what was sent is no token')
    const result = await this.#verify(token, requestSource(request.remoteAddress))
    if (typeof result === 'string') return { is: 'unreachable', cause: result }
    if (result.is === 'unknownKey') return invalid('signed with a key that the issuer does not publish')
    if (result.is === 'invalid') return invalid(result.cause)
    const userName = claimText(result.claims, this.#settings.userNameClaim ?? USER_NAME_CLAIM) ?? ''
    const shown = Buffer.concat([digestOf(this.#settings.issuer), digestOf(userName)])
    if (evidence !== null && !shown.equals(evidence)) return invalid('another subject than before')
    return { is: 'valid', userName, attributes: this.#attributes(result.claims), expiresMs: result.expiresMs, data: null, evidence: shown }
  }

  /** A token cannot be asked back: it holds until it expires, as long as its issuer is trusted. */
  recheck(evidence: Uint8Array): Promise<RecheckOutcome> {
    const issuer = digestOf(this.#settings.issuer)
    const holds = issuer.equals(evidence.subarray(0, issuer.length))
    return Promise.resolve(holds ? { is: 'holds' } : { is: 'invalid', cause: 'the issuer is not trusted any more' })
  }

  close(): void {}

  /** A text: why it cannot be said now. */
  async #verify(token: string, source: string): Promise<JwtResult | string> {
    const first = await this.#verifyOnce(token, source, false)
    return typeof first === 'object' && first.is === 'unknownKey' ? this.#verifyOnce(token, source, true) : first
  }

  async #verifyOnce(token: string, source: string, isMissed: boolean): Promise<JwtResult | string> {
    const keys = await this.#source.keys(isMissed)
    if (keys === null) return 'the keys of the issuer are out of reach'
    const { issuer, audiences, algorithms = ALGORITHMS_DEFAULT } = this.#settings
    try {
      const check = { token, keys: keys.json, keysId: keys.id, issuer, audiences, algorithms }
      return await this.#parts.workers.run('verify-jwt', check, source)
    } catch (error) {
      if (error instanceof WorkersBusy) return 'too many tokens wait to be checked'
      throw error
    }
  }

  #attributes(claims: ReadonlyMap<string, unknown>): ReadonlyMap<string, string> {
    const attributes = new Map<string, string>()
    for (const [name, claim] of Object.entries(this.#settings.attributeClaims ?? {})) {
      const text = claimText(claims, claim)
      if (text !== null) attributes.set(name, text)
    }
    return attributes
  }
}

/** In evidence, which has to be short: names are as long as their issuer likes, and no part of one stands for the whole. */
function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function sourceOf({ jwksConfigMap, jwksUrl, caCertConfigMap }: JwtSettings, parts: MethodParts): JwtKeySource {
  if (jwksConfigMap !== undefined) {
    const texts = parts.configMap(jwksConfigMap)
    if (texts === null) throw new MethodFault(`there is no ConfigMap ${jwksConfigMap}`)
    const keys = joinKeySets(texts.values())
    if (keys === null) throw new MethodFault(`ConfigMap ${jwksConfigMap}: expected a JWK Set under every key`)
    return fixedKeys(keys)
  }
  if (jwksUrl === undefined) throw new MethodFault('jwtSettings need jwksConfigMap or jwksUrl')
  const ca = caCertConfigMap === undefined ? null : parts.configMap(caCertConfigMap)
  if (caCertConfigMap !== undefined && ca === null) throw new MethodFault(`there is no ConfigMap ${caCertConfigMap}`)
  return new FetchedKeys(new URL(jwksUrl), ca === null ? null : [...ca.values()].join('\n'), parts)
}

/** The token that the client shows; empty when it shows something else in its place; null when it shows nothing of ours. */
function tokenOf({ authenticationMethod, authenticationData, password }: AuthenticationRequest): string | null {
  if (authenticationMethod === JWT_METHOD) return tokenText(authenticationData ?? new Uint8Array(0)) ?? ''
  return authenticationMethod !== null || password === null ? null : tokenText(password)
}

function tokenText(bytes: Uint8Array): string | null {
  if (bytes.length > TOKEN_BYTES_MAX) return null
  const text = Buffer.from(bytes).toString('latin1')
  return TOKEN.test(text) ? text : null
}

/** A text, number or boolean at `path`, whose parts are separated by dots; a claim whose own name has dots comes first. */
function claimText(claims: ReadonlyMap<string, unknown>, path: string): string | null {
  let value: unknown = claims.get(path)
  if (value === undefined) {
    const [first, ...rest] = path.split('.')
    value = rest.reduce<unknown>(
      (at, name) => (typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Record<string, unknown>)[name] : undefined),
      claims.get(first!),
    )
  }
  const text = typeof value === 'number' || typeof value === 'boolean' ? String(value) : value
  return typeof text === 'string' && text !== '' && text.length <= CLAIM_LENGTH_MAX ? text : null
}

function invalid(cause: string): MethodVerdict {
  return { is: 'invalid', reason: ReasonCode.NotAuthorized, cause: `JWT: ${cause}` }
}
