import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadBrokerSettings, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { createPki } from '#shared/config/pki.ts'
import { DirectorySource } from '#shared/resources/directory-source.ts'

const PAGE = join(import.meta.dirname, '../docs/listeners.md')

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
  expect(
    settings.ports.map(({ port, protocol, tls, proxyProtocol }) => [port, protocol, tls !== null, proxyProtocol !== null]),
  ).toEqual([
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
