import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { ManualTimers } from '../base/timers.ts'
import type { Timers } from '../base/timers.ts'
import { MetricsRegistry } from '../telemetry/metrics.ts'
import { createTestPki } from '../testing/pki.ts'
import { linkAddressText, parseLinkAddress } from './link-address.ts'
import type { LinkAddress } from './link-address.ts'
import { registerLinkMetrics } from './link-counters.ts'
import type { LinkLimits } from './link-limits.ts'
import { LinkRig, TEST_KEY, testSettings } from './link-rig.contract.ts'
import type { TestEnd } from './link-rig.contract.ts'
import { LinkSettingsError } from './link-settings.ts'

let rig: LinkRig

function makeRig(limits: Partial<LinkLimits> = {}, timers?: Timers): LinkRig {
  rig = new LinkRig(limits, timers)
  return rig
}

afterEach(() => rig.close())

const CONNECT_MS = 2_000

/** Timers that note what was asked of them. */
class NotedTimers extends ManualTimers {
  readonly asked: number[] = []

  override after(ms: number, run: () => void): () => void {
    this.asked.push(ms)
    return super.after(ms, run)
  }
}

/** A port on which nobody listens. */
async function deadPort(): Promise<LinkAddress> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return { host: '127.0.0.1', port }
}

async function greet(): Promise<void> {
  await rig.until(() => rig.opened.length > 0)
  rig.opened.at(-1)!.send(1, Buffer.from('hello'))
  await rig.until(() => rig.accepted.length > 0)
  const end = rig.accepted.at(-1)!
  await end.until(() => end.frames.length > 0)
  expect(end.frames[0]!.body.toString()).toBe('hello')
}

describe('a dialer', () => {
  test('dials anew when its link breaks, and stops when told', async () => {
    const timers = new ManualTimers()
    const { address } = await makeRig({}, timers).listen()
    const dialer = rig.dial(address)
    await greet()
    const first = rig.opened[0]!
    expect(dialer.link).toBe(first.link)
    timers.advance(5_000)
    rig.accepted[0]!.link.close('break')
    await first.until(() => first.closed !== null)
    expect(dialer.link).toBe(null)
    timers.advance(0)
    await rig.until(() => rig.opened.length === 2 && rig.accepted.length === 2)
    dialer.stop('enough')
    dialer.stop('enough')
    const second = rig.opened[1]!
    await second.until(() => second.closed !== null)
    expect([second.closed, second.closedCount, dialer.link]).toEqual(['enough', 1, null])
    timers.advance(60_000)
    expect(rig.refusals).toEqual([])
  })

  test('is refused by the kernel when nobody listens, tries again after growing pauses, and links once somebody does', async () => {
    const timers = new NotedTimers()
    const address = await deadPort()
    makeRig({}, timers).dial(address)
    for (let attempt = 1; attempt <= 7; attempt++) {
      await rig.until(() => rig.refusals.length === attempt)
      timers.advance(timers.asked.at(-1)!)
    }
    expect(timers.asked.filter(ms => ms !== CONNECT_MS)).toEqual([50, 100, 200, 400, 800, 1_000, 1_000])
    expect(rig.refusals[0]).toEqual({ is: 'kernel', code: 'ECONNREFUSED' })
    await rig.until(() => rig.refusals.length === 8)
    await rig.listen(testSettings('backend', 'b'), address)
    timers.advance(1_000)
    await greet()
  })

  test('a connection that nobody answers on is a time-out, in the connect or in the handshake', async () => {
    const timers = new ManualTimers()
    const silent = createServer(socket => socket.resume())
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const dialer = makeRig({}, timers).dial({ host: '127.0.0.1', port })
    // Before the connection stands: its event has not been handled yet.
    timers.advance(2_000)
    await rig.until(() => rig.refusals.length === 1)
    const isConnected = once(silent, 'connection')
    timers.advance(50)
    await isConnected
    await new Promise(setImmediate)
    timers.advance(5_000)
    await rig.until(() => rig.refusals.length === 2)
    dialer.stop('end')
    silent.close()
    expect(rig.refusals).toEqual([
      { is: 'timeout', phase: 'connect' },
      { is: 'timeout', phase: 'handshake' },
    ])
  })

  test.each([
    ['cluster', testSettings('frontend', 'f', { self: { cluster: 'x', shards: 64, role: 'frontend', id: 'f', instance: '1' } })],
    ['shards', testSettings('frontend', 'f', { self: { cluster: 'test', shards: 63, role: 'frontend', id: 'f', instance: '1' } })],
    ['badProof', testSettings('frontend', 'f', { proof: { is: 'key', key: Buffer.from('not the same key at all') } })],
    ['proofKind', testSettings('frontend', 'f', { proof: { is: 'none' } })],
    ['version', testSettings('frontend', 'f', { version: 9, versionLowest: 8 })],
  ] as const)('is told why the handshake failed: %s', async (reason, settings) => {
    const { address } = await makeRig().listen()
    rig.dial(address, settings)
    await rig.until(() => rig.refusals.length > 0)
    expect(rig.refusals[0]).toMatchObject({ is: 'handshake', reason })
    const text = await metricsText()
    expect(text).toContain(`millrace_rpc_handshakes_refused_total{side="listener",reason="${reason}"} 1`)
    expect(JSON.stringify(rig.log.lines)).not.toContain(TEST_KEY.toString())
    expect(rig.listening.openCount).toBe(0)
  })

  test('refuses another kind of service, and tells it so', async () => {
    const { address } = await makeRig().listen(testSettings('frontend', 'other'))
    rig.dial(address, testSettings('frontend', 'f'), { expected: { role: 'backend' } })
    await rig.until(() => rig.refusals.length > 0)
    expect(rig.refusals[0]).toMatchObject({ is: 'handshake', reason: 'role' })
  })

  test('hears why a service declines', async () => {
    const { address } = await makeRig().listen()
    rig.decline = 'draining'
    rig.dial(address)
    await rig.until(() => rig.refusals.length > 0)
    expect(rig.refusals[0]).toEqual({ is: 'handshake', reason: 'declined', detail: 'said the peer: draining' })
    expect([rig.opened, rig.listening.openCount]).toEqual([[], 0])
  })

  async function metricsText(): Promise<string> {
    const metrics = new MetricsRegistry()
    registerLinkMetrics(metrics, rig.listening, [undefined, 'attach'])
    return metrics.render()
  }

  test('metrics name the methods', async () => {
    const { here, there } = await makeRig().pair()
    here.send(1, Buffer.alloc(10))
    await there.until(() => there.frames.length === 1)
    const text = await metricsText()
    expect(text).toContain('millrace_rpc_received_frames_total{method="attach"} 1')
    expect(text).toContain('millrace_rpc_received_bytes_total{method="attach"} 15')
    expect(text).toContain('millrace_rpc_received_frames_total{method="heartbeat"} 0')
    expect(text).toContain('millrace_rpc_links 1')
    expect(text).toContain('millrace_rpc_links_closed_total{fault="none"} 0')
  })
})

describe('a listener', () => {
  test('waits for a handshake no longer than its limit, and for no more connections than its limit', async () => {
    const timers = new ManualTimers()
    const { address } = await makeRig({ unauthenticatedMax: 2 }, timers).listen()
    const waiting = [await rig.raw(address), await rig.raw(address)]
    const oneMore = await rig.raw(address)
    oneMore.resume()
    await once(oneMore, 'close')
    expect(rig.listening.unauthenticatedCount).toBe(2)
    const closed = waiting.map(socket => once(socket.resume(), 'close'))
    timers.advance(5_000)
    await Promise.all(closed)
    rig.dial(address)
    await greet()
    expect(rig.log.lines.filter(line => line.event === 'link_refused').map(line => line.fields['reason'])).toEqual([
      'tooMany',
      'timeout',
      'timeout',
    ])
    expect(rig.listening.unauthenticatedCount).toBe(0)
  })

  test('closed, it ends what is in a handshake; links stay', async () => {
    makeRig()
    const listener = await rig.listen()
    rig.dial(listener.address)
    await greet()
    const socket = await rig.raw(listener.address)
    const isClosed = once(socket.resume(), 'close')
    await listener.close()
    await listener.close()
    await isClosed
    expect(rig.listening.openCount).toBe(1)
  })

  test('an address in use is an error', async () => {
    const { address } = await makeRig().listen()
    await expect(rig.listen(testSettings('backend', 'c'), address)).rejects.toMatchObject({ code: 'EADDRINUSE' })
  })
})

describe('Unix sockets', () => {
  test('link; the file is gone afterwards, and dialing it is refused by the kernel', async () => {
    const path = makeRig().path()
    const listener = await rig.listen(testSettings('backend', 'b'), { path })
    rig.dial({ path })
    await greet()
    await listener.close()
    expect(existsSync(path)).toBe(false)
    rig.dial({ path })
    await rig.until(() => rig.refusals.length > 0)
    expect(rig.refusals[0]).toEqual({ is: 'kernel', code: 'ENOENT' })
  })

  test('a file that a dead process left is replaced, one that is in use or no socket is not', async () => {
    const path = makeRig().path()
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
    await once(spawn(process.execPath, ['-e', script]), 'exit')
    expect(existsSync(path)).toBe(true)
    rig.dial({ path })
    await rig.until(() => rig.refusals.length === 1)
    expect(rig.refusals[0]).toEqual({ is: 'kernel', code: 'ECONNREFUSED' })
    await rig.listen(testSettings('backend', 'b'), { path })
    await greet()
    await expect(rig.listen(testSettings('backend', 'c'), { path })).rejects.toMatchObject({ code: 'EADDRINUSE' })
    const file = rig.path()
    writeFileSync(file, 'precious')
    await expect(rig.listen(testSettings('backend', 'c'), { path: file })).rejects.toMatchObject({ code: 'EADDRINUSE' })
    expect(existsSync(file)).toBe(true)
  })

  test('addresses as text', () => {
    makeRig()
    for (const text of ['127.0.0.1:7000', '[::1]:7000', 'unix:/run/millrace/b.sock'])
      expect(linkAddressText(parseLinkAddress(text)!)).toBe(text)
    for (const text of ['unix:relative', 'unix:', `unix:/${'x'.repeat(107)}`, 'x', '']) expect(parseLinkAddress(text)).toBe(undefined)
  })
})

describe('TLS', () => {
  test('certificates of one authority are the proof; no certificate or another authority is none', async () => {
    makeRig()
    const [ours, others] = await Promise.all([createTestPki(), createTestPki()])
    const proof = { is: 'mtls' } as const
    const tls = { cert: ours.serverCert, key: ours.serverKey, ca: ours.ca }
    const asClient = { cert: ours.clientCert, key: ours.clientKey, ca: ours.ca }
    const { address } = await rig.listen(testSettings('backend', 'b', { proof, tls }))
    rig.dial(address, testSettings('frontend', 'f', { proof, tls: asClient }))
    await greet()
    rig.opened[0]!.send(2, Buffer.alloc(2_000_000, 7))
    await rig.accepted[0]!.until(() => rig.accepted[0]!.frames.length === 2)
    expect(rig.accepted[0]!.frames[1]!.body.equals(Buffer.alloc(2_000_000, 7))).toBe(true)

    for (const wrong of [
      { cert: others.clientCert, key: others.clientKey, ca: ours.ca },
      { ...asClient, ca: others.ca },
      { ...asClient, serverName: 'elsewhere.example' },
    ]) {
      const count = rig.refusals.length
      const dialer = rig.dial(address, testSettings('frontend', 'x', { proof, tls: wrong }))
      await rig.until(() => rig.refusals.length > count)
      dialer.stop('refused')
    }
    expect(rig.refusals[2]).toEqual({ is: 'network', code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
    const plain = await rig.raw(address)
    plain.write('plain bytes')
    plain.resume()
    await once(plain, 'close')
    expect([rig.accepted.length, rig.opened.length]).toEqual([1, 1])
    expect(rig.listening.counters.refusedByListener.reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(4)
  })

  test('settings that contradict each other are refused', async () => {
    makeRig()
    const at = { host: '127.0.0.1', port: 0 }
    await expect(rig.listen(testSettings('backend', 'b', { proof: { is: 'mtls' } }), at)).rejects.toThrow(LinkSettingsError)
    await expect(rig.listen(testSettings('backend', 'b', { proof: { is: 'key', key: Buffer.from('short') } }), at)).rejects.toThrow(
      LinkSettingsError,
    )
    const tls = { cert: Buffer.from('x'), key: Buffer.from('x'), ca: Buffer.from('x') }
    await expect(rig.listen(testSettings('backend', 'b', { tls }), at)).rejects.toThrow(LinkSettingsError)
    await expect(rig.listen(testSettings('backend', 'b', { tls }), { path: rig.path() })).rejects.toThrow(LinkSettingsError)
    expect(() => rig.dial(at, testSettings('frontend', 'f', { tls }))).toThrow(LinkSettingsError)
    await expect(rig.listen(testSettings('backend', ''), at)).rejects.toThrow(LinkSettingsError)
    expect(() => rig.dial(at, testSettings('frontend', 'f'.repeat(256)))).toThrow(LinkSettingsError)
  })
})

test('a handler of a link is never told of the end before it is told of the beginning', async () => {
  const { address } = await makeRig().listen()
  rig.onAccept = (end: TestEnd) => end.link.close('at once')
  rig.dial(address)
  await rig.until(() => rig.accepted.length > 0)
  const end = rig.accepted[0]!
  await end.until(() => end.closed !== null)
  expect([end.closed, end.closedCount, rig.listening.openCount]).toEqual(['at once', 1, 0])
})
