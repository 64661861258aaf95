import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { ack, publish } from './packets.ts'
import type { RawClient } from './raw-client.ts'
import { lasting, resume, seeded } from './scenes.ts'

// Connections that break at every point of every exchange: what was acknowledged must come, in order, and QoS 2 once.
const broker = useBroker()

const MESSAGES = 300
/** With a store on disk each exchange waits for it several times. */
const TIMEOUT_MS = 60_000

/** Publishes 0, 1, 2, … and starts again after each break, sending what is unacknowledged once more, as a client must. */
async function publishThroughBreaks(topic: string, qos: 1 | 2, random: () => number): Promise<void> {
  const session = lasting()
  let client = await broker.connect(session)
  for (let n = 0; n < MESSAGES; n++) {
    const packetId = (n % 60_000) + 1
    let released = false
    for (let dup = false; ; dup = true) {
      try {
        if (!released) client.send(publish({ topic, payload: `${n}`, qos, packetId, dup }))
        if (random() < 0.05) client.drop()
        if (qos === 1) await client.take('puback', packetId)
        else {
          if (!released) await client.take('pubrec', packetId)
          released = true
          client.send(ack('pubrel', packetId))
          if (random() < 0.05) client.drop()
          await client.take('pubcomp', packetId)
        }
        break
      } catch {
        client = await resume(broker, session)
      }
    }
  }
  await client.disconnect()
}

/** Receives until all messages have come, breaking off now and then before, within or after an exchange. */
async function receiveThroughBreaks(session: ReturnType<typeof lasting>, first: RawClient, random: () => number): Promise<string[]> {
  const got: string[] = []
  const seen = new Set<string>()
  /** QoS 2 identifiers whose message was taken and whose PUBREL is due. */
  const awaitingRelease = new Set<number>()
  let client = first
  while (seen.size < MESSAGES || awaitingRelease.size > 0) {
    const packet = await client.next()
    if (packet === 'closed') {
      client = await resume(broker, session)
      continue
    }
    if (packet.type === 'publish') {
      if (packet.qos === 1 || !awaitingRelease.has(packet.packetId)) got.push(packet.payload.toString())
      seen.add(packet.payload.toString())
      if (packet.qos === 2) awaitingRelease.add(packet.packetId)
      if (random() < 0.05) client.drop()
      else client.send(ack(packet.qos === 1 ? 'puback' : 'pubrec', packet.packetId))
    } else if (packet.type === 'pubrel') {
      awaitingRelease.delete(packet.packetId)
      if (random() < 0.05) client.drop()
      else client.send(ack('pubcomp', packet.packetId))
    }
    if (random() < 0.02) client = await resume(broker, session)
  }
  client.drop()
  return got
}

describe('4.3 and 4.4 while connections break', () => {
  test(
    '[MQTT-4.4.0-1] [MQTT-4.6.0-5] QoS 1: every message comes, first times in order',
    async () => {
      for (const seed of [1, 2, 3]) {
        const session = lasting()
        const topic = unique('t')
        const subscriber = await broker.connect(session)
        await subscriber.subscribe({ filter: topic, qos: 1 })
        const [got] = await Promise.all([
          receiveThroughBreaks(session, subscriber, seeded(seed)),
          publishThroughBreaks(topic, 1, seeded(seed + 100)),
        ])
        expect([...new Set(got)]).toEqual(numbers())
      }
    },
    TIMEOUT_MS,
  )

  test(
    '[MQTT-4.3.3-10] [MQTT-4.4.0-1] QoS 2: every message comes once, in order',
    async () => {
      for (const seed of [4, 5, 6]) {
        const session = lasting()
        const topic = unique('t')
        const subscriber = await broker.connect(session)
        await subscriber.subscribe({ filter: topic, qos: 2 })
        const [got] = await Promise.all([
          receiveThroughBreaks(session, subscriber, seeded(seed)),
          publishThroughBreaks(topic, 2, seeded(seed + 100)),
        ])
        expect(got).toEqual(numbers())
      }
    },
    TIMEOUT_MS,
  )

  test.skipIf(external)(
    '§4.8.2 Shared Subscriptions: every QoS 1 message comes to a member, whoever goes away',
    async () => {
      const topic = unique('t')
      const filter = `$share/${unique('g')}/${topic}`
      const random = seeded(7)
      const seen = new Set<string>()
      async function member(ephemeral: boolean): Promise<void> {
        const session = ephemeral ? null : lasting()
        let client = await broker.connect(session ?? {})
        await client.subscribe({ filter, qos: 1 })
        while (seen.size < MESSAGES) {
          const packet = client.poll('publish')
          if (packet && random() >= 0.05) {
            seen.add(packet.payload.toString())
            client.send(ack('puback', packet.packetId))
          } else if (packet) {
            client.drop()
            client = await broker.connect(session ? { ...session, cleanStart: false } : {})
            if (!session) await client.subscribe({ filter, qos: 1 })
          } else await client.ping()
        }
      }
      const keeper = await broker.connect(lasting())
      await keeper.subscribe({ filter: unique('t'), qos: 1 })
      const members = [member(true), member(true), member(false), member(false)]
      await publishThroughBreaks(topic, 1, seeded(107))
      await Promise.all(members)
      expect([...seen].sort((a, b) => Number(a) - Number(b))).toEqual(numbers())
    },
    TIMEOUT_MS,
  )
})

function numbers(): string[] {
  return Array.from({ length: MESSAGES }, (_, n) => `${n}`)
}
