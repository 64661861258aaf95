import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A certificate that openssl has made, and the key that it is for. */
export interface IssuedCertificate {
  readonly name: string
  /** PEM. */
  readonly certificate: string
  readonly key: string
  readonly der: Buffer
  readonly serial: string
  readonly subject: string
}

export type KeyKind = 'EC' | 'EC384' | 'RSA' | 'RSA1024' | 'Ed25519' | 'Ed448' | 'secp256k1' | 'explicitCurve'

export interface CertificateWish {
  /** As `-subj` of openssl: `/C=US/CN=a`. */
  readonly subject: string
  /** Without one it signs itself. */
  readonly issuer?: IssuedCertificate
  /** Lines of an extension section. Default: those of a client. Empty: version 1 has none. */
  readonly extensions?: readonly string[]
  readonly key?: KeyKind
  /** The same key as that one's. */
  readonly keyOf?: IssuedCertificate
  /** `YYYYMMDDHHMMSSZ` */
  readonly from?: string
  readonly to?: string
  readonly digest?: 'sha1' | 'sha256' | 'sha384' | 'sha512' | 'md5'
  /** RSA only. */
  readonly isPss?: boolean
  /** Type of the texts in the subject, as `string_mask` of openssl. */
  readonly stringMask?: 'utf8only' | 'nombstr' | 'pkix'
}

export interface ListWish {
  readonly revoked: readonly IssuedCertificate[]
  readonly from?: string
  readonly to?: string
  readonly digest?: 'sha1' | 'sha256'
  /** Lines of an extension section. */
  readonly extensions?: readonly string[]
}

export const CLIENT_EXTENSIONS = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', 'extendedKeyUsage=clientAuth']
export const AUTHORITY_EXTENSIONS = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign']

const makeKey: Readonly<Record<KeyKind, () => { readonly privateKey: KeyObject }>> = {
  EC: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EC384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  secp256k1: () => generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
  explicitCurve: () => generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }),
  RSA: () => generateKeyPairSync('rsa', { modulusLength: 2_048 }),
  RSA1024: () => generateKeyPairSync('rsa', { modulusLength: 1_024 }),
  Ed25519: () => generateKeyPairSync('ed25519'),
  Ed448: () => generateKeyPairSync('ed448'),
}
/** RSA keys that are made; then they come again, for each takes 100 ms. */
const RSA_KEYS_MAX = 3
const FROM = '20200101000000Z'
const TO = '20700101000000Z'

/** Makes certificates and revocation lists of any quality, with openssl, in a directory that `close` removes. */
export class CertificateLab {
  readonly #place = mkdtempSync(join(tmpdir(), 'millrace-certificates-'))
  readonly #rsaKeys: string[] = []
  #count = 0

  close(): void {
    rmSync(this.#place, { recursive: true })
  }

  issue(wish: CertificateWish): IssuedCertificate {
    const { subject, issuer, extensions = CLIENT_EXTENSIONS } = wish
    const name = String(++this.#count)
    const serial = (0x1000 + this.#count).toString(16).toUpperCase()
    const key = this.#path(`${name}.key`)
    const digest = wish.digest ?? 'sha256'
    writeFileSync(key, wish.keyOf?.key ?? this.#newKey(wish.key ?? 'EC'))
    this.#writeConfig(extensions, wish.stringMask ?? 'utf8only')
    this.#database([], serial)
    const config = ['-config', this.#path('ca.cnf'), '-utf8']
    this.#openssl(['req', '-new', ...config, '-key', key, '-subj', subject, '-out', this.#path('request')])
    const signer =
      issuer === undefined
        ? ['-selfsign', '-keyfile', key]
        : ['-cert', this.#path(`${issuer.name}.crt`), '-keyfile', this.#path(`${issuer.name}.key`)]
    const term = ['-startdate', wish.from ?? FROM, '-enddate', wish.to ?? TO, '-md', digest]
    const pss = wish.isPss === true ? ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest'] : []
    const out = this.#path(`${name}.crt`)
    const section = extensions.length === 0 ? [] : ['-extensions', 'v3']
    const files = ['-in', this.#path('request'), '-out', out]
    this.#openssl(['ca', '-batch', '-notext', '-preserveDN', ...config, ...signer, ...term, ...pss, ...section, ...files])
    const certificate = readFileSync(out, 'latin1')
    return { name, certificate, key: readFileSync(key, 'latin1'), der: new X509Certificate(certificate).raw, serial, subject }
  }

  /** An authority. */
  authority(subject: string, wish: Omit<CertificateWish, 'subject'> = {}): IssuedCertificate {
    return this.issue({ extensions: AUTHORITY_EXTENSIONS, ...wish, subject })
  }

  /** A revocation list of `issuer`, PEM. */
  list(issuer: IssuedCertificate, wish: ListWish): string {
    const { revoked, extensions = [] } = wish
    this.#writeConfig(extensions, 'utf8only')
    this.#database(
      revoked.map(({ serial }) => ['R', '700101000000Z', '240101000000Z', serial, 'unknown', '/CN=revoked'].join('\t')),
      '01',
    )
    const signer = ['-cert', this.#path(`${issuer.name}.crt`), '-keyfile', this.#path(`${issuer.name}.key`)]
    const term = ['-crl_lastupdate', wish.from ?? FROM, '-crl_nextupdate', wish.to ?? TO, '-md', wish.digest ?? 'sha256']
    const section = extensions.length === 0 ? [] : ['-crlexts', 'v3']
    const out = this.#path('list.crl')
    this.#openssl(['ca', '-gencrl', '-config', this.#path('ca.cnf'), ...signer, ...term, ...section, '-out', out])
    return readFileSync(out, 'latin1')
  }

  #newKey(kind: KeyKind): string {
    const isSlow = kind === 'RSA'
    const known = isSlow && this.#rsaKeys.length === RSA_KEYS_MAX ? this.#rsaKeys.shift() : undefined
    const key = known ?? makeKey[kind]().privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    if (isSlow) this.#rsaKeys.push(key)
    return key
  }

  #path(file: string): string {
    return join(this.#place, file)
  }

  #database(lines: readonly string[], serial: string): void {
    writeFileSync(this.#path('index.txt'), lines.map(line => `${line}\n`).join(''))
    writeFileSync(this.#path('serial'), `${serial}\n`)
  }

  #writeConfig(extensions: readonly string[], stringMask: string): void {
    const place = this.#place
    const authority = [
      '[ca]',
      'default_ca=this',
      '[this]',
      `database=${place}/index.txt`,
      `serial=${place}/serial`,
      `new_certs_dir=${place}`,
    ]
    const request = ['[req]', 'distinguished_name=any', `string_mask=${stringMask}`, '[any]']
    const lines = [...authority, 'policy=any', 'unique_subject=no', ...request, '[v3]', ...extensions, '']
    writeFileSync(this.#path('ca.cnf'), lines.join('\n'))
  }

  #openssl(args: readonly string[]): void {
    execFileSync('openssl', args, { stdio: 'pipe' })
  }
}
