import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Message } from '#shared/mqtt/message.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { Delivery } from './delivery.ts'
import { AWAITING_PUBACK, AWAITING_PUBCOMP, AWAITING_PUBREC, FREE, PacketIdentifiers, type DeliveryPhase } from './packet-identifiers.ts'

const PHASES = [AWAITING_PUBACK, AWAITING_PUBREC, AWAITING_PUBCOMP] as const

function delivery(sequence: number): Delivery {
  return new Delivery(new Message(), sequence, 1, false, null, null)
}

/** What is in use, beside the thing itself. */
class Twin {
  readonly ids = new PacketIdentifiers()
  readonly model = new Map<number, { phase: DeliveryPhase; delivery: Delivery | null }>()
  #sequence = 0

  take(phase: DeliveryPhase, isKept: boolean): number {
    const kept = isKept ? delivery(++this.#sequence) : null
    const id = this.ids.take(phase, kept)
    expect(id).toBeGreaterThan(0)
    expect(id).toBeLessThan(65_536)
    expect(this.model.has(id), `${id} is given out twice`).toBe(false)
    this.model.set(id, { phase, delivery: kept })
    return id
  }

  restore(id: number, phase: DeliveryPhase): void {
    if (this.model.has(id)) return
    const kept = delivery(++this.#sequence)
    this.ids.restore(id, phase, kept)
    this.model.set(id, { phase, delivery: kept })
  }

  free(id: number): void {
    this.ids.free(id)
    this.model.delete(id)
  }

  check(): void {
    expect(this.ids.inUse).toBe(this.model.size)
    for (const [id, { phase, delivery: kept }] of this.model) {
      expect(this.ids.phase(id)).toBe(phase)
      expect(this.ids.delivery(id)).toBe(kept)
    }
    const kept = [...this.model.values()].flatMap(each => (each.delivery === null ? [] : [each.delivery.sequence]))
    expect(this.ids.deliveries().map(({ sequence }) => sequence)).toEqual(kept.sort((a, b) => a - b))
  }
}

describe('Packet Identifiers of messages to a client', () => {
  test('[MQTT-2.2.1-4] never one twice at once, whatever is taken, restored, advanced and freed', () => {
    const command = fc.tuple(
      fc.constantFrom('take', 'take', 'take', 'free', 'phase', 'restore', 'forget'),
      fc.nat(),
      fc.constantFrom(...PHASES),
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), commands => {
        const twin = new Twin()
        for (const [what, number, phase] of commands) {
          const inUse = [...twin.model.keys()]
          const id = inUse[number % Math.max(1, inUse.length)]
          if (what === 'take') twin.take(phase, number % 3 > 0)
          else if (what === 'restore') twin.restore((number % 65_535) + 1, phase)
          else if (id === undefined) continue
          else if (what === 'free') twin.free(id)
          else if (what === 'phase') {
            twin.ids.setPhase(id, phase)
            twin.model.get(id)!.phase = phase
          } else {
            twin.ids.forgetDelivery(id)
            twin.model.get(id)!.delivery = null
          }
        }
        twin.check()
        for (const id of twin.model.keys()) twin.free(id)
        twin.check()
      }),
    )
  })

  test('go round at 65,535 past those that are stuck, and 0 is never one', () => {
    const twin = new Twin()
    const stuck = new Set([twin.take(AWAITING_PUBREC, true), twin.take(AWAITING_PUBACK, false)])
    const random = new SeededRandom(1)
    const flying: number[] = []
    for (let taken = 0; taken < 200_000; taken++) {
      const id = twin.take(AWAITING_PUBACK, false)
      expect(stuck.has(id)).toBe(false)
      flying.push(id)
      if (flying.length > random.int(1, 20)) twin.free(flying.shift()!)
      if (taken % 50_000 === 0) stuck.add(twin.take(AWAITING_PUBREC, true))
    }
    twin.check()
  })

  test('all 65,535 can be in use at once', () => {
    const ids = new PacketIdentifiers()
    const taken = new Set(Array.from({ length: 65_535 }, () => ids.take(AWAITING_PUBACK, null)))
    expect([taken.size, ids.inUse, taken.has(0)]).toEqual([65_535, 65_535, false])
    ids.free(777)
    expect(ids.take(AWAITING_PUBREC, null)).toBe(777)
  })

  test('restoring them all, in any order, and one that is there already', () => {
    const twin = new Twin()
    for (const id of [65_535, 1, 9, 17, 8, 32_768, 2]) twin.restore(id, AWAITING_PUBREC)
    twin.ids.restore(9, AWAITING_PUBCOMP, twin.model.get(9)!.delivery!)
    twin.model.get(9)!.phase = AWAITING_PUBCOMP
    twin.check()
    expect(twin.take(AWAITING_PUBACK, true)).toBe(3)
  })

  test('what is not in use has no phase and no delivery; freeing it or changing its phase is a bug of ours', () => {
    const ids = new PacketIdentifiers()
    const id = ids.take(AWAITING_PUBACK, delivery(1))
    for (const other of [0, id + 8, id + 1, 65_535]) {
      expect([ids.phase(other), ids.delivery(other)]).toEqual([FREE, null])
      expect(() => ids.free(other)).toThrow('not in use')
      expect(() => ids.setPhase(other, AWAITING_PUBACK)).toThrow('not in use')
      ids.forgetDelivery(other)
    }
    expect(ids.inUse).toBe(1)
  })
})
