import { createSecureContext } from 'node:tls'
import { thrownText } from '../base/thrown.ts'
import type { TlsSettings } from './port-settings.ts'

/** Why OpenSSL does not take the files; its messages hold nothing of the key. */
export function tlsFault(tls: Pick<TlsSettings, 'cert' | 'key' | 'clientCa'>): string | null {
  try {
    createSecureContext({ cert: tls.cert, key: tls.key, ...(tls.clientCa !== null && { ca: tls.clientCa }) })
    return null
  } catch (error) {
    return `certificate and key cannot be used: ${thrownText(error)}`
  }
}
