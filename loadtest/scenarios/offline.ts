import type { DeliverySink, LoadClient } from '../client.ts'
import { filler, publishTemplate } from '../frames.ts'
import { MESSAGE_HEADER_BYTES, readU32 } from '../message.ts'
import { nowMs } from '../monotonic.ts'
import { waitForCount } from '../progress.ts'
import { rates, resultHead, trafficSteps } from '../publish-scenario.ts'
import { WindowPublisher } from '../publisher.ts'
import type { Generator, Scenario, Steps } from '../scenario.ts'
import { closeClients, forgetSessions, openClients, ownNumbers, refuseRefused } from '../scenario.ts'
import { Traffic } from '../traffic.ts'
import { rssOf } from '../usage.ts'

/** Persistent sessions go away, messages queue up, the sessions come back and drain. */
export const offline: Scenario = {
  name: 'offline',
  help: 'fill the queues of absent persistent sessions (50, --count 20,000), then drain them',
  defaults: { publishers: 50, subscribers: 50, count: 20_000, qos: 1, sizeBytes: 64, window: 20 },
  join: joinOffline,
  async conduct(fleet, options) {
    await fleet.step('prepare')
    const rssBefore = rssOf(options.pids)
    const fill = await fleet.measure('traffic', { count: options.count })
    const counts = await fleet.step('counts')
    const rssAfter = rssOf(options.pids)
    const stored = counts.numbers['published'] ?? 0
    const drain = await fleet.measure('drain')
    const delivered = drain.numbers['delivered'] ?? 0
    const end = await fleet.step('close')
    const filling = rates(fill, stored)
    return {
      ...resultHead('offline', options),
      unit: 'message',
      ...rates(drain, delivered),
      rssBytes: rssAfter,
      latency: null,
      lost: (fill.numbers['lost'] ?? 0) + stored - delivered,
      duplicates: drain.numbers['duplicates'] ?? 0,
      disconnects: end.numbers['disconnects'] ?? 0,
      generatorCpuS: drain.generatorCpuS,
      extra: {
        stored,
        storeCpuUs: filling.cpuUs ?? 0,
        storePerSecond: filling.perSecond,
        sessionPresent: drain.numbers['sessionPresent'] ?? 0,
        rssPerMessageBytes: rssBefore !== null && rssAfter !== null ? Math.round((rssAfter - rssBefore) / stored) : 0,
      },
    }
  },
}

/** Counts the messages of this run; a second copy of the same message is a duplicate. */
class Drain implements DeliverySink {
  readonly #runId: number
  readonly #seen = new Set<number>()
  #duplicates = 0

  constructor(runId: number) {
    this.#runId = runId
  }

  get count(): number {
    return this.#seen.size
  }

  get duplicates(): number {
    return this.#duplicates
  }

  delivered(_firstByte: number, bytes: Uint8Array, payloadAt: number): void {
    if (readU32(bytes, payloadAt + 12) !== this.#runId) return
    const key = readU32(bytes, payloadAt + 4) * 2 ** 32 + readU32(bytes, payloadAt + 8)
    if (this.#seen.has(key)) this.#duplicates++
    else this.#seen.add(key)
  }
}

async function joinOffline(generator: Generator): Promise<Steps> {
  const { options, engine } = generator
  const traffic = new Traffic(engine, generator.runId, null)
  const numbers = ownNumbers(generator, options.publishers)
  const publishers: LoadClient[] = []
  const subscribers: LoadClient[] = []
  return {
    prepare: async () => {
      await forgetSessions(generator, 's', numbers)
      const leaving = await openClients(generator, { kind: 's', numbers, persistent: true })
      await Promise.all(leaving.map((client, at) => client.subscribe(topicOf(options.prefix, numbers[at]!), options.qos)))
      refuseRefused(leaving)
      await closeClients(leaving)
      publishers.push(...(await openFillers(generator, traffic)))
      return {}
    },
    ...trafficSteps(generator, traffic),
    drain: async () => {
      const drain = new Drain(generator.runId)
      const startMs = nowMs()
      subscribers.push(...(await openClients(generator, { kind: 's', numbers, persistent: true, deliveries: drain })))
      const lastMs = await waitForCount(() => drain.count, traffic.counts().published, options.stallS)
      const sessionPresent = subscribers.filter(client => client.sessionPresent).length
      return {
        seconds: Math.max(0, lastMs - startMs) / 1_000,
        numbers: { delivered: drain.count, duplicates: drain.duplicates, sessionPresent },
      }
    },
    close: async () => {
      await closeClients(publishers)
      await closeClients(subscribers)
      await forgetSessions(generator, 's', numbers)
      return { numbers: { disconnects: engine.disconnects } }
    },
  }
}

function topicOf(prefix: string, number: number): string {
  return `${prefix}/off/${number}`
}

async function openFillers(generator: Generator, traffic: Traffic): Promise<LoadClient[]> {
  const { options, runId } = generator
  const numbers = ownNumbers(generator, options.publishers)
  const opened = await openClients(generator, { kind: 'p', numbers })
  const payload = filler(Math.max(MESSAGE_HEADER_BYTES, options.sizeBytes))
  for (const [at, client] of opened.entries()) {
    const id = numbers[at]!
    const template = publishTemplate(options.protocol, { topic: topicOf(options.prefix, id), qos: options.qos, payload })
    traffic.add(new WindowPublisher({ id, runId, client, template, window: options.window, qos: options.qos, shares: 0 }, traffic))
  }
  return opened
}
