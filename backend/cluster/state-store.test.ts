import { beforeEach, describe, expect, test } from 'vitest'
import { Permit, permitBytes } from '#shared/authorization/permit.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import { writeFieldProperty, writeUserProperty } from '#shared/mqtt/property-writer.ts'
import { Property } from '#shared/mqtt/property.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { MGET_BYTES_MAX } from '#shared/state-store/command.ts'
import { formatClock } from '#shared/state-store/hybrid-clock.ts'
import { notifyTopic, REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { NEVER } from '../backend-rig.contract.ts'
import type { KeyStore } from '../statestore/key-store.ts'
import { ClusterRig, type ClusterRigOptions } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

const OK = '+OK\r\n'
const set = (value: string): string => `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$${value.length}\r\n${value}\r\n`
const DELETED = '*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n'
const SUCCESS = ReasonCode.Success

/** Backend `a` owns shards 0 and 2, `b` 1 and 3. */
let rig: ClusterRig
/** Its session is in shard 1, at `b`. */
let client: RigClusterClient
/** Of shard 0, at `a`. */
let key: string

beforeEach(() => open())

async function open(options: ClusterRigOptions = {}): Promise<void> {
  rig = await ClusterRig.open(options)
  client = await connect(1, 'c')
  key = keyIn(0)
}

/** A client whose session is in this shard, subscribed to its answers. */
async function connect(shard: number, prefix: string, frontend = 'f'): Promise<RigClusterClient> {
  const connected = await rig.frontend(frontend).connect(rig.keyIn(shard, prefix), { expirySeconds: NEVER })
  connected.subscribe(`answers/${connected.clientId}`)
  await rig.settle()
  connected.take()
  return connected
}

function keyIn(shard: number): string {
  for (let i = 0; ; i++) if (storeShardOf(`k${i}`, rig.shardCount) === shard) return `k${i}`
}

interface AskOptions {
  readonly settledBefore?: number
  readonly responseTopic?: string
  readonly shard?: number
  /** The frontend says what is to be answered. */
  readonly answer?: string
  /** The frontend joins what is answered. */
  readonly isPart?: boolean
}

/** Asks whoever owns the key's shard, as a frontend does: `SET key value …`. */
function ask(sequence: number, request: string, from = client, options: AskOptions = {}): void {
  const { settledBefore = 0, responseTopic = `answers/${from.clientId}`, shard = 0, answer, isPart = false } = options
  const parts = request.split(' ')
  const payload = answer ?? `*${parts.length}\r\n${parts.map(part => `$${part.length}\r\n${part}\r\n`).join('')}`
  const writer = new ByteWriter()
  writeFieldProperty(writer, Property.ResponseTopic, Buffer.from(responseTopic))
  writeFieldProperty(writer, Property.CorrelationData, Buffer.from(String(sequence)))
  writeUserProperty(writer, '__ts', `${rig.clock.wallMs()}:0:${from.clientId}`)
  const message = newMessage(rig.parts.topics.fromName(REQUEST_TOPIC), Buffer.from(payload), 1, false, writer.take())
  const call = {
    clientId: from.clientId,
    fault: null,
    as: isPart ? ('part' as const) : answer === undefined ? ('request' as const) : ('answer' as const),
    message,
  }
  from.frontend.ownerOf(shard)?.askStore(shard, sequence, settledBefore, from.connection, call)
}

/** What the frontend was told about requests, without who told it. */
function answers(frontend = 'f'): string[] {
  const { calls } = rig.frontend(frontend)
  return calls.splice(0).flatMap(call => /(?:storeAsked|unwatched) .*/u.exec(call)?.[0] ?? [])
}

async function payloads(of = client): Promise<string[]> {
  return (await of.drain()).map(({ payload }) => payload)
}

async function asked(sequence: number, request: string, from = client, options: AskOptions = {}): Promise<string[]> {
  ask(sequence, request, from, options)
  return payloads(from)
}

function store(shard = 0): KeyStore {
  return rig.ownerOf(shard)!.engine.shards[shard]!.store!
}

/** The owner of the key's shard has got what was sent, and its records wait for a store that does not answer. */
function reach(): void {
  const owner = rig.backend('a')
  owner.store.isPrompt = false
  rig.linkOf('f', 'a').pair.deliver()
  rig.endTurn(owner)
}

async function failOver(reached = 0): Promise<void> {
  rig.kill('a', reached)
  await rig.takeOrphans('b')
  await rig.settle()
}

describe('a request', () => {
  test('is answered in the shard of its client by the owner of its key, and acknowledged', async () => {
    expect(await asked(1, `SET ${key} v`)).toEqual([OK])
    expect(await asked(2, `GET ${key}`)).toEqual(['$1\r\nv\r\n'])
    expect(answers()).toEqual([`storeAsked 1 ${SUCCESS}`, `storeAsked 2 ${SUCCESS}`])
    expect(rig.backend('b').engine.shards.every(shard => shard.store === null)).toBe(true)
  })

  test('asked twice, it is done once and answered once; acknowledged each time', async () => {
    const first = await asked(1, `SET ${key} v NX`)
    expect([first, await asked(1, `SET ${key} v NX`), answers()]).toEqual([
      [OK],
      [],
      [`storeAsked 1 ${SUCCESS}`, `storeAsked 1 ${SUCCESS}`],
    ])
    await rig.move(0, 'b')
    await rig.settle()
    expect([await asked(1, `SET ${key} v NX`), answers()]).toEqual([[], [`storeAsked 1 ${SUCCESS}`]])
  })

  test.each([
    ['stored and not acknowledged', 9],
    ['lost with its owner', 0],
  ])('%s: asked again, it is done once and answered once', async (_, reached) => {
    ask(1, `SET ${key} mine NX`)
    reach()
    expect([client.take(), answers()]).toEqual([[], []])
    await failOver(reached)
    ask(1, `SET ${key} mine NX`)
    expect([await payloads(), answers()]).toEqual([[OK], [`storeAsked 1 ${SUCCESS}`]])
    expect(await asked(2, `SET ${key} other NX`)).toEqual([':-1\r\n'])
  })

  test('that did nothing does nothing when it is asked again, after its client was told so', async () => {
    await asked(1, `SET ${key} theirs`)
    expect(await asked(2, `SET ${key} mine NX`)).toEqual([':-1\r\n'])
    await failOver()
    await asked(3, `DEL ${key}`)
    expect([await asked(2, `SET ${key} mine NX`), await asked(4, `GET ${key}`)]).toEqual([[], ['$-1\r\n']])
  })

  test('a backend that is no owner any more answers nothing, whether it knows or not', async () => {
    const owner = rig.backend('a')
    ask(1, `SET ${key} v`)
    owner.store.isPrompt = false
    rig.linkOf('f', 'a').pair.deliver()
    await rig.take(0, 'b')
    await rig.settle()
    owner.store.isPrompt = true
    ask(2, `GET ${key}`)
    await rig.settle()
    expect([await payloads(), answers()]).toEqual([['$-1\r\n'], [`storeAsked 2 ${SUCCESS}`]])
    const { owners } = rig.frontend()
    expect(owners.get(0)!.backend).toBe('b')
  })

  test('for a shard that is another’s is left to that one', async () => {
    await rig.move(0, 'b')
    rig.frontend().owners.set(0, { ...rig.frontend().owners.get(0)!, calls: rig.frontend().owner('a') })
    expect([await asked(1, `SET ${key} v`), answers()]).toEqual([[], []])
  })

  test('memory is full: refused, but what was done before is acknowledged', async () => {
    await asked(1, `SET ${key} v`)
    rig.backend('a').engine.isUnderPressure = true
    answers()
    await asked(1, `SET ${key} v`)
    await asked(2, `SET ${key} w`)
    expect(answers()).toEqual([`storeAsked 1 ${SUCCESS}`, `storeAsked 2 ${ReasonCode.QuotaExceeded}`])
    expect(store().keys).toBe(1)
  })

  test('a Response Topic that is none: 0x90, nothing is done, and the backend goes on', async () => {
    for (const [index, responseTopic] of ['a/'.repeat(200), 'a/#', ''].entries()) {
      await asked(index + 1, `SET ${key} v`, client, { responseTopic })
    }
    expect(answers()).toEqual([1, 2, 3].map(sequence => `storeAsked ${sequence} ${ReasonCode.TopicNameInvalid}`))
    expect(await asked(4, `GET ${key}`)).toEqual(['$-1\r\n'])
  })
})

describe('values that a frontend joins', () => {
  const read = (sequence: number, ...keys: readonly string[]): void => client.frontend.ownerOf(0)?.readStore(0, sequence, keys)
  const readAnswers = (): string[] =>
    rig
      .frontend('f')
      .calls.splice(0)
      .flatMap(call => /store(?:Asked|Read) .*/u.exec(call)?.[0] ?? [])

  test('are those of the shard, null for what is not there', async () => {
    await asked(1, `SET ${key} v`)
    readAnswers()
    read(2, 'no', key, key)
    await rig.settle()
    expect(readAnswers()).toEqual(['storeRead 2 none <v> <v>'])
  })

  test('what is not stored yet is read by nobody, nor what a backend that has lost the shard still has', async () => {
    const owner = rig.backend('a')
    await asked(1, `SET ${key} v`)
    readAnswers()
    read(2, key)
    reach()
    expect(readAnswers()).toEqual([])
    await rig.take(0, 'b')
    await rig.settle()
    owner.store.isPrompt = true
    await rig.settle()
    expect(readAnswers()).toEqual([])
    read(2, key)
    await rig.settle()
    expect(readAnswers()).toEqual(['storeRead 2 <v>'])
  })

  test('memory is full: refused', async () => {
    rig.backend('a').engine.isUnderPressure = true
    read(1, key)
    await rig.settle()
    expect(readAnswers()).toEqual([`storeAsked 1 ${ReasonCode.QuotaExceeded}`])
  })

  test('longer than an answer may be: told so', async () => {
    await asked(1, `SET ${key} ${'x'.repeat(MGET_BYTES_MAX / 2 + 1)}`)
    readAnswers()
    read(2, key)
    read(3, key, key)
    await rig.settle()
    const [whole, none] = readAnswers()
    expect([whole!.length > MGET_BYTES_MAX / 2, none]).toEqual([true, 'storeRead 3 too long'])
  })

  test('joined, they are published as the answer; without them the owner answers for its own keys alone', async () => {
    const joined = '*2\r\n$1\r\nv\r\n$-1\r\n'
    ask(1, 'x', client, { answer: joined })
    expect([await payloads(), answers()]).toEqual([[joined], [`storeAsked 1 ${SUCCESS}`]])
    expect(await asked(2, `MGET ${key} ${key}`)).toEqual(['*2\r\n$-1\r\n$-1\r\n'])
    expect(await asked(3, `MGET ${key} ${keyIn(1)}`)).toEqual(['-ERR syntax error\r\n'])
  })
})

describe('a watch of a prefix that a frontend joins', () => {
  const part = { isPart: true }
  const partAnswers = (): string[] =>
    rig
      .frontend('f')
      .calls.splice(0)
      .flatMap(call => /store(?:Asked|Read) .*/u.exec(call)?.[0] ?? [])

  async function watch(sequence: number, request: string, shard = 0): Promise<string[]> {
    partAnswers()
    ask(sequence, request, client, { ...part, shard })
    expect(await payloads(), 'nothing is published').toEqual([])
    return partAnswers()
  }

  test('each shard says whether it was new there; keys of it are told, over failovers, until STOP', async () => {
    expect([await watch(1, 'WATCH k'), await watch(2, 'WATCH k'), await watch(3, 'WATCH k STOP'), await watch(4, 'WATCH k STOP')]).toEqual([
      ['storeRead 1 <+OK'],
      ['storeRead 2 <:0'],
      ['storeRead 3 <+OK'],
      ['storeRead 4 <:0'],
    ])
    await watch(5, 'WATCH k')
    await asked(6, `SET ${key} v`, await connect(3, 'other'))
    expect(await payloads()).toEqual([set('v')])
    await failOver()
    await asked(7, `SET ${key} w`, await connect(3, 'another'))
    expect([await payloads(), store().watches]).toEqual([[set('w')], 1])
    expect(await watch(8, 'WATCH k STOP')).toEqual(['storeRead 8 <+OK'])
    rig.start('c')
    await rig.take(0, 'c')
    await rig.settle()
    expect(store().watches).toBe(0)
  })

  test('asked again after a failover, it is answered as before and does not undo the STOP behind it', async () => {
    await watch(1, 'WATCH k')
    await watch(2, 'WATCH k STOP')
    await failOver()
    expect([await watch(1, 'WATCH k'), store().watches]).toEqual([['storeRead 1 <+OK'], 0])
  })

  test('nobody knows of one that is not stored, nor of one of a backend that has lost the shard', async () => {
    ask(1, 'WATCH k', client, part)
    reach()
    expect(partAnswers()).toEqual([])
    await failOver()
    expect(partAnswers()).toEqual([])
    expect([await watch(1, 'WATCH k'), store().watches]).toEqual([['storeRead 1 <+OK'], 1])
  })

  test('memory is full: a new one is refused; a known one is not, nor STOP, nor a repeat', async () => {
    await watch(1, 'WATCH k')
    rig.backend('a').engine.isUnderPressure = true
    expect([await watch(2, 'WATCH other'), await watch(3, 'WATCH k'), await watch(1, 'WATCH k')]).toEqual([
      [`storeAsked 2 ${ReasonCode.QuotaExceeded}`],
      ['storeRead 3 <:0'],
      ['storeRead 1 <+OK'],
    ])
    expect([await watch(4, 'WATCH k STOP'), store().watches]).toEqual([['storeRead 4 <+OK'], 0])
  })

  test('memory is full when all shards have it: it is done, and answered', async () => {
    rig.backend('a').engine.isUnderPressure = true
    partAnswers()
    ask(1, 'x', client, { answer: OK })
    expect([await payloads(), partAnswers()]).toEqual([[OK], [`storeAsked 1 ${SUCCESS}`]])
  })

  test('what could not be answered, or is something else, does nothing; as a whole request it is none', async () => {
    partAnswers()
    await asked(1, 'WATCH k', client, { ...part, responseTopic: 'a/'.repeat(200) })
    await asked(2, `SET ${key} v`, client, part)
    expect(partAnswers()).toEqual([`storeAsked 1 ${ReasonCode.TopicNameInvalid}`, 'storeRead 2 <-ERR syntax error'])
    expect(await asked(3, 'WATCH k')).toEqual(['-ERR syntax error\r\n'])
    expect([await asked(4, `GET ${key}`), store().watches]).toEqual([['$-1\r\n'], 0])
  })

  test('unwatch ends it with the watches of keys', async () => {
    await watch(1, 'WATCH k')
    await asked(2, `KEYNOTIFY ${key}`)
    rig.frontend().ownerOf(0)!.unwatch(0, client.connection)
    await rig.settle()
    expect(store().watches).toBe(0)
  })
})

describe('a notification', () => {
  let watcher: RigClusterClient

  /** In a shard of the other backend, or of the same as the key; also in the key's own. */
  describe.each([0, 1, 2])('to a session in shard %i', shard => {
    beforeEach(async () => {
      watcher = await connect(shard, 'w')
      expect(await asked(1, `KEYNOTIFY ${key}`, watcher)).toEqual([OK])
    })

    test('comes once for each change, in order, to the topic of client and key', async () => {
      watcher.subscribe('clients/#')
      await rig.settle()
      watcher.take()
      await asked(2, `SET ${key} v`)
      await asked(3, `SET ${key} w`)
      await asked(4, `DEL ${key}`)
      const sent = await watcher.drain()
      expect(sent.map(({ payload, qos, retain }) => [payload, qos, retain])).toEqual(
        [set('v'), set('w'), DELETED].map(payload => [payload, 1, false]),
      )
      expect(new Set(sent.map(({ topic }) => topic))).toEqual(new Set([notifyTopic(watcher.clientId, Buffer.from(key))]))
    })

    test('of a key that has lived its time comes by itself', async () => {
      await asked(2, `SET ${key} v PX 1000`)
      expect(await payloads(watcher)).toEqual([set('v')])
      await rig.advance(900)
      expect(await payloads(watcher)).toEqual([])
      await rig.advance(200)
      expect(await payloads(watcher)).toEqual([DELETED])
    })

    test('comes after the key’s shard has moved, and after its owner has died', async () => {
      await rig.move(0, 'b')
      await rig.settle()
      await asked(2, `SET ${key} v`)
      expect(await payloads(watcher)).toEqual([set('v')])
      rig.start('c')
      await rig.take(0, 'c')
      await rig.settle()
      await asked(3, `SET ${key} w`)
      expect(await payloads(watcher)).toEqual([set('w')])
    })

    test('comes once, although the owner of the key dies before anybody has taken it', async () => {
      ask(2, `SET ${key} v`)
      reach()
      await failOver(9)
      ask(2, `SET ${key} v`)
      expect([await payloads(watcher), await payloads()]).toEqual([[set('v')], [OK]])
    })

    test('comes no more after STOP', async () => {
      await asked(2, `KEYNOTIFY ${key} STOP`, watcher)
      await asked(3, `SET ${key} v`)
      expect(await payloads(watcher)).toEqual([])
    })

    test('comes no more after unwatch, which is answered each time it is asked', async () => {
      answers()
      for (let twice = 0; twice < 2; twice++) rig.frontend().ownerOf(0)!.unwatch(0, watcher.connection)
      await rig.settle()
      expect(answers()).toEqual(Array.from({ length: 2 }, () => `unwatched 0 ${watcher.connection}`))
      await asked(2, `SET ${key} v`)
      expect([await payloads(watcher), store().watches]).toEqual([[], 0])
      await failOver()
      expect(store().watches).toBe(0)
    })

    test('is dropped when the client has another connection, or none, whoever knows', async () => {
      const next = await rig.frontend().connect(watcher.clientId, { expirySeconds: NEVER })
      expect(watcher.take()).toEqual([{ is: 'disconnect', reason: ReasonCode.SessionTakenOver }])
      await asked(2, `SET ${key} v`)
      next.detach()
      await rig.settle()
      await asked(3, `SET ${key} w`)
      const again = await rig.frontend().connect(watcher.clientId, { expirySeconds: NEVER })
      await asked(4, `SET ${key} x`)
      expect([await payloads(next), await payloads(again), store().watches]).toEqual([[], [], 1])
      const dropped = [...rig.backends.values()].reduce((sum, { engine }) => sum + engine.counters.notificationsDropped, 0)
      expect(dropped).toBe(3)
    })

    test('that was in the session before its connection ended comes again', async () => {
      watcher.writable(false)
      await asked(2, `SET ${key} v`)
      watcher.detach()
      await rig.settle()
      const next = await rig.frontend().connect(watcher.clientId, { expirySeconds: NEVER })
      expect(await payloads(next)).toEqual([set('v')])
    })
  })

  test.each([
    [1, 'b', 'a'],
    [2, 'a', 'b'],
  ] as const)('comes although the owner of the session in shard %i dies, to the connection that goes on', async (shard, owner, other) => {
    watcher = await connect(shard, 'w')
    await asked(1, `KEYNOTIFY ${key}`, watcher)
    if (rig.ownerOf(0)!.id === owner) await rig.move(0, other)
    await rig.settle()
    rig.kill(owner)
    ask(2, `SET ${key} v`)
    await rig.takeOrphans(other)
    await rig.settle()
    expect(await payloads(watcher)).toEqual([set('v')])
  })

  test.each([
    ['may read the key, and subscribe to nothing: it stays', null, [set('v')]],
    ['may not read the key, and subscribe to all: it goes', [], []],
  ] as const)('that waits when the rights change to those of a client that %s', async (_, keys, expected) => {
    watcher = await connect(1, 'w')
    await asked(1, `KEYNOTIFY ${key}`, watcher)
    watcher.writable(false)
    await asked(2, `SET ${key} v`)
    const everything = [{ filter: '#', isDenied: false, rule: 0 }]
    const permit = new Permit({
      rules: [{ policy: 'policy', index: 0 }],
      publish: [],
      subscribe: keys === null ? [] : everything,
      keys,
      isCached: true,
      disconnectsRefused311: false,
    })
    watcher.restrict({ permit: permitBytes(permit), willGuard: Buffer.from('guard') })
    await rig.settle()
    watcher.writable(true)
    expect(await payloads(watcher)).toEqual(expected)
  })

  test('more entries at a time than one turn removes: the rest follows without another tick', async () => {
    const owner = rig.backend('a').engine
    const shard = owner.shards[0]!
    const count = 4_500
    const moment = { wallMs: rig.clock.wallMs(), monotonicMs: rig.clock.monotonicMs() }
    const version = { wall: 1, counter: 0, node: 'StateStore' }
    const entry = { is: 'set', value: '', version, token: null, isPersistent: false, owner: null } as const
    for (let i = 0; i < count; i++) {
      owner.storeOf(shard).apply({ ...entry, key: `e${i}`, deadlineWallMs: moment.wallMs + 50 }, moment)
    }
    rig.clock.advance(60)
    rig.backend('a').cluster.backend.tick()
    expect(store().keys).toBe(count - 2_000)
    await rig.settle()
    expect([store().keys, owner.isExpiryBehind, owner.counters.storeBytes]).toEqual([0, false, 0])
  })
})

describe('a watch that is kept', () => {
  let watcher: RigClusterClient
  /** What the answer that began it says. */
  let since: string

  beforeEach(async () => {
    await open({ frontends: ['f', 'g'] })
    watcher = await connect(3, 'w')
    expect(await asked(1, `KEYNOTIFY ${key} KEEP 60000`, watcher)).toEqual([OK])
    since = formatClock(store().clock)
  })

  /** Its connection ends, and its frontend says so. */
  async function leave(): Promise<void> {
    watcher.detach()
    rig.frontend().ownerOf(0)!.unwatch(0, watcher.connection)
    await rig.settle()
  }

  /** The same client, with a new session, at another frontend. */
  async function comeBack(sequence: number, frontend = 'g'): Promise<string[]> {
    watcher = await rig.frontend(frontend).connect(watcher.clientId, { cleanStart: true })
    watcher.subscribe(`answers/${watcher.clientId}`)
    await rig.settle()
    watcher.take()
    return asked(sequence, `KEYNOTIFY ${key} KEEP 60000 SINCE ${since}`, watcher)
  }

  test('goes on at another frontend with another session, after its owner has died: what was missed, in order, once, then what comes', async () => {
    await leave()
    await asked(2, `SET ${key} v`)
    await asked(3, `SET ${key} w PX 1000`)
    await failOver()
    expect(store()).toMatchObject({ watches: 1, watchesAway: 1 })
    await rig.advance(1_200)
    expect(await comeBack(1)).toEqual([':3\r\n', set('v'), set('w'), DELETED])
    await asked(4, `SET ${key} x`)
    expect(await payloads(watcher)).toEqual([set('x')])
  })

  test('what was on its way to a connection that nobody knew to be gone comes again', async () => {
    watcher.detach()
    await rig.settle()
    await asked(2, `SET ${key} v`)
    expect(store().watchesAway, 'its frontend has not said so').toBe(0)
    expect(await comeBack(1)).toEqual([':1\r\n', set('v')])
    rig.frontend().ownerOf(0)!.unwatch(0, watcher.connection)
    await rig.settle()
    await asked(3, `SET ${key} w`)
    expect([await payloads(watcher), store().watchesAway], 'the end of the former says nothing of the present one').toEqual([[set('w')], 0])
  })

  test('asked for again after a failover, what was missed comes once', async () => {
    await leave()
    await asked(2, `SET ${key} v`)
    watcher = await connect(3, 'w', 'g')
    ask(1, `KEYNOTIFY ${key} KEEP 60000 SINCE ${since}`, watcher)
    const owner = rig.backend('a')
    owner.store.isPrompt = false
    rig.linkOf('g', 'a').pair.deliver()
    rig.endTurn(owner)
    await failOver(9)
    ask(1, `KEYNOTIFY ${key} KEEP 60000 SINCE ${since}`, watcher)
    expect(await payloads(watcher)).toEqual([':1\r\n', set('v')])
  })

  test('ends when its time is over, wherever the shard is by then', async () => {
    await leave()
    await rig.advance(30_000)
    await failOver()
    await rig.advance(29_000)
    expect(store()).toMatchObject({ watches: 1, watchesAway: 1 })
    await rig.advance(1_200)
    expect(store()).toMatchObject({ watches: 0, watchesAway: 0 })
    await asked(2, `SET ${key} v`)
    expect([await comeBack(1), store().pastBytes]).toEqual([[OK], 0])
  })

  test('a frontend that is gone for good: it is kept from when that is known', async () => {
    rig.frontends.delete('f')
    for (const owner of ['a', 'b']) rig.cut('f', owner)
    await rig.advance(62_000)
    expect(store()).toMatchObject({ watches: 1, watchesAway: 1 })
    await rig.advance(50_000)
    expect(await comeBack(1)).toEqual([':0\r\n'])
  })

  test('of a shard whose snapshot has it and what was missed, and of what came after it', async () => {
    await leave()
    await asked(2, `SET ${key} v`)
    rig.backend('a').store.snapshotDue = 0
    await rig.advance(1_000)
    expect(rig.shared.shards[0]!.snapshot.length).toBeGreaterThan(0)
    await asked(3, `SET ${key} w`)
    const { pastBytes } = store()
    await failOver()
    expect(store().pastBytes).toBe(pastBytes)
    expect(await comeBack(1)).toEqual([':2\r\n', set('v'), set('w')])
  })
})

describe('recovery', () => {
  test('of a shard whose snapshot has entries, watches and answers, and of what came after it', async () => {
    const watcher = await connect(3, 'w')
    await asked(1, `KEYNOTIFY ${key}`, watcher)
    await asked(2, `SET ${key} v`)
    await asked(3, 'SET e0 lasting')
    await asked(4, 'SET e1 passing PX 10000')
    rig.backend('a').store.snapshotDue = 0
    await rig.advance(1_000)
    expect(rig.shared.shards[0]!.snapshot.length).toBeGreaterThan(0)
    await asked(100, 'SET e3 late')
    await payloads(watcher)
    const before = { clock: store().clock, keys: store().keys, answers: store().answersRemembered, watches: store().watches }
    await failOver()
    expect({ clock: store().clock, keys: store().keys, answers: store().answersRemembered, watches: store().watches }).toEqual(before)
    expect(await asked(101, 'GET e0')).toEqual(['$7\r\nlasting\r\n'])
    await rig.advance(9_000)
    expect(await asked(102, 'GET e1')).toEqual(['$-1\r\n'])
    expect(await asked(4, 'SET e1 passing PX 10000')).toEqual([])
    await asked(103, `SET ${key} w`)
    expect(await payloads(watcher)).toEqual([set('w')])
  })
})

describe('a frontend', () => {
  test('that is gone for good leaves no watches and no answers behind; others keep theirs', async () => {
    await open({ frontends: ['f', 'g'] })
    const gone = await connect(3, 'w', 'g')
    await asked(1, `KEYNOTIFY ${key}`, gone)
    await asked(2, `SET ${key} v`, gone)
    await asked(1, `KEYNOTIFY ${key}`)
    await asked(2, `SET ${key} w`)
    expect([store().watches, store().answersRemembered]).toEqual([2, 4])
    rig.frontends.delete('g')
    for (const owner of ['a', 'b']) rig.cut('g', owner)
    await rig.advance(58_000)
    expect(store().watches).toBe(2)
    await rig.advance(4_000)
    expect([store().watches, store().answersRemembered, [...store().frontends().keys()]]).toEqual([1, 2, ['f/f1']])
    await failOver()
    expect([store().watches, store().answersRemembered]).toEqual([1, 2])
  })

  test('that is out of reach for a while keeps them', async () => {
    await open({ frontends: ['f', 'g'] })
    const away = await connect(3, 'w', 'g')
    await asked(1, `KEYNOTIFY ${key}`, away)
    const frontend = rig.frontend('g')
    rig.frontends.delete('g')
    for (const owner of ['a', 'b']) rig.cut('g', owner)
    await rig.advance(50_000)
    rig.frontends.set('g', frontend)
    rig.heal()
    await rig.advance(20_000)
    expect(store().watches).toBe(1)
  })
})

describe('a key that very many watch', () => {
  const WATCHERS = 2_000

  async function watched(): Promise<void> {
    expect(await asked(1, `SET ${key} v1`)).toEqual([OK])
    const now = { wallMs: rig.clock.wallMs(), monotonicMs: rig.clock.monotonicMs() }
    for (let connection = 0; connection < WATCHERS; connection++)
      store().apply({ is: 'watched', key, watcher: { frontend: 'gone', connection, clientId: `w${connection}` } }, now)
    answers()
  }

  function dropped(): number {
    return [...rig.backends.values()].reduce((sum, { engine }) => sum + engine.counters.notificationsDropped, 0)
  }

  test('is changed when the change before has been handed over, in order, and what comes behind waits', async () => {
    await watched()
    for (const value of [2, 3, 4]) ask(value, `SET ${key} v${value}`)
    ask(5, `GET ${key}`)
    rig.linkOf('f', 'a').pair.deliver()
    const { storeTurns } = rig.backend('a').engine.cluster!
    expect([store().counters.modifications, storeTurns.mustWait(0), storeTurns.mustWait(2)]).toEqual([1, true, false])
    expect(await payloads()).toEqual([OK, OK, OK, '$2\r\nv4\r\n'])
    expect(answers()).toEqual([2, 3, 4, 5].map(sequence => `storeAsked ${sequence} ${SUCCESS}`))
    expect([dropped(), storeTurns.mustWait(0)]).toEqual([3 * WATCHERS, false])
  })

  test('many of them that have lived their time: no more than one turn can tell of go at once', async () => {
    const now = { wallMs: rig.clock.wallMs(), monotonicMs: rig.clock.monotonicMs() }
    const entry = {
      is: 'set',
      value: '',
      version: { wall: 1, counter: 0, node: 'StateStore' },
      token: null,
      isPersistent: false,
      owner: null,
    } as const
    const { engine, cluster } = rig.backend('a')
    const own = engine.storeOf(engine.shards[0]!)
    for (let i = 0; i < 10; i++) own.apply({ ...entry, key: `e${i}`, deadlineWallMs: now.wallMs + 50 }, now)
    for (let connection = 0; connection < WATCHERS; connection++)
      own.apply({ is: 'watchedUnder', prefix: 'e', watcher: { frontend: 'gone', connection, clientId: `w${connection}` } }, now)
    rig.clock.advance(60)
    cluster.backend.tick()
    expect([own.keys, engine.shards[0]!.handOvers.size]).toEqual([9, WATCHERS])
    await rig.settle()
    await rig.advance(5_000)
    expect([own.keys, dropped()]).toEqual([0, 10 * WATCHERS])
  })

  test('what waits when its owner dies, the next one does', async () => {
    await watched()
    for (const value of [2, 3, 4]) ask(value, `SET ${key} v${value}`)
    rig.linkOf('f', 'a').pair.deliver()
    await failOver()
    for (const value of [2, 3, 4]) ask(value, `SET ${key} v${value}`)
    await rig.settle()
    client.take()
    expect(await asked(5, `GET ${key}`)).toEqual(['$2\r\nv4\r\n'])
  })
})
