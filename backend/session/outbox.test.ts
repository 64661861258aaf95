import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Message } from '#shared/mqtt/message.ts'
import { Delivery } from './delivery.ts'
import { Outbox } from './outbox.ts'
import { AWAITING_PUBACK } from './packet-identifiers.ts'

function queued(sequence: number): Delivery {
  const message = new Message()
  message.payloadEnd = sequence
  return new Delivery(message, sequence, 1, false, null, null)
}

/** As after a new connection: with an identifier already, waiting to go again. */
function identified(outbox: Outbox, sequence: number): Delivery {
  const delivery = queued(sequence)
  delivery.packetId = outbox.ids.take(AWAITING_PUBACK, delivery)
  return delivery
}

function order(outbox: Outbox): number[] {
  return Array.from({ length: outbox.waiting.length }, (_, index) => outbox.waiting.at(index)!.sequence)
}

test('only what has no identifier yet counts as queued', () => {
  const outbox = new Outbox()
  outbox.enqueue(identified(outbox, 1))
  outbox.enqueue(queued(2))
  outbox.enqueue(queued(3))
  expect([outbox.queuedMessages, outbox.queuedBytes]).toEqual([2, 2 * new Message().storedBytes + 5])
})

test('the oldest that may be dropped is taken out of the middle, and the order of the others stays', () => {
  const outbox = new Outbox()
  for (const sequence of [1, 2]) outbox.enqueue(identified(outbox, sequence))
  for (const sequence of [3, 4, 5]) outbox.enqueue(queued(sequence))
  expect([outbox.takeOldestQueued()?.sequence, order(outbox)]).toEqual([3, [1, 2, 4, 5]])
  expect([outbox.takeOldestQueued()?.sequence, outbox.takeOldestQueued()?.sequence]).toEqual([4, 5])
  expect([outbox.takeOldestQueued(), order(outbox), outbox.queuedMessages, outbox.queuedBytes]).toEqual([null, [1, 2], 0, 0])
})

test('[MQTT-4.4.0-1] on a new connection all that was sent goes first, oldest first, then what waited; nothing is in the window', () => {
  const step = fc.constantFrom('queue', 'send', 'acknowledge', 'restart')
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat())), steps => {
      const outbox = new Outbox()
      const sent = new Map<number, Delivery>()
      let sequence = 0
      for (const [what, number] of steps) {
        if (what === 'queue') outbox.enqueue(queued(++sequence))
        else if (what === 'restart') outbox.restart()
        else if (what === 'send') {
          const delivery = outbox.waiting.shift()
          if (delivery === undefined) continue
          if (delivery.packetId === 0) {
            outbox.leaveQueue(delivery)
            delivery.packetId = outbox.ids.take(AWAITING_PUBACK, delivery)
          }
          delivery.inWindow = true
          outbox.inWindow++
          sent.set(delivery.sequence, delivery)
        } else {
          const delivery = [...sent.values()].filter(({ inWindow }) => inWindow)[number % Math.max(1, sent.size)]
          if (delivery === undefined) continue
          outbox.ids.free(delivery.packetId)
          outbox.inWindow--
          sent.delete(delivery.sequence)
        }
      }
      outbox.restart()
      const expected = [...sent.keys()].sort((a, b) => a - b)
      const waiting = order(outbox)
      expect(waiting.slice(0, expected.length)).toEqual(expected)
      expect(waiting).toEqual([...waiting].sort((a, b) => a - b))
      expect([outbox.inWindow, outbox.queuedMessages]).toEqual([0, waiting.length - expected.length])
    }),
  )
})
