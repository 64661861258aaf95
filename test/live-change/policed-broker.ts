import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { makeScramKey } from '../../authsvc/credentials/scram-key.ts'
import { makePasswordHash } from '../../authsvc/credentials/password-hash.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import type * as packets from '../conformance/packets.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { type RealBroker, startBroker } from '../limits/real-broker.ts'

/** What a rule of the test allows: lists of filters, or of client identifiers. */
export interface Allowed {
  readonly connect?: readonly string[]
  readonly publish?: readonly string[]
  readonly subscribe?: readonly string[]
}

const API = 'mqttbroker.iotoperations.azure.com/v1'
export const PASSWORD = 'open sesame'
/** One hash for all: a fresh one costs as long as a check. */
const HASH = makePasswordHash('scrypt', Buffer.from(PASSWORD))
const KEY = makeScramKey('SCRAM-SHA-256', PASSWORD)
export const USERS = ['alice', 'bob', 'carol'] as const
export type User = (typeof USERS)[number]

export function resource(kind: string, name: string, spec: unknown): string {
  return JSON.stringify({ apiVersion: API, kind, metadata: { name }, spec })
}

export function policies(allowed: Partial<Record<User, Allowed>>, options: object = {}): string {
  const rules = Object.entries(allowed).map(([user, { connect, publish = [], subscribe = [] }]) => ({
    principals: { usernames: [user] },
    brokerResources: [
      { method: 'Connect', ...(connect !== undefined && { clientIds: connect }) },
      ...(publish.length > 0 ? [{ method: 'Publish', topics: publish }] : []),
      ...(subscribe.length > 0 ? [{ method: 'Subscribe', topics: subscribe }] : []),
    ],
  }))
  return resource('BrokerAuthorization', 'rules', { authorizationPolicies: { rules, ...options } })
}

export function users(names: readonly string[]): string {
  const entries = names.map(name => ({ name, password: HASH, scram: [KEY] }))
  return JSON.stringify({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'users' }, stringData: { list: JSON.stringify(entries) } })
}

/** A broker process whose resources the test rewrites while it runs. */
export class PolicedBroker {
  readonly port: number
  readonly broker: RealBroker
  readonly directory: string

  constructor(broker: RealBroker, directory: string, port: number) {
    this.broker = broker
    this.directory = directory
    this.port = port
  }

  /** One port with passwords and SCRAM, and the policies given. */
  static async start(allowed: Partial<Record<User, Allowed>>, options: object = {}, flags: readonly string[] = []): Promise<PolicedBroker> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-test-'))
    onTestFinished(() => rm(directory, { recursive: true, force: true }))
    const [port] = (await freePorts(1)) as [number]
    const listener = { ports: [{ port, host: '127.0.0.1', authenticationRef: 'who', authorizationRef: 'rules' }] }
    const methods = [
      { method: 'Scram', scramSettings: { secretRef: 'users' } },
      { method: 'Password', passwordSettings: { secretRef: 'users' } },
    ]
    await writeFile(join(directory, 'listener.yaml'), resource('BrokerListener', 'plant', listener))
    await writeFile(join(directory, 'who.yaml'), resource('BrokerAuthentication', 'who', { authenticationMethods: methods }))
    await writeFile(join(directory, 'users.yaml'), users(USERS))
    await writeFile(join(directory, 'rules.yaml'), policies(allowed, options))
    const broker = await startBroker('--config', directory, '--log-level', 'info', ...flags)
    return new PolicedBroker(broker, directory, port)
  }

  /** Writes `text` to a file of the directory, at once as editors and Kubernetes do. */
  async write(file: string, text: string): Promise<void> {
    await writeFile(join(this.directory, `.${file}`), text)
    await rename(join(this.directory, `.${file}`), join(this.directory, file))
  }

  /** The same, and waits until it is in force. */
  async change(file: string, text: string): Promise<void> {
    const before = this.#changes()
    await this.write(file, text)
    await expect.poll(() => this.#changes(), { timeout: 15_000 }).toBeGreaterThan(before)
  }

  #changes(): number {
    return this.broker.err.split('"event":"resources_changed"').length
  }

  async open(version: packets.Version = 5, port = this.port): Promise<RawClient> {
    return RawClient.open('127.0.0.1', port, version)
  }

  /** A client that has logged in with its password; its Client Identifier is its user name unless given. */
  async connect(userName: User, options: Omit<packets.Connect, 'userName' | 'password'> = {}): Promise<RawClient> {
    const client = await this.open(options.version)
    return client.connect({ clientId: userName, userName, password: PASSWORD, ...options })
  }
}
