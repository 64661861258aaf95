import { once } from 'node:events'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { ByteReader } from '../base/byte-reader.ts'
import { ManualTimers } from '../base/timers.ts'
import type { Timers } from '../base/timers.ts'
import { HANDSHAKE_FRAME_BYTES_MAX, DialerHandshake, PROTOCOL_VERSION } from './handshake.ts'
import { LinkMethod } from './link-methods.ts'
import type { LinkLimits } from './link-limits.ts'
import { LinkRig, testSettings } from './link-rig.contract.ts'
import type { TestEnd } from './link-rig.contract.ts'
import { FrameTooLargeError } from './link-socket.ts'
import type { LinkAddress } from './link-address.ts'
import type { Socket } from 'node:net'

let rig: LinkRig

function makeRig(limits: Partial<LinkLimits> = {}, timers?: Timers): LinkRig {
  rig = new LinkRig(limits, timers)
  return rig
}

afterEach(() => rig.close())

function frame(method: number, body: Uint8Array): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt32LE(body.length + 1)
  header[4] = method
  return Buffer.concat([header, body])
}

/** A peer made of a plain socket, its handshake done, that then does what the test wants. */
async function rawPeer(address: LinkAddress): Promise<Socket> {
  const socket = await rig.raw(address)
  const handshake = new DialerHandshake({ ...testSettings('frontend', 'raw'), windowBytes: 1_000 })
  socket.write(frame(LinkMethod.Hello, handshake.begin()))
  for (;;) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    const step = handshake.onFrame(chunk[4]!, chunk.subarray(5, 4 + chunk.readUInt32LE()))
    if (step.is === 'proven') return socket
    if (step.is === 'refused') throw new Error(step.reason)
    socket.write(frame(step.method, step.body))
  }
}

async function rawLink(): Promise<{ readonly socket: Socket; readonly there: TestEnd }> {
  const { address } = await rig.listen()
  const socket = await rawPeer(address)
  await rig.until(() => rig.accepted.length > 0)
  return { socket, there: rig.accepted[0]! }
}

describe('frames over a link', () => {
  test('arrive in order, in both directions, many in one write', async () => {
    const { here, there } = await makeRig().pair()
    expect(here.link.peer).toEqual({ role: 'backend', id: 'b', instance: 'b-1', protocolVersion: PROTOCOL_VERSION })
    expect(there.link.peer).toEqual({ role: 'frontend', id: 'f', instance: 'f-1', protocolVersion: PROTOCOL_VERSION })
    const before = rig.dialing.counters.writes
    for (let i = 0; i < 1_000; i++) here.send(i % 200, Buffer.from(`frame ${i}`))
    there.send(7, Buffer.alloc(0))
    await there.until(() => there.frames.length === 1_000)
    await here.until(() => here.frames.length === 1)
    expect(there.frames.map(({ method, body }) => `${method} ${body.toString()}`)).toEqual(
      Array.from({ length: 1_000 }, (_, i) => `${i % 200} frame ${i}`),
    )
    expect(here.frames).toEqual([{ method: 7, body: Buffer.alloc(0) }])
    expect(rig.dialing.counters.writes).toBe(before + 1)
    expect(rig.dialing.counters.sentFrames[3]).toBe(5)
    expect(rig.listening.counters.receivedFrames[3]).toBe(5)
    expect(rig.listening.counters.receivedBytes[3]).toBe(rig.dialing.counters.sentBytes[3])
  })

  test('any bodies over several turns, whole', async () => {
    const { here, there } = await makeRig().pair()
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc.nat(300_000).map(size => Buffer.alloc(size, size)),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(body, { maxLength: 5 }), { maxLength: 4 }), async turns => {
        there.frames.length = 0
        const sent = turns.flat().map(bytes => Buffer.from(bytes))
        for (const turn of turns) {
          for (const bytes of turn) here.send(1, bytes)
          await new Promise(setImmediate)
        }
        await there.until(() => there.frames.length === sent.length)
        expect(there.frames.every((got, index) => got.body.equals(sent[index]!))).toBe(true)
      }),
      { numRuns: 20 },
    )
  })

  test('what is sent while a link is accepted comes after the handshake', async () => {
    makeRig().onAccept = end => end.send(5, Buffer.from('first'))
    const { here } = await rig.pair()
    await here.until(() => here.frames.length > 0)
    expect(here.frames[0]!.body.toString()).toBe('first')
  })

  test('a packet of 256 MiB passes', async () => {
    const { here, there } = await makeRig().pair()
    let received = 0
    there.onEach = (_method, body) => (received = body.remaining)
    here.send(1, Buffer.alloc(256 * 2 ** 20))
    expect(here.link.isCongested).toBe(true)
    await there.until(() => received > 0)
    await here.until(() => here.congestion.length === 2)
    expect([received, here.congestion]).toEqual([256 * 2 ** 20, [true, false]])
  })

  test('a frame that no peer takes is an error here; the link goes on', async () => {
    const { here, there } = await makeRig({ frameBytesMax: 100 }).pair()
    here.send(1, Buffer.from('a'))
    expect(() => here.send(1, Buffer.alloc(100))).toThrow(FrameTooLargeError)
    here.send(1, Buffer.from('b'))
    await there.until(() => there.frames.length === 2)
    expect(there.frames.map(({ body }) => body.toString())).toEqual(['a', 'b'])
  })
})

describe('the end of a link', () => {
  test('close: what was appended arrives, both are told once, later frames go nowhere', async () => {
    const { here, there } = await makeRig().pair()
    here.send(1, Buffer.from('last'))
    here.link.close('done')
    expect(here.closed).toBe(null)
    here.link.close('again')
    here.send(1, Buffer.from('late'))
    await here.until(() => here.closed !== null)
    await there.until(() => there.closed !== null)
    there.link.close('late')
    here.link.close('late')
    await new Promise(setImmediate)
    expect([here.closed, here.closedCount, there.closed, there.closedCount]).toEqual(['done', 1, 'closed by the peer', 1])
    expect(there.frames.map(({ body }) => body.toString())).toEqual(['last'])
    expect([rig.listening.openCount, rig.listening.counters.closed]).toEqual([0, 1])
  })

  test('a handler that throws closes the link; it is counted and logged, and nothing more is given to it', async () => {
    const { here, there } = await makeRig().pair()
    let calls = 0
    there.onEach = () => {
      calls++
      throw new Error('a bug')
    }
    here.send(3, Buffer.alloc(1))
    here.send(3, Buffer.alloc(1))
    await there.until(() => there.closed !== null)
    expect([calls, there.closed, rig.listening.counters.handlerFaults]).toEqual([1, 'method 3: its handler failed', 1])
    expect(rig.log.events).toContain('link_handler_failed')
  })

  test("a body that cannot be read is the peer's fault", async () => {
    const { here, there } = await makeRig().pair()
    there.onEach = (_method, body) => body.text()
    here.send(3, Buffer.from([200]))
    await there.until(() => there.closed !== null)
    expect([rig.listening.counters.malformed, rig.listening.counters.handlerFaults]).toEqual([1, 0])
  })

  test('a handler may close its link while it reads', async () => {
    const { here, there } = await makeRig().pair()
    let calls = 0
    there.onEach = () => {
      calls++
      there.link.close('enough')
    }
    for (let i = 0; i < 5; i++) here.send(1, Buffer.alloc(1))
    await there.until(() => there.closed !== null)
    await here.until(() => here.closed !== null)
    expect([calls, there.closed]).toEqual([1, 'enough'])
  })
})

describe('congestion', () => {
  test('above the window until the peer has taken half of it', async () => {
    const { here, there } = await makeRig({ windowBytes: 100_000 }).pair()
    let total = 0
    there.onEach = (_method, body) => (total += body.remaining)
    for (let i = 0; i < 30; i++) here.send(1, Buffer.alloc(10_000))
    expect(here.link.isCongested).toBe(true)
    expect(here.congestion).toEqual([])
    await here.until(() => here.congestion.length === 2)
    expect([here.congestion, here.link.isCongested]).toEqual([[true, false], false])
    expect(rig.dialing.counters.congestions).toBe(1)
    await there.until(() => total === 300_000)
    // 30 frames of a tenth of the window each: credit in at most 8 parts a window.
    expect(rig.listening.counters.sentFrames[LinkMethod.Credit]).toBeLessThanOrEqual(24)
  })

  test('what is left of credit goes with the tick', async () => {
    const { here, there } = await makeRig({ windowBytes: 100_000 }).pair()
    here.send(1, Buffer.alloc(1_000))
    await there.until(() => there.frames.length === 1)
    expect(rig.dialing.unacknowledgedBytes).toBe(1_005)
    rig.listening.tick()
    here.send(1, Buffer.alloc(1_000))
    there.send(1, Buffer.alloc(0))
    await here.until(() => here.frames.length === 1)
    expect(rig.dialing.unacknowledgedBytes).toBe(1_005)
  })

  test('a peer that does not read: congested, then closed at the hard limit', async () => {
    makeRig({ windowBytes: 1_000_000, hardLimitBytes: 20_000_000 })
    const { socket, there } = await rawLink()
    socket.pause()
    for (let i = 0; i < 19; i++) {
      there.send(1, Buffer.alloc(1_000_000))
      await new Promise(setImmediate)
    }
    expect([there.congestion, there.closed]).toEqual([[true], null])
    there.send(1, Buffer.alloc(1_000_000))
    // Not during the call.
    expect(there.closed).toBe(null)
    there.send(1, Buffer.alloc(1_000_000))
    await there.until(() => there.closed !== null)
    expect(there.closed).toBe('20000100 bytes not taken')
    expect([there.link.isCongested, rig.listening.unacknowledgedBytes, rig.listening.counters.overHardLimit]).toEqual([false, 0, 1])
  })

  test('credit for what was never sent is no credit', async () => {
    makeRig()
    const { socket, there } = await rawLink()
    socket.write(frame(LinkMethod.Credit, Buffer.from([1])))
    await there.until(() => there.closed !== null)
    expect(rig.listening.counters.malformed).toBe(1)
  })
})

describe('heartbeats', () => {
  test('go out when nothing else does, and are heard', async () => {
    const timers = new ManualTimers()
    const { here, there } = await makeRig({}, timers).pair()
    timers.advance(100)
    rig.dialing.tick()
    expect(rig.dialing.counters.sentFrames[LinkMethod.Heartbeat]).toBe(0)
    timers.advance(100)
    rig.dialing.tick()
    here.send(1, Buffer.alloc(1))
    await there.until(() => there.frames.length === 1)
    expect(rig.listening.counters.receivedFrames[LinkMethod.Heartbeat]).toBe(1)
    expect(there.link.heardMs).toBe(200)
    timers.advance(100)
    rig.dialing.tick()
    expect(rig.dialing.counters.sentFrames[LinkMethod.Heartbeat]).toBe(1)
  })

  test('a peer that went silent is noticed after 3 s, in the second tick', async () => {
    const timers = new ManualTimers()
    makeRig({}, timers)
    const { there } = await rawLink()
    for (let ms = 0; ms < 2_900; ms += 100) {
      timers.advance(100)
      rig.listening.tick()
    }
    expect(there.closed).toBe(null)
    timers.advance(100)
    rig.listening.tick()
    timers.advance(100)
    rig.listening.tick()
    await there.until(() => there.closed !== null)
    expect([there.closed, rig.listening.counters.silent]).toEqual(['nothing heard for 3000 ms', 1])
  })

  test('a pause of our own process is not the silence of a peer', async () => {
    const timers = new ManualTimers()
    makeRig({}, timers)
    const { socket, there } = await rawLink()
    timers.advance(10_000)
    rig.listening.tick()
    socket.write(frame(1, Buffer.from('x')))
    await there.until(() => there.frames.length === 1)
    rig.listening.tick()
    expect(there.closed).toBe(null)
  })
})

describe('bytes that are no frames', () => {
  test('after the handshake they close the link and are counted', async () => {
    makeRig()
    const { socket, there } = await rawLink()
    socket.write(Buffer.alloc(64, 0xff))
    await there.until(() => there.closed !== null)
    expect([there.closed, rig.listening.counters.malformed]).toEqual(['malformed: a frame of 4294967295 bytes', 1])
  })

  test('a frame of the handshake, or another one of the link itself, has no place in an open link', async () => {
    makeRig()
    const { socket, there } = await rawLink()
    socket.write(frame(LinkMethod.Hello, Buffer.alloc(3)))
    await there.until(() => there.closed !== null)
    expect(rig.listening.counters.malformed).toBe(1)
  })

  test('before the handshake: closed, counted, nothing accepted, nothing thrown', async () => {
    makeRig()
    const { address } = await rig.listen()
    const hello = frame(LinkMethod.Hello, new DialerHandshake({ ...testSettings('frontend', 'x'), windowBytes: 9 }).begin())
    const garbage = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      fc.record({ at: fc.nat(hello.length - 1), to: fc.nat(255) }).map(({ at, to }) => Uint8Array.from(hello).fill(to, at, at + 1)),
      fc.nat(hello.length - 1).map(size => Uint8Array.from(hello.subarray(0, size))),
      fc.uint8Array({ maxLength: 60 }).map(body => Buffer.concat([hello, frame(LinkMethod.Proof, body)])),
      fc.uint8Array({ maxLength: 60 }).map(body => frame(LinkMethod.Refused, body)),
    )
    await fc.assert(
      fc.asyncProperty(garbage, async bytes => {
        const socket = await rig.raw(address)
        const isClosed = once(socket, 'close')
        socket.resume()
        socket.end(bytes)
        await isClosed
      }),
      { numRuns: 60 },
    )
    expect(rig.accepted).toEqual([])
    expect(rig.listening.counters.refusedByListener.reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(60)
  })

  test('a first frame that is too long is refused by its length', async () => {
    makeRig()
    const { address } = await rig.listen()
    const socket = await rig.raw(address)
    const header = Buffer.alloc(5)
    header.writeUInt32LE(HANDSHAKE_FRAME_BYTES_MAX + 1)
    socket.write(header)
    await once(socket, 'close')
    expect(rig.log.lines.at(-1)!.fields).toMatchObject({ reason: 'malformed', detail: 'a frame of 2049 bytes' })
  })

  test('after the handshake, whatever comes', async () => {
    makeRig({ frameBytesMax: 1_000 })
    const { address } = await rig.listen()
    const parts = fc.array(
      fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 50 }),
        fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 50 })).map(([method, body]) => frame(method, body)),
      ),
      { minLength: 1, maxLength: 10 },
    )
    await fc.assert(
      fc.asyncProperty(parts, async chunks => {
        const count = rig.accepted.length
        const socket = await rawPeer(address)
        await rig.until(() => rig.accepted.length > count)
        const end = rig.accepted.at(-1)!
        end.onEach = (_method, body) => new ByteReader(body.buffer.subarray(body.at, body.end)).text()
        socket.resume()
        for (const chunk of chunks) socket.write(chunk)
        socket.end()
        await end.until(() => end.closed !== null)
        expect(end.closedCount).toBe(1)
      }),
      { numRuns: 40 },
    )
    expect(rig.listening.openCount).toBe(0)
    expect(rig.listening.counters.handlerFaults).toBe(0)
  })
})
