import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { freePorts } from '#shared/testing/free-ports.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { CLUSTER_TEST_MS, startCluster } from './start-cluster.ts'

const API = 'apiVersion: mqttbroker.iotoperations.azure.com/v1'
const soon = { timeout: 15_000 }

test('a port whose users are not there stays closed in a cluster too, /readyz says why, and it opens when they are', {
  timeout: CLUSTER_TEST_MS,
}, async () => {
  const config = await mkdtemp(join(tmpdir(), 'millrace-test-'))
  const [port] = (await freePorts(1)) as [number]
  await writeFile(
    join(config, 'plant.yaml'),
    `${API}
kind: BrokerListener
metadata: {name: plant}
spec: {ports: [{port: ${port}, host: 127.0.0.1, authenticationRef: people}]}
---
${API}
kind: BrokerAuthentication
metadata: {name: people}
spec: {authenticationMethods: [{method: Password, passwordSettings: {secretRef: users}}]}
`,
  )
  const cluster = await startCluster('--frontends', '1', '--backends', '1', '--config', config)
  const { host, port: metrics } = cluster.frontends[0]!.metrics
  const ready = async (): Promise<string> => (await fetch(`http://${host}:${metrics}/readyz`)).text()
  expect(await ready()).toContain('BrokerAuthentication people: there is no Secret users')
  await expect(RawClient.open('127.0.0.1', port)).rejects.toThrow()
  await mkdir(join(config, 'secrets/users'), { recursive: true })
  await writeFile(join(config, 'secrets/users/users.yaml'), '[]\n')
  await expect.poll(ready, soon).not.toContain('people')
  const client = await RawClient.open('127.0.0.1', port)
  client.sendConnect({ clientId: 'nobody' })
  expect((await client.expect('connack')).reason).toBeGreaterThan(0)
})
