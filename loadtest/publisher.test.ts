import { describe, expect, test } from 'vitest'
import { LoadClient } from './client.ts'
import { Engine } from './engine.ts'
import { filler, publishTemplate } from './frames.ts'
import { readU32 } from './message.ts'
import { WindowPublisher } from './publisher.ts'

function setUp(options: { qos: 0 | 1; shares: number; window: number }) {
  const client = new LoadClient(new Engine(), { host: '127.0.0.1', port: 1, protocol: 4, tls: null })
  const freed: WindowPublisher[] = []
  const template = publishTemplate(4, { topic: 't', qos: options.qos, payload: filler(16) })
  const publisher = new WindowPublisher({ id: 7, runId: 9, client, template, ...options }, { slotFreed: which => void freed.push(which) })
  const sent = (index: number) => client.outBuffer.subarray(index * template.bytes.length, (index + 1) * template.bytes.length)
  const ticket = (index: number) => readU32(sent(index), template.payloadAt + 8)
  return { publisher, freed, sent, ticket, template }
}

describe('WindowPublisher', () => {
  test('a message carries stamp, publisher, ticket, run and its Packet Identifier', () => {
    const { publisher, sent, template } = setUp({ qos: 1, shares: 1, window: 2 })
    publisher.publish(4_000_000_000)
    const frame = sent(0)
    expect([...frame.subarray(template.packetIdAt, template.packetIdAt + 2)]).toEqual([0, 1])
    const header = [0, 4, 8, 12].map(at => readU32(frame, template.payloadAt + at))
    expect(header).toEqual([4_000_000_000, 7, 1 << 12, 9])
  })

  test('a slot is free only after the acknowledgement and every copy', () => {
    const { publisher, freed, ticket } = setUp({ qos: 1, shares: 2, window: 1 })
    publisher.publish(0)
    expect(publisher.freeSlots).toBe(0)
    expect(publisher.arrived(ticket(0))).toBe(true)
    publisher.acked(1)
    expect(freed).toHaveLength(0)
    expect(publisher.arrived(ticket(0))).toBe(true)
    expect(freed).toHaveLength(1)
    expect(publisher.freeSlots).toBe(1)
  })

  test('a third copy, an old generation and an unknown Packet Identifier count for nothing', () => {
    const { publisher, freed, ticket } = setUp({ qos: 0, shares: 1, window: 1 })
    publisher.publish(0)
    expect(publisher.arrived(ticket(0))).toBe(true)
    expect(publisher.arrived(ticket(0))).toBe(false)
    publisher.publish(0)
    expect(publisher.arrived(ticket(0))).toBe(false)
    publisher.acked(999)
    expect(freed).toHaveLength(1)
    expect(publisher.arrived(ticket(1))).toBe(true)
  })

  test('giving up counts what is missing and frees the window', () => {
    const { publisher } = setUp({ qos: 0, shares: 5, window: 3 })
    publisher.publish(0)
    publisher.publish(0)
    expect(publisher.giveUp()).toBe(10)
    expect(publisher.freeSlots).toBe(3)
  })
})
