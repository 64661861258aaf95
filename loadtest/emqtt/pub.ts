import type { PublishTemplate } from '../frames.ts'
import { filler, publishTemplate } from '../frames.ts'
import { nowMs } from '../monotonic.ts'
import type { Output } from '../output.ts'
import { waitForCount } from '../progress.ts'
import { Crowd } from './crowd.ts'
import type { EmqttFlags, NumberedClient } from './flags.ts'
import { emqttHelp, fillIn, parseEmqttFlags } from './flags.ts'

const TICK_MS = 1
/** With no pause between messages, a client stops at so much that the kernel has not taken. */
const UNSENT_BYTES_MAX = 65_536
/** Messages that one client without pause sends per tick at most. */
const BURST_MAX = 200
/** After the last message, its acknowledgement gets this long. */
const ACKS_TIMEOUT_S = 5

/** `pub`: each client publishes at its interval, until --limit or interrupted. @throws {UsageError} */
export async function pub(argv: readonly string[], output: Output): Promise<number> {
  const flags = parseEmqttFlags('pub', argv)
  if (!flags) {
    output.out(emqttHelp('pub'))
    return 0
  }
  const crowd = new Crowd(flags, output)
  const publishing = new Publishing(flags, crowd)
  const finished = publishing.run(output)
  const waiting: NumberedClient[] = []
  await crowd.connect('pub', client => {
    if (flags.waitBeforePublishing) waiting.push(client)
    else publishing.add(client)
  })
  for (const client of waiting) publishing.add(client)
  if (crowd.clients.length === 0) publishing.stop()
  await finished
  return crowd.close()
}

interface Sender {
  readonly numbered: NumberedClient
  readonly template: PublishTemplate
  dueMs: number
  packetId: number
  unacknowledged: number
}

class Publishing {
  readonly #flags: EmqttFlags
  readonly #crowd: Crowd
  readonly #senders: Sender[] = []
  #sent = 0
  #acked = 0
  #timer: NodeJS.Timeout | null = null
  #finish: (() => void) | null = null

  constructor(flags: EmqttFlags, crowd: Crowd) {
    this.#flags = flags
    this.#crowd = crowd
  }

  add(numbered: NumberedClient): void {
    const { target, topic, username, qos, retain, payload } = this.#flags
    const bytes = typeof payload === 'number' ? filler(payload) : new TextEncoder().encode(payload)
    const filled = fillIn(topic, { number: numbered.number, clientId: numbered.clientId, username })
    const template = publishTemplate(target.protocol, { topic: filled, qos, retain, payload: bytes })
    const sender: Sender = { numbered, template, dueMs: nowMs() + this.#flags.messageIntervalMs, packetId: 0, unacknowledged: 0 }
    numbered.client.acks = {
      acked: () => {
        sender.unacknowledged--
        this.#acked++
        this.#crowd.tally.add('puback')
      },
    }
    this.#senders.push(sender)
  }

  /** Resolves at the limit, with everything acknowledged, or when interrupted. */
  async run(output: Output): Promise<void> {
    const done = new Promise<void>(resolve => {
      this.#finish = resolve
    })
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    const stop = (): void => this.stop()
    output.interrupted.addEventListener('abort', stop, { once: true })
    if (output.interrupted.aborted) stop()
    await done
    output.interrupted.removeEventListener('abort', stop)
    if (this.#flags.qos > 0) await waitForCount(() => this.#acked, this.#sent, ACKS_TIMEOUT_S)
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer)
    this.#finish?.()
  }

  #tick(): void {
    const now = nowMs()
    for (const sender of this.#senders) {
      for (let burst = 0; burst < BURST_MAX && this.#maySend(sender, now); burst++) this.#send(sender, now)
    }
    if (this.#limitReached) this.stop()
  }

  get #limitReached(): boolean {
    return this.#flags.limit > 0 && this.#sent >= this.#flags.limit
  }

  #maySend(sender: Sender, now: number): boolean {
    const { client } = sender.numbered
    if (this.#limitReached || now < sender.dueMs || !client.isReady || client.unsentBytes > UNSENT_BYTES_MAX) return false
    return this.#flags.qos === 0 || sender.unacknowledged < Math.min(this.#flags.inflightMax, client.receiveMaximum)
  }

  #send(sender: Sender, now: number): void {
    const { client } = sender.numbered
    const { bytes, packetIdAt } = sender.template
    const at = client.reserve(bytes.length)
    client.outBuffer.set(bytes, at)
    if (packetIdAt > 0) {
      sender.packetId = sender.packetId >= 65_535 ? 1 : sender.packetId + 1
      sender.unacknowledged++
      client.outBuffer[at + packetIdAt] = sender.packetId >> 8
      client.outBuffer[at + packetIdAt + 1] = sender.packetId
    }
    // Late messages are caught up one by one, but not over more than one interval.
    sender.dueMs = Math.max(sender.dueMs + this.#flags.messageIntervalMs, now - this.#flags.messageIntervalMs)
    this.#sent++
    this.#crowd.tally.add('pub')
  }
}
