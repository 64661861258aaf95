import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SEAL_BYTES, Sealing } from './sealing.ts'

const SECRET = Buffer.alloc(32, 7)
const CONTEXT = ['--mqtts 8883', 'plant', 'client-1', 'SCRAM-SHA-256']
const CONTENT = Buffer.from('what must be remembered')

function make(secret: Uint8Array = SECRET): Sealing {
  return new Sealing(secret)
}

test('what one service has sealed another of the cluster opens', () => {
  const sealed = make().seal('exchange', CONTEXT, CONTENT)
  expect(sealed).toHaveLength(CONTENT.length + SEAL_BYTES)
  expect(sealed.includes(CONTENT)).toBe(false)
  expect(make().open('exchange', CONTEXT, sealed)).toEqual(CONTENT)
})

test('nothing is a content too', () => {
  expect(make().open('proof', [], make().seal('proof', [], Buffer.alloc(0)))).toEqual(Buffer.alloc(0))
})

test('the same content is another seal each time, in one process and in two', () => {
  const [one, two] = [make(), make()]
  const seals = [one, one, two, two].map(each => each.seal('exchange', CONTEXT, CONTENT).toString('hex'))
  expect(new Set(seals).size).toBe(4)
})

test.each<[string, 'exchange' | 'proof', readonly string[]]>([
  ['another kind', 'proof', CONTEXT],
  ['another client', 'exchange', ['--mqtts 8883', 'plant', 'client-2', 'SCRAM-SHA-256']],
  ['another port', 'exchange', ['--mqtts 8884', 'plant', 'client-1', 'SCRAM-SHA-256']],
  ['the same characters cut elsewhere', 'exchange', ['--mqtts 8883p', 'lant', 'client-1', 'SCRAM-SHA-256']],
  ['fewer texts', 'exchange', CONTEXT.slice(0, 3)],
  ['one more that is empty', 'exchange', [...CONTEXT, '']],
])('it does not open for %s', (_, kind, context) => {
  expect(make().open(kind, context, make().seal('exchange', CONTEXT, CONTENT))).toBeNull()
})

test('it does not open for another cluster', () => {
  expect(make(Buffer.alloc(32, 8)).open('exchange', CONTEXT, make().seal('exchange', CONTEXT, CONTENT))).toBeNull()
})

test('with any byte changed, cut or appended it does not open', () => {
  const sealing = make()
  const sealed = sealing.seal('exchange', CONTEXT, CONTENT)
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed)
    changed[at]! ^= 1
    expect(sealing.open('exchange', CONTEXT, changed), `byte ${at}`).toBeNull()
    expect(sealing.open('exchange', CONTEXT, sealed.subarray(0, at)), `cut at ${at}`).toBeNull()
  }
  expect(sealing.open('exchange', CONTEXT, Buffer.concat([sealed, Buffer.from([0])]))).toBeNull()
})

test('any bytes open as nothing', () => {
  const sealing = make()
  fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), bytes => sealing.open('proof', CONTEXT, bytes) === null))
  fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), bytes => sealing.open('proof', CONTEXT, Buffer.from([1, ...bytes])) === null))
})

test('after a change of the secret it opens what both have sealed, the last four secrets back', () => {
  const secrets = [1, 2, 3, 4, 5].map(byte => Buffer.alloc(32, byte))
  const seals = secrets.map(secret => make(secret).seal('proof', CONTEXT, CONTENT))
  const sealing = make(secrets[0])
  for (const secret of secrets.slice(1)) sealing.use(secret)
  sealing.use(secrets[4]!)
  expect(seals.map(sealed => sealing.open('proof', CONTEXT, sealed) !== null)).toEqual([false, true, true, true, true])
  expect(make(secrets[4]).open('proof', CONTEXT, sealing.seal('proof', CONTEXT, CONTENT))).toEqual(CONTENT)
})

test('many other processes do not make it grow or forget its own', () => {
  const sealing = make()
  const own = sealing.seal('proof', CONTEXT, CONTENT)
  for (let i = 0; i < 300; i++) expect(sealing.open('proof', CONTEXT, make().seal('proof', CONTEXT, CONTENT))).toEqual(CONTENT)
  expect(sealing.open('proof', CONTEXT, own)).toEqual(CONTENT)
})
