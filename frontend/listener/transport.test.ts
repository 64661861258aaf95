import { afterAll } from 'vitest'
import { createTestPki } from '#shared/testing/pki.ts'
import { ContractHost } from './contract/host.ts'
import type { Host } from './contract/host.ts'
import { Node20 } from './contract/node20.ts'
import type { ListenerSettings } from './listener.ts'
import { transportContract } from './transport.contract.ts'

const pki = await createTestPki()
const node20 = await Node20.start()
afterAll(() => node20.stop())

const plain: ListenerSettings = {
  name: 'contract',
  host: '127.0.0.1',
  port: 0,
  protocol: 'Mqtt',
  tls: null,
  proxyProtocol: null,
  websocketEngine: 'ws',
  packetBytesMax: 262_144,
}
const tls = { cert: String(pki.serverCert), key: String(pki.serverKey), clientCa: null, clientCertificate: 'none' } as const
const clientTls = { ca: pki.ca }

const here = (): Host => new ContractHost().run

transportContract({ name: 'net', kind: 'tcp', settings: plain, start: here })
transportContract({ name: 'tls', kind: 'tls', settings: { ...plain, tls }, clientTls, start: here })
transportContract({ name: 'ws', kind: 'ws', settings: { ...plain, protocol: 'WebSockets' }, start: here })
transportContract({ name: 'ws', kind: 'wss', settings: { ...plain, protocol: 'WebSockets', tls }, clientTls, start: here })
transportContract({
  name: 'uws',
  kind: 'ws',
  settings: { ...plain, protocol: 'WebSockets', websocketEngine: 'auto' },
  start: () => node20.host(),
})
