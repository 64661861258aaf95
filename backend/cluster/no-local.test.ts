import { beforeEach, describe, expect, test } from 'vitest'
import { NO_CONNECTION } from '#shared/rpc/owner-port.ts'
import { Shards } from '#shared/rpc/shards.ts'
import { ClusterRig } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

const PERSISTENT = { expirySeconds: 100 }

let rig: ClusterRig

beforeEach(async () => {
  rig = await ClusterRig.open({ backends: ['a'], frontends: ['f', 'g'] })
})

/** A client that wants none of its own messages, by one frontend. */
async function connected(frontend: string, options: object = PERSISTENT): Promise<RigClusterClient> {
  const client = await rig.frontend(frontend).connect('c', options)
  client.subscribe('t', { noLocal: true })
  await rig.settle()
  client.take()
  return client
}

async function received(client: RigClusterClient): Promise<string[]> {
  await rig.settle()
  return client.takePayloads()
}

describe('[MQTT-3.8.3-3] a message does not go to a connection with the Client Identifier of its publisher', () => {
  test.each([
    ['the same session', PERSISTENT],
    ['a new one that starts clean', { ...PERSISTENT, cleanStart: true }],
    ['one after a session that ended', {}],
  ])('that has come since by another frontend, with %s', async (_, options) => {
    const former = await connected('f', options)
    const client = await connected('g', options)
    former.publish('t', 'on its way', { qos: 1 })
    rig.frontend('g').publish('t', 'by somebody else', { qos: 1 })
    expect(await received(client)).toEqual(['by somebody else'])
  })

  test('once its frontend says that the former connection is gone, its number means nothing any more', async () => {
    const former = await connected('f')
    const client = await connected('g')
    former.detach()
    former.publish('t', 'by nobody', { qos: 1 })
    expect(await received(client)).toEqual(['by nobody'])
  })

  test('that nobody here has heard of, when the caller says who has published it', async () => {
    const client = await connected('g')
    for (const publisher of ['c', 'd']) {
      const shards = new Shards()
      for (const { number } of rig.backend('a').engine.shards) shards.add(number)
      rig
        .frontend('f')
        .owner('a')
        .publish(7, NO_CONNECTION + 99, true, shards, rig.message('t', `by ${publisher}`, { qos: 1 }), publisher)
    }
    expect(await received(client)).toEqual(['by d'])
  })
})
