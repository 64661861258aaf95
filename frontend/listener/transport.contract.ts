import { connect } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectClient, httpAnswer } from './contract/client.ts'
import type { ConnectOptions, ContractClient } from './contract/client.ts'
import type { AcceptedTransport, Host, ListenReply, TransportState } from './contract/host.ts'
import { pattern } from './contract/pattern.ts'
import type { ListenerLimits, ListenerSettings, Refusal } from './listener.ts'
import { LINGER_MS } from './transport.ts'
import { PAUSED_BYTES_MAX } from './uws-transport.ts'
import { FIRST_MESSAGE_BYTES_MAX } from './websocket-rules.ts'
import type { TransportKind } from './transport.ts'

/** An engine as the contract sees it. */
export interface ContractEngine {
  readonly name: 'net' | 'tls' | 'ws' | 'uws'
  readonly kind: TransportKind
  readonly settings: ListenerSettings
  readonly clientTls?: ConnectionOptions
  /** A server side in which nothing has happened yet. */
  start(): Host
}

const LIMITS: ListenerLimits = { connectionsMax: 100, upgradeDeadlineMs: 10_000 }
const MIB = 1_048_576
/** uWebSockets.js has a deadline of its own before the upgrade. */
const NATIVE_DEADLINE_MS = 20_000

/** One server of the engine under test, and the clients that go with it. */
export class Bench {
  readonly #engine: ContractEngine
  readonly #run: Host
  readonly #clients: ContractClient[] = []
  port = 0
  engineName = ''

  constructor(engine: ContractEngine) {
    this.#engine = engine
    this.#run = engine.start()
  }

  async listen(limits: Partial<ListenerLimits> = {}, takes: 'takes' | 'refuses' = 'takes'): Promise<void> {
    const command = { op: 'listen', settings: this.#engine.settings, limits: { ...LIMITS, ...limits }, takes: takes === 'takes' } as const
    const reply = (await this.#run(command)) as ListenReply
    this.port = reply.port
    this.engineName = reply.engine
  }

  async client(options: Partial<ConnectOptions> = {}): Promise<ContractClient> {
    const tls = this.#engine.clientTls
    const client = await connectClient(this.#engine.kind, { port: this.port, ...(tls && { tls }), ...options })
    this.#clients.push(client)
    return client
  }

  httpAnswer(request: string): Promise<string> {
    const tls = this.#engine.clientTls
    return httpAnswer(this.#engine.kind, { port: this.port, ...(tls && { tls }) }, request)
  }

  async pair(): Promise<{ readonly client: ContractClient; readonly server: RemoteTransport }> {
    const client = await this.client()
    return { client, server: await this.accept() }
  }

  async accept(): Promise<RemoteTransport> {
    return new RemoteTransport((await this.#run({ op: 'accept' })) as AcceptedTransport, this.#run)
  }

  async refusal(): Promise<Refusal> {
    return (await this.#run({ op: 'refusal' })) as Refusal
  }

  async advance(ms: number): Promise<void> {
    await this.#run({ op: 'advance', ms })
  }

  async stopAccepting(): Promise<void> {
    await this.#run({ op: 'stopAccepting' })
  }

  async closeListener(): Promise<void> {
    await this.#run({ op: 'close' })
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.raw.destroy()
    await this.closeListener()
  }
}

export class RemoteTransport {
  readonly facts: AcceptedTransport
  readonly #run: Host

  constructor(facts: AcceptedTransport, run: Host) {
    this.facts = facts
    this.#run = run
  }

  async call(op: 'pause' | 'resume' | 'end' | 'destroy' | 'state' | 'throwNext'): Promise<TransportState> {
    return (await this.#run({ op, id: this.facts.id })) as TransportState
  }

  async write(chunks: readonly number[]): Promise<TransportState> {
    return (await this.#run({ op: 'write', id: this.facts.id, chunks })) as TransportState
  }

  async writeUntilBuffered(bufferedBytes: number): Promise<TransportState> {
    return (await this.#run({ op: 'writeUntilBuffered', id: this.facts.id, bufferedBytes })) as TransportState
  }

  async writeReusing(chunkBytes: number, count: number): Promise<TransportState> {
    return (await this.#run({ op: 'writeReusing', id: this.facts.id, chunkBytes, count })) as TransportState
  }

  async until(wanted: { readonly receivedBytes?: number; readonly drains?: number; readonly closes?: number }): Promise<TransportState> {
    return (await this.#run({ op: 'until', id: this.facts.id, ...wanted })) as TransportState
  }
}

/** Sizes that no buffer likes, `total` bytes together. */
function oddChunks(total: number): number[] {
  const chunks: number[] = []
  for (let left = total, index = 0; left > 0; index++) {
    const length = Math.min(left, [1, 2, 125, 126, 127, 1_447, 4_096, 65_535, 65_536, 70_001][index % 10]!)
    chunks.push(length)
    left -= length
  }
  return chunks
}

function sendAll(client: ContractClient, chunks: readonly number[]): void {
  let offset = 0
  for (const length of chunks) {
    client.send(pattern(offset, length))
    offset += length
  }
}

/** What every engine must do; registers its tests. */
export function transportContract(engine: ContractEngine): void {
  describe(`${engine.kind} on ${engine.name}`, () => {
    let bench: Bench
    beforeEach(() => {
      bench = new Bench(engine)
    })
    afterEach(() => bench.close())

    streamContract(() => bench)
    flowContract(() => bench)
    closeContract(() => bench)
    limitContract(() => bench)
    if (engine.settings.protocol === 'WebSockets') upgradeContract(engine, () => bench)
    if (engine.name === 'uws') uwsContract(engine, () => bench)
    else deadlineContract(engine, () => bench)
  })

  function streamContract(bench: () => Bench): void {
    test("is served by the engine under test, and tells the client's address", async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      expect(bench().engineName).toBe(engine.settings.protocol === 'Mqtt' ? engine.name : engine.name === 'uws' ? 'uws' : 'ws')
      const { kind, remoteAddress, remotePort } = server.facts
      expect({ kind, remoteAddress }).toEqual({ kind: engine.kind, remoteAddress: '127.0.0.1' })
      expect(remotePort).toBe(engine.name === 'uws' ? 0 : client.raw.localPort)
    })

    test('2 MiB in odd chunks arrive in order, both ways at once', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      const chunks = oddChunks(2 * MIB)
      sendAll(client, chunks)
      await server.write(chunks)
      await client.untilReceived(2 * MIB)
      expect(client.mismatchAt).toBe(-1)
      expect(await server.until({ receivedBytes: 2 * MIB })).toMatchObject({ receivedBytes: 2 * MIB, mismatchAt: -1, closes: [] })
    })

    test('many small writes arrive in order, both ways', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      const chunks = Array.from({ length: 2_000 }, (_, index) => 1 + (index % 50))
      const total = chunks.reduce((sum, length) => sum + length, 0)
      sendAll(client, chunks)
      await server.write(chunks)
      await client.untilReceived(total)
      expect(client.mismatchAt).toBe(-1)
      expect(await server.until({ receivedBytes: total })).toMatchObject({ receivedBytes: total, mismatchAt: -1 })
    })

    test('bytes sent right behind the handshake are not lost', async () => {
      await bench().listen()
      const client = await bench().client()
      client.send(pattern(0, 1_000))
      client.leave()
      const server = await bench().accept()
      expect(await server.until({ closes: 1 })).toMatchObject({ receivedBytes: 1_000, mismatchAt: -1, closes: [null] })
    })
  }

  function flowContract(bench: () => Bench): void {
    test('a client that does not read makes bufferedBytes rise; onDrain follows when it has read all', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      client.stopReading()
      const { bufferedBytes, writtenBytes } = await server.writeUntilBuffered(2 * MIB)
      expect(bufferedBytes).toBeGreaterThanOrEqual(2 * MIB)
      client.startReading()
      await client.untilReceived(writtenBytes)
      expect(client.mismatchAt).toBe(-1)
      expect(await server.until({ drains: 1 })).toMatchObject({ bufferedBytes: 0, closes: [] })
    })

    test('a buffer may be overwritten whenever bufferedBytes is 0', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      const { writtenBytes } = await server.writeReusing(40_000, 100)
      await client.untilReceived(writtenBytes)
      expect(client.mismatchAt).toBe(-1)
    })

    test('pause stops delivery, resume goes on, nothing is lost', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      await server.call('pause')
      sendAll(client, oddChunks(MIB / 2))
      // Other connections come and go meanwhile: had anything been delivered, it would be there by then.
      for (let round = 0; round < 5; round++) {
        const other = await bench().pair()
        other.client.send(pattern(0, 10))
        await other.server.until({ receivedBytes: 10 })
      }
      expect((await server.call('state')).receivedBytes).toBe(0)
      await server.call('resume')
      expect(await server.until({ receivedBytes: MIB / 2 })).toMatchObject({ receivedBytes: MIB / 2, mismatchAt: -1 })
    })

    test('what a client sent before it left is delivered after a pause, before onClose', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      await server.call('pause')
      client.send(pattern(0, 5_000))
      client.leave()
      const other = await bench().pair()
      other.client.send(pattern(0, 10))
      await other.server.until({ receivedBytes: 10 })
      expect(await server.call('state')).toMatchObject({ receivedBytes: 0, closes: [] })
      await server.call('resume')
      expect(await server.until({ closes: 1 })).toMatchObject({ receivedBytes: 5_000, mismatchAt: -1, closes: [null] })
    })
  }

  function closeContract(bench: () => Bench): void {
    test('end writes out what is buffered', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      client.stopReading()
      const { writtenBytes } = await server.writeUntilBuffered(MIB)
      const { closesInside } = await server.call('end')
      expect(closesInside).toBe(0)
      client.startReading()
      await client.untilReceived(writtenBytes)
      await client.closed
      expect(client.mismatchAt).toBe(-1)
      expect((await server.until({ closes: 1 })).closes).toEqual([null])
    })

    test('end gives up after LINGER_MS on a client that does not read', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      client.stopReading()
      await server.writeUntilBuffered(MIB)
      await server.call('end')
      await bench().advance(LINGER_MS - 1)
      expect((await server.call('state')).closes).toEqual([])
      await bench().advance(1)
      expect((await server.until({ closes: 1 })).closes).toEqual([null])
    })

    test('after end nothing is delivered', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      await server.call('end')
      client.send(pattern(0, 100))
      client.leave()
      await client.closed
      expect(await server.until({ closes: 1 })).toMatchObject({ receivedBytes: 0, closes: [null] })
    })

    test('destroy drops what is buffered, and calls onClose once, later', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      client.stopReading()
      const { writtenBytes } = await server.writeUntilBuffered(2 * MIB)
      expect((await server.call('destroy')).closesInside).toBe(0)
      expect((await server.call('destroy')).closesInside).toBe(0)
      expect((await server.until({ closes: 1 })).closes).toEqual([null])
      client.startReading()
      await client.closed
      expect(client.receivedBytes).toBeLessThan(writtenBytes)
      expect(await server.call('state')).toMatchObject({ closes: [null], bufferedBytes: 0, drains: 0 })
    })

    test('destroy while ending, and end while destroying, still close once', async () => {
      await bench().listen()
      const first = await bench().pair()
      const second = await bench().pair()
      await first.server.call('end')
      await first.server.call('destroy')
      await second.server.call('destroy')
      await second.server.call('end')
      for (const { client, server } of [first, second]) {
        await client.closed
        await server.until({ closes: 1 })
        expect((await server.call('state')).closes).toEqual([null])
      }
    })

    test('a client that resets its connection closes once', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      // Closing with unread bytes makes the kernel send RST instead of FIN.
      client.stopReading()
      await server.writeUntilBuffered(MIB)
      client.raw.destroy()
      const { closes } = await server.until({ closes: 1 })
      expect(closes).toEqual([expect.any(String)])
      await server.call('destroy')
      expect((await server.call('state')).closes).toEqual(closes)
    })

    test('a client that only sends its FIN is closed, even when it takes no bytes', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      client.stopReading()
      await server.writeUntilBuffered(MIB)
      client.raw.end()
      const other = await bench().pair()
      other.client.raw.end()
      await other.server.until({ closes: 1 })
      await bench().advance(LINGER_MS)
      expect((await server.until({ closes: 1 })).closes).toHaveLength(1)
    })

    test('what is written to a closed transport is dropped in silence', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      client.leave()
      await server.until({ closes: 1 })
      expect(await server.write([10, 100_000])).toMatchObject({ bufferedBytes: 0, closes: [null] })
      for (const op of ['pause', 'resume', 'end', 'destroy'] as const) expect((await server.call(op)).closes).toEqual([null])
    })

    test('a handler that throws loses its connection and no other', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      const other = await bench().pair()
      await server.call('throwNext')
      client.send(pattern(0, 10))
      expect(await bench().refusal()).toMatchObject({
        reason: 'fault',
        remoteAddress: '127.0.0.1',
        detail: expect.stringContaining('on purpose'),
      })
      expect((await server.until({ closes: 1 })).closes).toEqual([null])
      await client.closed
      other.client.send(pattern(0, 10))
      expect((await other.server.until({ receivedBytes: 10 })).closes).toEqual([])
    })

    test('a listener that stops accepting keeps its connections; closing it closes them', async () => {
      await bench().listen()
      const { client, server } = await bench().pair()
      await bench().stopAccepting()
      await expect(bench().client()).rejects.toThrow()
      client.send(pattern(0, 10))
      await server.until({ receivedBytes: 10 })
      await bench().closeListener()
      expect((await server.call('state')).closes).toEqual([null])
      await client.closed
    })
  }
}

function limitContract(bench: () => Bench): void {
  /** Done when the server has refused the client, during the handshake or right after it. */
  const refusedClient = async (): Promise<void> => {
    await bench()
      .client()
      .then(
        client => client.closed,
        () => {},
      )
  }

  test('one connection too many is refused; when one has gone there is room again', async () => {
    await bench().listen({ connectionsMax: 1 })
    const { client, server } = await bench().pair()
    await refusedClient()
    expect(await bench().refusal()).toMatchObject({ reason: 'connectionsMax', remoteAddress: '127.0.0.1' })
    client.leave()
    await server.until({ closes: 1 })
    await client.closed
    const next = await bench().pair()
    next.client.send(pattern(0, 10))
    await next.server.until({ receivedBytes: 10 })
  })

  test('a connection that nobody takes is closed', async () => {
    await bench().listen({}, 'refuses')
    await refusedClient()
    expect(await bench().refusal()).toMatchObject({ reason: 'handlerRefused' })
  })
}

/** What WebSocket adds. */
function upgradeContract(engine: ContractEngine, bench: () => Bench): void {
  const answerTo = (...headers: string[]): Promise<string> =>
    bench().httpAnswer(['GET /mqtt HTTP/1.1', 'Host: localhost', ...headers, '', ''].join('\r\n'))
  const UPGRADE = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']

  test('frames may end anywhere', async () => {
    await bench().listen()
    const { client, server } = await bench().pair()
    for (let at = 0; at < 300; at++) client.send(pattern(at, 1))
    client.websocket.send(pattern(300, 200), { fin: false })
    client.websocket.send(pattern(500, 0), { fin: false })
    client.websocket.ping()
    client.websocket.send(pattern(500, 70_000), { fin: true })
    expect(await server.until({ receivedBytes: 70_500 })).toMatchObject({ receivedBytes: 70_500, mismatchAt: -1, closes: [] })
  })

  test('[MQTT-6.0.0-1] a text frame ends the connection', async () => {
    await bench().listen()
    const { client, server } = await bench().pair()
    client.send(pattern(0, 10))
    client.websocket.send('text')
    expect(await client.closeCode).toBe(1_003)
    expect(await server.until({ closes: 1 })).toMatchObject({ receivedBytes: 10, closes: ['text frame [MQTT-6.0.0-1]'] })
  })

  test('a ping is answered', async () => {
    await bench().listen()
    const { client } = await bench().pair()
    const pong = new Promise(resolve => client.websocket.once('pong', data => resolve(String(data))))
    client.websocket.ping('are you there')
    expect(await pong).toBe('are you there')
  })

  test('a message over the limit ends the connection; a legal packet of the maximum size does not', async () => {
    await bench().listen()
    const { client, server } = await bench().pair()
    client.send(pattern(0, engine.settings.packetBytesMax))
    await server.until({ receivedBytes: engine.settings.packetBytesMax })
    client.send(pattern(0, engine.settings.packetBytesMax + 100_000))
    expect((await server.until({ closes: 1 })).closes).toEqual([expect.any(String)])
  })

  test.each([
    ['mqtt', 'mqtt'],
    ['mqttv3.1', 'mqttv3.1'],
    ['mqttv3.1, mqtt', 'mqtt'],
    ['soap,mqtt', 'mqtt'],
  ])('[MQTT-6.0.0-4] of %j the server chooses %j, and no extension', async (offered, chosen) => {
    await bench().listen()
    const answer = await answerTo(...UPGRADE, `Sec-WebSocket-Protocol: ${offered}`, 'Sec-WebSocket-Extensions: permessage-deflate')
    expect(answer).toMatch(/^HTTP\/1\.1 101 /)
    expect(answer.toLowerCase()).toContain(`sec-websocket-protocol: ${chosen}\r\n`)
    expect(answer.toLowerCase()).not.toContain('sec-websocket-extensions')
  })

  test.each([[[]], [['Sec-WebSocket-Protocol: soap']], [['Sec-WebSocket-Protocol: MQTT']], [['Sec-WebSocket-Protocol: ,']]])(
    '[MQTT-6.0.0-3] without our sub-protocol the upgrade is refused: %j',
    async headers => {
      await bench().listen()
      const answer = await answerTo(...UPGRADE, ...headers)
      expect(answer).toMatch(/^HTTP\/1\.1 400 /)
      expect(answer).toContain("The WebSocket sub-protocol must be 'mqtt'")
      expect(await bench().refusal()).toMatchObject({ reason: 'subprotocol', remoteAddress: '127.0.0.1' })
    },
  )

  test('a request for a page hears what this port is for', async () => {
    await bench().listen()
    const answer = await answerTo()
    expect(answer).toMatch(/^HTTP\/1\.1 426 /)
    expect(answer).toContain('This port speaks MQTT over WebSocket.')
    expect(await bench().refusal()).toMatchObject({ reason: 'httpRequest', remoteAddress: '127.0.0.1' })
  })
}

function deadlineContract(engine: ContractEngine, bench: () => Bench): void {
  // A bare TCP connection is a Transport at once.
  if (engine.kind === 'tcp') return
  test('a connection that does not finish its handshake is closed at the deadline', async () => {
    await bench().listen({ upgradeDeadlineMs: 10_000 })
    const slow = await slowClient(bench().port)
    // Until the server has accepted it there is no deadline; a connection made later is proof of that.
    await bench().pair()
    await bench().advance(9_999)
    if (engine.kind === 'ws') slow.write('GET / HTTP/1.1\r\n')
    expect(slow.closed).toBe(false)
    await bench().advance(1)
    await slow.done
    expect(await bench().refusal()).toMatchObject({ reason: 'upgradeDeadline', remoteAddress: '127.0.0.1' })
  })
}

/** What the engine does in its own way. */
function uwsContract(engine: ContractEngine, bench: () => Bench): void {
  // It closes by its own clock; the wait begins first, so that all other tests of the engine share it.
  const slowBench = new Bench(engine)
  let slow: readonly SlowClient[] = []
  beforeAll(async () => {
    await slowBench.listen()
    slow = await Promise.all([slowClient(slowBench.port), slowClient(slowBench.port)])
    slow[1]!.write('GET / HTTP/1.1\r\nHost: localhost\r\n')
  })
  afterAll(() => slowBench.close())

  test('a paused connection keeps a limited number of bytes, then it is closed; before its first resume no packet on top', async () => {
    await bench().listen()
    const { packetBytesMax } = engine.settings
    for (const limitBytes of [PAUSED_BYTES_MAX, PAUSED_BYTES_MAX + packetBytesMax]) {
      const { client, server } = await bench().pair()
      if (limitBytes > PAUSED_BYTES_MAX) await server.call('resume')
      await server.call('pause')
      for (let sentBytes = 0; sentBytes <= limitBytes; sentBytes += packetBytesMax) client.send(pattern(0, packetBytesMax))
      expect(await client.closeCode).toBe(1_006)
      await server.call('resume')
      expect((await server.until({ closes: 1 })).closes).toEqual([`over ${limitBytes} bytes arrived while the connection was paused`])
    }
  })

  test('only the first message is bounded by what a CONNECT may take', async () => {
    await bench().listen()
    const tooLong = await bench().pair()
    tooLong.client.send(pattern(0, FIRST_MESSAGE_BYTES_MAX + 1))
    expect(await tooLong.client.closeCode).toBe(1_006)
    expect(await tooLong.server.until({ closes: 1 })).toMatchObject({
      receivedBytes: 0,
      closes: [expect.stringContaining('no complete message')],
    })
    const { client, server } = await bench().pair()
    client.send(pattern(0, 10))
    client.send(pattern(10, FIRST_MESSAGE_BYTES_MAX + 1))
    expect((await server.until({ receivedBytes: FIRST_MESSAGE_BYTES_MAX + 11 })).closes).toEqual([])
  })

  test('a connection that does not finish its handshake is closed by the engine', { timeout: NATIVE_DEADLINE_MS }, async () => {
    await Promise.all(slow.map(client => client.done))
  })
}

interface SlowClient {
  readonly closed: boolean
  readonly done: Promise<void>
  write(text: string): void
}

function slowClient(port: number): Promise<SlowClient> {
  const socket = connect({ port, host: '127.0.0.1' })
  socket.on('error', () => {})
  socket.resume()
  const done = new Promise<void>(resolve => socket.once('close', () => resolve()))
  const client: SlowClient = {
    get closed() {
      return socket.destroyed
    },
    done,
    write: text => void socket.write(text),
  }
  return new Promise(resolve => socket.once('connect', () => resolve(client)))
}
