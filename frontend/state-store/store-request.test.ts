import { describe, expect, test } from 'vitest'
import { literalPart } from '#shared/authorization/glob.ts'
import type { KeyRule } from '#shared/authorization/key-rules.ts'
import { encodeAuth } from '#shared/mqtt/auth-codec.ts'
import { encodeSubscribe } from '#shared/mqtt/client-codec.ts'
import { generatePacket } from '#shared/mqtt/packet-library.ts'
import type { ProtocolVersion } from '#shared/mqtt/protocol-version.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { notifyTopic, REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { type FakeClient, permitOf, rulesOf, Surroundings } from '../surroundings.contract.ts'

const STORE = 'statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8'
const ANSWERS = 'clients/c1/services/statestore/_any_/command/invoke/response'
const SET = '*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n'
const KEEP = '*4\r\n$9\r\nKEYNOTIFY\r\n$3\r\nkey\r\n$4\r\nKEEP\r\n$1\r\n9\r\n'
const GET = '*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n'

interface Request {
  readonly topic?: string
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
  readonly payload?: string | Buffer
  readonly version?: ProtocolVersion
  readonly properties?: object
}

function request({ topic = REQUEST_TOPIC, qos = 1, retain = false, payload = GET, version = 5, properties = {} }: Request = {}): Buffer {
  const all = { responseTopic: ANSWERS, correlationData: Buffer.from('0123456789abcdef'), ...properties }
  return generatePacket(
    { cmd: 'publish', topic, qos, retain, dup: false, payload, messageId: 7, ...(version === 5 && { properties: all }) },
    version,
  )
}

async function connected(world: Surroundings, version: ProtocolVersion = 5): Promise<FakeClient> {
  return (await world.connect(version, {}, 'c1')).forget()
}

/** What became of one request: what the store was asked, and what the client was sent. */
async function sent(options: Request, world = new Surroundings()) {
  const client = await connected(world, options.version)
  client.send(request(options))
  const [asked] = world.backend.asked
  if (asked !== undefined) world.frontend.acknowledged(client.connection.id, asked.ticket, ReasonCode.Success)
  world.turn.run()
  return { asked: world.backend.asked, published: world.backend.published, packets: client.packets, client, world }
}

describe('a request', () => {
  test('goes to the store and to nobody else, and is acknowledged with 0x00 when the store has it', async () => {
    const { asked, published, packets } = await sent({ payload: SET, retain: true })
    expect(asked).toMatchObject([{ clientId: 'c1', fault: null }])
    expect([asked[0]!.shardKey.toString(), asked[0]!.message.payload.toString()]).toEqual(['key', SET])
    expect([published, packets]).toMatchObject([[], [{ cmd: 'puback', messageId: 7, reasonCode: 0 }]])
  })

  test('keeps its place among the acknowledgements', async () => {
    const world = new Surroundings()
    const client = await connected(world)
    client.send(request(), request({ topic: 'other' }))
    const [asked, published] = [world.backend.asked[0]!, world.backend.published[0]!]
    world.frontend.acknowledged(client.connection.id, published.ticket, ReasonCode.Success)
    world.turn.run()
    expect(client.packets).toEqual([])
    world.frontend.acknowledged(client.connection.id, asked.ticket, ReasonCode.Success)
    world.turn.run()
    expect(client.packets).toHaveLength(2)
  })

  test.each<[name: string, payload: string, fault: string]>([
    ['no array', 'GET k\r\n', ErrorText.Syntax],
    ['nothing', '', ErrorText.Syntax],
    ['another verb', '*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n', ErrorText.UnknownCommand],
    ['too few arguments', '*1\r\n$3\r\nGET\r\n', ErrorText.ArgumentCount],
    ['an empty key', '*2\r\n$3\r\nGET\r\n$0\r\n\r\n', ErrorText.EmptyKey],
  ])('%s: the error is the answer, by the shard of the client', async (_, payload, fault) => {
    const { asked, packets } = await sent({ payload })
    expect(asked).toMatchObject([{ fault }])
    expect(asked[0]!.shardKey.toString()).toBe('c1')
    expect(packets).toMatchObject([{ cmd: 'puback', reasonCode: 0 }])
  })

  test('of another major version is not read: the store answers 505', async () => {
    const { asked } = await sent({ payload: 'nonsense', properties: { userProperties: { __protVer: '2.0' } } })
    expect(asked).toMatchObject([{ fault: null }])
    expect(asked[0]!.shardKey.toString()).toBe('c1')
  })
})

describe('what is no request', () => {
  test('a Response Topic with too many levels: 0x90, and nothing done', async () => {
    const levels = (count: number): Request => ({ properties: { responseTopic: Array.from({ length: count }, () => 'a').join('/') } })
    const { settings } = new Surroundings().frontend
    const [fits, exceeds] = [await sent(levels(settings.topicLevelsMax)), await sent(levels(settings.topicLevelsMax + 1))]
    expect([fits.asked.length, exceeds.asked.length]).toEqual([1, 0])
    expect(exceeds.packets).toMatchObject([{ cmd: 'puback', reasonCode: ReasonCode.TopicNameInvalid }])
  })

  test('QoS 0: dropped and counted', async () => {
    const { asked, published, packets, world } = await sent({ qos: 0 })
    expect([asked, published, packets]).toEqual([[], [], []])
    expect(world.frontend.counters.storeRequestsDropped).toBe(1)
    expect(world.log.events).toContain('store_request_dropped')
  })

  test('MQTT 3.1.1: an ordinary PUBACK, and nothing done', async () => {
    const { asked, published, packets } = await sent({ version: 4 })
    expect([asked, published]).toEqual([[], []])
    expect(packets).toMatchObject([{ cmd: 'puback', messageId: 7 }])
  })

  test.each<[name: string, options: Request]>([
    ['QoS 2', { qos: 2 }],
    ['no Response Topic', { properties: { responseTopic: undefined } }],
    ['no Correlation Data', { properties: { correlationData: undefined } }],
    ['empty Correlation Data', { properties: { correlationData: Buffer.alloc(0) } }],
  ])('%s: 0x83 with a Reason String that says so, and nothing done', async (name, options) => {
    const { asked, published, packets } = await sent(options)
    expect([asked, published]).toEqual([[], []])
    const reasonString = `the state store takes no request with ${name.replace('empty', 'no')}`
    expect(packets).toMatchObject([{ reasonCode: ReasonCode.ImplementationSpecificError, properties: { reasonString } }])
  })

  test.each([REQUEST_TOPIC, `clients/${STORE}/x`, `clients/${STORE}x`, '$SYS/x', '$share/g/x'])(
    'Response Topic %s: DISCONNECT 0x90',
    async responseTopic => {
      const { asked, client } = await sent({ properties: { responseTopic } })
      expect(asked).toEqual([])
      expect(client.packets).toMatchObject([{ cmd: 'disconnect', reasonCode: ReasonCode.TopicNameInvalid }])
    },
  )

  test('a Response Topic of the client that only looks like one of the store', async () => {
    const { asked } = await sent({ properties: { responseTopic: `clients/c1/${STORE}/command/invoke` } })
    expect(asked).toHaveLength(1)
  })
})

describe('rights', () => {
  const keys = (access: KeyRule['access'], key: string): KeyRule[] => [{ access, pattern: [literalPart(key)], isDenied: false, rule: 0 }]
  const world = (publish: readonly string[], subscribe: readonly string[], rules: readonly KeyRule[] | null): Surroundings => {
    const made = new Surroundings()
    made.authentication.permit = permitOf(publish, subscribe, { keys: rules })
    return made
  }

  test('the request topic must be allowed for publishing, the Response Topic for subscribing', async () => {
    const noPublish = await sent({}, world(['other'], ['#'], null))
    expect([noPublish.asked, noPublish.packets]).toMatchObject([[], [{ reasonCode: ReasonCode.NotAuthorized }]])
    const noSubscribe = await sent({}, world([REQUEST_TOPIC], ['other'], null))
    expect([noSubscribe.asked, noSubscribe.packets]).toMatchObject([[], [{ reasonCode: ReasonCode.NotAuthorized }]])
  })

  test('a right to publish that was remembered does not pass for the next request', async () => {
    const made = world([REQUEST_TOPIC], ['#'], [])
    const client = await connected(made)
    client.send(request(), request())
    expect(made.backend.asked.map(({ fault }) => fault)).toEqual([ErrorText.NotAuthorized, ErrorText.NotAuthorized])
    expect(made.backend.published).toEqual([])
  })

  describe('that the Response Topic is allowed is remembered', () => {
    /** Whether the store was asked, for each of the topics. */
    async function asked(world: Surroundings, client: FakeClient, ...topics: readonly string[]): Promise<boolean[]> {
      const results: boolean[] = []
      for (const responseTopic of topics) {
        const before = world.backend.asked.length
        client.send(request({ properties: { responseTopic } }))
        results.push(world.backend.asked.length > before)
      }
      await world.settled()
      return results
    }

    test('until there are other rules, after Reevaluate', async () => {
      const made = world([REQUEST_TOPIC], ['a', 'b'], null)
      const client = await connected(made)
      expect(await asked(made, client, 'a', 'a')).toEqual([true, true])
      made.authentication.authorization = () => Promise.resolve(made.authentication.allowed(permitOf([REQUEST_TOPIC], ['b'])))
      made.frontend.changeRules(made.port, rulesOf('1', '2', { onUpdate: 'Reevaluate' }))
      await made.settled()
      const [, ticket] = made.backend.calls.findLast(([name]) => name === 'restrict')!
      made.frontend.subscribed(client.connection.id, ticket as number, [])
      await made.settled()
      expect(await asked(made, client, 'a', 'b', 'a', 'b')).toEqual([false, true, false, true])
    })

    test('until the client has other rights, after AUTH 0x19', async () => {
      const made = world([REQUEST_TOPIC], ['a', 'b'], null)
      const client = (await made.connect(5, { properties: { authenticationMethod: 'm' } }, 'c1')).forget()
      expect(await asked(made, client, 'a', 'a')).toEqual([true, true])
      made.authentication.permit = permitOf([REQUEST_TOPIC], ['b'])
      client.send(encodeAuth(ReasonCode.ReAuthenticate, { method: 'm', data: Buffer.from('new') }))
      await made.settled()
      const [, ticket] = made.backend.calls.findLast(([name]) => name === 'restrict')!
      made.frontend.subscribed(client.connection.id, ticket as number, [])
      await made.settled()
      expect(await asked(made, client, 'a', 'b', 'a')).toEqual([false, true, false])
    })

    test('for this topic alone, and not for another client', async () => {
      const made = world([REQUEST_TOPIC], ['a'], null)
      const client = await connected(made)
      expect(await asked(made, client, 'a', 'b', 'a', 'b', 'ab', '')).toEqual([true, false, true, false, false, false])
      made.authentication.permit = permitOf([REQUEST_TOPIC], ['b'])
      const other = (await made.connect(5, {}, 'c2')).forget()
      expect(await asked(made, other, 'a', 'b', 'a')).toEqual([false, true, false])
    })

    test('unless its policy wants each message to be judged', async () => {
      const made = new Surroundings()
      made.authentication.permit = permitOf([REQUEST_TOPIC], ['a'], { isCached: false })
      const client = await connected(made)
      expect(await asked(made, client, 'a', 'a')).toEqual([true, true])
      expect(client.connection.permittedResponseTopic).toBe(null)
    })

    test('a request that waits for SUBSCRIBE, while another client’s is read, is judged and answered by its own properties', async () => {
      const made = new Surroundings({}, { holdsPublishesForSubscribe: true })
      made.authentication.permit = permitOf([REQUEST_TOPIC], ['a'])
      const client = await connected(made)
      made.authentication.permit = permitOf([REQUEST_TOPIC], ['other'])
      const other = (await made.connect(5, {}, 'c2')).forget()
      client.send(encodeSubscribe(5, 1, [{ filter: 'a' }]), request({ properties: { responseTopic: 'a' } }))
      expect(await asked(made, other, 'other')).toEqual([true])
      const [, ticket] = made.backend.calls.findLast(([name]) => name === 'subscribe')!
      made.frontend.subscribed(client.connection.id, ticket as number, [0])
      await made.settled()
      expect(made.backend.asked.map(({ clientId, responseTopic }) => [clientId, responseTopic!.name])).toEqual([
        ['c2', 'other'],
        ['c1', 'a'],
      ])
    })
  })

  test('topics of the store are nobody’s to publish to, nor its requests a Will', async () => {
    const notify = notifyTopic('c1', Buffer.from('key'))!
    const { published, packets } = await sent({ topic: notify })
    expect([published, packets]).toMatchObject([[], [{ reasonCode: ReasonCode.NotAuthorized }]])
    for (const topic of [notify, REQUEST_TOPIC]) {
      const made = new Surroundings()
      const client = await made.connect(5, { will: { topic, payload: '' } })
      expect(client.packets).toMatchObject([{ cmd: 'connack', reasonCode: ReasonCode.NotAuthorized }])
    }
  })

  test('SCAN goes to the shard that its cursor says, by rules for all keys that begin so', async () => {
    const scan = (prefix: string, cursor: string): string =>
      `*3\r\n$4\r\nSCAN\r\n$${prefix.length}\r\n${prefix}\r\n$${cursor.length}\r\n${cursor}\r\n`
    const under = (access: KeyRule['access'], isDenied = false): KeyRule => ({
      access,
      pattern: [literalPart('key/'), { is: 'any' }],
      isDenied,
      rule: 0,
    })
    const asked = async (payload: string, rules: readonly KeyRule[] | null) =>
      (await sent({ payload }, world([REQUEST_TOPIC], ['#'], rules))).asked[0]!
    expect(await asked(scan('', ''), null)).toMatchObject({ fault: null, shard: 0, isWatch: false })
    expect(await asked(scan('key/1', '7:key/10'), [under('read')])).toMatchObject({ fault: null, shard: 7 })
    for (const rules of [[], [under('write')], [under('read', true)], [under('read'), under('read', true)], keys('read', 'key/')])
      expect(await asked(scan('key/', ''), rules)).toMatchObject({ fault: ErrorText.NotAuthorized })
    expect(await asked(scan('key', ''), [under('read')])).toMatchObject({ fault: ErrorText.NotAuthorized })
    expect(await asked(scan('key/', 'x'), [under('read')])).toMatchObject({ fault: ErrorText.Syntax, shard: null })
  })

  test('WATCH needs rules for all keys that begin so, also to stop', async () => {
    const under = (access: KeyRule['access'], isDenied = false): KeyRule => ({
      access,
      pattern: [literalPart('key/'), { is: 'any' }],
      isDenied,
      rule: 0,
    })
    const asked = async (prefix: string, rules: readonly KeyRule[] | null, stop = '') => {
      const payload = `*${stop === '' ? 2 : 3}\r\n$5\r\nWATCH\r\n$${prefix.length}\r\n${prefix}\r\n${stop}`
      return (await sent({ payload }, world([REQUEST_TOPIC], ['#'], rules))).asked[0]!
    }
    expect(await asked('', null)).toMatchObject({ fault: null, shard: null, isWatch: true })
    for (const stop of ['', '$4\r\nSTOP\r\n']) {
      expect(await asked('key/1', [under('read')], stop)).toMatchObject({ fault: null, isWatch: true })
      for (const rules of [[], [under('write')], [under('read', true)], [under('read'), under('read', true)], keys('read', 'key/')])
        expect(await asked('key/', rules, stop)).toMatchObject({ fault: ErrorText.NotAuthorized, isWatch: false })
      expect(await asked('key', [under('read')], stop)).toMatchObject({ fault: ErrorText.NotAuthorized })
    }
  })

  test('MGET needs the right to read every one of its keys', async () => {
    const asked = async (...names: readonly string[]) => {
      const payload = `*${names.length + 1}\r\n$4\r\nMGET\r\n${names.map(name => `$${name.length}\r\n${name}\r\n`).join('')}`
      const rules = [...keys('read', 'a'), ...keys('readwrite', 'b'), ...keys('write', 'c')]
      return (await sent({ payload }, world([REQUEST_TOPIC], ['#'], rules))).asked[0]!
    }
    expect(await asked('a', 'b', 'a')).toMatchObject({ fault: null, shard: null, isWatch: false, shardKey: 'a' })
    expect(await asked('b', 'a', 'c')).toMatchObject({ fault: ErrorText.NotAuthorized })
    expect(await asked('other')).toMatchObject({ fault: ErrorText.NotAuthorized })
  })

  test('a key that is refused is in the audit, with what was wanted of it and why', async () => {
    const refusals = async (payload: string | Buffer, rules: readonly KeyRule[]) =>
      (await sent({ payload }, world([REQUEST_TOPIC], ['#'], rules))).world.refusals
    const who = { clientId: 'c1', listener: 'test' }
    const cause = expect.stringContaining('no rule') as string
    expect(await refusals(SET, keys('read', 'key'))).toMatchObject([{ ...who, action: 'writeKey', key: 'key', cause }])
    expect(await refusals(GET, [])).toMatchObject([{ ...who, action: 'readKey', key: 'key', cause }])
    expect(await refusals('*2\r\n$3\r\nGET\r\n$2\r\né\r\n', [])).toMatchObject([{ key: 'é' }])
    expect(await refusals(Buffer.from('*2\r\n$3\r\nGET\r\n$2\r\n\xe9\x01\r\n', 'latin1'), [])).toMatchObject([{ key: '0xe901' }])
    expect(await refusals('*3\r\n$4\r\nMGET\r\n$3\r\nkey\r\n$5\r\nother\r\n', keys('read', 'key'))).toMatchObject([
      { action: 'readKey', key: 'other' },
    ])
    expect(await refusals('*3\r\n$4\r\nSCAN\r\n$3\r\nkey\r\n$0\r\n\r\n', keys('read', 'key'))).toMatchObject([
      { action: 'readKeysUnder', key: 'key', cause: 'not every key that begins so may be read' },
    ])
    const denied = keys('read', 'key').map(rule => ({ ...rule, isDenied: true }))
    expect(await refusals(GET, denied)).toMatchObject([{ action: 'readKey', cause: expect.stringContaining('denied by') as string }])
    expect(await refusals(GET, keys('read', 'key'))).toEqual([])
  })

  test.each<[access: KeyRule['access'], payload: string, fault: string | null]>([
    ['read', GET, null],
    ['read', '*2\r\n$9\r\nKEYNOTIFY\r\n$3\r\nkey\r\n', null],
    ['read', KEEP, null],
    ['write', KEEP, ErrorText.NotAuthorized],
    ['read', SET, ErrorText.NotAuthorized],
    ['write', SET, null],
    ['write', '*2\r\n$3\r\nDEL\r\n$3\r\nkey\r\n', null],
    ['write', GET, ErrorText.NotAuthorized],
    ['readwrite', GET, null],
    ['readwrite', SET, null],
  ])('%s: %j is answered with %s', async (access, payload, fault) => {
    const { asked } = await sent({ payload }, world([REQUEST_TOPIC], ['#'], keys(access, 'key')))
    expect(asked).toMatchObject([{ fault }])
    const other = await sent({ payload }, world([REQUEST_TOPIC], ['#'], keys(access, 'other')))
    expect(other.asked).toMatchObject([{ fault: ErrorText.NotAuthorized }])
  })
})
