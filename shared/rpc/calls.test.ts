import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import { ByteWriter } from '#shared/base/byte-writer.ts'
import { type Message, newMessage } from '#shared/mqtt/message.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { Topic, TopicCache } from '#shared/mqtt/topic.ts'
import { authAskerArguments, authServiceArguments } from './any-auth-call.contract.ts'
import { callerArguments, ownerArguments, seen, type SeenCall, SHARD_COUNT } from './any-call.contract.ts'
import { AuthAskerCalls, AuthServiceCalls } from './auth-calls.ts'
import { AuthAskerDispatch, AuthServiceDispatch } from './auth-dispatch.ts'
import type { AuthAskerPort, AuthServicePort } from './auth-port.ts'
import { CallerCalls } from './caller-calls.ts'
import { CallerDispatch } from './caller-dispatch.ts'
import type { CallerPort } from './caller-port.ts'
import type { Link, PeerIdentity } from './link.ts'
import { AuthAskerMethod, AuthServiceMethod, CallerMethod, methodName, OwnerMethod } from './methods.ts'
import { OwnerCalls } from './owner-calls.ts'
import { OwnerDispatch } from './owner-dispatch.ts'
import type { OwnerPort } from './owner-port.ts'
import { RECIPIENTS_MAX } from './recipients-body.ts'
import { Recipients } from './recipients.ts'
import { Shards } from './shards.ts'

interface Frame {
  readonly method: number
  readonly body: Buffer
}

/** Keeps the frames. */
class FrameLink implements Link {
  readonly peer: PeerIdentity = { role: 'backend', id: 'b', instance: '1', protocolVersion: 1 }
  readonly isCongested = false
  readonly heardMs = 0
  readonly frames: Frame[] = []
  readonly #writer = new ByteWriter(16)
  #method = 0

  beginFrame(method: number): ByteWriter {
    this.#method = method
    return this.#writer
  }

  endFrame(): void {
    this.frames.push({ method: this.#method, body: this.#writer.take() })
  }

  close(reason: string): void {
    throw new Error(reason)
  }
}

type Calls = Record<string, (...args: unknown[]) => void>
interface Dispatch {
  dispatch(method: number, body: ByteReader): void
  readonly framesSkipped: number
}

interface Side {
  readonly name: 'owner' | 'caller' | 'authentication service' | 'frontend'
  readonly methods: Readonly<Record<string, number>>
  readonly args: Readonly<Record<string, fc.Arbitrary<readonly unknown[]>>>
  readonly calls: (link: Link) => Calls
  readonly dispatch: (port: Calls, isPeerNewer: boolean) => Dispatch
}

function parts(isPeerNewer: boolean) {
  return { topics: new TopicCache({ topicsMax: 1_000, levelsMax: 128 }), shardCount: SHARD_COUNT, levelsMax: 128, isPeerNewer }
}

const SIDES: readonly Side[] = [
  {
    name: 'owner',
    methods: OwnerMethod,
    args: ownerArguments,
    calls: link => new OwnerCalls(link) as unknown as Calls,
    dispatch: (port, isPeerNewer) => new OwnerDispatch(port as unknown as OwnerPort, parts(isPeerNewer)),
  },
  {
    name: 'caller',
    methods: CallerMethod,
    args: callerArguments,
    calls: link => new CallerCalls(link) as unknown as Calls,
    dispatch: (port, isPeerNewer) => new CallerDispatch(port as unknown as CallerPort, parts(isPeerNewer)),
  },
  {
    name: 'authentication service',
    methods: AuthServiceMethod,
    args: authServiceArguments,
    calls: link => new AuthServiceCalls(link) as unknown as Calls,
    dispatch: (port, isPeerNewer) => new AuthServiceDispatch(port as unknown as AuthServicePort, isPeerNewer),
  },
  {
    name: 'frontend',
    methods: AuthAskerMethod,
    args: authAskerArguments,
    calls: link => new AuthAskerCalls(link) as unknown as Calls,
    dispatch: (port, isPeerNewer) => new AuthAskerDispatch(port as unknown as AuthAskerPort, isPeerNewer),
  },
]
const CALLS = SIDES.flatMap(side => Object.keys(side.args).map(name => [`${side.name}.${name}`, side, name] as const))

/** A port that notes its calls, and the frames that they would make if they were made again. */
function recording(side: Side): { readonly port: Calls; readonly calls: SeenCall[]; readonly again: FrameLink } {
  const calls: SeenCall[] = []
  const again = new FrameLink()
  const remote = side.calls(again)
  const note = (name: string) => {
    const noted = (...args: unknown[]) => {
      calls.push(seen(name, args))
      remote[name]!(...args)
    }
    return [name, noted] as const
  }
  return { port: Object.fromEntries(Object.keys(side.args).map(note)), calls, again }
}

function encoded(side: Side, name: string, args: readonly unknown[]): Frame[] {
  const link = new FrameLink()
  const calls = side.calls(link)
  calls[name]!(...args)
  return link.frames
}

/** The body amid other bytes, as in a chunk of a socket. */
function readerOf(body: Uint8Array): ByteReader {
  const reader = new ByteReader(Buffer.alloc(0))
  reader.reset(Buffer.concat([Buffer.alloc(3, 0xff), body, Buffer.alloc(3, 0xff)]), 3, 3 + body.length)
  return reader
}

function decoded(side: Side, { method, body }: Frame): SeenCall[] {
  const { port, calls } = recording(side)
  side.dispatch(port, false).dispatch(method, readerOf(body))
  return calls
}

/** What a frame does: its call, which made again arrives the same, or null when it is refused as it may be. */
function outcome(side: Side, frame: Frame): SeenCall | null {
  const { port, calls, again } = recording(side)
  const dispatch = side.dispatch(port, false)
  try {
    dispatch.dispatch(frame.method, readerOf(frame.body))
  } catch (error) {
    expect(error instanceof ByteReaderError || error instanceof ProtocolError, String(error)).toBe(true)
    expect(calls).toEqual([])
    return null
  }
  expect(calls).toHaveLength(1)
  expect(decoded(side, again.frames[0]!)).toEqual(calls)
  return calls[0]!
}

function mutated(body: Buffer, at: number, byte: number): Buffer {
  const copy = Buffer.from(body)
  if (copy.length > 0) copy[at % copy.length] = byte
  return copy
}

const QUICK = { numRuns: 60 }

describe.each(CALLS)('%s', (_, side, name) => {
  const method = side.methods[name[0]!.toUpperCase() + name.slice(1)]!

  test('arrives as it was made, in one frame with its number', () => {
    fc.assert(
      fc.property(side.args[name]!, args => {
        const frames = encoded(side, name, args)
        expect(frames.map(frame => frame.method)).toEqual([method])
        expect(decoded(side, frames[0]!)).toEqual([seen(name, args)])
      }),
      QUICK,
    )
  })

  test('cut short or followed by more, it is refused', () => {
    fc.assert(
      fc.property(side.args[name]!, fc.nat(), (args, cutAt) => {
        const { body } = encoded(side, name, args)[0]!
        if (body.length > 0) expect(outcome(side, { method, body: body.subarray(0, cutAt % body.length) })).toBeNull()
        expect(outcome(side, { method, body: Buffer.concat([body, Buffer.from([0])]) })).toBeNull()
      }),
      QUICK,
    )
  })

  test('with bytes changed, it is refused or another call that arrives as it was made', () => {
    fc.assert(
      fc.property(side.args[name]!, fc.nat(), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)), (args, at, byte) => {
        const { body } = encoded(side, name, args)[0]!
        outcome(side, { method, body: mutated(body, at, byte) })
      }),
      { numRuns: 200 },
    )
  })

  test('any bytes are refused or a call', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, isSmall) => {
        outcome(side, { method, body: Buffer.from(isSmall ? bytes.map(byte => byte & 3) : bytes) })
      }),
      { numRuns: 200 },
    )
  })
})

describe('methods', () => {
  test('every call has a number of its own and a name', () => {
    const numbers = SIDES.flatMap(side => Object.values(side.methods))
    expect(new Set(numbers).size).toBe(numbers.length)
    for (const side of SIDES) {
      const names = Object.keys(side.args).map(name => name[0]!.toUpperCase() + name.slice(1))
      expect(Object.keys(side.methods).sort()).toEqual(names.sort())
      for (const each of names) expect(methodName(side.methods[each]!)).toBe(each)
    }
    expect(methodName(255)).toBe('unknown')
  })

  test.each(SIDES)('an unknown one to the $name is refused, or skipped and counted when the peer is newer', side => {
    const { port, calls } = recording(side)
    expect(() => side.dispatch(port, false).dispatch(99, readerOf(Buffer.from([1])))).toThrow(ByteReaderError)
    const lenient = side.dispatch(port, true)
    lenient.dispatch(99, readerOf(Buffer.from([1])))
    expect([lenient.framesSkipped, calls]).toEqual([1, []])
  })

  test('those of the others are unknown', () => {
    for (const side of SIDES) {
      const others = SIDES.filter(other => other !== side).flatMap(other => Object.values(other.methods))
      for (const method of others) expect(outcome(side, { method, body: Buffer.alloc(0) }), `${method} to ${side.name}`).toBeNull()
    }
  })
})

describe('messages', () => {
  const topic = new Topic('a/b', Buffer.from('a/b'))

  function publishFrame(message: Message): Frame {
    const shards = new Shards()
    shards.add(7)
    return encoded(SIDES[0]!, 'publish', [300, 2 ** 24 + 5, true, shards, message])[0]!
  }

  test('the layout of publish, which other versions read', () => {
    const message = newMessage(topic, Buffer.from('hi'), 1, true)
    message.packetId = 0x1234
    message.expirySeconds = 258
    expect(publishFrame(message).body.toString('hex')).toBe(
      'ac02' + '0500000100' + '01' + '010700' + '35' + '03612f62' + '3412' + '02010000' + '026869',
    )
  })

  test('the layout of deliver, which other versions read', () => {
    const recipients = new Recipients()
    recipients.add(2 ** 24 + 5, 0, 0, null)
    recipients.add(2 ** 33 + 1, 0b0101, 10, [1, 200], 300)
    const { body } = encoded(SIDES[1]!, 'deliver', [newMessage(topic, Buffer.from('hi')), recipients])[0]!
    const message = '0003612f62026869'
    expect(body.toString('hex')).toBe(`${message}02${'0005000001'}${'35010000000a00ac020202' + '01c801'}`)
  })

  test('the layout of attach, which other versions read, and what rights add to it', () => {
    const will = { message: newMessage(topic, Buffer.from('hi')), delaySeconds: 3 }
    const attach = { connection: 1, clientId: 'c', protocolVersion: 5, cleanStart: true, sessionExpirySeconds: 7, receiveMaximum: 2 }
    const rights = { permit: Buffer.from('p'), willGuard: Buffer.from('gg') }
    const hex = (rest: object): string => encoded(SIDES[0]!, 'attach', [9, { ...attach, ...rest }, false])[0]!.body.toString('hex')
    const head = '0900' + '0100000000' + '0163' + '05'
    expect(hex({ will: null, rights: null })).toBe(`${head}01070200`)
    expect(hex({ will, rights: null })).toBe(`${head}03070200${'03' + '0003612f62026869'}`)
    expect(hex({ will: null, rights })).toBe(`${head}05070200${'0170' + '026767'}`)
    expect(hex({ will, rights })).toBe(`${head}07070200${'03' + '0003612f62026869' + '0170' + '026767'}`)
  })

  test('rights are taken out of the frame', () => {
    const rights = { permit: Buffer.from('permit'), willGuard: Buffer.from('guard') }
    const { method, body } = encoded(SIDES[0]!, 'restrict', [1, 2, 3, rights])[0]!
    const reader = readerOf(body)
    const got: (typeof rights)[] = []
    SIDES[0]!.dispatch({ restrict: (...args: unknown[]) => void got.push(args[3] as typeof rights) }, false).dispatch(method, reader)
    reader.buffer.fill(0)
    expect(got).toEqual([rights])
  })

  test('payload and properties stay in the frame; a Will is taken out of it', () => {
    const message = newMessage(topic, Buffer.from('payload'), 0, false, Buffer.from([1, 1]))
    const { method, body } = publishFrame(message)
    const reader = readerOf(body)
    const got: Message[] = []
    const port = { publish: (...args: unknown[]) => void got.push(args[4] as Message) }
    SIDES[0]!.dispatch(port, false).dispatch(method, reader)
    expect([got[0]!.payloadBytes, got[0]!.propertyBytes].every(bytes => bytes === reader.buffer)).toBe(true)
    expect(got[0]!.ownsBytes).toBe(false)

    const will = { message, delaySeconds: 0 }
    const attach = {
      connection: 1,
      clientId: 'c',
      protocolVersion: 5,
      cleanStart: true,
      sessionExpirySeconds: 0,
      receiveMaximum: 1,
      will,
      rights: null,
    }
    const frame = encoded(SIDES[0]!, 'attach', [1, attach, false])[0]!
    const willReader = readerOf(frame.body)
    const wills: Message[] = []
    const attachPort = { attach: (...args: unknown[]) => void wills.push((args[1] as typeof attach).will.message) }
    SIDES[0]!.dispatch(attachPort, false).dispatch(frame.method, willReader)
    willReader.buffer.fill(0)
    expect([wills[0]!.ownsBytes, wills[0]!.payload.toString(), wills[0]!.topic.name]).toEqual([true, 'payload', 'a/b'])
  })

  test('one Message is used again and again, and nothing stays of the one before', () => {
    const full = newMessage(topic, Buffer.from('payload'), 1, true, Buffer.from([1, 1]))
    full.packetId = 9
    full.dup = true
    full.expirySeconds = 1
    const bare = newMessage(topic, Buffer.alloc(0))
    const { port, calls } = recording(SIDES[0]!)
    const dispatch = SIDES[0]!.dispatch(port, false)
    for (const message of [full, bare]) {
      const { method, body } = publishFrame(message)
      dispatch.dispatch(method, readerOf(body))
    }
    expect(calls.map(call => call.args[4])).toEqual([full, bare].map(message => seen('', [message]).args[0]))
  })

  test.each([
    ['QoS 3', /message flags 3/, '03' + '0161' + '00'],
    ['an unknown flag', /message flags 128/, '80' + '0161' + '00'],
    ['QoS 2 in publish', /publish with QoS 2/, '02' + '0161' + '00'],
    ['Packet Identifier 0', /Packet Identifier 0/, '11' + '0161' + '0000' + '00'],
    ['no topic', /empty Topic Name/, '00' + '00' + '00'],
    ['a wildcard in the topic', /wildcard/, '00' + '0123' + '00'],
    ['a topic that is not UTF-8', /not UTF-8/, '00' + '01ff' + '00'],
    ['a payload longer than the frame', /truncated/, '00' + '0161' + 'ffffff7f'],
    ['properties longer than the frame', /truncated/, '40' + '0161' + 'ffffff7f' + '00'],
  ])('%s is refused', (_, why, message) => {
    const head = '00' + '0000000000' + '00' + '00'
    expect(outcome(SIDES[0]!, { method: OwnerMethod.Publish, body: Buffer.from(`${head}0001610178`, 'hex') })).not.toBeNull()
    expect(() => decoded(SIDES[0]!, { method: OwnerMethod.Publish, body: Buffer.from(head + message, 'hex') })).toThrow(why)
  })
})

describe('limits', () => {
  test('more recipients than fit a frame go in several', () => {
    const recipients = new Recipients()
    for (let i = 0; i < 2 * RECIPIENTS_MAX + 1; i++) recipients.add(i, 0, 0, null)
    const message = newMessage(new Topic('t', Buffer.from('t')), Buffer.from('x'))
    const frames = encoded(SIDES[1]!, 'deliver', [message, recipients])
    const all = frames.flatMap(frame => decoded(SIDES[1]!, frame)[0]!.args[1])
    expect(frames).toHaveLength(3)
    expect(all).toEqual(seen('', [recipients]).args[0])
    expect(encoded(SIDES[1]!, 'deliver', [message, new Recipients()])).toEqual([])
  })

  const HUGE = 'ffffffffffff03'
  test.each<[string, Side, number, string]>([
    ['shards', SIDES[0]!, OwnerMethod.Publish, `00${'0000000000'}00${HUGE}`],
    ['subscriptions', SIDES[0]!, OwnerMethod.Subscribe, `${'0000000000'.repeat(2)}000100${HUGE}`],
    ['sessions', SIDES[0]!, OwnerMethod.Resume, `0000${HUGE}`],
    ['members', SIDES[0]!, OwnerMethod.Members, `000000000000${HUGE}`],
    ['recipients', SIDES[1]!, CallerMethod.Deliver, `00016100${HUGE}`],
    ['routes', SIDES[1]!, CallerMethod.Routes, `00000000${HUGE}`],
    ['messages', SIDES[1]!, CallerMethod.Retained, `0000${HUGE}`],
    ['reasons', SIDES[1]!, CallerMethod.Subscribed, `000000000000${HUGE}`],
    ['authorizations', SIDES[2]!, AuthServiceMethod.Authorize, `00${HUGE}`],
    ['certificates', SIDES[2]!, AuthServiceMethod.Recheck, `000000000001${HUGE}`],
    ['attributes', SIDES[3]!, AuthAskerMethod.Verdict, `00000000${HUGE}`],
  ])('a count of %s that the bytes do not bear out is refused before anything is made of it', (_, side, method, hex) => {
    const { port } = recording(side)
    const dispatch = side.dispatch(port, false)
    expect(() => dispatch.dispatch(method, readerOf(Buffer.from(hex, 'hex')))).toThrow(/elements in 0 bytes/)
  })

  test.each<[string, RegExp, Side, number, string]>([
    ['a shard past the last', /shard 100 of 100/, SIDES[0]!, OwnerMethod.WantRoutes, '6400'],
    [
      'more shards than there are',
      /101 shards of 100/,
      SIDES[0]!,
      OwnerMethod.Publish,
      `00${'0000000000'}0065${'0000'.repeat(101)}0001610178`,
    ],
    ['protocol version 6', /protocol version 6/, SIDES[0]!, OwnerMethod.Attach, `0000${'0000000000'}01630600000100`],
    ['Packet Identifier 0', /0 where/, SIDES[0]!, OwnerMethod.Puback, `${'0000000000'.repeat(2)}0000`],
    ['a flag that is 2', /2 is not a flag/, SIDES[1]!, CallerMethod.Pressure, '02'],
    ['an outcome that is 3', /3 is not an outcome/, SIDES[1]!, CallerMethod.HandedOver, '00000000' + '03'],
    ['a number over 2^53', /over 2\^53/, SIDES[1]!, CallerMethod.Detached, '00000000' + 'ffffff01'],
    ['a Reason Code that is none', /Reason Code 3/, SIDES[1]!, CallerMethod.Acknowledged, `${'0000000000'}0003`],
    ['a detail that is not UTF-8', /not UTF-8/, SIDES[1]!, CallerMethod.Disconnect, `${'0000000000'}8001ff`],
    [
      'a Shared Subscription as a route',
      /a Shared Subscription where/,
      SIDES[1]!,
      CallerMethod.Routes,
      `0000000001${Buffer.from('\u000a$share/g/a').toString('hex')}00`,
    ],
    ['an empty Client Identifier', /empty Client Identifier/, SIDES[0]!, OwnerMethod.Detach, `000000${'0000000000'}00`],
    ['QoS 3 of a recipient', /recipient flags 3/, SIDES[1]!, CallerMethod.Deliver, `00016100${'01'}${'0300000000'}010000`],
    ['recipient flags that are unknown', /recipient flags 64/, SIDES[1]!, CallerMethod.Deliver, `00016100${'01'}${'4000000000'}`],
    ['Subscription Identifier 0', /Subscription Identifier 0/, SIDES[1]!, CallerMethod.Deliver, `00016100${'01'}${'1000000000'}0100`],
    ['a refusal that reads as success', /a refusal with Reason Code 0/, SIDES[3]!, AuthAskerMethod.Verdict, '0002' + '00000000'],
    ['a verdict that is none', /4 is not a verdict/, SIDES[3]!, AuthAskerMethod.Verdict, '0004'],
    ['an attribute twice', /comes twice/, SIDES[3]!, AuthAskerMethod.Verdict, '00000000' + '0201610001610000000000'],
    ['a time without end', /Infinity as a time/, SIDES[3]!, AuthAskerMethod.Verdict, `000000000000${'01000000000000f07f'}0000`],
    ['protocol version 6 in authenticate', /protocol version 6/, SIDES[2]!, AuthServiceMethod.Authenticate, '000006'],
    [
      'a user name that no client may send',
      /no client may send/,
      SIDES[2]!,
      AuthServiceMethod.Authenticate,
      '00' + '0205' + '00' + '000000' + '00' + '0163' + '0100',
    ],
    [
      'a password over 65,535 bytes',
      /Binary Data of 65536/,
      SIDES[2]!,
      AuthServiceMethod.Authenticate,
      `00${'0405'}00${'000000'}00${'0163'}808004${'61'.repeat(65_536)}`,
    ],
    [
      'certificates over 1 MiB',
      /certificates of 1048580/,
      SIDES[2]!,
      AuthServiceMethod.Recheck,
      `00${'000000'}00${'0101'}808040${'61'.repeat(2 ** 20)}00`,
    ],
    ['no recipients', /0 recipients/, SIDES[1]!, CallerMethod.Deliver, '0001610000'],
  ])('%s is refused', (_, why, side, method, hex) => {
    const frame = { method, body: Buffer.from(hex, 'hex') }
    expect(outcome(side, frame)).toBeNull()
    expect(() => decoded(side, frame)).toThrow(why)
  })
})
