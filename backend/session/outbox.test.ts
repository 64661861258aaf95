import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Message } from '#shared/mqtt/message.ts'
import { Delivery } from './delivery.ts'
import { Outbox } from './outbox.ts'
import { AWAITING_PUBACK } from './packet-identifiers.ts'

function newDelivery(sequence: number): Delivery {
  const message = new Message()
  message.payloadEnd = sequence
  return new Delivery(message, sequence, 1, false, null, null)
}

function sequences(ring: Outbox['due']): number[] {
  return Array.from({ length: ring.length }, (_, index) => ring.at(index)!.sequence)
}

test('the queue counts its bytes, and gives out the oldest', () => {
  const outbox = new Outbox()
  for (const sequence of [2, 3]) outbox.enqueue(newDelivery(sequence))
  expect([outbox.queued.length, outbox.queuedBytes]).toEqual([2, 2 * new Message().storedBytes + 5])
  expect([outbox.takeQueued()?.sequence, outbox.takeQueued()?.sequence, outbox.takeQueued()]).toEqual([2, 3, null])
  expect([outbox.queuedBytes, outbox.isIdle]).toEqual([0, true])
})

test('[MQTT-4.4.0-1] on a new connection all that has an identifier is due, oldest first; nothing is in the window', () => {
  const step = fc.constantFrom('queue', 'identify', 'send', 'acknowledge', 'restart')
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat())), steps => {
      const outbox = new Outbox()
      const unacknowledged = new Map<number, Delivery>()
      let sequence = 0
      for (const [what, number] of steps) {
        if (what === 'queue') outbox.enqueue(newDelivery(++sequence))
        else if (what === 'restart') outbox.restart()
        else if (what === 'identify') {
          const delivery = outbox.takeQueued()
          if (delivery === null) continue
          delivery.packetId = outbox.ids.take(AWAITING_PUBACK, delivery)
          outbox.due.push(delivery)
          unacknowledged.set(delivery.sequence, delivery)
        } else if (what === 'send') {
          const delivery = outbox.due.shift()
          if (delivery === undefined) continue
          delivery.inWindow = true
          outbox.inWindow++
        } else {
          const delivery = [...unacknowledged.values()].filter(({ inWindow }) => inWindow)[number % Math.max(1, unacknowledged.size)]
          if (delivery === undefined) continue
          outbox.ids.free(delivery.packetId)
          outbox.inWindow--
          unacknowledged.delete(delivery.sequence)
        }
      }
      const queued = sequences(outbox.queued)
      outbox.restart()
      expect(sequences(outbox.due)).toEqual([...unacknowledged.keys()].sort((a, b) => a - b))
      expect([sequences(outbox.queued), outbox.inWindow]).toEqual([queued, 0])
    }),
  )
})
