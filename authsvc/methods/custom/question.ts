import type { CustomSettings } from '#shared/resources/broker-authentication.ts'
import type { AuthenticationRequest } from '#shared/rpc/authentication.ts'

/** The one published version of the API. */
export const API_VERSION = '0.5.0'

/** What the server is asked, as JSON. Fields without a value are left out; texts are as the client sent them, bytes in base64. */
export function questionOf(request: AuthenticationRequest, encodesMethod: CustomSettings['encodesMethod']): Buffer {
  const enhanced = enhancedAuthentication(request, encodesMethod === 'Enabled')
  if (request.purpose === 'reauthenticate') return json({ type: 'auth', ...enhanced })
  const { userName, password, peerCertificates } = request
  return json({
    type: 'connect',
    ...(userName !== null && { username: userName }),
    ...(password !== null && { password: base64(password) }),
    ...(peerCertificates !== null && peerCertificates.length > 0 && { certs: peerCertificates.map(der => pem(der)).join('') }),
    ...enhanced,
  })
}

function enhancedAuthentication(request: AuthenticationRequest, encodesMethod: boolean): object {
  const { authenticationMethod: method, authenticationData: data } = request
  if (method === null) return {}
  return {
    enhancedAuthentication: {
      method: encodesMethod ? Buffer.from(method, 'utf8').toString('base64') : method,
      ...(data !== null && { data: base64(data) }),
    },
  }
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value), 'utf8')
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** RFC 7468: lines of 64 characters. */
function pem(der: Uint8Array): string {
  const lines = base64(der).replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}
