/** Directories of resources for the comparisons of authentication and authorization. */
import { argon2Sync, scryptSync } from 'node:crypto'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { BenchCertificates } from './certificates.ts'

const API = 'apiVersion: mqttbroker.iotoperations.azure.com/v1'
/** What all clients have, and by what their rules find them. */
const ATTRIBUTES = 10
/** Rules of a policy that apply to a client; the others miss it by one attribute. */
const APPLYING = 10
const SALT = Buffer.from('bench salt bytes')

/** Password and user name of every client of the comparisons with passwords. */
export const BENCH_USER = 'bench'
export const BENCH_PASSWORD = 'bench'

export interface PortPlan {
  readonly port: number
  readonly authentication?: string
  readonly authorization?: string
  readonly hasTls?: boolean
}

export function listenerText(ports: readonly PortPlan[]): string {
  return document('BrokerListener', 'bench', [
    'ports:',
    ...ports.flatMap(({ port, authentication, authorization, hasTls }) => [
      `  - port: ${port}`,
      '    host: 127.0.0.1',
      ...(authentication === undefined ? [] : [`    authenticationRef: ${authentication}`]),
      ...(authorization === undefined ? [] : [`    authorizationRef: ${authorization}`]),
      ...(hasTls === true ? ['    tls:', '      mode: Manual', '      manual:', '        secretRef: bench-tls'] : []),
    ]),
  ])
}

export function passwordMethod(name: string, secret: string): string {
  return document('BrokerAuthentication', name, [
    'authenticationMethods:',
    '  - method: Password',
    '    passwordSettings:',
    `      secretRef: ${secret}`,
  ])
}

export function certificateMethod(name: string): string {
  return document('BrokerAuthentication', name, [
    'authenticationMethods:',
    '  - method: X509',
    '    x509Settings:',
    '      trustedClientCaCert: bench-ca',
    '      authorizationAttributes:',
    '        fleet:',
    '          subject: O = bench, CN = issuer',
    '          attributes:',
    ...Array.from({ length: ATTRIBUTES }, (_, at) => `            a${at}: v${at}`),
  ])
}

/**
 * A policy of `rules` rules, ten of which apply to the clients of the scenarios `topics` and `connect`, each by all ten attributes. The
 * topics of a client are allowed by the last ones.
 */
export function policyText(name: string, rules: number, set: { readonly cache: 'Enabled' | 'Disabled'; readonly extra?: string }): string {
  const lines = Array.from({ length: rules }, (_, at) => (at < rules - APPLYING ? otherRule(at) : applyingRule(at - (rules - APPLYING))))
  const head = ['authorizationPolicies:', `  cache: ${set.cache}`, '  onUpdate: Reevaluate', '  rules:']
  return document('BrokerAuthorization', name, [...head, ...lines.flat(), ...(set.extra === undefined ? [] : extraRule(set.extra))])
}

/** Lets a Client Identifier in that no other rule does. */
function extraRule(clientId: string): string[] {
  return ['    - principals:', `        clientIds: [${clientId}]`, '      brokerResources:', '        - method: Connect']
}

function applyingRule(at: number): string[] {
  return [
    ...principals(Array.from({ length: ATTRIBUTES }, (_, index) => [index, `v${index}`])),
    '        - method: Connect',
    "          clientIds: ['bench-*']",
    '        - method: Publish',
    `          topics: ['bench/data/{principal.clientId}/t${at}', 'sites/{principal.attributes.a1}/lines/${at}/+/telemetry']`,
    '        - method: Subscribe',
    `          topics: ['bench/data/+/+', 'commands/{principal.attributes.a2}/${at}/#']`,
  ]
}

/** Two of the attributes, one of which the clients do not have. */
function otherRule(at: number): string[] {
  const known = at % ATTRIBUTES
  return [
    ...principals([
      [known, `v${known}`],
      [(known + 1) % ATTRIBUTES, `other-${at}`],
    ]),
    '        - method: Connect',
    '        - method: Publish',
    `          topics: ['sites/${at}/{principal.clientId}/#']`,
  ]
}

function principals(pairs: readonly (readonly [number, string])[]): string[] {
  return [
    '    - principals:',
    '        attributes:',
    ...pairs.map(([name, value], index) => `          ${index === 0 ? '-' : ' '} a${name}: ${value}`),
    '      brokerResources:',
  ]
}

function document(kind: string, name: string, spec: readonly string[]): string {
  return [API, `kind: ${kind}`, 'metadata:', `  name: ${name}`, 'spec:', ...spec.map(line => `  ${line}`), ''].join('\n')
}

/** One user with ten attributes, whose password costs next to nothing to check: who logs in is not what is measured. */
export function cheapUser(): string {
  const hash = scryptSync(BENCH_PASSWORD, SALT, 32, { cost: 2, blockSize: 1, parallelization: 1 })
  const attributes = Array.from({ length: ATTRIBUTES }, (_, at) => `a${at}: v${at}`).join(', ')
  return `${userText(BENCH_USER, `$scrypt$ln=1,r=1,p=1$${unpadded(SALT)}$${unpadded(hash)}`)}  attributes: { ${attributes} }\n`
}

/** `count` users with passwords as `millrace passwd` keeps them. Null: this Node has no argon2. */
export function usualUsers(count: number): string | null {
  if (typeof argon2Sync !== 'function') return null
  const hash = argon2Sync('argon2id', { message: BENCH_PASSWORD, nonce: SALT, parallelism: 1, tagLength: 32, memory: 19_456, passes: 2 })
  const text = `$argon2id$v=19$m=19456,t=2,p=1$${unpadded(SALT)}$${unpadded(hash)}`
  return Array.from({ length: count }, (_, at) => userText(`${BENCH_USER}-${at}`, text)).join('')
}

function userText(name: string, password: string): string {
  return `- name: ${name}\n  password: '${password}'\n`
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}

/** Files by their path in the directory. A file that is there is replaced as a whole. */
export function writeResources(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [file, text] of Object.entries(files)) {
    const target = path.join(directory, file)
    mkdirSync(path.dirname(target), { recursive: true })
    // A name with a dot in front is not looked at.
    const draft = path.join(path.dirname(target), `.${path.basename(target)}`)
    writeFileSync(draft, text)
    renameSync(draft, target)
  }
}

/** What a port with TLS and the method X509 need. */
export function certificateFiles({ ca, serverCert, serverKey }: BenchCertificates): Readonly<Record<string, string>> {
  return { 'secrets/bench-tls/tls.crt': serverCert, 'secrets/bench-tls/tls.key': serverKey, 'configmaps/bench-ca/ca.crt': ca }
}
