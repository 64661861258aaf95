import { expect, test } from 'vitest'
import { startStandalone } from '../../bin/roles/standalone.ts'
import { LiveSettings } from '#shared/config/live-settings.ts'
import { loadBrokerSettings, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { Kubernetes } from '#shared/kubernetes/kubernetes.ts'
import type { ResourceListener, ResourceSnapshot, ResourceSource } from '#shared/resources/resource-snapshot.ts'
import { snapshotOf } from '#shared/resources/snapshot-of.contract.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { resource } from './policed-broker.ts'

/** Resources that change when the test says so. */
class HandSource implements ResourceSource {
  current: ResourceSnapshot
  readonly #listeners = new Set<ResourceListener>()

  constructor(current: ResourceSnapshot) {
    this.current = current
  }

  change(snapshot: ResourceSnapshot): void {
    this.current = snapshot
    for (const listener of this.#listeners) listener.onSnapshot(snapshot)
  }

  listen(listener: ResourceListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  report(): void {}

  impaired(): readonly string[] {
    return []
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }
}

test('resources that change while the ports are being opened: a port that is to be guarded does not stay open to all', async () => {
  const [first, second] = (await freePorts(2)) as [number, number]
  const snapshot = (authenticationRef?: string): ResourceSnapshot => {
    const ports = [first, second].map(port => ({ port, host: '127.0.0.1', ...(authenticationRef !== undefined && { authenticationRef }) }))
    const methods = [{ method: 'Jwt', jwtSettings: { jwksConfigMap: 'keys', issuer: 'i', audiences: ['a'] } }]
    const documents = [
      resource('BrokerListener', 'plant', { ports }),
      resource('BrokerAuthentication', 'who', { authenticationMethods: methods }),
    ]
    return snapshotOf({ yaml: { 'a.yaml': documents.join('\n---\n') }, configMaps: { 'keys/jwks.json': '{"keys":[]}' } })
  }
  const source = new HandSource(snapshot())
  // Between the first port and the second.
  const log = new RecordingLog()
  const info = log.info.bind(log)
  log.info = (event, fields) => {
    info(event, fields)
    if (event === 'listening' && source.current.listeners.get('plant')!.spec.ports[0]!.authenticationRef === undefined)
      source.change(snapshot('who'))
  }
  const load = (current: ResourceSnapshot | null) => loadBrokerSettings(['--store', 'memory'], systemSurroundings({}, current))
  const role = await startStandalone(new LiveSettings(new Kubernetes({}), source, load, log), log, new MetricsRegistry())
  try {
    for (const port of [first, second]) {
      await expect
        .poll(async () => {
          const client = await RawClient.open('127.0.0.1', port)
          client.sendConnect({ clientId: 'anybody' })
          const { reason } = await client.expect('connack')
          client.drop()
          return reason
        })
        .toBe(0x87)
    }
  } finally {
    await role.drain()
  }
})
