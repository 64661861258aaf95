import net from 'node:net'
import { Aedes } from 'aedes'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runLoad } from './cli.ts'
import type { LoadOptions } from './options.ts'
import { generalDefaults } from './options.ts'
import type { Output } from './output.ts'
import { runScenario } from './run.ts'
import type { ScenarioResult } from './scenario.ts'
import { findScenario } from './scenarios.ts'

let broker: Aedes
let server: net.Server
let port = 0

beforeAll(async () => {
  broker = await Aedes.createBroker()
  server = net.createServer({ noDelay: true }, broker.handle)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as net.AddressInfo).port
})

afterAll(async () => {
  await new Promise<void>(resolve => broker.close(resolve))
  await new Promise<void>(resolve => server.close(() => resolve()))
})

/** A few hundred messages, the broker and the load in this process. */
function smoke(name: string, set: Partial<LoadOptions>): Promise<ScenarioResult> {
  const scenario = findScenario(name)
  const small = { port, processes: 0, pids: [process.pid], warmupS: 0, settleS: 0, durationS: 0, stallS: 10, prefix: `smoke-${name}` }
  return runScenario(scenario, { ...generalDefaults, ...scenario.defaults, ...small, ...set })
}

const nothingLost = { lost: 0, duplicates: 0, disconnects: 0 }

describe('each scenario against a broker', () => {
  test('fanout', async () => {
    const result = await smoke('fanout', { subscribers: 20, count: 30, window: 4 })
    expect(result).toMatchObject({ ...nothingLost, done: 600, extra: { published: 30 } })
    expect(result.latency?.count).toBe(600)
  })

  test.each([0, 1, 2] as const)('pairs at QoS %i', async qos => {
    const result = await smoke('pairs', { publishers: 5, qos, count: 300, window: 7 })
    expect(result).toMatchObject({ ...nothingLost, done: 300 })
  })

  test('pairs in an open loop', async () => {
    const result = await smoke('pairs', { publishers: 4, qos: 1, count: 200, ratePerS: 2_000 })
    expect(result).toMatchObject({ ...nothingLost, done: 200 })
  })

  test('topics', async () => {
    const result = await smoke('topics', { publishers: 5, topics: 3, qos: 1, count: 300, window: 7 })
    expect(result).toMatchObject({ ...nothingLost, done: 300 })
  })

  test.each([
    ['as fast as they can', {}],
    ['at a rate', { ratePerS: 200 }],
  ])('connect, %s', async (_, set) => {
    const result = await smoke('connect', { concurrency: 4, durationS: 0.2, username: 'u%i', ...set })
    expect(result).toMatchObject({ ...nothingLost, unit: 'connection', extra: { overruns: 0 } })
    expect(result.done).toBeGreaterThan(3)
    expect(result.latency?.count).toBe(result.done)
  })

  test('durable', async () => {
    expect(await smoke('durable', { publishers: 4, count: 200 })).toMatchObject({ ...nothingLost, done: 200 })
  })

  test('shared, with a plain subscriber in the place of the group', async () => {
    // This broker knows no Shared Subscriptions: it takes the filter for an ordinary one, so nothing arrives and all is reported lost.
    const result = await smoke('shared', { publishers: 3, subscribers: 2, count: 3, stallS: 0.2 })
    expect(result).toMatchObject({ done: 0, lost: 3 })
  })

  test('retained', async () => {
    const result = await smoke('retained', { publishers: 2, readers: 2, count: 150 })
    expect(result).toMatchObject({ ...nothingLost, done: 300, extra: { stored: 150 } })
  })

  test('offline', async () => {
    const result = await smoke('offline', { publishers: 4, subscribers: 4, count: 200 })
    expect(result).toMatchObject({ ...nothingLost, done: 200, extra: { sessionPresent: 4 } })
  })

  test('subscribe', async () => {
    const result = await smoke('subscribe', { subscribers: 3, filters: 5, durationS: 0.1 })
    expect(result.done).toBeGreaterThan(0)
    expect(result).toMatchObject(nothingLost)
  })

  test('idle', async () => {
    expect(await smoke('idle', { connections: 50, concurrency: 8, holdS: 0 })).toMatchObject({ ...nothingLost, done: 50 })
  })

  test('soak', async () => {
    const result = await smoke('soak', { publishers: 4, durationS: 0.7, ratePerS: 300 })
    expect(result.extra).toMatchObject({ messagesMissing: 0, sessionsLost: 0, willsMissing: 0, retainedLeft: 0, churnFailures: 0 })
    expect(result.done).toBe(result.extra['sent'])
    expect(result.extra['sessionsResumed']).toBeGreaterThan(0)
  })
})

describe('in processes of their own', () => {
  // Generator processes run the sources as they are, which needs a runtime that strips types.
  test.runIf(process.features.typescript)('a fan-out whose subscribers are in two processes', { timeout: 20_000 }, async () => {
    const result = await smoke('fanout', { processes: 2, subscribers: 11, count: 40, window: 3 })
    expect(result).toMatchObject({ ...nothingLost, done: 440 })
  })

  test.runIf(process.features.typescript)('a broker that is not there is an error, not a hang', { timeout: 20_000 }, async () => {
    await expect(smoke('pairs', { processes: 2, port: 1 })).rejects.toThrow('ECONNREFUSED')
  })
})

describe('the command line', () => {
  function capture(): Output & { readonly text: () => string; readonly interrupt: AbortController } {
    let text = ''
    const interrupt = new AbortController()
    const add = (more: string): void => {
      text += more
    }
    return { out: add, err: add, interrupted: interrupt.signal, interrupt, text: () => text }
  }

  test('pub ends at its limit, sub and conn when interrupted', async () => {
    const subscriber = capture()
    const received = new Promise<void>(resolve => {
      broker.subscribe(
        'cli/1',
        (_packet, done) => {
          done()
          resolve()
        },
        () => {},
      )
    })
    const subscribed = runLoad(['sub', '-p', String(port), '-c', '2', '-i', '0', '-t', 'cli/%i', '-q', '1', '-V', '4'], subscriber)
    const publisher = capture()
    expect(
      await runLoad(
        ['pub', '-p', String(port), '-c', '2', '-i', '0', '-I', '1', '-t', 'cli/%i', '-q', '1', '-L', '20', '-V', '4'],
        publisher,
      ),
    ).toBe(0)
    expect(publisher.text()).toContain('pub total=20')
    expect(publisher.text()).toContain('puback total=20')
    await received
    subscriber.interrupt.abort()
    expect(await subscribed).toBe(0)
    expect(subscriber.text()).toContain('connect_succ total=2')
    const idle = capture()
    idle.interrupt.abort()
    expect(await runLoad(['conn', '-p', String(port), '-c', '1', '-V', '4'], idle)).toBe(0)
  })

  test('says what is wrong, with exit code 2', async () => {
    for (const argv of [['nonsense'], ['pairs', '--qos', '3'], ['pairs', '--nonsense'], ['pub'], []]) {
      expect(await runLoad(argv, capture())).toBe(2)
    }
    const help = capture()
    expect(await runLoad(['--help'], help)).toBe(0)
    expect(help.text()).toContain('fanout')
  })

  test('a scenario as JSON', async () => {
    const output = capture()
    const argv = [
      'pairs',
      '--port',
      String(port),
      '--processes',
      '0',
      '--pubs',
      '2',
      '--count',
      '20',
      '--duration',
      '0',
      '--warmup',
      '0',
      '--settle',
      '0',
      '--json',
    ]
    expect(await runLoad(argv, output)).toBe(0)
    expect(JSON.parse(output.text())).toMatchObject({ scenario: 'pairs', done: 20, lost: 0 })
  })
})
