import { z } from 'zod'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { API_VERSION } from './question.ts'
import { parseRfc3339 } from './rfc-3339.ts'

/** What an answer of the server means. */
export type Answer =
  | { readonly is: 'accepted'; readonly expiresMs: number | null; readonly attributes: ReadonlyMap<string, string> }
  | { readonly is: 'denied'; readonly reason: ReasonCode; readonly message: string }
  /** It does not take our version now but names it among those that it does: asked again, once. */
  | { readonly is: 'anotherVersion' }
  /** The server breaks its contract: refused, and an error for the operator. */
  | { readonly is: 'faulty'; readonly cause: string }
  /** It is overloaded or broken: as if it were not there. */
  | { readonly is: 'unreachable'; readonly cause: string }

/** Attributes of one client. More, or longer ones: faulty. */
const ATTRIBUTES_MAX = 128
const ATTRIBUTE_NAME_LENGTH_MAX = 256
const ATTRIBUTE_VALUE_LENGTH_MAX = 4_096

const refusal = z.object({ reason: z.int().min(0).max(255), message: z.string().optional() })
const versions = z.object({ supportedVersions: z.array(z.string()).max(100) })

/** §3.2.2.2 of MQTT 5.0 */
const CONNACK_FAILURES: ReadonlySet<number> = new Set([
  ReasonCode.UnspecifiedError,
  ReasonCode.MalformedPacket,
  ReasonCode.ProtocolError,
  ReasonCode.ImplementationSpecificError,
  ReasonCode.UnsupportedProtocolVersion,
  ReasonCode.ClientIdentifierNotValid,
  ReasonCode.BadUserNameOrPassword,
  ReasonCode.NotAuthorized,
  ReasonCode.ServerUnavailable,
  ReasonCode.ServerBusy,
  ReasonCode.Banned,
  ReasonCode.BadAuthenticationMethod,
  ReasonCode.TopicNameInvalid,
  ReasonCode.PacketTooLarge,
  ReasonCode.QuotaExceeded,
  ReasonCode.PayloadFormatInvalid,
  ReasonCode.RetainNotSupported,
  ReasonCode.QoSNotSupported,
  ReasonCode.UseAnotherServer,
  ReasonCode.ServerMoved,
  ReasonCode.ConnectionRateExceeded,
])

/** Servers written for MQTT 3.1.1 answer with its return codes 1 to 5: each stands for the code that MQTT 5 has for the same. */
const FROM_RETURN_CODE = [
  ReasonCode.NotAuthorized,
  ReasonCode.UnsupportedProtocolVersion,
  ReasonCode.ClientIdentifierNotValid,
  ReasonCode.ServerUnavailable,
  ReasonCode.BadUserNameOrPassword,
  ReasonCode.NotAuthorized,
] as const

/**
 * What the server means by `status` and `body`. Whatever is not clearly an acceptance refuses.
 * @param nowMs wall clock: an expiry that is not later makes the answer faulty
 */
export function answerOf(status: number, body: Buffer, nowMs: number): Answer {
  if (status === 429 || status >= 500) return { is: 'unreachable', cause: `status ${status}` }
  if (status !== 200 && status !== 403 && status !== 422) return faulty(`status ${status}`)
  const content = parseObject(body)
  if (content === null) return faulty(`status ${status} without a JSON object`)
  if (status === 200) return acceptance(content, nowMs)
  return status === 403 ? denial(content) : otherVersions(content)
}

/** The Reason Code that a client is refused with when a server says `reason`: never one that is no failure. */
export function refusalReason(reason: number): ReasonCode {
  if (reason < FROM_RETURN_CODE.length) return FROM_RETURN_CODE[reason]!
  return CONNACK_FAILURES.has(reason) ? (reason as ReasonCode) : ReasonCode.NotAuthorized
}

function acceptance(content: object, nowMs: number): Answer {
  const expiry: unknown = 'expiry' in content ? content.expiry : undefined
  const expiresMs = expiry === undefined ? null : typeof expiry === 'string' ? parseRfc3339(expiry) : Number.NaN
  if (expiry !== undefined && (expiresMs === null || Number.isNaN(expiresMs))) return faulty('expiry is not an RFC 3339 time')
  if (expiresMs !== null && expiresMs <= nowMs) return faulty('expiry is in the past')
  const attributes = attributesOf('attributes' in content ? content.attributes : undefined)
  return attributes === null ? faulty('attributes are not texts, too many or too long') : { is: 'accepted', expiresMs, attributes }
}

function attributesOf(given: unknown): ReadonlyMap<string, string> | null {
  if (given === undefined) return new Map()
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return null
  const attributes = new Map<string, string>()
  for (const [name, value] of Object.entries(given as Record<string, unknown>)) {
    if (!isText(name, ATTRIBUTE_NAME_LENGTH_MAX) || name === '' || !isText(value, ATTRIBUTE_VALUE_LENGTH_MAX)) return null
    attributes.set(name, value)
  }
  return attributes.size > ATTRIBUTES_MAX ? null : attributes
}

/** Half a surrogate pair would become another text on its way to a frontend. */
function isText(value: unknown, lengthMax: number): value is string {
  return typeof value === 'string' && value.length <= lengthMax && value.isWellFormed()
}

function denial(content: object): Answer {
  const parsed = refusal.safeParse(content)
  if (!parsed.success) return faulty('status 403 without a reason from 0 to 255')
  return { is: 'denied', reason: refusalReason(parsed.data.reason), message: parsed.data.message ?? '' }
}

function otherVersions(content: object): Answer {
  const parsed = versions.safeParse(content)
  if (!parsed.success) return faulty('status 422 without supportedVersions')
  return parsed.data.supportedVersions.includes(API_VERSION)
    ? { is: 'anotherVersion' }
    : faulty(`version ${API_VERSION} of the API is not supported`)
}

function parseObject(body: Buffer): object | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : null
  } catch {
    return null
  }
}

function faulty(cause: string): Answer {
  return { is: 'faulty', cause }
}
