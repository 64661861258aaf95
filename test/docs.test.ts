import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadBrokerSettings, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { createPki } from '#shared/config/pki.ts'
import { DirectorySource } from '#shared/resources/directory-source.ts'
import { missingReferences } from '#shared/resources/missing-references.ts'
import { MethodRig, requestOf } from '../authsvc/methods/method-rig.contract.ts'
import { makePassword } from '../authsvc/methods/password.ts'
import { makeScram } from '../authsvc/methods/scram.ts'
import { sameThreadWorkers } from '../authsvc/worker/same-thread-workers.contract.ts'

const PAGE = join(import.meta.dirname, '../docs/listeners.md')
const AUTHENTICATION_PAGE = join(import.meta.dirname, '../docs/authentication.md')
const MAIN = join(import.meta.dirname, '../bin/main.ts')

/** The YAML of the page, as it stands there. */
function yamlBlocks(page: string): readonly string[] {
  return [...readFileSync(page, 'utf8').matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text]) => text!)
}

test('the example of docs/listeners.md is a directory that --config takes', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-test-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const blocks = yamlBlocks(PAGE)
  expect(blocks).toHaveLength(1)
  writeFileSync(join(directory, 'broker.yaml'), blocks[0]!)
  const pki = await createPki(join(directory, 'pki'))
  const secret = join(directory, 'secrets/plant-tls')
  mkdirSync(secret, { recursive: true })
  copyFileSync(pki.serverCert, join(secret, 'tls.crt'))
  copyFileSync(pki.serverKey, join(secret, 'tls.key'))

  const source = new DirectorySource(directory)
  await source.start()
  onTestFinished(() => source.stop())
  const { settings, warnings } = loadBrokerSettings(['--config', directory], systemSurroundings({}, source.current))
  expect([warnings, source.current.warnings]).toEqual([[], []])
  expect(settings.ports.map(({ closed }) => closed)).toEqual([null, null, null, null])
  expect(settings.ports.map(({ port, protocol, tls, proxyProtocol }) => [port, protocol, tls !== null, proxyProtocol !== null])).toEqual([
    [1883, 'Mqtt', false, false],
    [8883, 'Mqtt', true, false],
    [8083, 'WebSockets', false, false],
    [1884, 'Mqtt', false, true],
  ])
  expect(settings.limits).toMatchObject({
    memoryProfile: 'Medium',
    maxSessionExpirySeconds: 604_800,
    maxMessageExpirySeconds: 86_400,
    packetBytesMax: 1_048_576,
    inflightMax: 256,
    serverKeepAliveSeconds: 300,
    queueMessagesMax: 10_000,
    queueStrategy: 'DropOldest',
    connectionsMax: 2_000,
    queueBytesMax: 64 * 1_024 * 1_024,
  })
})

test('the resources of docs/authentication.md are taken, and users of millrace passwd are let in by them', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-test-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'authentication.yaml'), yamlBlocks(AUTHENTICATION_PAGE).join('---\n'))
  mkdirSync(join(directory, 'secrets/people'), { recursive: true })
  const entry = spawnSync(process.execPath, [MAIN, 'passwd', 'operator', '--attributes', 'team=press'], { input: 'open sesame\n' })
  writeFileSync(join(directory, 'secrets/people/users'), entry.stdout)

  const source = new DirectorySource(directory)
  await source.start()
  onTestFinished(() => source.stop())
  const { authentications, warnings } = source.current
  expect(warnings).toEqual([])
  expect([...authentications].map(([name, { spec }]) => [name, spec.authenticationMethods.map(({ method }) => method)])).toEqual([
    ['machines', ['X509']],
    ['pods', ['ServiceAccountToken']],
    ['people', ['Scram', 'Password']],
    ['apps', ['Jwt']],
  ])
  const rig = new MethodRig()
  rig.secrets.set('people', source.current.secret('people')!)
  rig.workers = sameThreadWorkers
  const shown = requestOf({ userName: 'operator', password: Buffer.from('open sesame') })
  const [scram, password] = authentications.get('people')!.spec.authenticationMethods
  expect(await makePassword(password!.passwordSettings!, rig).authenticate(shown, null, null)).toMatchObject({
    is: 'valid',
    attributes: new Map([['team', 'press']]),
  })
  expect(makeScram(scram!.scramSettings!, rig).handles('SCRAM-SHA-256')).toBe(true)
})

test('the resources of docs/passwords.md have no faults, and nothing that is missing but the Secrets that its steps make', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-test-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const blocks = yamlBlocks(join(import.meta.dirname, '../docs/passwords.md'))
  expect(blocks).toHaveLength(1)
  writeFileSync(join(directory, 'broker.yaml'), blocks[0]!)
  const source = new DirectorySource(directory)
  await source.start()
  onTestFinished(() => source.stop())
  expect(source.current.warnings).toEqual([])
  expect([...source.current.listeners.keys(), ...source.current.authentications.keys()]).toEqual(['plant', 'people'])
  const missing = missingReferences(source.current).map(text => /there is no \w+ [\w-]+/.exec(text)?.[0])
  expect(new Set(missing)).toEqual(new Set(['there is no Secret plant-tls', 'there is no Secret users']))
})
