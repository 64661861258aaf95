import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Fractions } from '../base/random.ts'
import { FramedSocket, socketErrorText } from './framed-socket.ts'
import type { FrameSink } from './framed-socket.ts'
import { DialerHandshake, HANDSHAKE_FRAME_BYTES_MAX } from './handshake.ts'
import type { ExpectedPeer, HandshakeStep, LinkRefusal } from './handshake.ts'
import { linkAddressText } from './link-address.ts'
import type { LinkAddress } from './link-address.ts'
import type { LinkHub } from './link-hub.ts'
import { LinkMethod } from './link-methods.ts'
import { checkLinkSettings, handshakeSettings } from './link-settings.ts'
import type { LinkSettings } from './link-settings.ts'
import type { SocketLink } from './link-socket.ts'
import { connectTls, tlsDialing } from './link-tls.ts'
import type { TlsDialing } from './link-tls.ts'
import type { Link, LinkHandler } from './link.ts'

/** Why an attempt to link came to nothing. */
export type DialRefusal =
  /** The machine is there and nobody listens (ECONNREFUSED, or ENOENT of a Unix socket): the process is gone. */
  | { readonly is: 'kernel'; readonly code: string }
  /** No answer, to the connect or in the handshake. */
  | { readonly is: 'timeout'; readonly phase: 'connect' | 'handshake' }
  /** The peer answered, and there will be no link while both stay as they are. */
  | { readonly is: 'handshake'; readonly reason: LinkRefusal; readonly detail: string }
  /** Anything else: name not found, no route, reset, TLS. */
  | { readonly is: 'network'; readonly code: string }

/** What a service does with the links that its dialer makes. */
export interface LinkOwner {
  /** A link stands. It is dialed anew once the handler's `onClosed` has been called. */
  onOpen(link: Link): LinkHandler
  /** An attempt failed; the next one follows by itself. */
  onRefused(refusal: DialRefusal): void
}

export interface LinkDialerOptions {
  readonly hub: LinkHub
  readonly address: LinkAddress
  readonly settings: LinkSettings
  readonly expected?: ExpectedPeer
  readonly owner: LinkOwner
  readonly random: Fractions
}

/** Pause before the second attempt, doubled with each one that fails up to the maximum; then 50 to 100 % of it, so that callers spread. */
const BACKOFF_MS_MIN = 100
const BACKOFF_MS_MAX = 2_000
const TCP_KEEP_ALIVE_MS = 60_000
const NOBODY_LISTENS = ['ECONNREFUSED', 'ENOENT']

/**
 * Keeps one link to one address: dials, again after a pause when that fails, and at once when a link breaks that has stood for a while
 * (so that its owner learns soon whether the process is gone).
 */
export class LinkDialer {
  readonly #options: LinkDialerOptions
  readonly #tls: TlsDialing | null
  #phase: 'idle' | 'waiting' | 'dialing' | 'open' | 'stopped' = 'idle'
  /** Attempts in a row that came to nothing; links that broke at once count. */
  #failures = 0
  #openedMs = 0
  #attempt: DialAttempt | null = null
  #cancelPause: (() => void) | null = null
  #link: Link | null = null

  /** @throws {LinkSettingsError} */
  constructor(options: LinkDialerOptions) {
    checkLinkSettings(options.settings, options.address)
    this.#options = options
    this.#tls = options.settings.tls === null ? null : tlsDialing(options.settings.tls)
  }

  /** The link that stands, if one does. */
  get link(): Link | null {
    return this.#link
  }

  /** Begins to dial. Once. */
  start(): void {
    if (this.#phase === 'idle') this.#dial()
  }

  /** No more attempts; a link that stands is closed. The owner hears no `onRefused` any more. */
  stop(reason: string): void {
    if (this.#phase === 'stopped') return
    this.#phase = 'stopped'
    this.#cancelPause?.()
    this.#attempt?.cancel()
    this.#attempt = null
    this.#link?.close(reason)
  }

  #dial(): void {
    this.#phase = 'dialing'
    this.#attempt = new DialAttempt(this.#options, this.#tls, {
      onLink: link => this.#onLink(link),
      onFailed: refusal => this.#onFailed(refusal),
    })
  }

  #onLink(link: SocketLink): void {
    this.#phase = 'open'
    this.#attempt = null
    this.#link = link
    this.#openedMs = this.#options.hub.nowMs()
    link.start(this.#options.owner.onOpen(link), () => this.#onClosed())
  }

  #onClosed(): void {
    this.#link = null
    if (this.#phase !== 'open') return
    const hasStood = this.#options.hub.nowMs() - this.#openedMs >= BACKOFF_MS_MAX
    this.#failures = hasStood ? 0 : this.#failures + 1
    this.#pause()
  }

  #onFailed(refusal: DialRefusal): void {
    const { hub, owner, address } = this.#options
    this.#attempt = null
    this.#failures++
    if (refusal.is === 'handshake') hub.counters.refused('dialer', refusal.reason)
    hub.log.warn('link_dial_failed', { to: linkAddressText(address), ...refusal })
    this.#phase = 'waiting'
    owner.onRefused(refusal)
    // The owner may have stopped us.
    if (this.#isWaiting()) this.#pause()
  }

  #isWaiting(): boolean {
    return this.#phase === 'waiting'
  }

  #pause(): void {
    this.#phase = 'waiting'
    const { hub, random } = this.#options
    const fullMs = this.#failures === 0 ? 0 : Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures - 1, 16))
    this.#cancelPause = hub.timers.after(fullMs * (0.5 + random.fraction() / 2), () => this.#dial())
  }
}

interface DialOutcome {
  /** Gives the link its handler. */
  onLink(link: SocketLink): void
  onFailed(refusal: DialRefusal): void
}

/** One connection from dialing to the end of its handshake. Exactly one of the outcomes follows, unless it is cancelled. */
class DialAttempt implements FrameSink {
  readonly #hub: LinkHub
  readonly #outcome: DialOutcome
  readonly #socket: Socket
  readonly #handshake: DialerHandshake
  #stream: FramedSocket | null = null
  #cancelDeadline: () => void
  #isOver = false

  constructor({ hub, address, settings, expected }: LinkDialerOptions, tls: TlsDialing | null, outcome: DialOutcome) {
    this.#hub = hub
    this.#outcome = outcome
    this.#handshake = new DialerHandshake(handshakeSettings(settings, hub.limits), expected)
    if ('path' in address) this.#socket = connect({ path: address.path })
    else if (tls !== null) this.#socket = connectTls(address, tls)
    else this.#socket = connect({ host: address.host, port: address.port, noDelay: true })
    const isTls = tls !== null && !('path' in address)
    this.#socket.on('error', error => this.#onError(error))
    this.#socket.once('close', () => this.#onError(new Error('closed')))
    this.#socket.once(isTls ? 'secureConnect' : 'connect', () => this.#onConnected())
    this.#cancelDeadline = hub.timers.after(hub.limits.connectMs, () => this.#fail({ is: 'timeout', phase: 'connect' }))
  }

  cancel(): void {
    this.#settle()
    this.#socket.destroy()
  }

  onFrame = (method: number, bytes: Buffer, start: number, end: number): boolean => {
    if (this.#isOver) return false
    const step = this.#handshake.onFrame(method, bytes.subarray(start, end))
    if (step.is === 'send') this.#stream!.writeFrame(step.method, step.body)
    else if (step.is === 'proven') this.#onProven(step)
    else {
      if (step.tell !== null) this.#stream!.writeFrame(LinkMethod.Refused, step.tell)
      this.#fail({ is: 'handshake', reason: step.reason, detail: step.detail })
      return false
    }
    return true
  }

  onChunk(): void {}

  onMalformed(detail: string): void {
    this.#fail({ is: 'handshake', reason: 'malformed', detail })
  }

  onEnd(reason: string): void {
    this.#fail({ is: 'handshake', reason: 'closed', detail: reason })
  }

  #onConnected(): void {
    if (this.#isOver) return
    this.#cancelDeadline()
    const { timers, limits } = this.#hub
    this.#cancelDeadline = timers.after(limits.handshakeMs, () => this.#fail({ is: 'timeout', phase: 'handshake' }))
    this.#socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS)
    this.#stream = new FramedSocket(this.#socket, HANDSHAKE_FRAME_BYTES_MAX, timers, this)
    this.#stream.writeFrame(LinkMethod.Hello, this.#handshake.begin())
  }

  #onProven(step: HandshakeStep & { is: 'proven' }): void {
    this.#settle()
    const stream = this.#stream!
    const link = this.#hub.makeLink(stream, step.peer, step.peerWindowBytes)
    stream.handOver(link, this.#hub.limits.frameBytesMax)
    this.#outcome.onLink(link)
    this.#hub.admit(link)
  }

  /** Before there is a handshake, what the kernel or TLS says; then the FramedSocket reports the end. */
  #onError(error: Error): void {
    if (this.#stream !== null) return
    const code = socketErrorText(error)
    this.#fail(NOBODY_LISTENS.includes(code) ? { is: 'kernel', code } : { is: 'network', code })
  }

  #fail(refusal: DialRefusal): void {
    if (this.#isOver) return
    this.#settle()
    if (this.#stream === null || refusal.is !== 'handshake') this.#socket.destroy()
    else this.#stream.end()
    this.#outcome.onFailed(refusal)
  }

  #settle(): void {
    this.#isOver = true
    this.#cancelDeadline()
  }
}
