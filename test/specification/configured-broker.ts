import { rm, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { once } from 'node:events'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { expect } from 'vitest'
import type { CertificateLab, IssuedCertificate } from '#shared/testing/certificates.ts'
import type * as packets from '../conformance/packets.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { type RealBroker, startBrokerForFile } from '../limits/real-broker.ts'

const API = 'mqttbroker.iotoperations.azure.com/v1'
/**
 * Where ports of resources are. Linux has a loopback address for each process of tests, so that nobody takes a port between the moment when it was found
 * free and the one when the broker opens it.
 */
export const HOST = process.platform === 'linux' ? loopbackOf(process.pid) : '127.0.0.1'
/** A change is found by looks a second apart, and these tests share the machine with others. */
const CHANGE_WITHIN_MS = 15_000

/** Of clients: a credential that ends soon may take its time on a machine that is shared. */
const PATIENCE_MS = 28_000

function loopbackOf(pid: number): string {
  return `127.${1 + ((pid >> 14) & 0x7f)}.${(pid >> 7) & 0x7f}.${1 + (pid & 0x7f)}`
}

/** What stands in the directory, by file name without its end. */
export type Documents = Readonly<Record<string, readonly object[]>>

export function resource(kind: string, name: string, spec: object): object {
  return { apiVersion: API, kind, metadata: { name }, spec }
}

export function secret(name: string, stringData: Readonly<Record<string, string>>): object {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData }
}

export function configMap(name: string, data: Readonly<Record<string, string>>): object {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data }
}

/** A Secret with the certificate of a server and its key. */
export function tlsSecret(name: string, { certificate, key }: IssuedCertificate): object {
  return secret(name, { 'tls.crt': certificate, 'tls.key': key })
}

/** A certificate for this machine. */
export function serverCertificate(lab: CertificateLab, issuer: IssuedCertificate, subject = '/CN=broker'): IssuedCertificate {
  const extensions = ['basicConstraints=critical,CA:FALSE', 'extendedKeyUsage=serverAuth', `subjectAltName=IP:127.0.0.1,IP:${HOST}`]
  return lab.issue({ subject, issuer, extensions })
}

/** How a client begins. */
export interface ClientTls {
  readonly ca: IssuedCertificate
  /** Leaf first. */
  readonly chain?: readonly IssuedCertificate[]
}

/** A TLS connection without any MQTT on it. With TLS 1.3 a refused certificate shows later: as the end of the connection. */
export async function openTls(port: number, { ca, chain = [] }: ClientTls): Promise<TLSSocket> {
  const own = { cert: chain.map(({ certificate }) => certificate).join('\n'), key: chain[0]?.key }
  const socket = connectTls({ host: HOST, port, ca: ca.certificate, ...(chain.length > 0 && own) })
  await once(socket, 'secureConnect')
  return socket
}

/** A broker process that the tests of a file share; its resources are documents that a test may change. */
export class ConfiguredBroker {
  readonly broker: RealBroker
  readonly #directory: string

  private constructor(broker: RealBroker, directory: string) {
    this.broker = broker
    this.#directory = directory
  }

  static async start(
    documents: Documents,
    environment: Readonly<Record<string, string>> = {},
    flags: readonly string[] = ['--log-level', 'info'],
  ): Promise<ConfiguredBroker> {
    let directory = ''
    const broker = await startBrokerForFile(async place => {
      directory = place
      for (const [name, each] of Object.entries(documents)) await writeFile(join(place, `${name}.yaml`), textOf(each))
      return ['--config', place, ...flags]
    }, environment)
    return new ConfiguredBroker(broker, directory)
  }

  /** Replaces files, and takes those away that are null; returns when that is in force. */
  async change(documents: Readonly<Record<string, readonly object[] | null>>): Promise<void> {
    const before = this.#changes
    for (const [name, each] of Object.entries(documents)) {
      const path = join(this.#directory, `${name}.yaml`)
      if (each === null) await rm(path)
      else {
        await writeFile(`${path}.new`, textOf(each))
        await rename(`${path}.new`, path)
      }
    }
    await expect.poll(() => this.#changes, { timeout: CHANGE_WITHIN_MS }).toBeGreaterThan(before)
  }

  get #changes(): number {
    return this.broker.err.split('"event":"resources_changed"').length
  }

  /** What /readyz says of ports that are closed, and of all else that is not as it should be. */
  async impaired(): Promise<readonly string[]> {
    const answer = (await (await fetch(`${this.broker.metricsUrl}/readyz`)).json()) as { impaired: readonly string[] }
    return answer.impaired
  }

  async open(port: number, version: packets.Version = 5, tls?: ClientTls): Promise<RawClient> {
    const client = tls === undefined ? await RawClient.open(HOST, port, version) : new RawClient(await openTls(port, tls), version)
    client.patienceMs = PATIENCE_MS
    return client
  }
}

function textOf(documents: readonly object[]): string {
  return documents.map(document => JSON.stringify(document)).join('\n---\n')
}
