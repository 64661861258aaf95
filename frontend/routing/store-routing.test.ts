import { beforeEach, describe, expect, test } from 'vitest'
import { ManualClock } from '#shared/base/clock.ts'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import { PROTOCOL_VERSION, PROTOCOL_VERSION_STORE } from '#shared/rpc/handshake.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort, RemoteStoreCall } from '#shared/rpc/owner-port.ts'
import { type ExtendedCommand, MGET_BYTES_MAX, parseExtendedCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { Router } from './router.ts'

const SHARDS = 4
const CONNECTION = 7
const END = { discardWill: true, sessionExpirySeconds: null }
const LIMITS = { pendingBytesMax: 2_000, congestedBytesMax: 400, publishWaitMs: 20_000 }
const TOPIC = new Topic(REQUEST_TOPIC, Buffer.from(REQUEST_TOPIC))

/** A backend as the router asks it: `ask shard sequence settledBefore connection payload`, `unwatch shard connection`, `resume shard`. */
class TestOwner {
  readonly calls: string[] = []
  readonly asked: RemoteStoreCall[] = []
  readonly link: Link & { heardMs: number }
  readonly caller: CallerPort

  constructor(protocolVersion = PROTOCOL_VERSION) {
    this.link = {
      heardMs: clock.monotonicMs(),
      isCongested: false,
      peer: { id: 'b', protocolVersion },
      close: () => undefined,
    } as unknown as TestOwner['link']
    const port: Partial<OwnerPort> = {
      resume: shard => this.calls.push(`resume ${shard}`),
      wantRoutes: () => undefined,
      askStore: (shard, sequence, settledBefore, connection, call) => {
        this.calls.push(`ask ${shard} ${sequence} ${settledBefore} ${connection} ${call.message.payload.toString()}`)
        this.asked.push({ ...call, message: call.message.keep() })
      },
      readStore: (shard, sequence, keys) =>
        this.calls.push(`read ${shard} ${sequence} ${keys.map(key => Buffer.from(key).toString()).join(' ')}`),
      unwatch: (shard, connection) => this.calls.push(`unwatch ${shard} ${connection}`),
    }
    this.caller = router.onLinkOpen(this.link, port as OwnerPort)
  }

  /** It owns the shard from now on. */
  owns(epoch: number, ...shards: number[]): this {
    for (const shard of shards) this.caller.owned(shard, epoch, 0, 0)
    return this
  }

  /** Its calls about the store since the last time. */
  take(): string[] {
    return this.calls.splice(0).filter(call => !call.startsWith('resume'))
  }
}

let clock: ManualClock
let router: Router
/** `acknowledged connection ticket reason` */
let core: string[]
let a: TestOwner

const ALL = Array.from({ length: SHARDS }, (_, shard) => shard)

beforeEach(() => {
  clock = new ManualClock()
  router = new Router({ shardCount: SHARDS, clock, turn: { request: () => undefined }, log: new RecordingLog(), limits: LIMITS })
  core = []
  router.bind({
    acknowledged: (connection: number, ticket: number, reason: number) => core.push(`${connection} ${ticket} ${reason}`),
    pressure: () => undefined,
  } as Partial<FrontendPort> as FrontendPort)
  a = new TestOwner().owns(1, ...ALL)
  a.take()
})

/** A key of this shard. */
function keyIn(shard: number): string {
  for (let i = 0; ; i++) if (storeShardOf(`k${i}`, SHARDS) === shard) return `k${i}`
}

interface AskOptions {
  readonly isWatch?: boolean
  readonly connection?: number
  readonly expirySeconds?: number
  readonly fault?: ErrorText
}

function ask(shard: number, ticket: number, payload = `p${ticket}`, options: AskOptions = {}): Message {
  const { isWatch = false, connection = CONNECTION, expirySeconds = -1, fault = null } = options
  const message = newMessage(TOPIC, Buffer.from(payload), 1)
  message.expirySeconds = expirySeconds
  router.askStore(connection, connection, ticket, {
    clientId: 'c',
    shard: null,
    shardKey: keyIn(shard),
    isWatch,
    fault,
    message,
  })
  // The buffer that it was read into is used again.
  message.payloadBytes.fill(0)
  return message
}

function watch(shard: number, ticket: number, connection = CONNECTION): void {
  ask(shard, ticket, 'w', { isWatch: true, connection })
}

function detach(connection = CONNECTION): void {
  router.detach(connection, connection, END)
}

/** The owner of everything dies, and another one takes over. */
function failOver(epoch = 2, protocolVersion = PROTOCOL_VERSION): TestOwner {
  router.onLinkClosed(a.link)
  return new TestOwner(protocolVersion).owns(epoch, ...ALL)
}

function pass(ms: number, ...heard: TestOwner[]): void {
  clock.advance(ms)
  for (const { link } of heard) link.heardMs = clock.monotonicMs()
  router.endTurn()
  router.tick()
}

describe('a request', () => {
  test.each(ALL)('goes to the owner of shard %i, of its key, and is acknowledged when that has answered', shard => {
    const b = new TestOwner().owns(2, shard)
    b.take()
    ask(shard, 3, 'x', { fault: ErrorText.NotAuthorized })
    expect([a.take(), b.take()]).toEqual([[], [`ask ${shard} 1 1 ${CONNECTION} x`]])
    expect(b.asked).toMatchObject([{ clientId: 'c', fault: ErrorText.NotAuthorized }])
    b.caller.storeAsked(1, ReasonCode.Success)
    b.caller.storeAsked(1, ReasonCode.Success)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 3 ${ReasonCode.Success}`], 0])
  })

  test('says which are settled: the lowest that is not answered', () => {
    for (let ticket = 0; ticket < 3; ticket++) ask(0, ticket)
    a.caller.storeAsked(2, ReasonCode.Success)
    ask(0, 3)
    a.caller.storeAsked(1, ReasonCode.Success)
    ask(0, 4)
    expect(a.take().map(call => call.split(' ').slice(2, 4).join(' '))).toEqual(['1 1', '2 1', '3 1', '4 1', '5 3'])
    expect(core.map(text => text.split(' ')[1])).toEqual(['1', '0'])
  })

  test('waits while nobody owns its shard, without holding up those of others', () => {
    a.caller.lost(0)
    ask(0, 1)
    ask(1, 2)
    expect([a.take(), core]).toEqual([[`ask 1 2 1 ${CONNECTION} p2`], []])
    a.owns(2, 0)
    expect(a.calls.at(-2)).toBe('resume 0')
    expect(a.take()).toEqual([`ask 0 1 1 ${CONNECTION} p1`])
    a.caller.storeAsked(1, ReasonCode.Success)
    expect(core).toEqual([`${CONNECTION} 1 ${ReasonCode.Success}`])
  })

  test('is asked again of the next owner, behind the connections that are resumed: same numbers, same order, until one answers', () => {
    for (let ticket = 0; ticket < 3; ticket++) ask(2, ticket)
    ask(1, 3)
    a.caller.storeAsked(1, ReasonCode.Success)
    a.take()
    let last = a
    for (const epoch of [2, 3]) {
      router.onLinkClosed(last.link)
      const next = new TestOwner().owns(epoch, ...ALL)
      expect(next.calls.filter(call => / 2( |$)/u.test(call.split(' ').slice(0, 2).join(' ')))).toEqual([
        'resume 2',
        `ask 2 2 2 ${CONNECTION} p1`,
        `ask 2 3 2 ${CONNECTION} p2`,
      ])
      expect(next.take()).toContain(`ask 1 4 2 ${CONNECTION} p3`)
      // Whoever was asked before says what does not count any more.
      last.caller.storeAsked(2, ReasonCode.Success)
      last = next
    }
    expect(core).toHaveLength(1)
    last.caller.storeAsked(3, ReasonCode.Success)
    last.caller.storeAsked(2, ReasonCode.QuotaExceeded)
    expect(core.slice(1)).toEqual([`${CONNECTION} 2 ${ReasonCode.Success}`, `${CONNECTION} 1 ${ReasonCode.QuotaExceeded}`])
    expect(router.counters.storeRequestsRepeated).toBe(6)
  })

  test('answers of an owner that has lost the shard do not count', () => {
    ask(0, 1)
    a.caller.lost(0)
    a.caller.storeAsked(1, ReasonCode.Success)
    expect(core).toEqual([])
    a.owns(2, 0)
    a.caller.storeAsked(1, ReasonCode.Success)
    expect(core).toEqual([`${CONNECTION} 1 ${ReasonCode.Success}`])
  })

  test('that nobody answers for too long is refused with 0x97, whether asked or not; a late answer is nothing', () => {
    a.caller.lost(0)
    ask(0, 1)
    ask(1, 2)
    pass(LIMITS.publishWaitMs - 1, a)
    ask(1, 3)
    expect(core).toEqual([])
    pass(1, a)
    expect(core).toEqual([1, 2].map(ticket => `${CONNECTION} ${ticket} ${ReasonCode.QuotaExceeded}`))
    a.caller.storeAsked(2, ReasonCode.Success)
    a.take()
    a.owns(2, 0)
    expect([core.length, a.take(), router.counters.publishesRefusedLate]).toEqual([2, [], 2])
    a.caller.storeAsked(3, ReasonCode.Success)
    expect([core.length, router.pendingBytes]).toEqual([3, 0])
  })

  test('its Message Expiry Interval goes on while it waits; one that has expired is dropped and counts as done', () => {
    a.caller.lost(0)
    ask(0, 1, 'short', { expirySeconds: 3 })
    ask(0, 2, 'long', { expirySeconds: 10 })
    ask(0, 3, 'ever')
    pass(4_000, a)
    a.owns(2, 0)
    expect(a.asked.map(({ message }) => `${message.payload.toString()} ${message.expirySeconds}`)).toEqual(['long 6', 'ever -1'])
    expect([core, router.counters.heldMessagesExpired]).toEqual([[`${CONNECTION} 1 ${ReasonCode.Success}`], 1])
    expect(a.take()[0]).toBe(`ask 0 2 2 ${CONNECTION} long`)
  })

  test('one that comes in while others are repeated goes once', () => {
    a.caller.lost(0)
    ask(0, 1, 'expires', { expirySeconds: 1 })
    pass(2_000, a)
    const told = core
    router.bind({
      acknowledged: (connection: number, ticket: number, reason: number) => {
        told.push(`${connection} ${ticket} ${reason}`)
        if (ticket === 1) ask(0, 2)
      },
      pressure: () => undefined,
    } as Partial<FrontendPort> as FrontendPort)
    a.owns(2, 0)
    expect(a.take()).toEqual([`ask 0 2 2 ${CONNECTION} p2`])
  })
})

describe('memory', () => {
  test('that requests take is limited, and comes back with each end that they can have', () => {
    a.caller.lost(0)
    for (let ticket = 0; ticket < 4; ticket++) ask(ticket % 2, ticket, 'x'.repeat(200), { connection: ticket })
    ask(2, 5, 'x'.repeat(1_000))
    ask(2, 6)
    expect(core).toEqual([`${CONNECTION} 6 ${ReasonCode.QuotaExceeded}`])
    expect(router.counters.publishesRefusedFull).toBe(1)
    a.caller.storeAsked(2, ReasonCode.Success)
    detach(0)
    detach(3)
    pass(LIMITS.publishWaitMs, a)
    expect(router.pendingBytes).toBe(0)
    core.length = 0
    ask(2, 7)
    expect(core).toEqual([])
  })

  test('a link that is congested takes so much more; other links take the rest', () => {
    const b = new TestOwner().owns(2, 1)
    b.take()
    router.onCongestion(a.link, true)
    ask(0, 1, 'x'.repeat(400))
    ask(0, 2)
    ask(1, 3)
    expect(core).toEqual([`${CONNECTION} 2 ${ReasonCode.QuotaExceeded}`])
    expect([a.take().length, b.take().length]).toEqual([1, 1])
    router.onCongestion(a.link, false)
    ask(0, 4)
    expect(a.take()).toHaveLength(1)
  })
})

describe('a connection that is gone', () => {
  test('asks nothing any more, and its answers are nothing', () => {
    ask(0, 1)
    ask(0, 2, 'other', { connection: 8 })
    detach()
    expect(router.pendingBytes).toBeGreaterThan(0)
    a.caller.storeAsked(1, ReasonCode.Success)
    expect(core).toEqual([])
    expect(failOver().take()).toEqual(['ask 0 2 2 8 other'])
  })

  test('watches nothing: each shard that was asked is told, and every owner after it until one has answered', () => {
    watch(0, 1)
    watch(0, 2)
    watch(2, 3)
    ask(3, 4)
    a.caller.storeAsked(1, ReasonCode.Success)
    a.take()
    detach()
    detach()
    expect(a.take()).toEqual([`unwatch 0 ${CONNECTION}`, `unwatch 2 ${CONNECTION}`])
    a.caller.unwatched(0, CONNECTION)
    a.caller.unwatched(0, CONNECTION)
    a.caller.unwatched(1, CONNECTION)
    const b = failOver()
    expect(b.take()).toEqual([`unwatch 2 ${CONNECTION}`])
    b.caller.unwatched(2, CONNECTION)
    a = b
    expect(failOver(3).take()).toEqual([])
  })

  test('that nobody owns the shard when it goes: the next owner is told, before others ask', () => {
    watch(0, 1)
    watch(0, 2, 8)
    a.caller.lost(0)
    detach()
    detach(8)
    ask(0, 3, 'x', { connection: 9 })
    a.take()
    a.owns(2, 0)
    expect(a.take()).toEqual([`unwatch 0 ${CONNECTION}`, 'unwatch 0 8', 'ask 0 3 3 9 x'])
  })

  test('has nothing to end where its request never went', () => {
    a.caller.lost(0)
    watch(0, 1)
    detach()
    a.take()
    a.owns(2, 0)
    expect(a.take()).toEqual([])
  })
})

describe('a backend of an older version', () => {
  const OLD = PROTOCOL_VERSION_STORE - 1

  test('is asked nothing: what comes and what waits is refused with 0x83', () => {
    ask(0, 1)
    watch(1, 2)
    const b = failOver(2, OLD)
    ask(0, 3)
    detach()
    expect(b.take()).toEqual([])
    expect(core).toEqual([1, 2, 3].map(ticket => `${CONNECTION} ${ticket} ${ReasonCode.ImplementationSpecificError}`))
    expect(router.pendingBytes).toBe(0)
  })

  test('who comes after it is told whose watches are over', () => {
    watch(1, 1)
    a.caller.storeAsked(1, ReasonCode.Success)
    a = failOver(2, OLD)
    detach()
    expect(failOver(3).take()).toEqual([`unwatch 1 ${CONNECTION}`])
  })
})

describe('values of keys in several shards', () => {
  function mget(ticket: number, keys: readonly string[], expirySeconds = -1): void {
    const payload = Buffer.from(`*${keys.length + 1}\r\n$4\r\nMGET\r\n${keys.map(key => `$${key.length}\r\n${key}\r\n`).join('')}`)
    const message = newMessage(TOPIC, payload, 1)
    message.expirySeconds = expirySeconds
    const command = parseExtendedCommand(payload) as ExtendedCommand
    const shardKey = keys[0]!
    router.askStore(CONNECTION, CONNECTION, ticket, { clientId: 'c', shard: null, shardKey, isWatch: false, fault: null, command, message })
    payload.fill(0)
  }

  const [k0, k1, k2] = [keyIn(0), keyIn(1), keyIn(2)] as const
  const values = (...texts: readonly (string | null)[]): (Buffer | null)[] => texts.map(text => (text === null ? null : Buffer.from(text)))

  test('are asked of each owner, joined in the order of the keys, and answered by one of them', () => {
    const b = new TestOwner().owns(2, 1)
    b.take()
    mget(5, [k1, k0, k1, k2])
    expect([a.take(), b.take()]).toEqual([[`read 0 2 ${k0}`, `read 2 3 ${k2}`], [`read 1 1 ${k1} ${k1}`]])
    const first = values('x')
    a.caller.storeRead(2, first)
    first[0]!.fill(0)
    b.caller.storeRead(1, values(null, 'two'))
    expect(core).toEqual([])
    a.caller.storeRead(3, values('z'))
    expect([a.take(), b.take()]).toEqual([[], [`ask 1 4 4 ${CONNECTION} *4\r\n$-1\r\n$1\r\nx\r\n$3\r\ntwo\r\n$1\r\nz\r\n`]])
    expect(b.asked).toMatchObject([{ clientId: 'c', fault: null, as: 'answer' }])
    b.caller.storeAsked(4, ReasonCode.Success)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 5 ${ReasonCode.Success}`], 0])
  })

  test('in one shard: its owner answers by itself', () => {
    mget(1, [k0, k0])
    expect(a.take()).toEqual([expect.stringMatching(/^ask 0 1 1 7 \*3\r\n\$4\r\nMGET/u)])
    expect(a.asked).toMatchObject([{ as: 'request' }])
  })

  test('an owner dies: the next one is asked for what has not come, and for the answer', () => {
    mget(1, [k0, k1])
    a.caller.storeRead(1, values('x'))
    a.take()
    const b = failOver()
    expect(b.take()).toEqual([`read 1 2 ${k1}`])
    a.caller.storeRead(2, values('of then'))
    b.caller.storeRead(2, values('y'))
    expect(b.take()).toEqual([`ask 0 3 3 ${CONNECTION} *2\r\n$1\r\nx\r\n$1\r\ny\r\n`])
    router.onLinkClosed(b.link)
    const c = new TestOwner().owns(3, ...ALL)
    expect(c.take()).toEqual([`ask 0 3 3 ${CONNECTION} *2\r\n$1\r\nx\r\n$1\r\ny\r\n`])
    c.caller.storeAsked(3, ReasonCode.Success)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 1 ${ReasonCode.Success}`], 0])
  })

  test('longer than an answer may be: an error, without waiting for the others', () => {
    for (const [ticket, tooLong] of [null, values('x'.repeat(MGET_BYTES_MAX + 1))].entries()) {
      mget(ticket, [k0, k1, k2])
      a.take()
      const sequence = 1 + ticket * 4
      a.caller.storeRead(sequence, tooLong)
      a.caller.storeRead(sequence + 1, values('y'))
      expect(a.asked.pop()).toMatchObject({ fault: ErrorText.QuotaExceeded, as: 'request' })
      a.caller.storeAsked(sequence + 3, ReasonCode.Success)
    }
    expect([core.length, router.pendingBytes]).toEqual([2, 0])
  })

  test.each([
    ['an owner refuses', ReasonCode.QuotaExceeded, () => a.caller.storeAsked(2, ReasonCode.QuotaExceeded)],
    ['one does not answer for too long', ReasonCode.QuotaExceeded, () => pass(LIMITS.publishWaitMs, a)],
    ['a value has no room', ReasonCode.QuotaExceeded, () => (ask(3, 2, 'x'.repeat(1_600)), a.caller.storeRead(2, values('y')))],
    ['a new owner knows no store', ReasonCode.ImplementationSpecificError, () => failOver(2, PROTOCOL_VERSION_STORE - 1)],
  ] as const)('%s: refused once, nothing is left', (_, reason, happen) => {
    mget(1, [k0, k1, k2])
    happen()
    expect(core.filter(text => text.startsWith(`${CONNECTION} 1 `))).toEqual([`${CONNECTION} 1 ${reason}`])
    for (const sequence of [1, 2, 3]) a.caller.storeRead(sequence, values('late'))
    if (router.pendingBytes > 0) a.caller.storeAsked(4, ReasonCode.Success)
    expect(router.pendingBytes).toBe(0)
  })

  test('have expired while one shard had no owner: dropped, and counts as done', () => {
    a.caller.lost(1)
    mget(1, [k0, k1], 3)
    a.caller.storeRead(1, values('x'))
    pass(4_000, a)
    a.take()
    a.owns(2, 1)
    expect([a.take(), core, router.pendingBytes]).toEqual([[], [`${CONNECTION} 1 ${ReasonCode.Success}`], 0])
  })

  test('values that have come count as unanswered until the answer is; a connection that is gone takes them along', () => {
    mget(1, [k0, k1])
    const before = router.pendingBytes
    a.caller.storeRead(1, values('x'.repeat(500)))
    expect(router.pendingBytes).toBe(before + 500)
    detach()
    a.caller.storeRead(2, values('y'))
    expect([core, router.pendingBytes]).toEqual([[], 0])
  })
})

describe('a watch of a prefix', () => {
  const [OK, NOTHING, FULL] = ['+OK\r\n', ':0\r\n', '-ERR the quota has been exceeded\r\n']
  const W = '*2\r\n$5\r\nWATCH\r\n$1\r\np\r\n'
  const STOP = '*3\r\n$5\r\nWATCH\r\n$1\r\np\r\n$4\r\nSTOP\r\n'
  /** The Client Identifier decides who publishes the answer. */
  const own = storeShardOf('c', SHARDS)

  function watchUnder(ticket: number, text = W, expirySeconds = -1): void {
    const payload = Buffer.from(text)
    const message = newMessage(TOPIC, payload, 1)
    message.expirySeconds = expirySeconds
    const command = parseExtendedCommand(payload) as ExtendedCommand
    router.askStore(CONNECTION, CONNECTION, ticket, {
      clientId: 'c',
      shard: null,
      shardKey: 'c',
      isWatch: true,
      fault: null,
      command,
      message,
    })
    payload.fill(0)
  }

  /** The owner answers what it was asked under these numbers. */
  function answer(owner: TestOwner, answers: Readonly<Record<number, string | null>>): void {
    for (const [sequence, text] of Object.entries(answers))
      owner.caller.storeRead(Number(sequence), [text === null ? null : Buffer.from(text)])
  }

  const all = (first: number, text: string): Record<number, string> => Object.fromEntries(ALL.map(shard => [first + shard, text]))
  const asks = (first: number, payload: string, shards: readonly number[] = ALL, settled = first): string[] =>
    shards.map((shard, index) => `ask ${shard} ${first + index} ${settled} ${CONNECTION} ${payload}`)

  test('is asked of all shards, and answered by one when all have it', () => {
    watchUnder(5)
    expect(a.take()).toEqual(asks(1, W))
    expect(a.asked.map(({ as, clientId, fault }) => [as, clientId, fault])).toEqual(ALL.map(() => ['part', 'c', null]))
    answer(a, { 1: OK, 2: NOTHING, 4: OK })
    expect([a.take(), core]).toEqual([[], []])
    answer(a, { 3: OK })
    expect(a.take()).toEqual(asks(5, OK, [own]))
    expect(a.asked.at(-1)).toMatchObject({ as: 'answer', fault: null })
    a.caller.storeAsked(5, ReasonCode.Success)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 5 ${ReasonCode.Success}`], 0])
  })

  test.each([
    ['known everywhere', W, all(1, NOTHING), OK],
    ['given back', STOP, { ...all(1, NOTHING), 3: OK }, OK],
    ['given back, and nobody knew it', STOP, all(1, NOTHING), NOTHING],
    ['given back, and refused', STOP, { ...all(1, OK), 2: FULL }, FULL],
    ['refused everywhere', W, all(1, FULL), FULL],
  ])('%s', (_, request, answers, expected) => {
    watchUnder(1, request)
    a.take()
    answer(a, answers)
    expect(a.take()).toEqual(asks(5, expected, [own]))
  })

  test('one shard refuses: those that had not watched before give it back, then the refusal is answered', () => {
    watchUnder(1)
    a.take()
    answer(a, { 1: OK, 2: FULL, 3: NOTHING, 4: OK })
    expect(a.take()).toEqual(asks(5, STOP, [0, 3]))
    expect(a.asked.slice(-2).map(({ as }) => as)).toEqual(['part', 'part'])
    answer(a, { 5: OK, 6: FULL })
    expect(a.take()).toEqual(asks(7, FULL, [own]))
    a.caller.storeAsked(7, ReasonCode.Success)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 1 ${ReasonCode.Success}`], 0])
  })

  test('an owner has no memory: the same, and PUBACK says it', () => {
    watchUnder(1)
    a.take()
    answer(a, { 1: OK, 3: OK, 4: OK })
    a.caller.storeAsked(2, ReasonCode.QuotaExceeded)
    expect([a.take(), core]).toEqual([asks(5, STOP, [0, 2, 3]), []])
    a.caller.storeAsked(5, ReasonCode.QuotaExceeded)
    answer(a, { 6: OK, 7: OK })
    expect([core, router.pendingBytes, a.take()]).toEqual([[`${CONNECTION} 1 ${ReasonCode.QuotaExceeded}`], 0, []])
  })

  test('one at a time: the next begins when the one before has its answer, or is given back', () => {
    for (const ticket of [1, 2, 3]) watchUnder(ticket)
    ask(0, 4, 'x')
    expect(a.take()).toEqual([...asks(1, W), `ask 0 7 1 ${CONNECTION} x`])
    answer(a, { 1: OK, 2: FULL, 3: OK, 4: NOTHING })
    expect(a.take()).toEqual(asks(8, STOP, [0, 2], 5))
    answer(a, { 8: OK, 9: OK })
    expect(a.take()).toEqual([...asks(10, FULL, [own], 5), ...asks(11, W, ALL, 6)])
    answer(a, all(11, OK))
    expect(a.take()).toEqual([...asks(15, OK, [own], 6), ...asks(16, W, ALL, 7)])
    detach()
    expect(router.pendingBytes).toBe(0)
  })

  test('those that wait: refused when it takes too long, not done when their time is over; what is behind them goes on', () => {
    a.caller.lost(0)
    watchUnder(1)
    watchUnder(2, W, 3)
    pass(LIMITS.publishWaitMs - 1_000, a)
    watchUnder(3)
    watchUnder(4, STOP)
    a.take()
    pass(1_000, a)
    expect(core).toEqual([1, 2].map(ticket => `${CONNECTION} ${ticket} ${ReasonCode.QuotaExceeded}`))
    expect(a.take()).toEqual(asks(8, W, ALL, 7).slice(1))
    a.owns(2, 0)
    pass(1_000, a)
    watchUnder(5, W, 2)
    pass(3_000, a)
    a.take()
    answer(a, all(8, OK))
    expect(a.take()).toEqual([...asks(13, OK, [own], 7), ...asks(14, STOP, ALL, 12)])
    answer(a, all(14, OK))
    expect(a.take()).toEqual(asks(18, OK, [own], 12))
    expect(core.slice(2)).toEqual([`${CONNECTION} 5 ${ReasonCode.Success}`])
  })

  test('a backend that knows no store: all that wait are refused, however many there are', () => {
    a.caller.lost(0)
    for (let ticket = 1; ticket <= 5; ticket++) watchUnder(ticket)
    new TestOwner(PROTOCOL_VERSION_STORE - 1).owns(2, ...ALL)
    expect(core).toEqual([1, 2, 3, 4, 5].map(ticket => `${CONNECTION} ${ticket} ${ReasonCode.ImplementationSpecificError}`))
    expect(router.pendingBytes).toBe(0)
  })

  test('an owner dies: the next one is asked for what has not come, under the same numbers', () => {
    watchUnder(1)
    answer(a, { 1: OK, 3: OK })
    const b = failOver()
    expect(b.take()).toEqual([`ask 1 2 2 ${CONNECTION} ${W}`, `ask 3 4 2 ${CONNECTION} ${W}`])
    answer(a, { 2: FULL })
    answer(b, { 2: FULL, 4: OK })
    expect(b.take()).toEqual(asks(5, STOP, [0, 2, 3]))
    router.onLinkClosed(b.link)
    const c = new TestOwner().owns(3, ...ALL)
    expect(c.take()).toEqual(asks(5, STOP, [0, 2, 3]))
    answer(c, { 5: OK, 6: OK, 7: OK })
    expect(c.take()).toEqual(asks(8, FULL, [own]))
  })

  test('waits for a shard without owner; for too long: refused once, and nothing is left', () => {
    a.caller.lost(2)
    watchUnder(1)
    expect(a.take()).toEqual([...asks(1, W, [0, 1]), `ask 3 4 1 ${CONNECTION} ${W}`])
    answer(a, { 1: OK, 2: OK, 4: OK })
    expect(core).toEqual([])
    pass(LIMITS.publishWaitMs, a)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 1 ${ReasonCode.QuotaExceeded}`], 0])
    a.owns(2, 2)
    expect(a.take()).toEqual([])
  })

  test('its Message Expiry Interval has passed: it is done all the same, as other shards have done it, and not answered', () => {
    a.caller.lost(1)
    watchUnder(1, W, 3)
    answer(a, { 1: OK, 3: OK, 4: OK })
    pass(4_000, a)
    a.take()
    a.owns(2, 1)
    expect(a.take()).toEqual([`ask 1 2 2 ${CONNECTION} ${W}`])
    answer(a, { 2: OK })
    expect([a.take(), core, router.pendingBytes]).toEqual([[], [`${CONNECTION} 1 ${ReasonCode.Success}`], 0])
  })

  test('a new owner knows no store: refused once', () => {
    watchUnder(1)
    failOver(2, PROTOCOL_VERSION_STORE - 1)
    expect([core, router.pendingBytes]).toEqual([[`${CONNECTION} 1 ${ReasonCode.ImplementationSpecificError}`], 0])
  })

  test('a backend that answers nothing that is an answer: refused', () => {
    watchUnder(1)
    answer(a, { 1: null, 2: NOTHING, 3: NOTHING, 4: NOTHING })
    expect(core).toEqual([`${CONNECTION} 1 ${ReasonCode.ImplementationSpecificError}`])
  })

  test('a connection that is gone watches nothing in any shard that was asked', () => {
    a.caller.lost(3)
    watchUnder(1)
    a.take()
    detach()
    answer(a, all(1, OK))
    expect([a.take(), core, router.pendingBytes]).toEqual([[0, 1, 2].map(shard => `unwatch ${shard} ${CONNECTION}`), [], 0])
  })

  test('each part counts as unanswered, so that many requests for many shards are refused', () => {
    watchUnder(1)
    expect(router.pendingBytes).toBeGreaterThan(SHARDS * 100)
    while (router.pendingBytes < LIMITS.pendingBytesMax) watchUnder(2)
    watchUnder(3)
    expect(core).toEqual([`${CONNECTION} 3 ${ReasonCode.QuotaExceeded}`])
    pass(LIMITS.publishWaitMs, a)
    expect(router.pendingBytes).toBe(0)
  })
})
