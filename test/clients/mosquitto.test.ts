import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { createPki } from '#shared/config/pki.ts'
import { type RealBroker, scratchDirectory, startBroker } from '../limits/real-broker.ts'

const run = promisify(execFile)
const VERSIONS = ['mqttv31', 'mqttv311', 'mqttv5'] as const

async function publish(port: number, ...args: readonly string[]): Promise<void> {
  await run('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(port), ...args], { timeout: 15_000 })
}

/** mosquitto_sub that has its SUBACK, and what it prints. */
class Subscriber {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #ended: Promise<unknown>
  #out = ''

  constructor(port: number, args: readonly string[]) {
    // Its debug lines tell when SUBACK came; without buffering by line they would come at the end.
    const all = ['-oL', 'mosquitto_sub', '-h', '127.0.0.1', '-p', String(port), '-d', '-W', '15', ...args]
    this.#child = spawn('stdbuf', all, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child.stdout.on('data', (text: Buffer) => (this.#out += text.toString()))
    this.#ended = once(this.#child, 'close')
  }

  async subscribed(): Promise<this> {
    const early = this.#ended.then(() => {
      if (!this.#out.includes('Subscribed (mid')) throw new Error(`mosquitto_sub ended: ${this.#out}`)
    })
    while (!this.#out.includes('Subscribed (mid')) await Promise.race([once(this.#child.stdout, 'data'), early])
    return this
  }

  /** What it was sent; it ends by itself after as many messages as `-C` says. */
  async messages(): Promise<string[]> {
    await this.#ended
    return this.#out.split('\n').filter(line => line !== '' && !/^(Client|Subscribed)/.test(line))
  }
}

function subscribe(broker: RealBroker, ...args: readonly string[]): Promise<Subscriber> {
  return new Subscriber(broker.port, args).subscribed()
}

describe('mosquitto_pub and mosquitto_sub', () => {
  test('every version to every version at every QoS', async () => {
    const broker = await startBroker()
    await Promise.all(
      VERSIONS.map(async version => {
        const subscriber = await subscribe(broker, '-V', version, '-q', '2', '-t', `${version}/#`, '-F', '%t %q %p', '-C', '9')
        for (const from of VERSIONS) {
          for (const qos of ['0', '1', '2']) await publish(broker.port, '-V', from, '-q', qos, '-t', `${version}/${from}`, '-m', `m${qos}`)
        }
        expect(await subscriber.messages()).toEqual(VERSIONS.flatMap(from => [0, 1, 2].map(qos => `${version}/${from} ${qos} m${qos}`)))
      }),
    )
  })

  test.each(VERSIONS)('%s: retained messages, their end, a Will, a session that was away', async version => {
    const broker = await startBroker()
    await publish(broker.port, '-V', version, '-r', '-q', '1', '-t', 'retained', '-m', 'kept')
    const first = await subscribe(broker, '-V', version, '-t', 'retained', '-F', '%r %p', '-C', '1')
    expect(await first.messages()).toEqual(['1 kept'])
    await publish(broker.port, '-V', version, '-r', '-n', '-t', 'retained')
    const nothing = new Subscriber(broker.port, ['-V', version, '-t', 'retained', '--retained-only', '-E'])
    expect(await nothing.messages()).toEqual([])

    const witness = await subscribe(broker, '-V', version, '-q', '2', '-t', 'will', '-t', 'retained', '-F', '%t %p', '-C', '1')
    const dying = spawn('mosquitto_sub', [
      '-h',
      '127.0.0.1',
      '-p',
      String(broker.port),
      '-V',
      version,
      '-t',
      'x',
      '-i',
      'dying',
      '--will-topic',
      'will',
      '--will-payload',
      'gone',
      '--will-qos',
      '2',
    ])
    await expect.poll(() => broker.metric('aio_broker_store_will_messages')).toBe(1)
    dying.kill('SIGKILL')
    expect(await witness.messages()).toEqual(['will gone'])

    const session = ['-V', version, '-i', 'away', '-c', '-q', '1', '-t', 'away', ...(version === 'mqttv5' ? ['-x', '1000'] : [])]
    await run('mosquitto_sub', ['-h', '127.0.0.1', '-p', String(broker.port), ...session, '-E'])
    for (const payload of ['1', '2']) await publish(broker.port, '-V', version, '-q', '1', '-t', 'away', '-m', payload)
    const back = new Subscriber(broker.port, [...session, '-C', '2'])
    expect(await back.messages()).toEqual(['1', '2'])
  })

  test('$share: each message to one of the group', async () => {
    const broker = await startBroker()
    const group = await Promise.all(
      ['mqttv5', 'mqttv311'].map(version => subscribe(broker, '-V', version, '-q', '1', '-t', '$share/group/work', '-C', '5')),
    )
    for (let i = 0; i < 10; i++) await publish(broker.port, '-q', '1', '-t', 'work', '-m', String(i))
    const got = (await Promise.all(group.map(member => member.messages()))).flat()
    expect(got.sort()).toEqual(Array.from({ length: 10 }, (_, i) => String(i)))
  })

  test('MQTT 5 properties arrive as they were sent', async () => {
    const broker = await startBroker()
    const subscriber = await subscribe(broker, '-V', 'mqttv5', '-t', 'p', '-F', '%C %R %D %P %E %p', '-C', '1')
    const properties: readonly (readonly string[])[] = [
      ['content-type', 'text/plain'],
      ['response-topic', 'answers'],
      ['correlation-data', 'c1'],
      ['user-property', 'k', 'v'],
      ['message-expiry-interval', '100'],
    ]
    await publish(broker.port, '-V', 'mqttv5', '-t', 'p', '-m', 'x', ...properties.flatMap(each => ['-D', 'PUBLISH', ...each]))
    expect(await subscriber.messages()).toEqual(['text/plain answers c1 k:v 100 x'])
  })

  test('TLS, and a client certificate where one is asked for', async () => {
    const pki = await createPki(await scratchDirectory())
    const server = ['--tls-cert', pki.serverCert, '--tls-key', pki.serverKey, '--mqtts', '127.0.0.1:0']
    const broker = await startBroker(...server)
    const port = broker.portOf('MQTT over TLS')
    const subscriber = await new Subscriber(port, ['--cafile', pki.ca, '-q', '1', '-t', 'secret', '-C', '1']).subscribed()
    await publish(port, '--cafile', pki.ca, '-V', 'mqttv5', '-q', '1', '-t', 'secret', '-m', 'whisper')
    expect(await subscriber.messages()).toEqual(['whisper'])

    const strict = await startBroker(...server, '--tls-client-ca', pki.ca)
    const strictPort = strict.portOf('MQTT over TLS')
    await publish(strictPort, '--cafile', pki.ca, '--cert', pki.clientCert, '--key', pki.clientKey, '-q', '1', '-t', 't', '-m', 'x')
    await expect(publish(strictPort, '--cafile', pki.ca, '-q', '1', '-t', 't', '-m', 'x')).rejects.toThrow()
    await expect(publish(port, '--cafile', join(await scratchDirectory(), 'none'), '-t', 't', '-m', 'x')).rejects.toThrow()
  })

  test('a payload of 10 MB, both ways', async () => {
    const broker = await startBroker()
    const subscriber = await subscribe(broker, '-q', '1', '-t', 'big', '-F', '%l', '-C', '1')
    const child = spawn('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(broker.port), '-q', '1', '-t', 'big', '-s'], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    child.stdin.end(Buffer.alloc(10_000_000, 'x'))
    expect(await subscriber.messages()).toEqual(['10000000'])
  })
})
