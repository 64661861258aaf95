import { copyFile, mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import * as packets from '../conformance/packets.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { BrokerProcess } from './broker-process.ts'

const TIMEOUT_MS = 60_000
const HOUR_SECONDS = 3_600

let dataDirectory = ''
let broker: BrokerProcess
beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'millrace-restart-'))
  broker = new BrokerProcess(dataDirectory)
})
afterEach(async () => {
  if (broker.isRunning) await broker.kill()
  await rm(dataDirectory, { recursive: true, force: true })
})

/** A connected client; by default its session outlives the connection. */
async function connect(clientId: string, options: Omit<packets.Connect, 'version'> & { version?: 4 | 5 } = {}): Promise<RawClient> {
  const { version = 5, ...more } = options
  const client = await RawClient.open(broker.host, broker.port, version)
  const properties = version === 5 ? { properties: { sessionExpiryInterval: HOUR_SECONDS } } : {}
  return client.connect({ clientId, cleanStart: false, ...properties, ...more })
}

/** A session of an absent client, subscribed to `filter`. */
async function absentSubscriber(clientId: string, filter: string, options: Parameters<typeof connect>[1] = {}): Promise<void> {
  const client = await connect(clientId, options)
  await client.subscribe({ filter, qos: 2 })
  await client.disconnect()
}

describe('restart', () => {
  test.each(['terminate', 'kill'] as const)(
    '%s: queues, QoS 2 exchanges in every phase, Subscriptions and Retained Messages are back',
    async how => {
      await broker.start()
      await absentSubscriber('v5', 'a/#')
      await absentSubscriber('v4', 'a/#', { version: 4 })
      const half = await connect('half')
      await half.subscribe({ filter: 'half/#', qos: 2 })
      const publisher = await connect('publisher')
      await publisher.publish({ topic: 'a/1', payload: 'one', qos: 1 })
      await publisher.publish({ topic: 'a/2', payload: 'two', qos: 2, retain: true })
      for (const payload of ['received', 'released']) await publisher.publish({ topic: 'half/x', payload, qos: 2 })
      const [received, released] = [await half.expect('publish'), await half.expect('publish')]
      half.send(packets.ack('pubrec', released.packetId))
      await half.take('pubrel', released.packetId)
      publisher.send(packets.publish({ topic: 'a/3', payload: 'three', qos: 2, packetId: 33 }))
      await publisher.take('pubrec', 33)

      const exit = await broker[how]()
      if (how === 'terminate') expect(exit).toMatchObject({ code: 0, signal: null })
      await broker.start()

      const [v5, v4] = [await connect('v5'), await connect('v4', { version: 4 })]
      for (const client of [v5, v4]) {
        expect(client.connack.sessionPresent).toBe(true)
        const payloads = [(await client.receive()).payload, (await client.receive()).payload, (await client.receive()).payload]
        expect(payloads.map(String)).toEqual(['one', 'two', 'three'])
        await client.expectNothing()
      }
      const again = await connect('publisher')
      again.send(packets.publish({ topic: 'a/3', payload: 'three', qos: 2, packetId: 33, dup: true }))
      await again.take('pubrec', 33)
      again.send(packets.ack('pubrel', 33))
      await again.take('pubcomp', 33)
      await v5.expectNothing()

      const halfAgain = await connect('half')
      const repeated = await halfAgain.expect('publish')
      expect(repeated).toMatchObject({ dup: true, packetId: received.packetId })
      expect(repeated.payload.toString()).toBe('received')
      expect(await halfAgain.expect('pubrel')).toMatchObject({ packetId: released.packetId })

      const reader = await connect('reader')
      await reader.subscribe({ filter: '#', qos: 0 })
      expect(await reader.expect('publish')).toMatchObject({ topic: 'a/2', retain: true })
      await reader.expectNothing()
    },
    TIMEOUT_MS,
  )

  test(
    'what expires while the process is away is gone: sessions, messages, Retained Messages; Wills that fell due come',
    async () => {
      await broker.start()
      await absentSubscriber('stays', 'a/#')
      await absentSubscriber('expires', 'a/#', { properties: { sessionExpiryInterval: 1 } })
      const doomed = await connect('doomed', {
        properties: { sessionExpiryInterval: 1 },
        will: { topic: 'a/will', payload: 'will', qos: 1, properties: { willDelayInterval: HOUR_SECONDS, messageExpiryInterval: 600 } },
      })
      doomed.drop()
      const publisher = await connect('publisher')
      for (const messageExpiryInterval of [1, 600]) {
        const properties = { messageExpiryInterval }
        await publisher.publish({ topic: `a/${messageExpiryInterval}`, payload: 'x', qos: 1, retain: true, properties })
      }
      await broker.kill()
      await sleep(1_100)
      await broker.start()
      expect((await connect('expires')).connack.sessionPresent).toBe(false)
      const stays = await connect('stays')
      expect(stays.connack.sessionPresent).toBe(true)
      const found = [await stays.receive(), await stays.receive()]
      expect(found.map(({ topic }) => topic).sort()).toEqual(['a/600', 'a/will'])
      for (const { properties } of found) expect(properties.messageExpiryInterval).toBeLessThanOrEqual(600)
      await stays.expectNothing()
      const reader = await connect('reader')
      await reader.subscribe({ filter: 'a/#', qos: 1 })
      expect(await reader.receive()).toMatchObject({ topic: 'a/600', retain: true })
      await reader.expectNothing()
    },
    TIMEOUT_MS,
  )
})

describe('a store that cannot be used: exit code 1, one sentence that names the file, no stack, and nothing is changed', () => {
  /** Starts, expects it to end so, twice: a supervisor would try again. */
  async function expectRefused(process: BrokerProcess, message: RegExp): Promise<void> {
    for (let attempt = 0; attempt < 2; attempt++) {
      await process.launch()
      const { code, signal, stderr } = await process.exited()
      expect({ code, signal }).toEqual({ code: 1, signal: null })
      expect(stderr).toMatch(message)
      expect(stderr).not.toMatch(/\n\s+at /)
    }
  }

  async function filled(): Promise<string> {
    await broker.start()
    await absentSubscriber('v5', 'a/#')
    const publisher = await connect('publisher')
    for (let i = 0; i < 50; i++) await publisher.publish({ topic: 'a/1', payload: 'x'.repeat(2_000), qos: 1 })
    await broker.kill()
    const file = (await readdir(dataDirectory)).find(name => name.endsWith('.mdb'))
    if (file === undefined) throw new Error('no data file')
    return join(dataDirectory, file)
  }

  async function overwrite(file: string, position: number, bytes: Buffer): Promise<void> {
    const handle = await open(file, 'r+')
    await handle.write(bytes, 0, bytes.length, position)
    await handle.close()
  }

  test(
    'a file of something else; it serves again once the file is restored',
    async () => {
      const file = await filled()
      await copyFile(file, `${file}.backup`)
      await writeFile(file, 'this is no store\n'.repeat(1_000))
      await expectRefused(broker, /\.mdb/)
      await copyFile(`${file}.backup`, file)
      await broker.start()
      expect((await connect('v5')).connack.sessionPresent).toBe(true)
    },
    TIMEOUT_MS,
  )

  test(
    'pages overwritten with noise',
    async () => {
      const file = await filled()
      for (let page = 2; page < 20; page++) await overwrite(file, page * 4_096, Buffer.alloc(4_096, 0xa5))
      await expectRefused(broker, /\.mdb/)
    },
    TIMEOUT_MS,
  )

  test(
    'a newer version',
    async () => {
      await overwrite(await filled(), 28, Buffer.from([3]))
      await expectRefused(broker, /\.mdb: .*version 3/)
    },
    TIMEOUT_MS,
  )

  test(
    'another number of shards',
    async () => {
      await filled()
      await expectRefused(new BrokerProcess(dataDirectory, ['--shards', '3']), /shards/)
    },
    TIMEOUT_MS,
  )

  test(
    'the directory of a process that runs; that one goes on serving',
    async () => {
      await broker.start()
      await expectRefused(new BrokerProcess(dataDirectory), new RegExp(dataDirectory))
      await (await connect('client')).ping()
    },
    TIMEOUT_MS,
  )
})
