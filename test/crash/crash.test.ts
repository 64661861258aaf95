import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Inbox } from '../cast/ledger.ts'
import { crash } from './rounds.ts'

let dataDirectory = ''
beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'millrace-crash-'))
})
afterEach(() => rm(dataDirectory, { recursive: true, force: true }))

/** `npm run crash` is the long version. */
test('kill -9 under load, three times: nothing acknowledged is lost, no QoS 2 message comes twice [MQTT-4.1.0-1]', async () => {
  const rounds = await crash({ dataDirectory, rounds: 3, seed: 1, loadMsMax: 500 })
  const found = rounds.map(({ lost, duplicates, disordered, violations, refused }) => ({
    lost,
    duplicates,
    disordered,
    violations,
    refused,
  }))
  expect(found).toEqual(Array.from({ length: 3 }, () => ({ lost: [], duplicates: [], disordered: [], violations: [], refused: 0 })))
  for (const { acknowledged, delivered } of rounds) expect(Math.min(acknowledged, delivered)).toBeGreaterThan(0)
}, 120_000)

test('the checker sees a message that comes twice, late, or again as it may', () => {
  const inbox = new Inbox()
  for (const [number, qos] of [
    [1, 2],
    [3, 2],
    [2, 2],
    [3, 2],
    [4, 1],
    [4, 1],
  ] as const)
    inbox.receive('a', number, qos)
  expect(inbox).toMatchObject({ delivered: 4, repeated: 1, duplicates: ['a 3'], disordered: ['a 2 after 3'] })
  expect([inbox.has({ topic: 'a', number: 2 }), inbox.has({ topic: 'a', number: 5 }), inbox.has({ topic: 'b', number: 1 })]).toEqual([
    true,
    false,
    false,
  ])
})
