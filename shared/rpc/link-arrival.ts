import type { Socket } from 'node:net'
import { thrownField } from '#shared/base/thrown.ts'
import { FramedSocket } from './framed-socket.ts'
import type { FrameSink } from './framed-socket.ts'
import { HANDSHAKE_FRAME_BYTES_MAX, ListenerHandshake, refusalBody } from './handshake.ts'
import type { HandshakeStep, LinkRefusal } from './handshake.ts'
import type { LinkHub } from './link-hub.ts'
import { LinkMethod } from './link-methods.ts'
import { handshakeSettings } from './link-settings.ts'
import type { LinkSettings } from './link-settings.ts'
import type { Link, LinkHandler } from './link.ts'

/** The service's answer to a peer that has proven itself (`link.peer`): its end of the link, or why it wants none. The peer is told. */
export type AcceptLink = (link: Link) => LinkHandler | { readonly declined: string }

/** What the connections of one listener share. */
export interface LinkPort {
  readonly settings: LinkSettings
  readonly hub: LinkHub
  readonly accept: AcceptLink
  /** Connections that have not finished the handshake. */
  readonly arrivals: Set<LinkArrival>
}

/** A connection from accept to the end of its handshake. */
export class LinkArrival implements FrameSink {
  readonly #port: LinkPort
  readonly #raw: Socket
  readonly #cancelDeadline: () => void
  #stream: FramedSocket | null = null
  #handshake: ListenerHandshake | null = null
  #isOver = false
  #hasLeft = false

  constructor(raw: Socket, port: LinkPort) {
    this.#raw = raw
    this.#port = port
    port.arrivals.add(this)
    port.hub.unauthenticatedCount++
    // Until `begin`, TLS has the socket; afterwards both of these come too late to do anything.
    raw.on('error', () => undefined)
    raw.once('close', () => {
      this.refuse('closed', 'in the handshake')
      this.#leave()
    })
    const { handshakeMs } = port.hub.limits
    this.#cancelDeadline = port.hub.timers.after(handshakeMs, () => this.refuse('timeout', `no handshake in ${handshakeMs} ms`))
  }

  /** @param socket the raw one, or the TLS socket around it */
  begin(socket: Socket, isCertified: boolean): void {
    if (this.#isOver) return void socket.destroy()
    const { settings, hub } = this.#port
    this.#handshake = new ListenerHandshake(handshakeSettings(settings, hub.limits), isCertified)
    this.#stream = new FramedSocket(socket, HANDSHAKE_FRAME_BYTES_MAX, hub.timers, this)
  }

  /** Ends the connection without a link; `tell` goes out before. Does nothing once the handshake is over. */
  refuse(reason: LinkRefusal, detail: string, tell: Buffer | null = null): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#cancelDeadline()
    const { hub } = this.#port
    hub.counters.refused('listener', reason)
    hub.log.warn('link_refused', { reason, detail, from: this.#raw.remoteAddress })
    if (this.#stream === null || tell === null) {
      this.#stream?.destroy()
      this.#raw.destroy()
    } else {
      this.#stream.writeFrame(LinkMethod.Refused, tell)
      this.#stream.end()
    }
  }

  onFrame = (method: number, bytes: Buffer, start: number, end: number): boolean => {
    if (this.#isOver) return false
    const step = this.#handshake!.onFrame(method, bytes.subarray(start, end))
    if (step.is === 'send') this.#stream!.writeFrame(step.method, step.body)
    else if (step.is === 'refused') this.refuse(step.reason, step.detail, step.tell)
    else return this.#onProven(step)
    return !this.#isOver
  }

  onChunk(): void {}

  onMalformed(detail: string): void {
    this.refuse('malformed', detail)
  }

  onEnd(reason: string): void {
    this.refuse('closed', reason)
  }

  #onProven(step: HandshakeStep & { is: 'proven' }): boolean {
    const { hub, accept } = this.#port
    const stream = this.#stream!
    const link = hub.makeLink(stream, step.peer, step.peerWindowBytes)
    const answer = this.#ask(() => accept(link))
    if ('declined' in answer) {
      link.abandon(answer.declined)
      this.refuse('declined', `${step.peer.id}: ${answer.declined}`, refusalBody('declined', answer.declined))
      return false
    }
    this.#isOver = true
    this.#cancelDeadline()
    this.#leave()
    stream.writeFrame(LinkMethod.Ready, step.body)
    link.start(answer)
    hub.admit(link)
    stream.handOver(link, hub.limits.frameBytesMax)
    return true
  }

  #ask(accept: () => LinkHandler | { readonly declined: string }): LinkHandler | { readonly declined: string } {
    try {
      return accept()
    } catch (error) {
      this.#port.hub.log.error('link_accept_failed', { error: thrownField(error) })
      return { declined: 'fault' }
    }
  }

  /** It counts as unauthenticated until it is a link or closed: the last words of a refusal may take a while. */
  #leave(): void {
    if (this.#hasLeft) return
    this.#hasLeft = true
    this.#port.arrivals.delete(this)
    this.#port.hub.unauthenticatedCount--
  }
}
