import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readExchange, readProof, writeExchange, writeProof } from './sealed-content.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 20 })
const bytes = fc.uint8Array({ maxLength: 60 })
const number = fc.oneof(fc.nat(300), fc.maxSafeNat())
const entry = fc.record({ method: text, ordinal: number })
const time = fc.double({ noNaN: true, noDefaultInfinity: true })
const exchange = fc.record({ entry, round: number, dataBytes: number, startedMs: time, state: bytes })
const proof = fc.record({ entry, evidence: bytes })

test('what is written is read again', () => {
  fc.assert(
    fc.property(exchange, proof, (anExchange, aProof) => {
      expect(readExchange(writeExchange(anExchange))).toEqual(anExchange)
      expect(readProof(writeProof(aProof))).toEqual(aProof)
    }),
  )
})

test('cut short, or followed by more, it is nothing', () => {
  fc.assert(
    fc.property(exchange, proof, fc.nat(), (anExchange, aProof, cutAt) => {
      for (const [content, read] of [
        [writeExchange(anExchange), readExchange],
        [writeProof(aProof), readProof],
      ] as const) {
        expect(read(content.subarray(0, cutAt % content.length))).toBeNull()
        expect(read(Buffer.concat([content, Buffer.from([0])]))).toBeNull()
      }
    }),
  )
})

test('of a layout that is not known it is nothing', () => {
  const later = (content: Buffer): Buffer => Buffer.concat([Buffer.from([2]), content.subarray(1)])
  const one = { method: 'Scram', ordinal: 0 }
  expect(readExchange(later(writeExchange({ entry: one, round: 1, dataBytes: 0, startedMs: 0, state: Buffer.alloc(0) })))).toBeNull()
  expect(readProof(later(writeProof({ entry: one, evidence: Buffer.alloc(0) })))).toBeNull()
})
