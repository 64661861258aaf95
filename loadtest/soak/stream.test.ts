import { expect, test } from 'vitest'
import { LoadClient } from '../client.ts'
import { Engine } from '../engine.ts'
import { filler, publishTemplate } from '../frames.ts'
import { Histogram } from '../histogram.ts'
import { writeU32 } from '../message.ts'
import { NumberedStream } from './stream.ts'

function message(number: number, runId = 5): Uint8Array {
  const bytes = new Uint8Array(16)
  writeU32(bytes, 4, 3)
  writeU32(bytes, 8, number)
  writeU32(bytes, 12, runId)
  return bytes
}

test('a gap is a loss until it is filled, a lower number a repeat, another run nothing', () => {
  const engine = new Engine()
  const publisher = new LoadClient(engine, { host: '127.0.0.1', port: 1, protocol: 4, tls: null })
  const template = publishTemplate(4, { topic: 't', qos: 1, payload: filler(16) })
  const stream = new NumberedStream({ engine, runId: 5, id: 3, publisher, template, latency: new Histogram() })
  for (const number of [0, 1, 1, 4, 2, 2, 5]) stream.delivered(0x32, message(number), 0)
  stream.delivered(0x32, message(9, 6), 0)
  expect(stream).toMatchObject({ received: 5, repeats: 2, disordered: 1 })
  expect(stream.missing).toBe(-5) // six expected, one of them a gap, none of them sent here
  stream.send(0)
  expect(stream).toMatchObject({ sent: 0, overruns: 1 })
})
