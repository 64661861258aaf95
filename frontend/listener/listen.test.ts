import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import { CertificateLab } from '#shared/testing/certificates.ts'
import { createTestPki } from '#shared/testing/pki.ts'
import { connectClient, httpAnswer } from './contract/client.ts'
import { listen } from './listen.ts'
import { ListenError } from './listener.ts'
import type { TlsSettings } from '#shared/config/port-settings.ts'
import type { Listener, ListenerLimits, ListenerSettings, Refusal } from './listener.ts'
import type { Transport } from './transport.ts'
import { FIRST_MESSAGE_BYTES_MAX } from './websocket-rules.ts'

const pki = await createTestPki()
const otherPki = await createTestPki()
const PLAIN: ListenerSettings = {
  name: 'test:0',
  host: '127.0.0.1',
  port: 0,
  protocol: 'Mqtt',
  tls: null,
  proxyProtocol: null,
  websocketEngine: 'ws',
  packetBytesMax: 1_048_576,
}
const TLS: TlsSettings = { cert: String(pki.serverCert), key: String(pki.serverKey), clientCa: null, clientCertificate: 'none' }
const PROXY = { trustedSources: ['127.0.0.0/8'] }

const upgradeRequest = [
  'GET /mqtt HTTP/1.1',
  'Host: localhost',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Protocol: mqtt',
  '',
  '',
].join('\r\n')

/** A queue that can be waited on. */
class Arriving<T> {
  readonly #items: T[] = []
  readonly #waiting: ((item: T) => void)[] = []

  add(item: T): void {
    const taker = this.#waiting.shift()
    if (taker === undefined) this.#items.push(item)
    else taker(item)
  }

  next(): Promise<T> {
    const item = this.#items.shift()
    return item === undefined ? new Promise(resolve => this.#waiting.push(resolve)) : Promise.resolve(item)
  }

  get count(): number {
    return this.#items.length
  }
}

interface Accepted {
  readonly transport: Transport
  readonly bytes: Arriving<string>
  readonly closed: Promise<string | null>
}

interface Opened {
  readonly listener: Listener
  readonly port: number
  readonly timers: ManualTimers
  readonly accepted: Arriving<Accepted>
  readonly refused: Arriving<Refusal>
}

async function open(settings: Partial<ListenerSettings> = {}, limits: Partial<ListenerLimits> = {}): Promise<Opened> {
  const timers = new ManualTimers()
  const accepted = new Arriving<Accepted>()
  const refused = new Arriving<Refusal>()
  const allLimits = { connectionsMax: 10, upgradeDeadlineMs: 10_000, ...limits }
  const onTransport = (transport: Transport) => {
    const bytes = new Arriving<string>()
    const { promise: closed, resolve: onClose } = Promise.withResolvers<string | null>()
    accepted.add({ transport, bytes, closed })
    return { onBytes: (received: Buffer) => bytes.add(String(received)), onDrain: () => {}, onClose }
  }
  const listener = await listen({ ...PLAIN, ...settings }, allLimits, onTransport, refusal => refused.add(refusal), timers)
  onTestFinished(() => listener.close())
  return { listener, port: listener.address.port, timers, accepted, refused }
}

function tcp(port: number): Socket {
  const socket = connectTcp({ port, host: '127.0.0.1' })
  socket.on('error', () => {})
  socket.resume()
  onTestFinished(() => void socket.destroy())
  return socket
}

function tls(port: number, options: ConnectionOptions = {}): TLSSocket {
  const socket = connectTls({ port, host: '127.0.0.1', servername: 'localhost', ca: pki.ca, ...options })
  socket.on('error', () => {})
  socket.resume()
  onTestFinished(() => void socket.destroy())
  return socket
}

function once(socket: Socket, event: string): Promise<void> {
  return new Promise(resolve => socket.once(event, () => resolve()))
}

function der(pem: Buffer): string {
  return new X509Certificate(pem).raw.toString('hex')
}

/** Clients of these tests know their CA, for the server, and so send it behind their own certificate. */
function presented(transport: Transport): readonly string[] | null {
  return transport.peerCertificates?.map(bytes => Buffer.from(bytes).toString('hex')) ?? null
}

describe('an address that cannot be opened', () => {
  test('a port in use is named, with the listener', async () => {
    const { port } = await open()
    const error = await open({ port }).then(
      () => null,
      (refusal: unknown) => refusal,
    )
    expect(error).toBeInstanceOf(ListenError)
    expect(error).toMatchObject({
      listener: 'test:0',
      code: 'EADDRINUSE',
      message: expect.stringContaining(`Listener test:0 on 127.0.0.1:${port}: the port is in use`),
    })
  })

  test('an address of another machine, and a name nobody knows', async () => {
    await expect(open({ host: '192.0.2.1' })).rejects.toMatchObject({ name: 'ListenError', code: 'EADDRNOTAVAIL' })
    await expect(open({ host: 'no-such-host.invalid' })).rejects.toBeInstanceOf(ListenError)
  })

  test('an unusable certificate or CIDR, before the port opens', async () => {
    await expect(open({ tls: { ...TLS, cert: 'no certificate' } })).rejects.toThrow('certificate or key')
    await expect(open({ tls: { ...TLS, key: String(otherPki.serverKey) } })).rejects.toBeInstanceOf(ListenError)
    await expect(open({ proxyProtocol: { trustedSources: ['10.0.0.0/40'] } })).rejects.toThrow("'10.0.0.0/40' is not a CIDR")
  })

  test('the engine uws says why it cannot serve a port', async () => {
    const uws = { protocol: 'WebSockets', websocketEngine: 'uws' } as const
    await expect(open({ ...uws, tls: TLS })).rejects.toThrow('does not serve ports with TLS')
    await expect(open({ ...uws, proxyProtocol: PROXY })).rejects.toThrow('does not serve ports with the PROXY protocol')
    await expect(open(uws)).rejects.toThrow(/the WebSocket engine uws is not available: .* has no binary for Node 24/)
    expect((await open({ ...uws, websocketEngine: 'auto' })).listener.engine).toBe('ws')
  })

  test('a port that stops accepting is free for the next listener', async () => {
    const { listener, port } = await open()
    await listener.stopAccepting()
    expect((await open({ port })).port).toBe(port)
  })
})

/** The kernel's number of the timer that runs for the connection from `port` to `clientPort`; 2 is TCP keep-alive's. */
function kernelTimer(port: number, clientPort: number): string | undefined {
  const inHex = (number: number): string => number.toString(16).toUpperCase().padStart(4, '0')
  const line = new RegExp(`:${inHex(port)} [0-9A-F]+:${inHex(clientPort)} [0-9A-F]+ [0-9A-F:]+ ([0-9A-F]{2}):`)
  return line.exec(readFileSync('/proc/net/tcp', 'latin1'))?.[1]
}

test.runIf(process.platform === 'linux')('a client that is silent is asked by TCP whether it is there', async () => {
  for (const settings of [{}, { tls: TLS }, { protocol: 'WebSockets' }] as const) {
    const { port } = await open(settings)
    const client = tcp(port)
    await once(client, 'ready')
    await expect.poll(() => kernelTimer(port, client.localPort!)).toBe('02')
  }
})

describe('TLS', () => {
  test('plain bytes end their own connection only', async () => {
    const { port, refused, accepted } = await open({ tls: TLS })
    const plain = tcp(port)
    plain.write('\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00')
    await once(plain, 'close')
    expect(await refused.next()).toMatchObject({ reason: 'tlsHandshake', remoteAddress: '127.0.0.1' })
    const client = tls(port)
    client.write('hello')
    expect(await (await accepted.next()).bytes.next()).toBe('hello')
  })

  test('TLS 1.1 is refused, 1.2 and 1.3 are served', async () => {
    const { port, refused, accepted } = await open({ tls: TLS })
    tls(port, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' })
    expect(await refused.next()).toMatchObject({ reason: 'tlsHandshake' })
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      tls(port, { minVersion: version, maxVersion: version })
      await accepted.next()
    }
  })

  test('the name that the client asks for and ALPN mqtt', async () => {
    const { port, accepted, refused } = await open({ tls: TLS })
    const client = tls(port, { ALPNProtocols: ['x', 'mqtt'] })
    await once(client, 'secureConnect')
    expect(client.alpnProtocol).toBe('mqtt')
    const { transport } = await accepted.next()
    expect(transport).toMatchObject({ kind: 'tls', serverName: 'localhost', peerCertificates: null })
    tls(port, { ALPNProtocols: ['h2'] })
    expect(await refused.next()).toMatchObject({ reason: 'tlsHandshake' })
  })

  test('require: only a client with a certificate of the CA', async () => {
    const { port, accepted, refused } = await open({ tls: { ...TLS, clientCa: String(pki.ca), clientCertificate: 'require' } })
    await once(tls(port), 'close')
    expect(await refused.next()).toMatchObject({ reason: 'clientCertificate', detail: 'none was sent' })
    await once(tls(port, { cert: otherPki.clientCert, key: otherPki.clientKey }), 'close')
    expect(await refused.next()).toMatchObject({ reason: 'clientCertificate', detail: expect.stringMatching(/UNABLE_TO/) })
    tls(port, { cert: pki.clientCert, key: pki.clientKey })
    expect(presented((await accepted.next()).transport)).toEqual([der(pki.clientCert), der(pki.ca)])
    expect(accepted.count).toBe(0)
  })

  test('request with a CA: none is well, a foreign one is not', async () => {
    const { port, accepted, refused } = await open({ tls: { ...TLS, clientCa: String(pki.ca), clientCertificate: 'request' } })
    tls(port)
    expect((await accepted.next()).transport.peerCertificates).toBeNull()
    tls(port, { cert: pki.clientCert, key: pki.clientKey })
    expect(presented((await accepted.next()).transport)).toEqual([der(pki.clientCert), der(pki.ca)])
    await once(tls(port, { cert: otherPki.clientCert, key: otherPki.clientKey }), 'close')
    expect(await refused.next()).toMatchObject({ reason: 'clientCertificate', detail: expect.stringMatching(/UNABLE_TO/) })
    // A server certificate of the right CA is not a client's.
    await once(tls(port, { cert: pki.serverCert, key: pki.serverKey }), 'close')
    expect(await refused.next()).toMatchObject({ reason: 'clientCertificate' })
    expect(accepted.count).toBe(0)
  })

  test('an intermediate is trusted by itself, and a text without a certificate opens no port', async () => {
    const lab = new CertificateLab()
    onTestFinished(() => lab.close())
    const middle = lab.authority('/CN=middle', { issuer: lab.authority('/CN=root') })
    const { certificate: cert, key } = lab.issue({ subject: '/CN=leaf', issuer: middle })
    const { port, accepted } = await open({ tls: { ...TLS, clientCa: middle.certificate, clientCertificate: 'require' } })
    tls(port, { cert, key })
    expect(presented((await accepted.next()).transport)).toEqual([der(Buffer.from(cert))])
    await expect(open({ tls: { ...TLS, clientCa: 'words', clientCertificate: 'require' } })).rejects.toThrow(ListenError)
  })

  test('a chain that is trusted is handed on whole: its authorities may have what the leaf has not', async () => {
    const lab = new CertificateLab()
    onTestFinished(() => lab.close())
    const root = lab.authority('/CN=root')
    const middle = lab.authority('/CN=middle', { issuer: root })
    const low = lab.authority('/CN=low', { issuer: middle })
    const leaf = lab.issue({ subject: '/CN=leaf', issuer: low })
    const chain = [leaf, low, middle]
    for (const clientCertificate of ['require', 'request'] as const) {
      const { port, accepted } = await open({ tls: { ...TLS, clientCa: root.certificate, clientCertificate } })
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        tls(port, { cert: chain.map(({ certificate }) => certificate).join(''), key: leaf.key, maxVersion })
        expect(presented((await accepted.next()).transport)).toEqual(chain.map(each => each.der.toString('hex')))
      }
    }
  })

  test('request without a CA: whatever chain comes is handed on as it is', async () => {
    const { port, accepted } = await open({ tls: { ...TLS, clientCertificate: 'request' } })
    tls(port, { cert: Buffer.concat([otherPki.clientCert, otherPki.ca]), key: otherPki.clientKey })
    expect(presented((await accepted.next()).transport)).toEqual([der(otherPki.clientCert), der(otherPki.ca)])
  })

  test('a resumed session would not bring its chain, so there is none on a port that asks for certificates', async () => {
    const { port, accepted } = await open({ tls: { ...TLS, clientCa: String(pki.ca), clientCertificate: 'require' } })
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const options = { cert: pki.clientCert, key: pki.clientKey, maxVersion }
      const first = tls(port, options)
      let session: Buffer | undefined
      first.on('session', ticket => (session = ticket))
      await accepted.next().then(({ transport }) => transport.write(Buffer.from('x')))
      await once(first, 'data')
      const second = tls(port, { ...options, ...(session && { session }) })
      await once(second, 'secureConnect')
      expect(second.isSessionReused()).toBe(false)
      expect(presented((await accepted.next()).transport)).toEqual([der(pki.clientCert), der(pki.ca)])
    }
  })

  test('a new certificate serves new handshakes, an unusable one changes nothing', async () => {
    const { port, listener, accepted } = await open({ tls: TLS })
    const before = tls(port)
    const { bytes } = await accepted.next()
    listener.setSecureContext!({ ...TLS, cert: String(otherPki.serverCert), key: String(otherPki.serverKey) })
    const after = tls(port, { ca: otherPki.ca })
    await once(after, 'secureConnect')
    expect(after.getPeerX509Certificate()!.raw.toString('hex')).toBe(der(otherPki.serverCert))
    expect(() => listener.setSecureContext!({ ...TLS, cert: 'no certificate' })).toThrow(ListenError)
    await once(tls(port, { ca: otherPki.ca }), 'secureConnect')
    before.write('still here')
    expect(await bytes.next()).toBe('still here')
  })
})

describe('PROXY protocol', () => {
  const header = 'PROXY TCP4 203.0.113.9 127.0.0.1 40000 1883\r\n'

  test('names the client, byte by byte or at once with what follows', async () => {
    const { port, accepted } = await open({ proxyProtocol: PROXY })
    const atOnce = tcp(port)
    atOnce.write(`${header}hello`)
    const first = await accepted.next()
    expect(first.transport).toMatchObject({ remoteAddress: '203.0.113.9', remotePort: 40_000, serverName: null })
    expect(await first.bytes.next()).toBe('hello')
    const slow = tcp(port)
    for (const character of header) {
      slow.write(character)
      await new Promise<void>(resolve => setImmediate(resolve))
    }
    expect((await accepted.next()).transport.remoteAddress).toBe('203.0.113.9')
  })

  test('a handler that pauses at once is not given the bytes behind the header', async () => {
    let received = 0
    let paused: Transport | null = null
    const limits = { connectionsMax: 10, upgradeDeadlineMs: 10_000 }
    const arrived = Promise.withResolvers<void>()
    const onTransport = (transport: Transport) => {
      transport.pause()
      paused = transport
      arrived.resolve()
      return { onBytes: (bytes: Buffer) => void (received += bytes.length), onDrain: () => {}, onClose: () => {} }
    }
    const listener = await listen({ ...PLAIN, proxyProtocol: PROXY }, limits, onTransport, () => {}, new ManualTimers())
    onTestFinished(() => listener.close())
    tcp(listener.address.port).write(`${header}hello`)
    await arrived.promise
    for (let turn = 0; turn < 5; turn++) await new Promise<void>(resolve => setImmediate(resolve))
    expect(received).toBe(0)
    paused!.resume()
    while (received < 5) await new Promise<void>(resolve => setImmediate(resolve))
    expect(received).toBe(5)
  })

  test('LOCAL keeps the address of the balancer itself', async () => {
    const { port, accepted } = await open({ proxyProtocol: PROXY })
    const check = tcp(port)
    check.write(Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex'))
    expect((await accepted.next()).transport).toMatchObject({ remoteAddress: '127.0.0.1', remotePort: check.localPort })
  })

  test('goes before TLS, and before WebSocket with and without TLS', async () => {
    for (const settings of [{ tls: TLS }, { protocol: 'WebSockets' }, { protocol: 'WebSockets', tls: TLS }] as const) {
      const { port, accepted } = await open({ ...settings, proxyProtocol: PROXY })
      const balancer = tcp(port)
      balancer.write(header)
      const isTls = 'tls' in settings
      const stream = isTls ? connectTls({ socket: balancer, servername: 'localhost', ca: pki.ca }) : balancer
      if (isTls) await once(stream, 'secureConnect')
      if ('protocol' in settings) stream.write(upgradeRequest)
      const { transport } = await accepted.next()
      expect(transport).toMatchObject({ remoteAddress: '203.0.113.9', remotePort: 40_000, serverName: isTls ? 'localhost' : null })
    }
  })

  test('header, HTTP upgrade and first frame in one segment', async () => {
    const { port, accepted } = await open({ protocol: 'WebSockets', proxyProtocol: PROXY })
    const frame = Buffer.from([0x82, 0x82, 0, 0, 0, 0, 0x68, 0x69])
    tcp(port).write(Buffer.concat([Buffer.from(header + upgradeRequest), frame]))
    const { transport, bytes } = await accepted.next()
    expect(transport.remoteAddress).toBe('203.0.113.9')
    expect(await bytes.next()).toBe('hi')
  })

  test('no header, a broken one, or none in time: the connection ends', async () => {
    const { port, refused, accepted, timers } = await open({ proxyProtocol: PROXY })
    const silent = tcp(port)
    while (timers.pendingCount === 0) await new Promise<void>(resolve => setImmediate(resolve))
    tcp(port).write('\x10\x0c\x00\x04MQTT')
    expect(await refused.next()).toMatchObject({ reason: 'proxyHeader', remoteAddress: '127.0.0.1', detail: 'no PROXY protocol header' })
    tcp(port).write('PROXY TCP4 a b c d\r\n')
    expect(await refused.next()).toMatchObject({ reason: 'proxyHeader' })
    expect(silent.destroyed).toBe(false)
    timers.advance(10_000)
    await once(silent, 'close')
    expect(await refused.next()).toMatchObject({ reason: 'upgradeDeadline' })
    expect(accepted.count).toBe(0)
  })

  test('a header from anybody else is not believed', async () => {
    const { port, refused, accepted } = await open({ proxyProtocol: { trustedSources: ['10.0.0.0/8'] } })
    tcp(port).write(`${header}hello`)
    expect(await refused.next()).toMatchObject({ reason: 'proxySource', remoteAddress: '127.0.0.1' })
    expect(accepted.count).toBe(0)
  })

  test('on a port that does not ask for it, a header is just bytes', async () => {
    const { port, accepted } = await open()
    tcp(port).write(header)
    const { transport, bytes } = await accepted.next()
    expect(transport.remoteAddress).toBe('127.0.0.1')
    expect(await bytes.next()).toBe(header)
  })
})

describe('limits before the byte stream', () => {
  test('one address has its share of handshakes; the next has its own', async () => {
    const { port, refused, accepted } = await open({ protocol: 'WebSockets', proxyProtocol: PROXY }, { unauthenticatedPerAddressMax: 1 })
    const first = tcp(port)
    first.write('PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\nGET')
    const other = tcp(port)
    other.write('PROXY TCP4 203.0.113.2 127.0.0.1 1 2\r\nGET')
    // Both are read before the third: connections are served in the order in which their bytes came.
    await Promise.all([once(first, 'ready'), once(other, 'ready')])
    const third = tcp(port)
    third.write('PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\nGET')
    expect(await refused.next()).toMatchObject({ reason: 'unauthenticatedPerAddressMax', remoteAddress: '203.0.113.1' })
    first.write(upgradeRequest.slice(3))
    expect((await accepted.next()).transport.remoteAddress).toBe('203.0.113.1')
    tcp(port).write(`PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\n${upgradeRequest}`)
    expect((await accepted.next()).transport.remoteAddress).toBe('203.0.113.1')
  })

  test('a client that leaves during the handshake is reported and gives its place back', async () => {
    const { port, refused, accepted, timers } = await open({ tls: TLS }, { connectionsMax: 1, unauthenticatedPerAddressMax: 1 })
    for (let round = 0; round < 3; round++) {
      const client = tcp(port)
      client.end()
      expect((await refused.next()).reason).toMatch(/closedEarly|tlsHandshake/)
      await once(client, 'close')
      while (timers.pendingCount > 0) await new Promise<void>(resolve => setImmediate(resolve))
    }
    tls(port)
    await accepted.next()
  })

  test('TLS without an upgrade behind it ends at the deadline of the whole', async () => {
    const { port, refused, timers } = await open({ protocol: 'WebSockets', tls: TLS })
    const client = tls(port)
    await once(client, 'secureConnect')
    timers.advance(10_000)
    await once(client, 'close')
    expect(await refused.next()).toMatchObject({ reason: 'upgradeDeadline' })
  })

  test('what is not HTTP, has too long a header or a bad upgrade is answered and refused', async () => {
    const { port, refused } = await open({ protocol: 'WebSockets' })
    expect(await httpAnswer('ws', { port }, '\x10\x0c\x00\x04MQTT')).toMatch(/^HTTP\/1\.1 400 /)
    expect(await refused.next()).toMatchObject({ reason: 'httpRequest' })
    expect(await httpAnswer('ws', { port }, `GET / HTTP/1.1\r\nHost: x\r\nCookie: ${'x'.repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    )
    expect(await refused.next()).toMatchObject({ reason: 'httpRequest' })
    const oldVersion = upgradeRequest.replace('Version: 13', 'Version: 5')
    expect(await httpAnswer('ws', { port }, oldVersion)).toMatch(/^HTTP\/1\.1 400 [^]*Sec-WebSocket-Version: 13/)
    expect(await refused.next()).toMatchObject({ reason: 'httpRequest' })
  })

  test('a first message that does not end is not collected without limit', async () => {
    const { port, accepted } = await open({ protocol: 'WebSockets', packetBytesMax: 268_435_456 })
    const client = await connectClient('ws', { port })
    onTestFinished(() => void client.raw.destroy())
    client.websocket.send(Buffer.alloc(FIRST_MESSAGE_BYTES_MAX), { fin: false })
    expect(await (await accepted.next()).closed).toBe(`no complete message in ${FIRST_MESSAGE_BYTES_MAX} bytes`)
  })
})

describe('any bytes', () => {
  test.each([
    ['behind an upgrade', { protocol: 'WebSockets' }, upgradeRequest],
    ['instead of HTTP', { protocol: 'WebSockets' }, ''],
    ['instead of TLS', { tls: TLS }, ''],
    ['as a PROXY header', { proxyProtocol: PROXY }, 'PROXY '],
  ] as const)('%s end at most their own connection', async (_, settings, beginning) => {
    const { port, accepted, refused, listener } = await open(settings, { connectionsMax: 1_000 })
    const binary = fc.uint8Array({ maxLength: 200 })
    const frame = fc
      .tuple(fc.constantFrom(0x80, 0x81, 0x82, 0x02, 0x00, 0x88, 0x89, 0xc2), binary)
      .map(([first, rest]) => Uint8Array.of(first, ...rest))
    const send = async (bytes: Uint8Array): Promise<void> => {
      const client = tcp(port)
      client.write(beginning)
      client.end(bytes)
      await once(client, 'close')
    }
    await fc.assert(fc.asyncProperty(fc.oneof(binary, frame), send), { numRuns: 150 })
    await listener.close()
    const faults: Refusal[] = []
    while (refused.count > 0) faults.push(await refused.next())
    expect(faults.filter(refusal => refusal.reason === 'fault')).toEqual([])
    while (accepted.count > 0) await (await accepted.next()).closed
  })
})
