import { describe, expect, test } from 'vitest'
import { external, unique, useBroker } from './broker.ts'
import { hex } from './bytes.ts'
import { publish } from './packets.ts'
import type { RawClient } from './raw-client.ts'
import { expectFatal, expectNoMessage } from './scenes.ts'

const broker = useBroker('--sys-topic-interval-seconds', '1')

/** The filter must be refused: SUBACK with a failure, or the end of the connection. */
async function expectFilterRefused(filter: string): Promise<void> {
  const client = await broker.connect()
  const outcome = await client.subscribe({ filter, qos: 1 }).then(
    suback => suback.reasons[0]!,
    () => 'closed' as const,
  )
  if (outcome === 'closed') await client.ended()
  else expect(outcome, filter).toBe(0x8f)
}

/** Which of `topics` a subscription to `filter` delivers. */
async function matches(client: RawClient, filter: string, topics: string[]): Promise<string[]> {
  const end = unique('end')
  await client.subscribe([
    { filter, qos: 0 },
    { filter: end, qos: 0 },
  ])
  for (const topic of [...topics, end]) client.send(publish({ topic }))
  const found: string[] = []
  for (;;) {
    const { topic } = await client.receive()
    if (topic === end) break
    found.push(topic)
  }
  await client.unsubscribe(filter, end)
  return found
}

describe('4.7.1 wildcards', () => {
  test('[MQTT-4.7.1-1] # stands alone or behind a separator, and last', async () => {
    for (const filter of ['a#', 'a/b#', 'a/#/b', '#/', '#/a', '##', '+#', 'a/+#', '#a']) await expectFilterRefused(filter)
    const client = await broker.connect()
    const t = unique('t')
    const topics = [t, `${t}/`, `${t}/a`, `${t}/a/b`, `${t}x`, `/${t}`, `${t}/a/b/c/d/e`]
    expect(await matches(client, `${t}/#`, topics)).toEqual([t, `${t}/`, `${t}/a`, `${t}/a/b`, `${t}/a/b/c/d/e`])
  })

  test('[MQTT-4.7.1-2] + fills a whole level, at any place', async () => {
    for (const filter of ['a+', '+a', 'a/b+', 'a/+b/c', '++', 'a/++']) await expectFilterRefused(filter)
    const client = await broker.connect()
    const t = unique('t')
    const topics = [t, `${t}/`, `${t}/a`, `${t}/a/b`, `${t}//b`, `a/${t}`, `/${t}`, `a/${t}/b`]
    expect(await matches(client, `${t}/+`, topics)).toEqual([`${t}/`, `${t}/a`])
    expect(await matches(client, `${t}/+/b`, topics)).toEqual([`${t}/a/b`, `${t}//b`])
    expect(await matches(client, `+/${t}`, topics)).toEqual([`a/${t}`, `/${t}`])
    expect(await matches(client, `+/${t}/+`, topics)).toEqual([`a/${t}/b`])
    expect(await matches(client, `${t}/+/#`, topics)).toEqual([`${t}/`, `${t}/a`, `${t}/a/b`, `${t}//b`])
  })
})

describe('4.7.2 topics beginning with $', () => {
  test('[MQTT-4.7.2-1] filters that begin with a wildcard do not match topics that begin with $', async () => {
    const [client, publisher] = await Promise.all([broker.connect(), broker.connect()])
    const t = unique('t')
    await client.subscribe([
      { filter: `+/${t}/#`, qos: 1 },
      { filter: `+/${t}`, qos: 1 },
    ])
    for (const topic of [`$a/${t}`, `$a/${t}/b`, `$/${t}`]) await publisher.publish({ topic, payload: 'hidden', qos: 1, retain: true })
    await expectNoMessage(client, publisher)
    await client.subscribe([{ filter: `+/${t}/#`, qos: 1 }])
    await expectNoMessage(client, publisher)
    await publisher.publish({ topic: `a/${t}`, payload: 'seen', qos: 1 })
    expect((await client.receive()).payload.toString()).toBe('seen')
  })

  test('[MQTT-4.7.2-1] # alone does not bring $ topics', async () => {
    const [client, publisher] = await Promise.all([broker.connect(), broker.connect()])
    const end = unique('end')
    await client.subscribe({ filter: '#', qos: 0, retainHandling: 2 })
    await publisher.publish({ topic: `$${end}`, qos: 1 })
    await publisher.publish({ topic: end, qos: 1 })
    for (;;) {
      const { topic } = await client.receive()
      expect(topic.startsWith('$')).toBe(false)
      if (topic === end) break
    }
  })

  test.skipIf(external)('§4.7.2 $SYS is served to those who ask for it', async () => {
    const client = await broker.connect()
    await client.subscribe({ filter: '$SYS/#' })
    expect((await client.receive()).topic).toMatch(/^\$SYS\/./)
  })

  test('§4.7.2 clients cannot write below $SYS', async () => {
    const [client, publisher] = await Promise.all([broker.connect(), broker.connect()])
    const topic = `$SYS/${unique('x')}`
    await client.subscribe({ filter: topic, qos: 1 })
    await publisher.publish({ topic, payload: 'forged', qos: 1, retain: true }).catch(() => publisher.ended())
    await expectNoMessage(client, await broker.connect())
    await client.subscribe({ filter: `${topic}/#`, qos: 1 })
    await client.expectNothing()
  })
})

describe('4.7.3 semantics', () => {
  test('[MQTT-4.7.3-1] Topic Names and Topic Filters have at least one character', async () => {
    await expectFatal(broker, publish({ topic: '', qos: 1 }), 0x82, 0x81)
    await expectFilterRefused('')
    const client = await broker.connect()
    expect(await matches(client, '/', ['/', ' '])).toEqual(['/'])
    expect(await matches(client, ' ', ['/', ' '])).toEqual([' '])
  })

  test('[MQTT-4.7.3-2] a Topic Name or Topic Filter with U+0000 is a Malformed Packet', async () => {
    await expectFatal(broker, publish({ topic: 'a\0' }), 0x81)
    await expectFatal(broker, hex('82 08 0001 00 0002 6100 00'), 0x81)
    await expectFatal(broker, hex('a2 07 0001 00 0002 0061'), 0x81)
  })

  test('[MQTT-4.7.3-3] Topic Names and Topic Filters may have 65,535 bytes', async () => {
    const client = await broker.connect()
    const topic = unique('t').padEnd(65_535, 'ä'.repeat(40_000)).slice(0, 40_000)
    const longest = Buffer.concat([Buffer.from(topic), Buffer.alloc(65_535)]).subarray(0, 65_535)
    const name = longest.toString('latin1').replaceAll(/[^a-z0-9]/g, 'x')
    expect((await client.subscribe({ filter: name, qos: 1 })).reasons).toEqual([1])
    await client.publish({ topic: name, qos: 1 })
    expect((await client.receive()).topic).toBe(name)
  })

  test('[MQTT-4.7.3-4] topics are compared as they are: no case folding, normalisation, trimming or percent decoding', async () => {
    const client = await broker.connect()
    const t = unique('T')
    const alike = [
      `${t}/é`,
      `${t}/e\u0301`,
      `${t}/É`,
      `${t.toLowerCase()}/é`,
      `${t}/é/`,
      `/${t}/é`,
      `${t}//é`,
      `${t}/ é`,
      `${t}/./é`,
      `${t}/%C3%A9`,
      `${t}/\ufb01`,
      `${t}/fi`,
    ]
    for (const topic of alike) expect(await matches(client, topic, alike)).toEqual([topic])
  })

  test.skipIf(external)('§4.7.3 topics of 128 levels work, deeper ones are refused with 0x90', async () => {
    const client = await broker.connect()
    const deepest = Array(128).fill(unique('l')).join('/')
    expect(
      (
        await client.subscribe([
          { filter: deepest, qos: 1 },
          { filter: `${deepest}/x`, qos: 1 },
        ])
      ).reasons,
    ).toEqual([1, 0x8f])
    expect((await client.publish({ topic: deepest, qos: 1 }))!.reason).toBe(0)
    expect((await client.receive()).topic).toBe(deepest)
    expect((await client.publish({ topic: `${deepest}/x`, qos: 1 }))!.reason).toBe(0x90)
    expect((await client.publish({ topic: `${deepest}/x`, qos: 2 }))!.reason).toBe(0x90)
  })
})
