import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CertificateLab, CLIENT_EXTENSIONS, type IssuedCertificate } from '#shared/testing/certificates.ts'
import { CustomServer } from '#shared/testing/custom-server.ts'
import * as packets from '../conformance/packets.ts'
import { configMap, HOST, openTls, resource, serverCertificate, tlsSecret } from '../specification/configured-broker.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { HostileStage, keepSecret, NOT_AUTHORIZED } from './hostile-stage.ts'

const lab = new CertificateLab()
const authority = lab.authority('/CN=site CA')
const server = serverCertificate(lab, authority)
const OLD = { from: '20200101000000Z', to: '20210101000000Z' }
let custom: CustomServer
let stage: HostileStage<'only' | 'optional' | 'forwarded'>

beforeAll(async () => {
  for (const line of server.key.split('\n').slice(1, -2)) keepSecret(line)
  custom = await CustomServer.start({ tls: { serverCert: Buffer.from(server.certificate), serverKey: Buffer.from(server.key) } })
  custom.behave = () => ({ is: 'answer', status: 403, body: { reason: NOT_AUTHORIZED } })
  const x509 = { method: 'X509', x509Settings: {} }
  const asked = { method: 'Custom', customSettings: { endpoint: custom.url, caCertConfigMap: 'client-ca' } }
  const tls = { mode: 'Manual', manual: { secretRef: 'server' } }
  const of = (name: string, ...authenticationMethods: readonly object[]): object =>
    resource('BrokerAuthentication', name, { authenticationMethods })
  stage = await HostileStage.start(
    {
      only: { authenticationRef: 'only', tls },
      optional: { authenticationRef: 'optional', tls },
      forwarded: { authenticationRef: 'forwarded', tls },
    },
    {
      who: [
        tlsSecret('server', server),
        configMap('client-ca', { any: authority.certificate }),
        of('only', x509),
        of('optional', x509, asked),
        of('forwarded', asked),
      ],
    },
  )
})

afterAll(async () => {
  await stage.expectUnharmed()
  await custom.close()
  lab.close()
})

/** How a CONNECT ends behind this chain; `closed`: TLS let it not come to one. */
async function ending(port: 'only' | 'optional' | 'forwarded', chain: readonly IssuedCertificate[]): Promise<number | 'closed'> {
  try {
    const client = new RawClient(await openTls(stage.portOf(port), { ca: authority, chain }))
    client.sendConnect({ clientId: 'c' })
    const packet = await client.next()
    client.drop()
    if (packet === 'closed') return packet
    expect(packet.type).toBe('connack')
    return (packet as { reason: number }).reason
  } catch (error) {
    // A refusal may come before the client has seen the end of its own handshake.
    expect((error as NodeJS.ErrnoException).code ?? (error as Error).message).toMatch(/ECONNRESET|EPIPE|SSL|disconnected/)
    return 'closed'
  }
}

const leaf = (subject: string, more: readonly string[] = [], wish: object = {}): IssuedCertificate =>
  lab.issue({ subject, issuer: authority, extensions: [...CLIENT_EXTENSIONS, ...more], ...wish })

describe('certificates made to cost much', () => {
  test('a right one comes in', async () => {
    expect(await ending('only', [leaf('/CN=pump')])).toBe(0)
  })

  test('a thousand names, 16 KiB and more: an end, and nobody else is held up', async () => {
    const names = Array.from({ length: 1_000 }, (_, at) => `DNS:device-number-${at}.plant.example`).join(',')
    const bomb = leaf('/CN=bomb', [`subjectAltName=${names}`])
    expect(bomb.der.length).toBeGreaterThan(16 * 1024)
    const witness = new RawClient(await openTls(stage.portOf('only'), { ca: authority, chain: [leaf('/CN=witness')] }))
    await witness.connect({ clientId: 'witness' })
    const endings = Promise.all(Array.from({ length: 16 }, () => ending('only', [bomb])))
    for (let i = 0; i < 10; i++) await witness.ping()
    expect(new Set(await endings).size).toBe(1)
    witness.drop()
  })

  test('twenty authorities, each above the other: not let in', async () => {
    const chain: IssuedCertificate[] = []
    let issuer = authority
    for (let depth = 0; depth < 20; depth++) chain.unshift((issuer = lab.authority(`/CN=level ${depth}`, { issuer })))
    const deep = lab.issue({ subject: '/CN=deep', issuer })
    expect(await ending('only', [deep, ...chain])).not.toBe(0)
    expect(await ending('optional', [deep, ...chain])).not.toBe(0)
    expect(await ending('forwarded', [deep, ...chain])).not.toBe(0)
  })

  test('twenty that have signed each other under one name: not let in', async () => {
    const names = ['/CN=maze a', '/CN=maze b']
    const maze = Array.from({ length: 20 }, (_, at) => lab.authority(names[at % 2]!))
    const crossed = maze.slice(0, 10).map((each, at) => lab.authority(names[(at + 1) % 2]!, { issuer: each, keyOf: maze[19 - at]! }))
    const lost = lab.issue({ subject: '/CN=lost', issuer: crossed[0]! })
    for (const port of ['only', 'optional'] as const) expect(await ending(port, [lost, ...crossed, ...maze])).not.toBe(0)
  })

  test('a hundred KiB of certificates, from many at once: an end for each, memory holds', async () => {
    const names = Array.from({ length: 1_000 }, (_, at) => `DNS:device-number-${at}.plant.example`).join(',')
    const self = lab.issue({ subject: '/CN=anybody', extensions: [...CLIENT_EXTENSIONS, `subjectAltName=${names}`] })
    const before = await stage.configured.broker.residentBytes()
    const endings = await Promise.all(Array.from({ length: 40 }, () => ending('forwarded', [self, self, self, self])))
    expect(endings.every(each => each !== 0)).toBe(true)
    expect((await stage.configured.broker.residentBytes()) - before).toBeLessThan(150 * 1024 * 1024)
  })
})

describe('certificates that are not what they seem', () => {
  test.each<[string, () => readonly IssuedCertificate[]]>([
    ['expired', () => [leaf('/CN=old', [], OLD)]],
    ['not valid yet', () => [leaf('/CN=early', [], { from: '20600101000000Z' })]],
    ['of an authority of the same name', () => [lab.issue({ subject: '/CN=forged', issuer: lab.authority('/CN=site CA') })]],
    ['with the name of the authority', () => [lab.issue({ subject: '/CN=site CA' })]],
    ['signed by a client', () => [lab.issue({ subject: '/CN=child', issuer: leaf('/CN=parent') })]],
    ['of a server', () => [server]],
    ['signed with SHA-1', () => [leaf('/CN=weak', [], { digest: 'sha1' })]],
    ['with a key that anybody can break', () => [leaf('/CN=short', [], { key: 'RSA1024' })]],
  ])('%s: not let in, not even where a certificate is no must', async (_, chain) => {
    const shown = chain()
    expect(await ending('only', shown)).not.toBe(0)
    expect(await ending('optional', shown)).not.toBe(0)
  })

  test('none at all where it is a must, and plain bytes where TLS is', async () => {
    expect(await ending('only', [])).toBe('closed')
    const plain = await stage.open('only')
    plain.send(packets.connect({ clientId: 'plain' }))
    await plain.endedWith()
  })

  test('names with the signs of names, of lines and of terminals are one name', async () => {
    for (const subject of ['/CN=pump,CN=admin', '/CN=pump\\/CN=admin', '/CN=\u202eadmin', `/CN=${'x'.repeat(60)}`]) {
      expect(await ending('only', [leaf(subject)])).toBe(0)
    }
    expect(stage.configured.broker.err.includes('\u202e')).toBe(false)
  })

  test('TLS before 1.2, and a second handshake in a connection: refused', async () => {
    const outcome = await new Promise<string>(resolve => {
      const socket = connectTls({
        host: HOST,
        port: stage.portOf('optional'),
        ca: authority.certificate,
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT@SECLEVEL=0',
      })
      socket.once('secureConnect', () => resolve('connected'))
      socket.once('error', () => resolve('refused'))
    })
    expect(outcome).toBe('refused')
    const renegotiated = await new Promise<string>(resolve => {
      const options = { host: HOST, port: stage.portOf('optional'), ca: authority.certificate, maxVersion: 'TLSv1.2' as const }
      const socket = connectTls(options, () => socket.renegotiate({}, error => resolve(error === null ? 'renegotiated' : 'refused')))
      for (const event of ['error', 'close'] as const) socket.once(event, () => resolve('refused'))
    })
    expect(renegotiated).toBe('refused')
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('a record that was changed on its way, %s: the connection ends', async maxVersion => {
    const raw = connectTcp({ host: HOST, port: stage.portOf('optional') })
    const tls = connectTls({ socket: raw, host: HOST, ca: authority.certificate, maxVersion })
    tls.on('error', () => undefined)
    await once(tls, 'secureConnect')
    const closed = once(raw, 'close')
    raw.write(Buffer.from(`1703030020${'ab'.repeat(32)}`, 'hex'))
    await closed
  })
})
