import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'

/** Certificates for development and tests hold this long. */
const VALID_DAYS = 825
/** No key or request that openssl makes here takes near as long as this. */
const OPENSSL_TIMEOUT_MS = 30_000

/** Files of a small public key infrastructure: PEM each, keys readable by their owner only. */
export interface PkiFiles {
  readonly ca: string
  readonly caKey: string
  readonly serverCert: string
  readonly serverKey: string
  readonly clientCert: string
  readonly clientKey: string
  /** Of the internal links of a cluster: an authority of its own, for whoever has a certificate of it is a member. */
  readonly memberCa: string
  readonly memberCaKey: string
  readonly memberCert: string
  readonly memberKey: string
}

export interface PkiOptions {
  /** Names and addresses that the certificates of server and members hold for. */
  readonly serverNames?: readonly string[]
  /** Common Name of the client certificate: the user name that X.509 authentication gives the client. */
  readonly clientName?: string
}

/** openssl is missing or refused. */
export class PkiError extends Error {
  override readonly name = 'PkiError'
}

/** What a name may consist of, so that it can stand in a subject and in a configuration file without quoting. */
const NAME = /^[\w.:@ -]{1,64}$/

/**
 * Makes a CA, a server and a client certificate, and a CA and a certificate for members of a cluster (EC P-256) in `directory`, for development and tests; existing files are overwritten.
 * @throws {PkiError} openssl is not installed or fails, or a name holds other characters than letters, digits, space and `_.:@-`
 */
export async function createPki(directory: string, options: PkiOptions = {}): Promise<PkiFiles> {
  const { serverNames = ['localhost', '127.0.0.1', '::1'], clientName = 'millrace-client' } = options
  for (const name of [...serverNames, clientName]) if (!NAME.test(name)) throw new PkiError(`'${name}' cannot be a name in a certificate`)
  const inDirectory = (file: string): string => join(directory, file)
  const files: PkiFiles = {
    ca: inDirectory('ca.crt'),
    caKey: inDirectory('ca.key'),
    serverCert: inDirectory('server.crt'),
    serverKey: inDirectory('server.key'),
    clientCert: inDirectory('client.crt'),
    clientKey: inDirectory('client.key'),
    memberCa: inDirectory('member-ca.crt'),
    memberCaKey: inDirectory('member-ca.key'),
    memberCert: inDirectory('member.crt'),
    memberKey: inDirectory('member.key'),
  }
  await mkdir(directory, { recursive: true })
  const scratch = await mkdtemp(inDirectory('.pki-'))
  try {
    await makeAll(files, scratch, serverNames, clientName)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  return files
}

async function makeAll(files: PkiFiles, scratch: string, serverNames: readonly string[], clientName: string): Promise<void> {
  const ca = { cert: files.ca, key: files.caKey, commonName: 'Millrace development CA' }
  const memberCa = { cert: files.memberCa, key: files.memberCaKey, commonName: 'Millrace development CA of members' }
  const authority = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign']
  await makeCertificate(scratch, ca, null, authority)
  await makeCertificate(scratch, memberCa, null, authority)
  const leaf = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', 'authorityKeyIdentifier=keyid']
  const alternativeNames = serverNames.map(name => (isIP(name) ? `IP:${name}` : `DNS:${name}`)).join(',')
  const server = { cert: files.serverCert, key: files.serverKey, commonName: serverNames[0] ?? 'localhost' }
  await makeCertificate(scratch, server, ca, [...leaf, 'extendedKeyUsage=serverAuth', `subjectAltName=${alternativeNames}`])
  const client = { cert: files.clientCert, key: files.clientKey, commonName: clientName }
  await makeCertificate(scratch, client, ca, [...leaf, 'extendedKeyUsage=clientAuth'])
  const member = { cert: files.memberCert, key: files.memberKey, commonName: 'millrace-member' }
  const bothEnds = 'extendedKeyUsage=serverAuth,clientAuth'
  await makeCertificate(scratch, member, memberCa, [...leaf, bothEnds, `subjectAltName=${alternativeNames}`])
}

interface Holder {
  readonly cert: string
  readonly key: string
  readonly commonName: string
}

/** A fresh key, and a certificate for it from `issuer`; from itself when that is null. */
async function makeCertificate(scratch: string, holder: Holder, issuer: Holder | null, extensions: readonly string[]): Promise<void> {
  const config = join(scratch, 'openssl.cnf')
  const request = join(scratch, 'request.csr')
  // A configuration of our own: the machine's may be missing, or add extensions.
  const lines = ['[req]', 'distinguished_name=subject', '[subject]', '[v3]', 'subjectKeyIdentifier=hash', ...extensions, '']
  await writeFile(config, lines.join('\n'))
  const key = await openssl(['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'])
  await rm(holder.key, { force: true })
  await writeFile(holder.key, key, { mode: 0o600 })
  await openssl(['req', '-new', '-config', config, '-key', holder.key, '-subj', `/CN=${holder.commonName}`, '-sha256', '-out', request])
  const signer = issuer === null ? ['-signkey', holder.key] : ['-CA', issuer.cert, '-CAkey', issuer.key]
  const serial = `0x${randomBytes(16).toString('hex')}`
  const term = ['-set_serial', serial, '-days', String(VALID_DAYS), '-sha256']
  await openssl(['x509', '-req', '-in', request, ...signer, ...term, '-extfile', config, '-extensions', 'v3', '-out', holder.cert])
}

/** Standard output of the `openssl` command. */
function openssl(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('openssl', args, { timeout: OPENSSL_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout)
      const isMissing = error.code === 'ENOENT'
      const why = isMissing ? 'the openssl command is not installed' : `openssl ${args[0]}: ${stderr.trim() || error.message}`
      reject(new PkiError(`Cannot make certificates: ${why}`))
    })
  })
}
