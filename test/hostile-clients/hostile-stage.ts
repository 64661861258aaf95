import { randomBytes, scryptSync } from 'node:crypto'
import { expect } from 'vitest'
import { freePorts } from '#shared/testing/free-ports.ts'
import type * as packets from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { ConfiguredBroker, type Documents, HOST, resource, secret } from '../specification/configured-broker.ts'

export const NOT_AUTHORIZED = 0x87
export const PROTOCOL_ERROR = 0x82
export const PASSWORD = 'correct horse battery staple'

/** What no line of the broker may hold: told as it is, and looked for in every form that a line could have it in. */
const secrets = new Set<string>([PASSWORD])

export function keepSecret(text: string): string {
  secrets.add(text)
  return text
}

/** Of the least cost there is: what costs time has a test of its own. */
export function cheapHash(password: string): string {
  const salt = randomBytes(16)
  const hash = scryptSync(password, salt, 32, { cost: 16, blockSize: 8, parallelization: 1 })
  return `$scrypt$ln=4,r=8,p=1$${[salt, hash].map(bytes => keepSecret(bytes.toString('base64').replace(/=+$/, ''))).join('$')}`
}

/** Alice, whose password is PASSWORD, as `BrokerAuthentication passwords` knows her. */
export function passwordDocuments(): readonly object[] {
  const users = JSON.stringify([{ name: 'alice', password: cheapHash(PASSWORD) }])
  const methods = [{ method: 'Password', passwordSettings: { secretRef: 'users' } }]
  return [secret('users', { list: users }), resource('BrokerAuthentication', 'passwords', { authenticationMethods: methods })]
}

/** What a port refers to. */
export type PortWish = Readonly<Record<string, unknown>>

/** A broker process that a file of tests attacks, port by port. */
export class HostileStage<Port extends string> {
  readonly configured: ConfiguredBroker
  readonly #ports: Readonly<Record<Port, number>>

  private constructor(configured: ConfiguredBroker, ports: Readonly<Record<Port, number>>) {
    this.configured = configured
    this.#ports = ports
  }

  static async start<Port extends string>(
    wishes: Readonly<Record<Port, PortWish>>,
    documents: Documents,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<HostileStage<Port>> {
    const names = Object.keys(wishes) as Port[]
    const numbers = await freePorts(names.length)
    const ports = Object.fromEntries(names.map((name, at) => [name, numbers[at]!])) as Record<Port, number>
    const listener = { ports: names.map(name => ({ port: ports[name], host: HOST, ...wishes[name] })) }
    const configured = await ConfiguredBroker.start(
      { listener: [resource('BrokerListener', 'plant', listener)], ...documents },
      environment,
    )
    return new HostileStage(configured, ports)
  }

  portOf(name: Port): number {
    return this.#ports[name]
  }

  async open(name: Port, version: packets.Version = 5): Promise<RawClient> {
    return this.configured.open(this.#ports[name], version)
  }

  async connect(name: Port, { version = 5, ...options }: packets.Connect = {}): Promise<RawClient> {
    const client = await this.open(name, version)
    return client.connect(options)
  }

  /** Code of the CONNACK that refuses this CONNECT. */
  async refusal(name: Port, { version = 5, ...options }: packets.Connect): Promise<number> {
    const client = await this.open(name, version)
    client.sendConnect(options)
    const { reason } = await client.expect('connack')
    expect(reason).not.toBe(0)
    await client.expectClosed()
    return reason
  }

  /** The process lives, no handler of it failed, and nothing that was secret is in what it wrote. */
  async expectUnharmed(): Promise<void> {
    const { broker } = this.configured
    expect((await fetch(`${broker.metricsUrl}/livez`)).status).toBe(200)
    expect(broker.err.length).toBeGreaterThan(0)
    const events = broker.err.split('\n').flatMap(line => /"event":"(\w+)"/.exec(line)?.[1] ?? [])
    const faults = ['uncaught_exception', 'connection_failed', 'connect_failed', 'authentication_failed', 'authentication_service_failed']
    expect(events.filter(event => faults.includes(event))).toEqual([])
    for (const text of secrets)
      for (const form of formsOf(text)) expect(broker.err.includes(form), `a secret (${text.slice(0, 6)}…)`).toBe(false)
  }
}

function formsOf(text: string): readonly string[] {
  const bytes = Buffer.from(text)
  return [text, bytes.toString('base64').replace(/=+$/, ''), bytes.toString('base64url'), bytes.toString('hex')]
}
