import { X509Certificate } from 'node:crypto'
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { createSecureContext } from 'node:tls'
import type { SecureContext } from 'node:tls'
import { urlToHttpOptions } from 'node:url'
import type { CustomSettings } from '#shared/resources/broker-authentication.ts'
import { MethodFault } from '../authentication-method.ts'
import type { MethodParts } from '../authentication-method.ts'
import { API_VERSION } from './question.ts'

/** Where the server is, and how it is talked to. */
export interface Endpoint {
  /** `host:port`, for logs. */
  readonly name: string
  readonly hostname: string
  readonly port: number
  /** With the version of the API. */
  readonly path: string
  /** Ours and those of the settings; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly context: SecureContext
}

/** What the transport itself says: another value would break it, or let a request hide in another. */
const RESERVED_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** @throws {MethodFault} what the settings say, or refer to, cannot be used */
export function customEndpoint(settings: CustomSettings, parts: Pick<MethodParts, 'configMap' | 'secret'>): Endpoint {
  const url = new URL(settings.endpoint)
  if (url.protocol !== 'https:') throw new MethodFault('customSettings.endpoint: expected an https:// URL')
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new MethodFault('customSettings.endpoint: expected scheme, host, port and path alone (user names belong into headers)')
  }
  return {
    name: url.host,
    hostname: urlToHttpOptions(url).hostname ?? url.hostname,
    port: url.port === '' ? 443 : Number(url.port),
    path: `${url.pathname.replace(/\/+$/, '')}/?api-version=${API_VERSION}`,
    headers: headersOf(settings.headers ?? {}),
    context: contextOf(settings, parts),
  }
}

function headersOf(given: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  const headers = new Map([
    ['accept', 'application/json'],
    ['content-type', 'application/json'],
    ['user-agent', 'millrace'],
  ])
  const names = new Set<string>()
  for (const [text, value] of Object.entries(given)) {
    const name = text.toLowerCase()
    if (RESERVED_HEADERS.has(name)) throw new MethodFault(`customSettings.headers: ${text} cannot be set`)
    if (names.has(name)) throw new MethodFault(`customSettings.headers: ${text} stands there twice`)
    try {
      validateHeaderName(text)
      validateHeaderValue(text, value)
    } catch {
      // Node's own text repeats the value, which may be a secret.
      throw new MethodFault(`customSettings.headers: ${JSON.stringify(text)} is no HTTP header, or its value none`)
    }
    names.add(name)
    headers.set(name, value)
  }
  return headers
}

function contextOf(settings: CustomSettings, parts: Pick<MethodParts, 'configMap' | 'secret'>): SecureContext {
  const ca = authoritiesOf(settings.caCertConfigMap, parts)
  const own = clientCertificateOf(settings.auth?.x509.secretRef, parts)
  try {
    return createSecureContext({ minVersion: 'TLSv1.2', ...(ca !== null && { ca: [...ca] }), ...own })
  } catch (error) {
    throw new MethodFault(`customSettings.auth.x509.secretRef: certificate or key cannot be used: ${(error as Error).message}`)
  }
}

/** Null: the public roots. */
function authoritiesOf(name: string | undefined, parts: Pick<MethodParts, 'configMap'>): readonly string[] | null {
  if (name === undefined) return null
  const data = parts.configMap(name)
  if (data === null) throw new MethodFault(`customSettings.caCertConfigMap: there is no ConfigMap ${name}`)
  const found = [...data.values()].flatMap(text => text.match(PEM_CERTIFICATE) ?? [])
  // An empty list would trust nobody, and OpenSSL passes over what it cannot read: both would look like a server that is away.
  if (found.length === 0) throw new MethodFault(`customSettings.caCertConfigMap: no certificate in ConfigMap ${name}`)
  for (const [index, pem] of found.entries()) {
    try {
      void new X509Certificate(pem)
    } catch {
      throw new MethodFault(`customSettings.caCertConfigMap: certificate ${index + 1} of ConfigMap ${name} cannot be read`)
    }
  }
  return found
}

function clientCertificateOf(name: string | undefined, parts: Pick<MethodParts, 'secret'>): { cert?: Buffer; key?: Buffer } {
  if (name === undefined) return {}
  const data = parts.secret(name)
  if (data === null) throw new MethodFault(`customSettings.auth.x509.secretRef: there is no Secret ${name}`)
  const cert = data.get('tls.crt')
  const key = data.get('tls.key')
  if (cert === undefined || key === undefined) {
    throw new MethodFault(`customSettings.auth.x509.secretRef: Secret ${name} needs tls.crt and tls.key`)
  }
  return { cert: Buffer.from(cert), key: Buffer.from(key) }
}
