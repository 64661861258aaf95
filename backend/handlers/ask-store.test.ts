import { describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { storeShardOf } from '#shared/cluster/shard.ts'
import { MGET_BYTES_MAX } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import { notifyTopic } from '#shared/state-store/topics.ts'
import { BackendRig, NEVER, type RigClient, type Sent } from '../backend-rig.contract.ts'
import { ask } from './ask-store.contract.ts'

const ANSWERS = 'answers/c1'
const NOW = 1_700_000_000_000

function answers(rig: BackendRig, client: RigClient): string[] {
  return rig.frontend
    .of(client.connection)
    .flatMap(event => (event.is === 'publish' ? [event.payload] : event.is === 'acknowledged' ? ['PUBACK'] : []))
}

async function open(options: Parameters<typeof BackendRig.open>[0] = {}): Promise<{ rig: BackendRig; client: RigClient }> {
  const rig = await BackendRig.open(options)
  rig.clock.advance(NOW - rig.clock.wallMs())
  const client = await rig.connect('c1')
  client.subscribe(ANSWERS)
  await rig.settle()
  rig.frontend.of(client.connection).length = 0
  return { rig, client }
}

describe('a request', () => {
  test('is answered, and then acknowledged', async () => {
    const { rig, client } = await open()
    ask(rig, client, ['SET', 'k', 'v'])
    await rig.settle()
    expect(answers(rig, client)).toEqual(['+OK\r\n', 'PUBACK'])
  })

  test('nobody hears of a change before it is stored', async () => {
    const { rig, client } = await open({ isLate: true })
    const watcher = await rig.connect('watcher')
    ask(rig, watcher, ['KEYNOTIFY', 'k'])
    await rig.settle()
    rig.frontend.of(watcher.connection).length = 0
    ask(rig, client, ['SET', 'k', 'v'])
    rig.endTurn()
    expect([answers(rig, client), answers(rig, watcher)]).toEqual([[], []])
    await rig.settle()
    expect([answers(rig, client), answers(rig, watcher)]).toEqual([
      ['+OK\r\n', 'PUBACK'],
      ['*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$1\r\nv\r\n'],
    ])
  })

  test('what was answered is there after the process has died; watches are not', async () => {
    const { rig, client } = await open()
    ask(rig, client, ['KEYNOTIFY', 'k'])
    ask(rig, client, ['SET', 'k', 'v'])
    await rig.settle()
    const next = await rig.restart()
    const again = await next.connect('c1')
    again.subscribe(ANSWERS)
    await next.settle()
    next.frontend.of(again.connection).length = 0
    ask(next, again, ['GET', 'k'])
    await next.settle()
    ask(next, again, ['SET', 'k', 'w'])
    await next.settle()
    expect(answers(next, again)).toEqual(['$1\r\nv\r\n', 'PUBACK', '+OK\r\n', 'PUBACK'])
  })

  test('SCAN goes from shard to shard', async () => {
    const { rig, client } = await open()
    for (const key of ['a', 'b', 'c', 'd', 'e', 'other']) ask(rig, client, ['SET', `p/${key}`, 'v'])
    await rig.settle()
    const page = async (prefix: string, cursor: string, ticket = 1): Promise<string[]> => {
      rig.frontend.of(client.connection).length = 0
      ask(rig, client, ['SCAN', prefix, cursor, 'COUNT', '2'], ticket)
      await rig.settle()
      return answers(rig, client)[0]!.split('\r\n')
    }
    const found: string[] = []
    let cursor = '0:'
    for (let pages = 0; cursor !== ''; pages++) {
      const lines = await page('p/', cursor)
      cursor = lines[2]!
      expect(Number(lines[3]!.slice(1))).toBeLessThanOrEqual(2)
      found.push(...lines.slice(4).filter(line => line.startsWith('p/')))
      expect(pages).toBeLessThan(rig.engine.shards.length + 6)
    }
    expect(found.sort()).toEqual(['p/a', 'p/b', 'p/c', 'p/d', 'p/e', 'p/other'])
    expect(await page('p/', `${rig.engine.shards.length}:`)).toEqual(['-ERR syntax error', ''])
  })

  test('MGET: values of keys of all shards, in their order; not more than one answer may have', async () => {
    const { rig, client } = await open()
    for (const key of ['a', 'b', 'c', 'd', 'e']) ask(rig, client, ['SET', key, `${key}${key}`])
    ask(rig, client, ['SET', 'brief', 'v', 'PX', '1'])
    await rig.settle()
    rig.clock.advance(2)
    const answer = async (...keys: readonly string[]): Promise<string> => {
      rig.frontend.of(client.connection).length = 0
      ask(rig, client, ['MGET', ...keys])
      await rig.settle()
      return answers(rig, client)[0]!
    }
    expect(await answer('e', 'no', 'a', 'b', 'c', 'd', 'brief', 'e')).toBe(
      '*8\r\n$2\r\nee\r\n$-1\r\n$2\r\naa\r\n$2\r\nbb\r\n$2\r\ncc\r\n$2\r\ndd\r\n$-1\r\n$2\r\nee\r\n',
    )
    ask(rig, client, ['SET', 'long', 'x'.repeat(MGET_BYTES_MAX)])
    await rig.settle()
    expect((await answer('long')).length).toBeGreaterThan(MGET_BYTES_MAX)
    expect(await answer('long', 'a')).toBe('-ERR the quota has been exceeded\r\n')
  })

  describe('WATCH', () => {
    const set = (value: string): string => `*4\r\n$6\r\nNOTIFY\r\n$3\r\nSET\r\n$5\r\nVALUE\r\n$${value.length}\r\n${value}\r\n`
    const watches = (rig: BackendRig): number => rig.engine.shards.reduce((sum, { store }) => sum + (store?.watches ?? 0), 0)
    async function answer(rig: BackendRig, client: RigClient, ...parts: readonly string[]): Promise<string> {
      rig.frontend.of(client.connection).length = 0
      ask(rig, client, parts)
      await rig.settle()
      return answers(rig, client)[0]!
    }

    test('all shards: keys that begin so are told, once, with the topic and the properties that KEYNOTIFY has', async () => {
      const { rig, client } = await open()
      const [watcher, other] = [await rig.connect('watcher'), await rig.connect('other')]
      for (const each of [watcher, other]) each.subscribe(`answers/${each.clientId}`)
      expect([await answer(rig, watcher, 'WATCH', 'p/'), await answer(rig, watcher, 'KEYNOTIFY', 'p/a')]).toEqual(['+OK\r\n', '+OK\r\n'])
      expect(await answer(rig, other, 'KEYNOTIFY', 'p/b')).toBe('+OK\r\n')
      for (const each of [watcher, other]) rig.frontend.of(each.connection).length = 0
      const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
      for (const key of keys) ask(rig, client, ['SET', `p/${key}`, key])
      ask(rig, client, ['SET', 'other', 'v'])
      await rig.settle()
      expect(answers(rig, watcher)).toEqual(keys.map(set))
      const told = rig.frontend.of(other.connection)[0] as Sent
      const same = rig.frontend.of(watcher.connection)[1] as Sent
      const topicOf = (clientId: string): string => notifyTopic(clientId, Buffer.from('p/b'))!
      expect([told.topic, same.topic]).toEqual([topicOf('other'), topicOf('watcher')])
      expect({ ...same, topic: '', packetId: 0 }).toEqual({ ...told, topic: '', packetId: 0 })
    })

    test('STOP gives back in all shards; asked again it is +OK, and given back again :0', async () => {
      const { rig, client } = await open()
      const shards = rig.engine.shards.length
      expect([await answer(rig, client, 'WATCH', ''), await answer(rig, client, 'WATCH', ''), watches(rig)]).toEqual([
        '+OK\r\n',
        '+OK\r\n',
        shards,
      ])
      expect(await answer(rig, client, 'WATCH', 'x', 'STOP')).toBe(':0\r\n')
      expect([await answer(rig, client, 'WATCH', '', 'STOP'), await answer(rig, client, 'WATCH', '', 'STOP'), watches(rig)]).toEqual([
        '+OK\r\n',
        ':0\r\n',
        0,
      ])
    })

    test('one shard is full: none has it, what was there stays', async () => {
      const { rig, client } = await open({ settings: { stateStoreWatchesPerClientMax: 2 } })
      await answer(rig, client, 'WATCH', 'before')
      const last = rig.engine.shards.length - 1
      const key = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k'].find(each => storeShardOf(each, last + 1) === last)!
      await answer(rig, client, 'KEYNOTIFY', key)
      expect([await answer(rig, client, 'WATCH', 'p'), watches(rig)]).toEqual(['-ERR the quota has been exceeded\r\n', last + 2])
      expect(await answer(rig, client, 'WATCH', 'before')).toBe('+OK\r\n')
      await answer(rig, client, 'KEYNOTIFY', key, 'STOP')
      expect([await answer(rig, client, 'WATCH', 'p'), watches(rig)]).toEqual(['+OK\r\n', 2 * last + 2])
    })

    test('a malformed clock: nothing is watched', async () => {
      const { rig, client } = await open()
      ask(rig, client, ['WATCH', 'p'], 1, { more: [['__ts', 'x']] })
      await rig.settle()
      expect([answers(rig, client)[0], watches(rig)]).toEqual(['-ERR malformed timestamp\r\n', 0])
    })

    test('ends with the connection, and with the process', async () => {
      const { rig, client } = await open()
      const watcher = await rig.connect('watcher', { expirySeconds: NEVER })
      await answer(rig, watcher, 'WATCH', 'p')
      watcher.detach()
      await rig.settle()
      expect(watches(rig)).toBe(0)
      await answer(rig, client, 'WATCH', 'p')
      const next = await rig.restart()
      expect(watches(next)).toBe(0)
    })
  })

  test('an entry ends by the clock, and its watchers are told', async () => {
    const { rig, client } = await open()
    ask(rig, client, ['KEYNOTIFY', 'k'])
    ask(rig, client, ['SET', 'k', 'v', 'PX', '1000'])
    await rig.settle()
    rig.frontend.of(client.connection).length = 0
    await rig.advance(900)
    expect(answers(rig, client)).toEqual([])
    await rig.advance(200)
    expect(answers(rig, client)).toEqual(['*2\r\n$6\r\nNOTIFY\r\n$6\r\nDELETE\r\n'])
  })

  test('a connection that is gone watches nothing', async () => {
    const { rig, client } = await open()
    const watcher = await rig.connect('watcher', { expirySeconds: NEVER })
    ask(rig, watcher, ['KEYNOTIFY', 'k'])
    await rig.settle()
    watcher.detach()
    ask(rig, client, ['SET', 'k', 'v'])
    const back = await rig.connect('watcher', { expirySeconds: NEVER })
    await rig.settle()
    expect(answers(rig, back)).toEqual([])
  })

  test('memory is full: refused like other publishes, and nothing is done', async () => {
    const { rig, client } = await open()
    rig.engine.isUnderPressure = true
    ask(rig, client, ['SET', 'k', 'v'], 7)
    await rig.settle()
    expect(rig.frontend.of(client.connection)).toEqual([{ is: 'acknowledged', ticket: 7, reason: ReasonCode.QuotaExceeded }])
    expect(rig.engine.shards.every(({ store }) => store === null)).toBe(true)
  })
})

describe('counters', () => {
  test('what a frontend has refused by policy is an attempt too', async () => {
    const { rig, client } = await open()
    ask(rig, client, ['SET', 'k', 'v'])
    for (const parts of [
      ['SET', 'k', 'w'],
      ['SET', 'new', 'w'],
      ['GET', 'k'],
      ['VDEL', 'k', 'v'],
      ['KEYNOTIFY', 'k'],
    ])
      ask(rig, client, parts, 2, { fault: ErrorText.NotAuthorized })
    ask(rig, client, ['GARBAGE'], 3, { fault: ErrorText.UnknownCommand })
    await rig.settle()
    expect(answers(rig, client).filter(each => each === '-ERR not authorized\r\n')).toHaveLength(5)
    expect(rig.engine.storeCounters).toEqual({
      insertions: 2,
      modifications: 1,
      deletions: 1,
      retrievals: 1,
      keynotifyRequests: 1,
      notifications: 0,
      expirations: 0,
      repeats: 0,
      resumed: 0,
      gaps: 0,
      answersForgotten: 0,
    })
  })
})
