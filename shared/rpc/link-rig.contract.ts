import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ByteReader } from '../base/byte-reader.ts'
import { systemTimers } from '../base/timers.ts'
import type { Timers } from '../base/timers.ts'
import { ImmediateTurn } from '../base/turn.ts'
import { RecordingLog } from '../telemetry/log.ts'
import type { LinkAddress } from './link-address.ts'
import { LinkDialer } from './link-dialer.ts'
import type { DialRefusal, LinkDialerOptions } from './link-dialer.ts'
import { LinkHub } from './link-hub.ts'
import type { LinkLimits } from './link-limits.ts'
import { listenLinks } from './link-listener.ts'
import type { LinkListener } from './link-listener.ts'
import type { LinkSettings } from './link-settings.ts'
import type { Link, LinkHandler } from './link.ts'

export const TEST_KEY = Buffer.from('a key for tests, long enough')

export function testSettings(role: 'frontend' | 'backend', id: string, more: Partial<LinkSettings> = {}): LinkSettings {
  const self = { cluster: 'test', shards: 64, role, id, instance: `${id}-1` }
  return { self, proof: { is: 'key', key: TEST_KEY }, tls: null, ...more }
}

/** One end of a link: what it heard, and a way to wait for it. */
export class TestEnd implements LinkHandler {
  readonly frames: { readonly method: number; readonly body: Buffer }[] = []
  readonly congestion: boolean[] = []
  closed: string | null = null
  closedCount = 0
  readonly link: Link
  onEach: ((method: number, body: ByteReader) => void) | null = null
  readonly #changed = new EventEmitter()

  constructor(link: Link) {
    this.link = link
  }

  onFrame(method: number, body: ByteReader): void {
    if (this.onEach !== null) this.onEach(method, body)
    else this.frames.push({ method, body: Buffer.from(body.buffer.subarray(body.at, body.end)) })
    this.#changed.emit('change')
  }

  onCongestion(isCongested: boolean): void {
    this.congestion.push(isCongested)
    this.#changed.emit('change')
  }

  onClosed(reason: string): void {
    this.closed = reason
    this.closedCount++
    this.#changed.emit('change')
  }

  send(method: number, body: Uint8Array): void {
    this.link.beginFrame(method).raw(body)
    this.link.endFrame()
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await once(this.#changed, 'change')
  }
}

/** Real sockets on loopback, one hub per side, closed with `close`. */
export class LinkRig {
  readonly log = new RecordingLog()
  readonly listening: LinkHub
  readonly dialing: LinkHub
  /** Ends of the listener's links, in the order in which they came. */
  readonly accepted: TestEnd[] = []
  readonly opened: TestEnd[] = []
  readonly refusals: DialRefusal[] = []
  readonly dialers: LinkDialer[] = []
  decline: string | null = null
  onAccept: ((end: TestEnd) => void) | null = null
  readonly #changed = new EventEmitter()
  readonly #listeners: LinkListener[] = []
  readonly #sockets: Socket[] = []
  readonly #directories: string[] = []

  constructor(limits: Partial<LinkLimits> = {}, timers: Timers = systemTimers) {
    this.listening = makeHub(this.log, limits, timers)
    this.dialing = makeHub(this.log, limits, timers)
  }

  async listen(settings = testSettings('backend', 'b'), at: LinkAddress = { host: '127.0.0.1', port: 0 }): Promise<LinkListener> {
    const listener = await listenLinks(at, settings, this.listening, link => {
      if (this.decline !== null) return { declined: this.decline }
      const end = new TestEnd(link)
      this.accepted.push(end)
      this.onAccept?.(end)
      this.#changed.emit('change')
      return end
    })
    this.#listeners.push(listener)
    return listener
  }

  dial(address: LinkAddress, settings = testSettings('frontend', 'f'), more: Partial<LinkDialerOptions> = {}): LinkDialer {
    const owner = {
      onOpen: (link: Link): TestEnd => {
        const end = new TestEnd(link)
        this.opened.push(end)
        this.#changed.emit('change')
        return end
      },
      onRefused: (refusal: DialRefusal): void => {
        this.refusals.push(refusal)
        this.#changed.emit('change')
      },
    }
    const dialer = new LinkDialer({ hub: this.dialing, address, settings, owner, random: { fraction: () => 0 }, ...more })
    this.dialers.push(dialer)
    dialer.start()
    return dialer
  }

  /** A link with both its ends. */
  async pair(): Promise<{ readonly here: TestEnd; readonly there: TestEnd }> {
    const { address } = await this.listen()
    this.dial(address)
    await this.until(() => this.opened.length > 0)
    return { here: this.opened[0]!, there: this.accepted[0]! }
  }

  /** A plain connection that speaks whatever the test writes. */
  async raw(address: LinkAddress): Promise<Socket> {
    const socket = 'path' in address ? connect(address.path) : connect(address.port, address.host)
    this.#sockets.push(socket)
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    return socket
  }

  /** A path for a socket, in a directory of its own. */
  path(): string {
    const directory = mkdtempSync(join(tmpdir(), 'millrace-link-'))
    this.#directories.push(directory)
    return join(directory, 'link.sock')
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await once(this.#changed, 'change')
  }

  async close(): Promise<void> {
    for (const dialer of this.dialers) dialer.stop('end of test')
    for (const hub of [this.listening, this.dialing]) hub.closeAll('end of test')
    await Promise.all(this.#listeners.map(listener => listener.close()))
    for (const socket of this.#sockets) socket.destroy()
    for (const directory of this.#directories) rmSync(directory, { recursive: true })
  }
}

function makeHub(log: RecordingLog, limits: Partial<LinkLimits>, timers: Timers): LinkHub {
  const turn = new ImmediateTurn([() => hub.endTurn()])
  const hub: LinkHub = new LinkHub({ turn, timers, log, limits })
  return hub
}
