import type { DeliverySink, LoadClient } from '../client.ts'
import { filler, publishTemplate } from '../frames.ts'
import { MESSAGE_HEADER_BYTES } from '../message.ts'
import { nowMs } from '../monotonic.ts'
import { rates, resultHead, trafficSteps } from '../publish-scenario.ts'
import { WindowPublisher } from '../publisher.ts'
import type { Generator, Scenario, Steps } from '../scenario.ts'
import { closeClients, openClients, ownNumbers, refuseRefused } from '../scenario.ts'
import { Traffic } from '../traffic.ts'
import { rssOf } from '../usage.ts'
import { waitForCount } from '../progress.ts'

/** Publishers store; they get the message identifiers with this qos whatever the readers ask for. */
const STORE_QOS = 1

/** Stores `count` Retained Messages on as many topics, then each reader gets all of them through one wildcard. */
export const retained: Scenario = {
  name: 'retained',
  help: 'store --count Retained Messages (50,000), read them back through # by --readers (4)',
  defaults: { publishers: 10, readers: 4, count: 50_000, qos: 0, sizeBytes: 64, window: 20 },
  join: joinRetained,
  async conduct(fleet, options) {
    await fleet.step('publishers')
    const rssBefore = rssOf(options.pids)
    const store = await fleet.measure('traffic', { count: options.count })
    const counts = await fleet.step('counts')
    const rssAfter = rssOf(options.pids)
    await fleet.step('readers')
    const read = await fleet.measure('read', { count: options.count })
    await fleet.step('clear', { count: options.count })
    const end = await fleet.step('close')
    const delivered = read.numbers['delivered'] ?? 0
    const stored = counts.numbers['published'] ?? 0
    const storing = rates(store, stored)
    return {
      ...resultHead('retained', options),
      unit: 'message',
      ...rates(read, delivered),
      rssBytes: rssAfter,
      latency: null,
      lost: (store.numbers['lost'] ?? 0) + stored * options.readers - delivered,
      duplicates: 0,
      disconnects: end.numbers['disconnects'] ?? 0,
      generatorCpuS: read.generatorCpuS,
      extra: {
        stored,
        storeCpuUs: storing.cpuUs ?? 0,
        storePerSecond: storing.perSecond,
        rssPerMessageBytes: rssBefore !== null && rssAfter !== null ? Math.round((rssAfter - rssBefore) / stored) : 0,
      },
    }
  },
}

class Counter implements DeliverySink {
  count = 0

  delivered(): void {
    this.count++
  }
}

async function joinRetained(generator: Generator): Promise<Steps> {
  const { options, engine } = generator
  const traffic = new Traffic(engine, generator.runId, null)
  const readers: LoadClient[] = []
  const publishers: LoadClient[] = []
  const counter = new Counter()
  return {
    publishers: async () => {
      publishers.push(...(await openStorers(generator, traffic)))
      return {}
    },
    ...trafficSteps(generator, traffic),
    readers: async () => {
      readers.push(...(await openClients(generator, { kind: 'r', numbers: ownNumbers(generator, options.readers) })))
      for (const client of readers) client.deliveries = counter
      return {}
    },
    read: async given => {
      const startMs = nowMs()
      await Promise.all(readers.map(client => client.subscribe(`${options.prefix}/ret/#`, options.qos)))
      refuseRefused(readers)
      const lastMs = await waitForCount(() => counter.count, readers.length * (given['count'] ?? 0), options.stallS)
      return { numbers: { delivered: counter.count }, seconds: Math.max(0, lastMs - startMs) / 1_000 }
    },
    clear: async given => {
      await closeClients(readers)
      await clearRetained(generator, publishers, given['count'] ?? 0)
      return {}
    },
    close: async () => {
      await closeClients(publishers)
      return { numbers: { disconnects: engine.disconnects } }
    },
  }
}

function topicOf(prefix: string, number: number): string {
  return `${prefix}/ret/${number % 1_000}/${number}`
}

async function openStorers(generator: Generator, traffic: Traffic): Promise<LoadClient[]> {
  const { options } = generator
  const numbers = ownNumbers(generator, options.publishers)
  const opened = await openClients(generator, { kind: 'p', numbers })
  const payload = filler(Math.max(MESSAGE_HEADER_BYTES, options.sizeBytes))
  // This process stores the topics with number % processes === index; the order does not matter.
  let next = generator.index
  traffic.beforePublish = publisher => {
    publisher.template = publishTemplate(options.protocol, { topic: topicOf(options.prefix, next), qos: STORE_QOS, retain: true, payload })
    next += generator.processes
  }
  for (const [at, client] of opened.entries()) {
    const template = publishTemplate(options.protocol, { topic: '-', qos: STORE_QOS, payload })
    traffic.add(
      new WindowPublisher(
        { id: numbers[at]!, runId: generator.runId, client, template, window: options.window, qos: STORE_QOS, shares: 0 },
        traffic,
      ),
    )
  }
  return opened
}

/** A Retained Message with an empty payload removes the one before [MQTT-3.3.1-6]. Not measured; a PINGREQ-free QoS 0 burst. */
async function clearRetained(generator: Generator, publishers: readonly LoadClient[], count: number): Promise<void> {
  const { options } = generator
  const client = publishers[0]
  if (!client) return
  for (let number = generator.index, sent = 0; number < count; number += generator.processes) {
    const { bytes } = publishTemplate(options.protocol, {
      topic: topicOf(options.prefix, number),
      qos: 0,
      retain: true,
      payload: new Uint8Array(0),
    })
    client.write(bytes)
    if (++sent % 500 === 0) await new Promise(resolve => setImmediate(resolve))
  }
}
