import { beforeEach, describe, expect, test } from 'vitest'
import { ManualClock } from '#shared/base/clock.ts'
import { shardOf } from '#shared/cluster/shard.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import type { AttachReply, SessionRights } from '#shared/rpc/backend-port.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import { PROTOCOL_VERSION, PROTOCOL_VERSION_RIGHTS } from '#shared/rpc/handshake.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort, ResumedSession } from '#shared/rpc/owner-port.ts'
import { Recipients } from '#shared/rpc/recipients.ts'
import type { Shards } from '#shared/rpc/shards.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { Router } from './router.ts'

const SHARDS = 2
const CONNECTION = 7
const CLIENT = 'client'
const SHARD = shardOf(CLIENT, SHARDS)
const OTHER = 1 - SHARD
const END = { discardWill: true, sessionExpirySeconds: null }
const LIMITS = { pendingBytesMax: 2_000, publishWaitMs: 20_000, attachTimeoutMs: 10_000 }

interface TestOwner {
  readonly link: Link & { heardMs: number }
  readonly calls: string[]
  readonly resumes: ResumedSession[]
  readonly messages: Message[]
  caller: CallerPort
}

let clock: ManualClock
let router: Router
let core: string[]
let a: TestOwner
let b: TestOwner

/** Writes down each call by its name and its plain arguments. */
function recorder(into: string[], onCall: (name: string, given: readonly unknown[]) => void = () => undefined): object {
  return new Proxy(
    {},
    {
      get:
        (_, name) =>
        (...given: unknown[]): void => {
          onCall(String(name), given)
          const plain = given.filter(one => typeof one !== 'object' || one === null).join(' ')
          into.push(`${String(name)} ${plain}`.trim())
        },
    },
  )
}

function openOwner(protocolVersion = PROTOCOL_VERSION): TestOwner {
  const link = {
    heardMs: clock.monotonicMs(),
    isCongested: false,
    peer: { id: 'b', protocolVersion },
    close: () => undefined,
  } as unknown as TestOwner['link']
  const owner: TestOwner = { link, calls: [], resumes: [], messages: [], caller: undefined as unknown as CallerPort }
  const port = recorder(owner.calls, (name, given) => {
    if (name === 'resume') owner.resumes.push(...(given[1] as ResumedSession[]))
    if (name === 'publish') owner.calls.push(`to ${[...(given[3] as Shards).numbers.subarray(0, (given[3] as Shards).count)].join()}`)
    if (name === 'publish') owner.messages.push((given[4] as Message).keep())
    if (name === 'publishQos2') owner.messages.push((given[3] as Message).keep())
  })
  owner.caller = router.onLinkOpen(link, port as OwnerPort)
  return owner
}

function pass(ms: number, ...heard: TestOwner[]): void {
  clock.advance(ms)
  for (const { link } of heard) link.heardMs = clock.monotonicMs()
  router.endTurn()
  router.tick()
  router.endTurn()
}

function attach(connection = CONNECTION, clientId = CLIENT, rights: SessionRights | null = null): Promise<AttachReply> {
  return router.attach({
    frontend: undefined as unknown as FrontendPort,
    connection,
    clientId,
    protocolVersion: 5,
    cleanStart: false,
    sessionExpirySeconds: 60,
    receiveMaximum: 10,
    will: null,
    rights,
  })
}

/** Attached, and the owner's list of calls is empty. */
async function bound(): Promise<number> {
  const reply = attach()
  a.caller.attached(1, { is: 'attached', session: 40, sessionPresent: false })
  const answered = await reply
  a.calls.length = 0
  return answered.is === 'attached' ? answered.session : -1
}

function message(qos: number, payload = 'x', topic = 't'): Message {
  return newMessage(new Topic(topic, Buffer.from(topic)), Buffer.from(payload), qos)
}

/** The owner of everything is lost, and another one takes over. */
function failOver(epoch = 2, protocolVersion = PROTOCOL_VERSION): void {
  router.onLinkClosed(a.link)
  b = openOwner(protocolVersion)
  for (let shard = 0; shard < SHARDS; shard++) b.caller.owned(shard, epoch, 0, 0)
}

beforeEach(() => {
  clock = new ManualClock()
  router = new Router({
    shardCount: SHARDS,
    clock,
    turn: { request: () => undefined },
    log: new RecordingLog(),
    limits: LIMITS,
  })
  core = []
  router.bind(recorder(core) as FrontendPort)
  a = openOwner()
  for (let shard = 0; shard < SHARDS; shard++) a.caller.owned(shard, 1, 0, 0)
  router.endTurn()
  a.calls.length = 0
})

describe('attach', () => {
  test('is asked again, as a repetition, of whoever owns the shard next; the late answer of the first is ignored', async () => {
    const reply = attach()
    expect(a.calls).toEqual(['attach 1 false'])
    failOver()
    expect(b.calls.filter(call => call.startsWith('attach'))).toEqual(['attach 2 true'])
    a.caller.attached(1, { is: 'attached', session: 40, sessionPresent: false })
    b.caller.attached(2, { is: 'attached', session: 50, sessionPresent: true })
    expect(await reply).toMatchObject({ is: 'attached', sessionPresent: true })
    expect(b.resumes).toEqual([])
  })

  test('is refused when nobody answers in time, and whoever was asked is told that the connection is gone', async () => {
    const reply = attach()
    pass(10_000, a)
    expect(await reply).toMatchObject({ is: 'refused', reason: ReasonCode.ServerUnavailable })
    expect(a.calls.at(-1)).toBe(`detach ${SHARD} ${CLIENT} ${CONNECTION}`)
  })

  test('without any owner it waits, and the first owner is asked', async () => {
    router.onLinkClosed(a.link)
    const reply = attach()
    b = openOwner()
    b.caller.owned(SHARD, 2, 0, 0)
    expect(b.calls).toContain('attach 1 false')
    b.caller.attachMoved(1)
    expect(router.waitingFor()).toEqual([`shards 0-${SHARDS - 1}`])
    b.caller.owned(SHARD, 3, 0, 0)
    b.caller.attached(2, { is: 'refused', reason: ReasonCode.QuotaExceeded, detail: '' })
    expect(await reply).toMatchObject({ is: 'refused', reason: ReasonCode.QuotaExceeded })
  })
})

describe('rights', () => {
  const RIGHTS: SessionRights = { permit: Buffer.from('permit'), willGuard: Buffer.from('guard') }
  const OLD = PROTOCOL_VERSION_RIGHTS - 1

  test('of a restriction are made again wherever the session goes, in order, until it is answered', async () => {
    const session = await bound()
    router.restrict(session, CONNECTION, 0, RIGHTS)
    router.subscribe(session, CONNECTION, 1, 11, [])
    expect(a.calls).toEqual([`restrict 40 ${CONNECTION} 0`, `subscribe 40 ${CONNECTION} 1 11`])
    for (const epoch of [2, 3]) {
      failOver(epoch)
      b.calls.length = 0
      b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 50 }])
      expect(b.calls).toEqual([`restrict 50 ${CONNECTION} 0`, `subscribe 50 ${CONNECTION} 1 11`])
      a = b
    }
    for (let twice = 0; twice < 2; twice++) b.caller.subscribed(CONNECTION, 0, [])
    expect(core).toEqual([`subscribed ${CONNECTION} 0`])
    failOver(4)
    b.calls.length = 0
    b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 60 }])
    expect(b.calls).toEqual([`subscribe 60 ${CONNECTION} 1 11`])
  })

  test('that no backend takes for too long end the connection', async () => {
    const session = await bound()
    router.onLinkClosed(a.link)
    router.restrict(session, CONNECTION, 0, RIGHTS)
    pass(LIMITS.publishWaitMs)
    pass(1_000)
    expect(core).toContain(`disconnect ${CONNECTION} ${ReasonCode.ServerBusy} the session cannot be served now`)
  })

  test('a backend that knows none is not asked to attach with them: refused, whether another one was asked before or not', async () => {
    failOver(2, OLD)
    b.calls.length = 0
    expect(await attach(CONNECTION, CLIENT, RIGHTS)).toMatchObject({ is: 'refused', reason: ReasonCode.ServerUnavailable })
    expect(b.calls).toEqual([])
    failOver(3)
    const reply = attach(CONNECTION + 1, CLIENT, RIGHTS)
    expect(b.calls).toContain('attach 1 false')
    a = b
    failOver(4, OLD)
    expect(await reply).toMatchObject({ is: 'refused', reason: ReasonCode.ServerUnavailable })
    expect(b.calls.filter(call => call.startsWith('attach'))).toEqual([])
    expect(b.calls).toContain(`detach ${SHARD} ${CLIENT} ${CONNECTION + 1}`)
    expect(router.counters.rightsNotUnderstood).toBe(2)
  })

  test('and is asked as ever without', async () => {
    failOver(2, OLD)
    const reply = attach()
    expect(b.calls).toContain('attach 1 false')
    b.caller.attached(1, { is: 'attached', session: 40, sessionPresent: false })
    expect(await reply).toMatchObject({ is: 'attached' })
  })

  test.each(['at once', 'when the session comes to it'])(
    'a backend that knows none cannot restrict: the connection ends %s',
    async when => {
      const session = await bound()
      failOver(2, when === 'at once' ? OLD : PROTOCOL_VERSION)
      b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 50 }])
      const ended = `disconnect ${CONNECTION} ${ReasonCode.ServerBusy} a backend of an older version cannot restrict it`
      // The core answers at once.
      const detached = (calls: readonly string[]): boolean => calls.includes(ended)
      router.bind(
        recorder(core, name => {
          if (name === 'disconnect') router.detach(session, CONNECTION, END)
        }) as FrontendPort,
      )
      router.restrict(session, CONNECTION, 0, RIGHTS)
      router.release(session, CONNECTION, 1, 12)
      expect(detached(core)).toBe(when === 'at once')
      if (when !== 'at once') {
        a = b
        failOver(3, OLD)
        b.calls.length = 0
        b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 60 }])
      }
      expect(detached(core)).toBe(true)
      expect(b.calls.filter(call => /^(restrict|release)/.test(call))).toEqual([])
      expect(router.counters.rightsNotUnderstood).toBe(1)
    },
  )
})

describe('a session that moves', () => {
  test('its unanswered requests are made again in order once it is bound; each is answered once', async () => {
    const session = await bound()
    router.subscribe(session, CONNECTION, 0, 11, [])
    router.publish(session, CONNECTION, 1, message(2))
    router.release(session, CONNECTION, 2, 12)
    a.caller.subscribed(CONNECTION, 0, [])
    failOver()
    router.unsubscribe(session, CONNECTION, 3, 13, [])
    a.caller.acknowledged(CONNECTION, 1, ReasonCode.Success)
    expect(b.calls.filter(call => /^(publishQos2|release|unsub)/.test(call))).toEqual([])
    b.calls.length = 0
    b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 50 }])
    expect(b.calls).toEqual([
      `publishQos2 50 ${CONNECTION} 1`,
      `release 50 ${CONNECTION} 2 12 true`,
      `unsubscribe 50 ${CONNECTION} 3 13 false`,
    ])
    for (let twice = 0; twice < 2; twice++) {
      b.caller.acknowledged(CONNECTION, 1, ReasonCode.Success)
      b.caller.acknowledged(CONNECTION, 2, ReasonCode.Success)
      b.caller.subscribed(CONNECTION, 3, [])
    }
    expect(core).toEqual([
      `subscribed ${CONNECTION} 0`,
      `acknowledged ${CONNECTION} 1 0`,
      `acknowledged ${CONNECTION} 2 0`,
      `subscribed ${CONNECTION} 3`,
    ])
    expect(router.pendingBytes).toBe(0)
    expect(router.counters.sessionsResumed).toBe(1)
  })

  test('the next owner learns what the client has and where its acknowledgements stand', async () => {
    const session = await bound()
    router.writable(session, CONNECTION, true)
    const recipients = new Recipients()
    for (const [at, qos] of [1, 1, 2, 2, 2].entries()) recipients.add(CONNECTION, qos, at + 1, null, 100 + at)
    a.caller.deliver(message(2), recipients)
    router.puback(session, CONNECTION, 1)
    router.pubrec(session, CONNECTION, 3, ReasonCode.Success)
    router.pubrec(session, CONNECTION, 4, ReasonCode.Success)
    a.caller.released(CONNECTION, 4, ReasonCode.Success)
    router.pubrec(session, CONNECTION, 5, ReasonCode.QuotaExceeded)
    router.onLinkClosed(a.link)
    router.puback(session, CONNECTION, 2)
    router.pubrec(session, CONNECTION, 99, ReasonCode.Success)
    expect(core.at(-1)).toBe(`released ${CONNECTION} 99 ${ReasonCode.PacketIdentifierNotFound}`)
    failOver()
    expect(b.resumes).toEqual([
      {
        connection: CONNECTION,
        clientId: CLIENT,
        protocolVersion: 5,
        receiveMaximum: 10,
        isWritable: true,
        lastSequence: 104,
        outstanding: [
          { packetId: 3, sequence: 102, phase: 'received' },
          { packetId: 4, sequence: 103, phase: 'released' },
        ],
      },
    ])
    b.calls.length = 0
    router.pubcomp(session, CONNECTION, 4)
    router.writable(session, CONNECTION, false)
    expect(b.calls).toEqual([])
    b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 50 }])
    expect(b.calls).toEqual([`pubcomp 50 ${CONNECTION} 4`, `writable 50 ${CONNECTION} false`])
  })

  test('QoS 1 and 2 by an owner that was replaced go nowhere, to others they do', async () => {
    await bound()
    failOver()
    b.caller.resumed(SHARD, [{ connection: CONNECTION, session: 50 }])
    const late = openOwner()
    const recipients = new Recipients()
    recipients.add(CONNECTION, 1, 1, null, 1)
    late.caller.deliver(message(1), recipients)
    expect(core).toEqual([])
    expect(router.counters.deliveriesIgnored).toBe(1)
    b.caller.deliver(message(1), recipients)
    expect(core).toEqual(['deliver'])
    late.caller.disconnect(CONNECTION, ReasonCode.ServerBusy, 'late')
    expect(core).toEqual(['deliver'])
    b.caller.disconnect(CONNECTION, ReasonCode.ServerUnavailable, 'gone')
    expect(core.at(-1)).toBe(`disconnect ${CONNECTION} ${ReasonCode.ServerUnavailable} gone`)
  })

  test('a connection that is gone is not resumed; its end is repeated, before the others are resumed, until it is confirmed', async () => {
    const session = await bound()
    router.detach(session, CONNECTION, END)
    expect(a.calls).toEqual([`detach ${SHARD} ${CLIENT} ${CONNECTION}`])
    failOver()
    expect(b.calls.filter(call => !call.startsWith(`resume ${OTHER}`))).toEqual([
      `detach ${SHARD} ${CLIENT} ${CONNECTION}`,
      `resume ${SHARD} true`,
    ])
    b.caller.detached(CONNECTION)
    b.calls.length = 0
    b.caller.lost(SHARD)
    b.caller.owned(SHARD, 3, 0, 0)
    expect(b.calls).toEqual([`resume ${SHARD} true`])
  })

  test('a client that asks for what nobody can do is disconnected in the end, a QoS 2 publish that never left refused', async () => {
    const session = await bound()
    router.onLinkClosed(a.link)
    router.publish(session, CONNECTION, 0, message(2))
    pass(20_001)
    expect(core).toEqual([`acknowledged ${CONNECTION} 0 ${ReasonCode.QuotaExceeded}`])
    router.subscribe(session, CONNECTION, 1, 9, [])
    pass(20_001)
    expect(core.at(-1)).toContain(`disconnect ${CONNECTION} ${ReasonCode.ServerBusy}`)
  })
})

describe('publish', () => {
  test('one call for each backend; the joined reason is the worst failure, else Success', () => {
    b = openOwner()
    b.caller.owned(OTHER, 2, 0, 0)
    router.endTurn()
    a.caller.routes(SHARD, 1, false, ['t'], [])
    b.caller.routes(OTHER, 1, false, ['+'], [])
    a.calls.length = 0
    b.calls.length = 0
    for (const ticket of [0, 1]) router.publish(CONNECTION, CONNECTION, ticket, message(1))
    expect(a.calls).toEqual([`to ${SHARD}`, `publish 1 ${CONNECTION} false`, `to ${SHARD}`, `publish 2 ${CONNECTION} false`])
    b.caller.published(2, ReasonCode.QuotaExceeded, null)
    b.caller.published(1, ReasonCode.NoMatchingSubscribers, null)
    a.caller.published(1, ReasonCode.Success, null)
    a.caller.published(2, ReasonCode.Success, null)
    expect(core).toEqual([`acknowledged ${CONNECTION} 0 0`, `acknowledged ${CONNECTION} 1 ${ReasonCode.QuotaExceeded}`])
  })

  test('nobody subscribed: answered at once; a Retained Message goes to its shard all the same', () => {
    router.publish(CONNECTION, CONNECTION, 0, message(1))
    expect(core).toEqual([`acknowledged ${CONNECTION} 0 ${ReasonCode.NoMatchingSubscribers}`])
    const kept = message(1)
    kept.retain = true
    router.publish(CONNECTION, CONNECTION, 1, kept)
    expect(a.calls).toEqual([`to ${shardOf('t', SHARDS)}`, `publish 1 ${CONNECTION} false`])
  })

  test('a held message goes on with what is left of its expiry; when nothing is left it counts as done', () => {
    a.caller.routes(0, 1, false, ['t'], [])
    router.onLinkClosed(a.link)
    for (const [ticket, expirySeconds] of [3, 10].entries()) {
      const expiring = message(1, String(ticket))
      expiring.expirySeconds = expirySeconds
      router.publish(CONNECTION, CONNECTION, ticket, expiring)
    }
    clock.advance(4_000)
    b = openOwner()
    for (let shard = 0; shard < SHARDS; shard++) b.caller.owned(shard, 2, ...([0, 0] as const))
    b.caller.routes(0, 1, true, ['t'], [])
    router.endTurn()
    expect(b.messages.map(({ payload, expirySeconds }) => `${payload.toString()} ${expirySeconds}`)).toEqual(['1 6'])
    expect(core).toEqual([`acknowledged ${CONNECTION} 0 ${ReasonCode.NoMatchingSubscribers}`])
    expect(router.counters.heldMessagesExpired).toBe(1)
  })

  test('what has waited for too long is refused; its late answer changes nothing', () => {
    a.caller.routes(0, 1, false, ['t'], [])
    router.publish(CONNECTION, CONNECTION, 0, message(1))
    pass(20_000, a)
    expect(core).toEqual([`acknowledged ${CONNECTION} 0 ${ReasonCode.QuotaExceeded}`])
    a.caller.published(1, ReasonCode.Success, [0])
    expect(core).toHaveLength(1)
    expect(router.pendingBytes).toBe(0)
  })

  test('what a connection published after something that was refused late goes nowhere once the connection is gone', async () => {
    const session = await bound()
    for (const isGone of [false, true]) {
      a.caller.routes(0, 1, false, ['t'], [])
      router.onLinkClosed(a.link)
      router.publish(session, CONNECTION, 0, message(1, 'older'))
      pass(15_000)
      router.publish(session, CONNECTION, 1, message(1, 'newer'))
      pass(5_000)
      expect(core.at(-1)).toBe(`acknowledged ${CONNECTION} 0 ${ReasonCode.QuotaExceeded}`)
      if (isGone) router.detach(session, CONNECTION, END)
      a = openOwner()
      for (let shard = 0; shard < SHARDS; shard++) a.caller.owned(shard, 2, ...([0, 0] as const))
      a.caller.routes(0, 1, true, ['t'], [])
      router.endTurn()
      expect(a.messages.map(({ payload }) => payload.toString())).toEqual(isGone ? [] : ['newer'])
      a.caller.published(1, ReasonCode.Success, null)
      expect(router.pendingBytes).toBe(0)
    }
  })

  test('too much unanswered: pressure, QoS 0 dropped, then QoS 1 refused; all of it passes', () => {
    a.caller.routes(0, 1, false, ['t'], [])
    router.onLinkClosed(a.link)
    router.publish(CONNECTION, CONNECTION, 0, message(1, 'x'.repeat(2_000)))
    expect(core).toEqual(['pressure true'])
    router.publish(CONNECTION, CONNECTION, 0, message(0))
    expect(router.counters.qos0DroppedNotFresh).toBe(1)
    router.publish(CONNECTION, CONNECTION, 1, message(1, 'x'.repeat(2_000)))
    router.publish(CONNECTION, CONNECTION, 2, message(1))
    expect(core).toEqual(['pressure true', `acknowledged ${CONNECTION} 2 ${ReasonCode.QuotaExceeded}`])
    pass(20_000)
    expect(core.at(-1)).toBe(`acknowledged ${CONNECTION} 1 ${ReasonCode.QuotaExceeded}`)
    expect(core).toContain('pressure false')
    expect(router.pendingBytes).toBe(0)
  })

  test('congestion of any link and the memory of any backend are pressure', () => {
    router.onCongestion(a.link, true)
    a.caller.pressure(true)
    router.onCongestion(a.link, false)
    expect(core).toEqual(['pressure true'])
    router.onLinkClosed(a.link)
    expect(core).toEqual(['pressure true', 'pressure false'])
  })

  test('what is sent late, or again, names its publisher: the owner may know another connection of the client by then', async () => {
    const session = await bound()
    a.caller.routes(OTHER, 1, false, ['t'], [])
    a.calls.length = 0
    router.publish(session, CONNECTION, 0, message(1))
    expect(a.calls).toEqual([`to ${OTHER}`, `publish 1 ${CONNECTION} true`])
    router.onLinkClosed(a.link)
    router.publish(session, CONNECTION, 1, message(1))
    b = openOwner()
    for (let shard = 0; shard < SHARDS; shard++) b.caller.owned(shard, 2, 0, 0)
    b.caller.routes(OTHER, 1, true, ['t'], [])
    router.detach(session, CONNECTION, END)
    router.endTurn()
    expect(b.calls.filter(call => call.startsWith('publish'))).toEqual([1, 2].map(each => `publish ${each} ${CONNECTION} true ${CLIENT}`))
  })

  test('QoS 0 for a shard that is not fresh waits for it', () => {
    a.caller.routes(0, 1, false, ['t'], [])
    pass(600)
    router.publish(CONNECTION, CONNECTION, 0, message(0))
    expect(a.messages).toHaveLength(0)
    pass(10, a)
    expect(a.calls.at(-1)).toBe(`publish 0 ${CONNECTION} false`)
    expect(router.pendingBytes).toBe(0)
  })
})
