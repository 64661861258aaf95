import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { AnswerKind, PendingAnswers } from './pending-answers.ts'

interface Expected {
  readonly kind: AnswerKind
  readonly packetId: number
  reason: number | null
  list: readonly ReasonCode[] | null
  text: string | null
}

const KINDS = Object.values(AnswerKind)

describe('PendingAnswers', () => {
  test('against a plain list: answers leave in the order of the requests, each as soon as nothing before it waits', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ do: fc.constant('add' as const), kind: fc.constantFrom(...KINDS), packetId: fc.nat(65_535) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(), reason: fc.nat(0xa2) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('again' as const), which: fc.nat(), reason: fc.nat(0xa2) }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), steps => {
        const answers = new PendingAnswers()
        const model: Expected[] = []
        let left = 0
        const sent: unknown[] = []
        const wanted: unknown[] = []
        const settle = (ticket: number, reason: number): void => {
          const entry = model[ticket]
          const isList = entry?.kind === AnswerKind.Suback || entry?.kind === AnswerKind.Unsuback
          const list = isList ? [reason as ReasonCode] : null
          const text = !isList && reason % 3 === 0 ? `because of ${reason}` : null
          answers.settle(ticket, reason as ReasonCode, list, { sendAnswer: (...answer) => sent.push(answer) }, text)
          if (entry === undefined || ticket < left) return
          entry.reason = reason
          entry.list = list
          entry.text = text
          for (; left < model.length && model[left]!.reason !== null; left++) {
            const { kind, packetId, reason: why, list: reasons, text: own } = model[left]!
            wanted.push([kind, packetId, why, reasons, own])
          }
        }
        for (const each of steps) {
          if (each.do === 'add') {
            expect(answers.add(each.kind, each.packetId)).toBe(model.length)
            model.push({ kind: each.kind, packetId: each.packetId, reason: null, list: null, text: null })
          } else if (each.do === 'settle' && model.length > left) {
            settle(left + (each.which % (model.length - left)), each.reason)
          } else if (each.do === 'again') settle(each.which % (model.length + 2), each.reason)
          expect(sent).toEqual(wanted)
          expect(answers.length).toBe(model.length - left)
        }
      }),
      { numRuns: 300 },
    )
  })

  test('grows while the window moves on, and keeps what is in it', () => {
    const answers = new PendingAnswers()
    const sent: number[] = []
    const settle = (ticket: number): void => answers.settle(ticket, 0, null, { sendAnswer: (_, packetId) => sent.push(packetId) })
    for (let i = 0; i < 5; i++) settle(answers.add(AnswerKind.Puback, i))
    const tickets = Array.from({ length: 3_000 }, (_, i) => answers.add(AnswerKind.Puback, 5 + i))
    for (const ticket of tickets.slice(1).reverse()) settle(ticket)
    expect(sent).toHaveLength(5)
    settle(tickets[0]!)
    expect(sent).toEqual(Array.from({ length: 3_005 }, (_, i) => i))
    expect(answers.length).toBe(0)
  })
})
