import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { afterEach } from 'vitest'

const run = promisify(execFile)
const GIVE_UP_S = 50

function addressOf(port: number): readonly string[] {
  return ['-h', '127.0.0.1', '-p', String(port)]
}

/** mosquitto_pub; resolves when it has what its QoS promises. @throws it could not */
export async function publish(port: number, ...args: readonly string[]): Promise<void> {
  await run('mosquitto_pub', [...addressOf(port), ...args], { timeout: GIVE_UP_S * 1_000 })
}

/** mosquitto_pub that publishes `payload`, however long, as one message. */
export async function publishBytes(port: number, payload: Buffer, ...args: readonly string[]): Promise<void> {
  const child = spawn('mosquitto_pub', [...addressOf(port), ...args, '-s'], { stdio: ['pipe', 'ignore', 'inherit'] })
  const ended = once(child, 'close')
  child.stdin.end(payload)
  const [code] = (await ended) as [number | null]
  if (code !== 0) throw new Error(`mosquitto_pub ended with ${code}`)
}

const running = new Set<Subscriber>()
afterEach(async () => {
  await Promise.all([...running].map(subscriber => subscriber.kill()))
})

/** mosquitto_sub, and what it prints. It ends by itself after as many messages as `-C` says, or with the test. */
export class Subscriber {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #ended: Promise<unknown>
  #hasEnded = false
  #out = ''

  constructor(port: number, args: readonly string[]) {
    // Its debug lines tell when SUBACK came; without buffering by line they would come at the end.
    const all = ['-oL', 'mosquitto_sub', ...addressOf(port), '-d', '-W', String(GIVE_UP_S), ...args]
    this.#child = spawn('stdbuf', all, { stdio: ['ignore', 'pipe', 'pipe'] })
    running.add(this)
    this.#child.stdout.on('data', (text: Buffer) => (this.#out += text.toString()))
    this.#ended = once(this.#child, 'close').then(() => {
      this.#hasEnded = true
      running.delete(this)
    })
  }

  /** One that has its SUBACK. */
  static async open(port: number, ...args: readonly string[]): Promise<Subscriber> {
    const subscriber = new Subscriber(port, args)
    while (!subscriber.#out.includes('Subscribed (mid')) await subscriber.more()
    return subscriber
  }

  /** Messages so far, as it prints them. */
  get received(): readonly string[] {
    const lines = this.#out.split('\n').slice(0, -1)
    return lines.filter(line => line !== '' && !/^(Client|Subscribed)/.test(line))
  }

  /** Resolves when it has printed more. @throws it has ended */
  async more(): Promise<void> {
    const before = this.#out.length
    await Promise.race([once(this.#child.stdout, 'data'), this.#ended])
    if (this.#hasEnded && this.#out.length === before) throw new Error(`mosquitto_sub ended: ${this.#out}`)
  }

  /** All messages, when it has ended by itself. */
  async messages(): Promise<readonly string[]> {
    await this.#ended
    return this.received
  }

  /** As a crash would: no DISCONNECT. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }
}
