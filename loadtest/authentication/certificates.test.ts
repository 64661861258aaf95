import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { ClientCertificates, makeCertificates } from './certificates.ts'

test('clients are made like the template: their own name and serial number, and a server that trusts the root takes them', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'loadtest-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const made = makeCertificates(directory)
  const clients = new ClientCertificates(made.clientChain, made.issuerKey)
  const chains = [clients.chainOf(7), clients.chainOf(7), clients.chainOf(1_234_567)]
  const leaves = chains.map(chain => new X509Certificate(chain))
  expect(leaves.map(({ subject }) => subject)).toEqual([
    'O=bench\nCN=device-0000007',
    'O=bench\nCN=device-0000007',
    'O=bench\nCN=device-1234567',
  ])
  expect(new Set(leaves.map(({ serialNumber }) => serialNumber)).size).toBe(3)

  const server = tls.createServer({ cert: made.serverCert, key: made.serverKey, ca: made.ca, requestCert: true, rejectUnauthorized: true })
  server.on('secureConnection', socket => socket.end('in'))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const { port } = server.address() as { port: number }
  for (const cert of chains) {
    const socket = tls.connect({ port, host: '127.0.0.1', ca: made.ca, cert, key: made.clientKey })
    expect(await socket.toArray()).toEqual([Buffer.from('in')])
  }
})
