/** Certificates of the comparisons with TLS: EC P-256 throughout, an authority, an intermediate that issues, a server and clients. */
import { spawnSync } from 'node:child_process'
import { createPrivateKey, randomBytes, sign, X509Certificate } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** PEM texts. */
export interface BenchCertificates {
  /** The authority that server and clients are trusted by. */
  readonly ca: string
  readonly serverCert: string
  readonly serverKey: string
  /** A leaf that all clients are made like, then the intermediate. */
  readonly clientChain: string
  /** One key for all clients: what differs between them is what the server looks at. */
  readonly clientKey: string
  /** Of the intermediate. */
  readonly issuerKey: string
}

/** As long as the number of a client in its Common Name. */
const NUMBER_DIGITS = 7
/** Common Name of the leaf that clients are made like: the digits are replaced. */
const TEMPLATE_NAME = `device-${'0'.repeat(NUMBER_DIGITS)}`
const SERIAL_BYTES = 16
const VALID_DAYS = '30'

const AUTHORITY = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash'
const LEAF =
  'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid'

/** @throws {Error} openssl is not installed or refuses */
export function makeCertificates(directory: string): BenchCertificates {
  mkdirSync(directory, { recursive: true })
  const maker = new Maker(directory)
  maker.make('ca', '/O=bench/CN=root', AUTHORITY, null)
  maker.make('issuer', '/O=bench/CN=issuer', AUTHORITY, 'ca')
  maker.make('server', '/O=bench/CN=localhost', `${LEAF}\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1`, 'ca')
  maker.make('client', `/O=bench/CN=${TEMPLATE_NAME}`, `${LEAF}\nextendedKeyUsage=clientAuth`, 'issuer')
  return {
    ca: maker.read('ca.crt'),
    serverCert: maker.read('server.crt'),
    serverKey: maker.read('server.key'),
    clientChain: maker.read('client.crt') + maker.read('issuer.crt'),
    clientKey: maker.read('client.key'),
    issuerKey: maker.read('issuer.key'),
  }
}

class Maker {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  make(name: string, subject: string, extensions: string, issuer: string | null): void {
    writeFileSync(this.#file(`${name}.ext`), extensions)
    this.#openssl('ecparam', '-genkey', '-name', 'prime256v1', '-noout', '-out', this.#file(`${name}.key`))
    this.#openssl('req', '-new', '-key', this.#file(`${name}.key`), '-subj', subject, '-out', this.#file(`${name}.csr`))
    const by =
      issuer === null
        ? ['-signkey', this.#file(`${name}.key`)]
        : ['-CA', this.#file(`${issuer}.crt`), '-CAkey', this.#file(`${issuer}.key`)]
    const serial = `0x01${randomBytes(SERIAL_BYTES - 1).toString('hex')}`
    const request = ['-req', '-in', this.#file(`${name}.csr`), '-days', VALID_DAYS, '-sha256', '-set_serial', serial]
    this.#openssl('x509', ...request, ...by, '-extfile', this.#file(`${name}.ext`), '-out', this.#file(`${name}.crt`))
  }

  read(file: string): string {
    return readFileSync(this.#file(file), 'utf8')
  }

  #file(name: string): string {
    return path.join(this.#directory, name)
  }

  #openssl(...parameters: readonly string[]): void {
    const { status, stderr, error } = spawnSync('openssl', parameters, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`openssl ${parameters[0]}: ${error?.message ?? stderr}`)
  }
}

/** Makes clients like a template: what differs is the number in the Common Name, the serial number and the signature. */
export class ClientCertificates {
  readonly #signed: Buffer
  readonly #algorithm: Buffer
  readonly #nameAt: number
  readonly #serialAt: number
  readonly #intermediates: string
  readonly #issuerKey: ReturnType<typeof createPrivateKey>

  /** @param chain PEM: the template, then the intermediates; made by `makeCertificates` */
  constructor(chain: string, issuerKey: string) {
    const leaf = new X509Certificate(chain)
    const [signed, algorithm] = elementsOf(contentOf(leaf.raw))
    this.#signed = signed!
    this.#algorithm = algorithm!
    this.#nameAt = this.#signed.indexOf(TEMPLATE_NAME) + TEMPLATE_NAME.length - NUMBER_DIGITS
    this.#serialAt = this.#signed.indexOf(Buffer.from(leaf.serialNumber, 'hex'))
    this.#intermediates = chain.slice(chain.indexOf('-----BEGIN', 1))
    this.#issuerKey = createPrivateKey(issuerKey)
  }

  /** PEM: the certificate of client `number`, then the intermediates. Another one each time. */
  chainOf(number: number): string {
    const signed = Buffer.from(this.#signed)
    signed.write(String(number).padStart(NUMBER_DIGITS, '0'), this.#nameAt, 'latin1')
    // The first byte stays: it must be neither 0 nor above 0x7f.
    randomBytes(SERIAL_BYTES - 1).copy(signed, this.#serialAt + 1)
    const signature = sign('sha256', signed, this.#issuerKey)
    const der = element(0x30, Buffer.concat([signed, this.#algorithm, element(0x03, Buffer.concat([Buffer.of(0), signature]))]))
    const lines = der.toString('base64').replace(/.{64}/g, '$&\n')
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n${this.#intermediates}`
  }
}

/** Elements of DER that openssl wrote a moment ago: lengths of up to two bytes. */
function elementsOf(content: Buffer): Buffer[] {
  const elements: Buffer[] = []
  for (let at = 0; at < content.length; ) {
    const end = at + headBytes(content, at) + lengthAt(content, at)
    elements.push(content.subarray(at, end))
    at = end
  }
  return elements
}

function contentOf(whole: Buffer): Buffer {
  return whole.subarray(headBytes(whole, 0))
}

function headBytes(der: Buffer, at: number): number {
  return der[at + 1]! < 0x80 ? 2 : 2 + (der[at + 1]! & 0x7f)
}

function lengthAt(der: Buffer, at: number): number {
  const first = der[at + 1]!
  return first < 0x80 ? first : der.readUIntBE(at + 2, first & 0x7f)
}

function element(tag: number, content: Buffer): Buffer {
  const { length } = content
  const head = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), content])
}
