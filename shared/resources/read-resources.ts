import { z } from 'zod'
import { suggestion } from '../config/nearest.ts'
import { brokerValues } from './broker.ts'
import { type ListenerPort, readBrokerListener } from './broker-listener.ts'
import { metadata } from './field.ts'
import type { ResourceFiles } from './resource-directory.ts'
import { readYaml, type YamlDocument } from './yaml-document.ts'

const OWN_VERSIONS = ['mqttbroker.iotoperations.azure.com/v1', 'mqttbroker.iotoperations.azure.com/v1beta1']
const CORE_VERSIONS = ['v1']

/** Kinds that may stand in a directory, with the versions of each. */
const KINDS = new Map<string, readonly string[]>([
  ['Broker', OWN_VERSIONS],
  ['BrokerListener', OWN_VERSIONS],
  ['BrokerAuthentication', OWN_VERSIONS],
  ['BrokerAuthorization', OWN_VERSIONS],
  ['ConfigMap', CORE_VERSIONS],
  ['Secret', CORE_VERSIONS],
  ['ServiceAccount', CORE_VERSIONS],
])

/** A port that some BrokerListener asks for. */
export interface RequestedPort {
  /** `BrokerListener NAME port N` */
  readonly name: string
  /** `file:line: spec.ports[0]`, for faults. */
  readonly where: string
  readonly port: ListenerPort
}

export interface Resources {
  /** Values of settings, by name, that the Broker resource gives. */
  readonly values: ReadonlyMap<string, unknown>
  readonly ports: readonly RequestedPort[]
  /** One key of a Secret, from a document or a mounted directory; null when there is none. */
  secret(name: string, key: string): string | null
  /** What is accepted and has no effect. */
  readonly warnings: readonly string[]
}

const secretSchema = z.looseObject({
  metadata,
  data: z.record(z.string(), z.string()).optional(),
  stringData: z.record(z.string(), z.string()).optional(),
})

/** Reads all documents; every fault of every file goes to `faults` as `file:line: field: message`. */
export function readResources(files: ResourceFiles, faults: string[]): Resources {
  const reader = new ResourceReader(faults)
  for (const { file, text } of files.yaml) for (const document of readYaml(file, text, faults)) reader.add(document)
  const { values, ports, secrets, warnings } = reader
  return { values, ports, warnings, secret: (name, key) => secrets.get(`${name}/${key}`) ?? files.secret(name, key) }
}

class ResourceReader {
  values: ReadonlyMap<string, unknown> = new Map()
  readonly ports: RequestedPort[] = []
  /** `NAME/KEY` → text. */
  readonly secrets = new Map<string, string>()
  readonly warnings: string[] = []
  readonly #faults: string[]
  /** `KIND/NAME` → where it was found first. */
  readonly #seen = new Map<string, string>()
  readonly #portsSeen = new Map<string, string>()

  constructor(faults: string[]) {
    this.#faults = faults
  }

  add(document: YamlDocument): void {
    const kind = this.#kindOf(document)
    if (kind === null || !this.#isNew(kind, document)) return
    switch (kind) {
      case 'Broker':
        return this.#addBroker(document)
      case 'BrokerListener':
        return this.#addListener(document)
      case 'Secret':
        return this.#addSecret(document)
      case 'BrokerAuthentication':
      case 'BrokerAuthorization':
        this.warnings.push(document.fault(['kind'], `${kind} has no effect in this version; ports that refer to one stay closed`))
    }
  }

  #kindOf(document: YamlDocument): string | null {
    const { kind, apiVersion } =
      typeof document.value === 'object' && document.value !== null ? (document.value as Record<string, unknown>) : {}
    const versions = typeof kind === 'string' ? KINDS.get(kind) : undefined
    if (versions === undefined) {
      const hint = typeof kind === 'string' ? suggestion(kind, KINDS.keys()) : ''
      this.#faults.push(document.fault(['kind'], `expected one of ${[...KINDS.keys()].join(', ')}${hint}`))
      return null
    }
    if (typeof apiVersion === 'string' && versions.includes(apiVersion)) return kind as string
    this.#faults.push(document.fault(['apiVersion'], `expected ${versions.join(' or ')}`))
    return null
  }

  #isNew(kind: string, document: YamlDocument): boolean {
    const named = document.check(z.looseObject({ metadata }), this.#faults)
    if (named === null) return false
    const key = `${kind}/${named.metadata.name}`
    const before = this.#seen.get(key) ?? (kind === 'Broker' ? this.#seen.get('Broker') : undefined)
    if (before !== undefined) {
      this.#faults.push(
        document.fault(
          ['metadata', 'name'],
          kind === 'Broker' ? `there is a Broker already, at ${before}` : `there is a ${kind} of this name already, at ${before}`,
        ),
      )
      return false
    }
    const where = `${document.file}:${document.lineOf(['metadata', 'name'])}`
    this.#seen.set(key, where)
    if (kind === 'Broker') this.#seen.set('Broker', where)
    return true
  }

  #addBroker(document: YamlDocument): void {
    this.values = brokerValues(document, this.#faults)
  }

  #addListener(document: YamlDocument): void {
    const listener = readBrokerListener(document, this.#faults)
    if (listener === null) return
    for (const [index, port] of listener.spec.ports.entries()) {
      const path = ['spec', 'ports', index]
      const where = `${document.file}:${document.lineOf(path)}: spec.ports[${index}]`
      const key = `${port.host ?? ''} ${port.port}`
      const before = this.#portsSeen.get(key)
      if (before !== undefined && port.port !== 0)
        this.#faults.push(document.fault([...path, 'port'], `port ${port.port} is taken by ${before}`))
      this.#portsSeen.set(key, where)
      if (port.authorizationRef !== undefined && port.authenticationRef === undefined) {
        this.warnings.push(document.fault([...path, 'authorizationRef'], 'has no effect without authenticationRef: everything is allowed'))
      }
      this.ports.push({ name: `BrokerListener ${listener.metadata.name} port ${port.port}`, where, port })
    }
  }

  #addSecret(document: YamlDocument): void {
    const secret = document.check(secretSchema, this.#faults)
    if (secret === null) return
    for (const [key, value] of Object.entries(secret.data ?? {})) {
      this.secrets.set(`${secret.metadata.name}/${key}`, Buffer.from(value, 'base64').toString('utf8'))
    }
    for (const [key, value] of Object.entries(secret.stringData ?? {})) this.secrets.set(`${secret.metadata.name}/${key}`, value)
  }
}
