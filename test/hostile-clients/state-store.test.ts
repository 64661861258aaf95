import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ErrorText } from '#shared/state-store/errors.ts'
import { notifyTopic, REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { clockOf, payloadOf, StoreAsker } from '../cast/store-asker.ts'
import * as packets from '../conformance/packets.ts'
import type { Properties } from '../conformance/properties.ts'
import { resource } from '../specification/configured-broker.ts'
import { HostileStage, PROTOCOL_ERROR } from './hostile-stage.ts'

const MIB = 1024 * 1024
const PACKET_BYTES_MAX = MIB
const QUEUE_MESSAGES_MAX = 1_000
const WATCHES_MAX = 10_000
/** As many as a client may send before the first is acknowledged: the broker's Receive Maximum. */
const BATCH = 100
const OK = '+OK\r\n'
const TOPIC_NAME_INVALID = 0x90
const PACKET_TOO_LARGE = 0x95
const IMPLEMENTATION_SPECIFIC = 0x83
const FORBIDDEN = `clients/${REQUEST_TOPIC.split('/command')[0]}`

let stage: HostileStage<'plain'>
let honest: StoreAsker

async function attacker(clientId: string, options: packets.Connect = {}): Promise<StoreAsker> {
  return StoreAsker.of(await stage.connect('plain', { clientId, ...options }))
}

function error(text: ErrorText): string {
  return `-ERR ${text}\r\n`
}

beforeAll(async () => {
  const clients = {
    maxPacketSizeBytes: PACKET_BYTES_MAX,
    subscriberQueueLimit: { length: QUEUE_MESSAGES_MAX, strategy: 'None' },
  }
  // One shard: its limits are those of the whole store.
  const millrace = { shards: 1, stateStoreWatchesPerClientMax: WATCHES_MAX }
  stage = await HostileStage.start({ plain: {} }, { broker: [resource('Broker', 'default', { advanced: { clients }, millrace })] })
  honest = await attacker('honest')
  expect(await honest.say('SET', 'honest', 'value')).toBe(OK)
})

/** Whatever was tried: what others have stored is there, and can be changed. */
afterAll(async () => {
  expect(await honest.say('GET', 'honest')).toBe('$5\r\nvalue\r\n')
  expect(await honest.say('SET', 'honest', 'other')).toBe(OK)
  expect(honest.client.received.filter(({ type }) => type === 'disconnect')).toEqual([])
  await stage.expectUnharmed()
})

const repeat = (text: string, count: number): string => text.repeat(count)

describe('payloads that are no request', () => {
  test.each<[string, string]>([
    ['nothing', ''],
    ['text', 'GET k'],
    ['another RESP type', '+GET\r\n'],
    ['a map', '%1\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['a set', '~2\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['an array of nothing', '*0\r\n'],
    ['the null array', '*-1\r\n'],
    ['a signed count', '*+2\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['a count with a space', '* 2\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['a count that is none', '*x\r\n'],
    ['a count without digits', '*\r\n$3\r\nGET\r\n'],
    ['a streamed array', '*?\r\n$3\r\nGET\r\n$1\r\nk\r\n.\r\n'],
    ['fewer elements than counted', '*3\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['more elements than counted', '*1\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['bytes behind the array', '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\n'],
    ['LF alone', '*2\n$3\nGET\n$1\nk\n'],
    ['a length that is too short', '*2\r\n$2\r\nGET\r\n$1\r\nk\r\n'],
    ['a length that is too long', '*2\r\n$3\r\nGET\r\n$2\r\nk\r\n'],
    ['a length beyond the payload', '*2\r\n$3\r\nGET\r\n$1000000\r\nk\r\n'],
    ['a negative length', '*2\r\n$3\r\nGET\r\n$-1\r\n'],
    ['a length without CRLF', '*2\r\n$3GET\r\n$1\r\nk\r\n'],
    ['a blob without CRLF', '*2\r\n$3\r\nGET\r\n$1\r\nk'],
    ['integers', '*2\r\n$3\r\nGET\r\n:1\r\n'],
    ['an array in an array', '*2\r\n$3\r\nGET\r\n*1\r\n$1\r\nk\r\n'],
    ['a hundred thousand arrays in each other', repeat('*1\r\n', 100_000)],
    ['a count of 2^32 + 2', '*4294967298\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['a count of 2^64 + 2', '*18446744073709551618\r\n$3\r\nGET\r\n$1\r\nk\r\n'],
    ['a length of 2^32 + 1', '*2\r\n$3\r\nGET\r\n$4294967297\r\nk\r\n'],
    ['a length of 2^64 + 1', '*2\r\n$3\r\nGET\r\n$18446744073709551617\r\nk\r\n'],
    ['a length of half a million digits', `*2\r\n$3\r\nGET\r\n$${repeat('9', 500_000)}\r\nk\r\n`],
    ['a PX of 2^64 + 1', payloadOf('SET', 'x', 'v', 'PX', '18446744073709551617').toString()],
    ['a PX of half a million digits', payloadOf('SET', 'x', 'v', 'PX', repeat('9', 500_000)).toString()],
    ...['', '0', '-1', '+1', '1.5', '1e3', '0x10', ' 1', '१', 'NaN'].map((px): [string, string] => [
      `PX ${JSON.stringify(px)}`,
      payloadOf('SET', 'x', 'v', 'PX', px).toString(),
    ]),
    ['PX alone', payloadOf('SET', 'x', 'v', 'PX').toString()],
    ['PX twice', payloadOf('SET', 'x', 'v', 'PX', '1', 'PX').toString()],
    ['NX and NEX', payloadOf('SET', 'x', 'v', 'NX', 'NEX').toString()],
    ['NX twice', payloadOf('SET', 'x', 'v', 'NX', 'NX').toString()],
    ['an option in small letters', payloadOf('SET', 'x', 'v', 'nx').toString()],
    ['ten thousand options', payloadOf('SET', 'x', 'v', ...Array.from({ length: 10_000 }, () => 'NX')).toString()],
    ['KEYNOTIFY with something else', payloadOf('KEYNOTIFY', 'x', 'STOPS').toString()],
    ['WATCH with something else', payloadOf('WATCH', 'x', 'stop').toString()],
    ['WATCH of 257 bytes', payloadOf('WATCH', repeat('p', 257)).toString()],
    ['WATCH of half a million bytes', payloadOf('WATCH', repeat('p', 500_000), 'STOP').toString()],
  ])('%s: syntax error', async (_, payload) => {
    expect((await honest.ask(Buffer.from(payload))).text).toBe(error(ErrorText.Syntax))
    expect(await honest.say('GET', 'x')).toBe('$-1\r\n')
  })

  test.each<[string, ErrorText, Buffer]>([
    ['a verb in small letters', ErrorText.UnknownCommand, payloadOf('get', 'k')],
    ['an empty verb', ErrorText.UnknownCommand, payloadOf('', 'k')],
    ['a verb of half a million bytes', ErrorText.UnknownCommand, payloadOf(repeat('GET', 170_000), 'k')],
    ['a verb that begins like one', ErrorText.UnknownCommand, payloadOf('GET\0', 'k')],
    ['names of properties of objects', ErrorText.UnknownCommand, payloadOf('__proto__', 'constructor')],
    ['MGET of nothing', ErrorText.ArgumentCount, payloadOf('MGET')],
    ['MGET of 257 keys', ErrorText.Syntax, payloadOf('MGET', ...Array<string>(257).fill('k'))],
    ['MGET ""', ErrorText.EmptyKey, payloadOf('MGET', 'k', '')],
    ['WATCH of nothing', ErrorText.ArgumentCount, payloadOf('WATCH')],
    ['WATCH of four', ErrorText.ArgumentCount, payloadOf('WATCH', 'k', 'STOP', 'STOP')],
    ['FLUSHALL', ErrorText.UnknownCommand, payloadOf('FLUSHALL', 'k')],
    ['a hundred thousand blobs of nothing', ErrorText.UnknownCommand, Buffer.from(`*100000\r\n${repeat('$0\r\n\r\n', 100_000)}`)],
    ['a hundred thousand keys', ErrorText.ArgumentCount, payloadOf('GET', ...Array.from({ length: 100_000 }, () => 'k'))],
    ['GET alone', ErrorText.ArgumentCount, payloadOf('GET')],
    ['SCAN without cursor', ErrorText.ArgumentCount, payloadOf('SCAN', 'k')],
    ['SET without value', ErrorText.ArgumentCount, payloadOf('SET', 'k')],
    ['DEL of two', ErrorText.ArgumentCount, payloadOf('DEL', 'k', 'l')],
    ['VDEL without value', ErrorText.ArgumentCount, payloadOf('VDEL', 'k')],
    ['KEYNOTIFY of four', ErrorText.ArgumentCount, payloadOf('KEYNOTIFY', 'k', 'STOP', 'STOP')],
    ...['GET', 'DEL', 'KEYNOTIFY'].map((verb): [string, ErrorText, Buffer] => [`${verb} ""`, ErrorText.EmptyKey, payloadOf(verb, '')]),
    ['SET ""', ErrorText.EmptyKey, payloadOf('SET', '', 'v')],
  ])('%s: %s', async (_, text, payload) => {
    expect((await honest.ask(payload)).text).toBe(error(text))
  })

  test('a lifetime beyond all clocks is one; a key may be any bytes, names of properties of objects too', async () => {
    for (const key of ['__proto__', 'constructor', 'a\0b', '\r\n$1\r\n', Buffer.from([0xff, 0xfe, 0x00])]) {
      expect(await honest.say('SET', key, 'v', 'PX', String(Number.MAX_SAFE_INTEGER))).toBe(OK)
      expect(await honest.say('GET', key)).toBe('$1\r\nv\r\n')
      expect(await honest.say('DEL', key)).toBe(':1\r\n')
      expect(await honest.say('GET', key)).toBe('$-1\r\n')
    }
  })
})

describe('clocks and tokens', () => {
  const malformed = [
    '',
    ':',
    '::',
    '1:2',
    '1:2:',
    ':0:n',
    '1::n',
    '1:0:n:m',
    '-1:0:n',
    '+1:0:n',
    '1.5:0:n',
    '0x1:0:n',
    ' 1:0:n',
    '1:0 :n',
    '१:0:n',
    '18446744073709551616:0:n',
    '1:18446744073709551616:n',
    `${repeat('9', 60_000)}:0:n`,
    repeat(':', 60_000),
  ]
  test.each(malformed.map(text => [text.slice(0, 30), text] as const))('%j is malformed, as clock and as token', async (_, text) => {
    for (const parts of [
      ['SET', 'x', 'v'],
      ['GET', 'honest'],
      ['DEL', 'honest'],
      ['KEYNOTIFY', 'x'],
    ]) {
      expect((await honest.ask(payloadOf(...parts), { ts: text })).text).toBe(error(ErrorText.MalformedTimestamp))
      expect((await honest.ask(payloadOf(...parts), { more: [['__ft', text]] })).text).toBe(error(ErrorText.MalformedTimestamp))
    }
  })

  test('none, ahead, lower, missing: each has its text, and changes nothing', async () => {
    const set = payloadOf('SET', 'fenced', 'v')
    const ask = async (ts: string | null, ft?: string): Promise<string> =>
      (await honest.ask(set, { ts, more: ft === undefined ? [] : [['__ft', ft]] })).text
    const now = Date.now()
    expect(await ask(null)).toBe(error(ErrorText.MissingTimestamp))
    for (const ahead of [clockOf(now + 600_000), '18446744073709551615:18446744073709551615:n']) {
      expect(await ask(ahead)).toBe(error(ErrorText.TimestampAhead))
      expect(await ask(clockOf(now), ahead)).toBe(error(ErrorText.TokenAhead))
    }
    expect(await honest.say('GET', 'fenced')).toBe('$-1\r\n')
    expect(await ask(clockOf(now), clockOf(now))).toBe(OK)
    expect(await ask(clockOf(now))).toBe(error(ErrorText.TokenRequired))
    expect(await ask(clockOf(now), clockOf(now - 1))).toBe(error(ErrorText.TokenLower))
    expect(await ask(clockOf(now), '0:18446744073709551615:n')).toBe(error(ErrorText.TokenLower))
    // A token as high as there may be would keep everybody out for a minute: of this key alone.
    expect(await ask(clockOf(now), `${now}:18446744073709551615:n`)).toBe(OK)
    expect(await ask(clockOf(now), `${now}:18446744073709551614:n`)).toBe(error(ErrorText.TokenLower))
  })

  test('a counter that nobody can count beyond goes on in the next millisecond', async () => {
    const wall = Date.now() + 20_000
    const { text, version } = await honest.ask(payloadOf('SET', 'x', 'v'), { ts: `${wall}:18446744073709551615:n` })
    expect([text, version]).toEqual([OK, `${String(wall + 1).padStart(15, '0')}:00000:StateStore`])
    expect(await honest.say('DEL', 'x')).toBe(':1\r\n')
  })
})

describe('sizes', () => {
  test('a key of 64 KiB and one of half a million bytes can be set and not be watched; the longest that can be is told of', async () => {
    const longest = Math.floor((65_535 - 75 - 2 * 'watcher'.length) / 2)
    const watcher = await attacker('watcher')
    for (const length of [65_536, 500_000, longest + 1]) {
      const key = Buffer.alloc(length, 'k')
      expect(await honest.say('SET', key, 'v')).toBe(OK)
      expect(await watcher.say('KEYNOTIFY', key)).toBe(error(ErrorText.Syntax))
      expect(await honest.say('GET', key)).toBe('$1\r\nv\r\n')
      expect(await honest.say('DEL', key)).toBe(':1\r\n')
    }
    const key = Buffer.alloc(longest, 'k')
    expect(await watcher.say('KEYNOTIFY', key)).toBe(OK)
    expect(await honest.say('SET', key, 'v')).toBe(OK)
    const { topic, payload } = await watcher.client.receive()
    expect(topic === notifyTopic('watcher', key)).toBe(true)
    expect(String(payload)).toBe('*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$1\r\nv\r\n')
    expect(await honest.say('DEL', key)).toBe(':1\r\n')
    watcher.client.drop()
  })

  test('a value that fills the largest packet is stored and comes back; one byte more ends the connection with 0x95', async () => {
    const greedy = await attacker('greedy')
    const request = (length: number, id: number): Buffer => greedy.packet(payloadOf('SET', 'large', Buffer.alloc(length, 'v')), id)
    const length = PACKET_BYTES_MAX - (request(1_000_000, 1).length - 1_000_000)
    const [fits, doesNot] = [request(length, 1), request(length + 1, 2)]
    expect([fits.length, doesNot.length]).toEqual([PACKET_BYTES_MAX, PACKET_BYTES_MAX + 1])
    greedy.client.send(fits)
    expect((await greedy.client.take('puback', 1)).reason).toBe(0)
    expect((await greedy.answer()).text).toBe(OK)
    expect((await honest.say('GET', 'large')).length).toBe(`$${length}\r\n`.length + length + 2)
    greedy.client.send(doesNot)
    await greedy.client.expectDisconnect(PACKET_TOO_LARGE)
    expect((await honest.say('GET', 'large')).length).toBe(`$${length}\r\n`.length + length + 2)
    expect(await honest.say('DEL', 'large')).toBe(':1\r\n')
  })
})

describe('requests that MQTT itself has something to say about', () => {
  const SET = payloadOf('SET', 'x', 'v')
  const correlationData = Buffer.from('c')
  const userProperty: [string, string][] = [['__ts', clockOf(1)]]

  const setTo = (responseTopic: string): Buffer =>
    packets.publish({
      topic: REQUEST_TOPIC,
      qos: 1,
      packetId: 1,
      payload: SET,
      properties: { responseTopic, correlationData, userProperty },
    })

  test.each([
    ['the request topic', REQUEST_TOPIC],
    ['a topic of the store', `${FORBIDDEN}/x`],
    ['one that begins like those', `${FORBIDDEN}x`],
    ['one of the server', '$SYS/x'],
  ])('Response Topic is %s: DISCONNECT 0x90', async (_, responseTopic) => {
    const { client } = await attacker('misled')
    client.send(setTo(responseTopic))
    await client.expectDisconnect(TOPIC_NAME_INVALID)
    expect(await honest.say('GET', 'x')).toBe('$-1\r\n')
  })

  test.each(['a/#', '+', ''])('Response Topic is %j: DISCONNECT 0x82', async responseTopic => {
    const { client } = await attacker('wild')
    client.send(setTo(responseTopic))
    await client.expectDisconnect(PROTOCOL_ERROR)
    expect(await honest.say('GET', 'x')).toBe('$-1\r\n')
  })

  test('without Response Topic or Correlation Data, or with QoS 2: 0x83; with QoS 0 or in MQTT 3.1.1 nothing is done', async () => {
    const { client } = await attacker('strange')
    const publish = async (qos: number, properties: Properties): Promise<number | undefined> =>
      (await client.publish({ topic: REQUEST_TOPIC, qos, payload: SET, properties: { ...properties, userProperty } }))?.reason
    expect(await publish(1, { correlationData })).toBe(IMPLEMENTATION_SPECIFIC)
    expect(await publish(1, { responseTopic: 'answers/x' })).toBe(IMPLEMENTATION_SPECIFIC)
    expect(await publish(1, { responseTopic: 'answers/x', correlationData: Buffer.alloc(0) })).toBe(IMPLEMENTATION_SPECIFIC)
    expect(await publish(2, { responseTopic: 'answers/x', correlationData })).toBe(IMPLEMENTATION_SPECIFIC)
    await publish(0, { responseTopic: 'answers/x', correlationData })
    const old = await stage.connect('plain', { version: 4, clientId: 'old' })
    expect((await old.publish({ topic: REQUEST_TOPIC, qos: 1, payload: SET }))?.reason ?? 0).toBe(0)
    expect(await honest.say('GET', 'x')).toBe('$-1\r\n')
    expect(await stage.configured.broker.metric('millrace_state_store_requests_dropped_total')).toBe(5)
    for (const each of [client, old]) each.drop()
  })

  test('nobody can forge a notification, or read requests', async () => {
    const { client } = await attacker('forger')
    expect((await client.publish({ topic: notifyTopic('honest', Buffer.from('k'))!, qos: 1, payload: 'x' }))?.reason).toBe(0x87)
    await client.subscribe([
      { filter: REQUEST_TOPIC, qos: 1 },
      { filter: 'statestore/#', qos: 1 },
    ])
    await honest.say('GET', 'k')
    await client.expectNothing()
    client.drop()
  })
})

/** Requests `first` to `last`, as many at once as may be; nobody is subscribed to their answers. @returns what each PUBACK said */
async function flood(client: StoreAsker, count: number, payload: (at: number) => Buffer, isEnough = (): boolean => true): Promise<number> {
  let sent = 0
  while (sent < count || !isEnough()) {
    const packetsOf = Array.from({ length: BATCH }, (_, at) => client.packet(payload(sent + at), at + 1))
    client.client.send(...packetsOf)
    for (let id = 1; id <= BATCH; id++) expect((await client.client.take('puback', id)).reason).toBe(0)
    sent += BATCH
  }
  return sent
}

/** A client that does not want to know what the store answers. */
async function deaf(clientId: string): Promise<StoreAsker> {
  const client = await attacker(clientId)
  await client.client.unsubscribe(client.responseTopic)
  return client
}

describe('many', () => {
  test('10 000 watches of one client; the next one is over the quota, until one is given back', async () => {
    const { broker } = stage.configured
    const before = await broker.residentBytes()
    const silent = await deaf('silent')
    await flood(silent, WATCHES_MAX, at => payloadOf('KEYNOTIFY', `watched/${at}`))
    expect(await broker.metric('millrace_state_store_watches')).toBe(WATCHES_MAX)
    await silent.client.subscribe({ filter: silent.responseTopic, qos: 1 })
    expect(await silent.say('KEYNOTIFY', 'one more')).toBe(error(ErrorText.QuotaExceeded))
    expect(await silent.say('KEYNOTIFY', 'watched/7')).toBe(OK)
    const other = await attacker('other')
    expect(await other.say('KEYNOTIFY', 'one more')).toBe(OK)
    expect(await silent.say('KEYNOTIFY', 'watched/7', 'STOP')).toBe(OK)
    expect(await silent.say('KEYNOTIFY', 'one more')).toBe(OK)
    expect(await broker.metric('millrace_state_store_watches')).toBe(WATCHES_MAX + 1)
    expect((await broker.residentBytes()) - before).toBeLessThan(100 * MIB)
    silent.client.drop()
    await expect.poll(async () => broker.metric('millrace_state_store_watches')).toBe(1)
    other.client.drop()
  })

  test('prefixes of one client: 64; a key that all of them begin is told once; the next is over the quota, until one is given back', async () => {
    const { broker } = stage.configured
    const prefixes = Array.from({ length: 64 }, (_, length) => repeat('n', length))
    const [many, other] = [await attacker('many'), await attacker('other')]
    for (const prefix of prefixes) expect(await many.say('WATCH', prefix)).toBe(OK)
    expect(await many.say('WATCH', 'o')).toBe(error(ErrorText.QuotaExceeded))
    expect([await many.say('WATCH', 'nnn'), await other.say('WATCH', 'o')]).toEqual([OK, OK])
    expect(await honest.say('SET', repeat('n', 300), 'v')).toBe(OK)
    expect((await many.client.receive()).topic).toBe(notifyTopic('many', Buffer.from(repeat('n', 300))))
    expect(await many.say('WATCH', 'nnn', 'STOP')).toBe(OK)
    expect([await many.say('WATCH', 'o'), await many.say('WATCH', 'nnn', 'STOP')]).toEqual([OK, ':0\r\n'])
    expect(await broker.metric('millrace_state_store_watches')).toBe(65)
    await many.client.expectNothing()
    for (const each of [many, other]) each.client.drop()
    await expect.poll(async () => broker.metric('millrace_state_store_watches')).toBe(0)
  })

  test('a flood of WATCH and STOP leaves nothing', async () => {
    const { broker } = stage.configured
    const flooder = await deaf('flooder of watches')
    expect(await flood(flooder, 10_000, at => payloadOf('WATCH', String(at >> 1), ...(at % 2 === 1 ? ['STOP'] : [])))).toBe(10_000)
    expect(await broker.metric('millrace_state_store_watches')).toBe(0)
    expect(await honest.say('GET', 'honest')).toBe('$5\r\nvalue\r\n')
    flooder.client.drop()
  })

  test('a watcher that does not read, and a key that changes 100 000 times: its queue is full, and nobody else notices', async () => {
    const { broker } = stage.configured
    const sleeper = await attacker('sleeper')
    expect(await sleeper.say('KEYNOTIFY', 'busy')).toBe(OK)
    expect(await sleeper.say('WATCH', 'bus')).toBe(OK)
    sleeper.client.pause()
    const witness = await attacker('witness')
    expect(await witness.say('KEYNOTIFY', 'quiet')).toBe(OK)
    const before = await broker.residentBytes()
    const writer = await deaf('writer')
    const value = Buffer.alloc(1_000, 'v')
    let isOver = false
    let exchanged = 0
    const exchange = async (): Promise<void> => {
      while (!isOver) {
        expect(await honest.say('SET', 'quiet', String(exchanged))).toBe(OK)
        expect(String((await witness.client.receive()).payload)).toContain(`\r\n${exchanged}\r\n`)
        exchanged++
      }
    }
    const exchanges = exchange()
    const sent = await flood(
      writer,
      100_000,
      () => payloadOf('SET', 'busy', value),
      () => exchanged >= 3,
    ).finally(() => (isOver = true))
    await exchanges
    expect(await broker.metric('millrace_queued_messages')).toBeLessThanOrEqual(QUEUE_MESSAGES_MAX)
    expect(await broker.metric('millrace_queue_messages_dropped_total')).toBeGreaterThan(sent / 2)
    // The 100 MB that were offered are nowhere.
    expect((await broker.residentBytes()) - before).toBeLessThan(150 * MIB)
    expect(await honest.say('GET', 'busy')).toBe(`$1000\r\n${value.toString()}\r\n`)
    for (const each of [sleeper, witness, writer]) each.client.drop()
  }, 60_000)

  test('a flood of requests, good and bad, from one client: others are served', async () => {
    const flooder = await deaf('flooder')
    const bad = Buffer.from(repeat('*1\r\n', 1_000))
    let isOver = false
    let served = 0
    const serve = async (): Promise<void> => {
      while (!isOver) {
        expect(await honest.say('GET', 'honest')).toBe('$5\r\nvalue\r\n')
        served++
      }
    }
    const serving = serve()
    const payload = (at: number): Buffer => (at % 2 === 0 ? bad : payloadOf('SET', `flood/${at % 1_000}`, 'v'))
    await flood(flooder, 20_000, payload, () => served >= 10).finally(() => (isOver = true))
    await serving
    expect(served).toBeGreaterThanOrEqual(10)
    expect(flooder.client.received.filter(({ type }) => type === 'disconnect')).toEqual([])
    flooder.client.drop()
  }, 60_000)
})
