import { expect, test } from 'vitest'
import { BackendRig, NEVER, type RigClient } from '../backend-rig.contract.ts'
import { ask } from '../handlers/ask-store.contract.ts'

/** Of either side of what has memory of its own, and of what a batch keeps. */
const LENGTHS = [0, 1, 128, 1_024, 1_025, 3_900, 4_100, 20_000, 300_000]

async function connected(rig: BackendRig, clientId: string, options: Parameters<BackendRig['connect']>[1] = {}): Promise<RigClient> {
  const client = await rig.connect(clientId, options)
  client.subscribe(`answers/${clientId}`)
  await rig.settle()
  rig.frontend.of(client.connection).length = 0
  return client
}

/** What the client was sent since the last call. */
function sentTo(rig: BackendRig, client: RigClient): string[] {
  const events = rig.frontend.of(client.connection).splice(0)
  return events.flatMap(event => (event.is === 'publish' ? [event.payload] : event.is === 'acknowledged' ? [`PUBACK ${event.ticket}`] : []))
}

const NOTIFY_SET = (value: string): string => `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$${value.length}\r\n${value}\r\n`
const NOTIFY_DELETE = '*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n'

test.each([false, true])('answers and acknowledgements of many requests come in their order; a store that is late: %j', async isLate => {
  const rig = await BackendRig.open({ isLate })
  const [client, other] = [await connected(rig, 'c'), await connected(rig, 'd')]
  for (let round = 0; round < 3; round++) {
    const expected: string[] = []
    for (const [index, length] of LENGTHS.entries()) {
      const value = String.fromCharCode(97 + round + index).repeat(length)
      ask(rig, client, ['SET', `k${index}`, value], 2 * index)
      ask(rig, client, ['GET', `k${index}`], 2 * index + 1)
      ask(rig, other, ['GET', `k${index}`], index)
      expected.push('+OK\r\n', `PUBACK ${2 * index}`, `$${length}\r\n${value}\r\n`, `PUBACK ${2 * index + 1}`)
      // Several commits are under way at once.
      if (index % 3 === 2) rig.endTurn()
    }
    await rig.settle()
    expect(sentTo(rig, client)).toEqual(expected)
    expect(sentTo(rig, other)).toHaveLength(2 * LENGTHS.length)
  }
})

test('an answer that waits in a queue keeps its bytes, whatever is answered after it', async () => {
  const rig = await BackendRig.open()
  const client = await connected(rig, 'c', { expirySeconds: NEVER })
  client.writable(false)
  const values = Array.from({ length: 50 }, (_, index) => `value ${index}`)
  for (const [index, value] of values.entries()) {
    ask(rig, client, ['SET', 'k', value])
    ask(rig, client, ['GET', 'k'])
    if (index % 7 === 0) await rig.settle()
  }
  await rig.settle()
  rig.frontend.of(client.connection).length = 0
  client.writable(true)
  await rig.settle()
  expect(sentTo(rig, client)).toEqual(values.flatMap(value => ['+OK\r\n', `$${value.length}\r\n${value}\r\n`]))
})

test('watchers hear of what expires and of what is set in the same commit in the order in which it was done', async () => {
  const rig = await BackendRig.open({ isLate: true })
  const [client, watcher] = [await connected(rig, 'c'), await connected(rig, 'd')]
  ask(rig, client, ['SET', 'k', '1', 'PX', '1000'])
  ask(rig, watcher, ['KEYNOTIFY', 'k'])
  await rig.settle()
  sentTo(rig, watcher)
  ask(rig, client, ['SET', 'other', 'opens the commit'])
  ask(rig, client, ['SET', 'k', '2', 'PX', '1000'])
  rig.clock.advance(1_500)
  rig.backend.tick()
  ask(rig, client, ['SET', 'k', '3'])
  expect(sentTo(rig, watcher)).toEqual([])
  await rig.settle()
  expect(sentTo(rig, watcher)).toEqual([NOTIFY_SET('2'), NOTIFY_DELETE, NOTIFY_SET('3')])
})

test('what is asked while answers go out waits for its own commit', async () => {
  const rig = await BackendRig.open({ isLate: true })
  const client = await connected(rig, 'c')
  const acknowledged = rig.frontend.acknowledged.bind(rig.frontend)
  let isAsked = false
  rig.frontend.acknowledged = (connection, ticket, reason) => {
    acknowledged(connection, ticket, reason)
    if (isAsked) return
    isAsked = true
    // As by a connection that reads on.
    ask(rig, client, ['SET', 'k', 'v'], 2)
    ask(rig, client, ['GET', 'k'], 3)
  }
  ask(rig, client, ['GET', 'k'], 1)
  expect(sentTo(rig, client)).toEqual(['$-1\r\n', 'PUBACK 1'])
  await rig.settle()
  expect(sentTo(rig, client)).toEqual(['+OK\r\n', 'PUBACK 2', '$1\r\nv\r\n', 'PUBACK 3'])
})
