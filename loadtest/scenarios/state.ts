import { systemClock } from '#shared/base/clock.ts'
import type { DeliverySink } from '../client.ts'
import type { PublishTemplate } from '../frames.ts'
import { filler, publishTemplate, utf8 } from '../frames.ts'
import { MESSAGE_HEADER_BYTES, SLOTS_MAX } from '../message.ts'
import type { LoadOptions } from '../options.ts'
import { conductPublishing, trafficSteps } from '../publish-scenario.ts'
import { WindowPublisher } from '../publisher.ts'
import type { Generator, Scenario, Steps } from '../scenario.ts'
import { closeClients, openClients, ownNumbers, refuseRefused } from '../scenario.ts'
import { Traffic } from '../traffic.ts'

const REQUEST_TOPIC = 'statestore/v1/FA9AE35F-2F64-47CD-9BFF-08E2B32A0FE8/command/invoke'
const RESPONSE_TOPIC = 0x08
const CORRELATION_DATA = 0x09
const USER_PROPERTY = 0x26
/** The property's identifier and length are before the data. */
const CORRELATION_HEAD_BYTES = 3

type Verb = 'SET' | 'GET'

const DEFAULTS: Partial<LoadOptions> = { protocol: 5, publishers: 100, topics: 100, qos: 1, sizeBytes: 128, window: 20 }

export const stateSet = stateScenario(
  'state-set',
  'SET',
  'clients (--pubs, 100) that set --topics (100) keys of the state store each in turn, values of --size (128)',
)

export const stateGet = stateScenario('state-get', 'GET', 'the same, reading keys that were set before')

function stateScenario(name: string, verb: Verb, help: string): Scenario {
  return {
    name,
    help,
    defaults: DEFAULTS,
    join: generator => joinState(generator, verb),
    conduct: (fleet, options) => conductPublishing(fleet, options, name),
  }
}

/** Answers of the state store, told from each other by their Correlation Data, which is what begins the payload of other messages. */
class Answers implements DeliverySink {
  readonly #traffic: Traffic
  /** First character of the answers that are right. */
  expected = ''

  constructor(traffic: Traffic) {
    this.#traffic = traffic
  }

  delivered(firstByte: number, bytes: Uint8Array, payloadAt: number, _end: number, propertiesAt: number): void {
    // The store writes Correlation Data first. Whatever is not as expected is not counted as arrived, and so ends as lost.
    const isRight = bytes[propertiesAt] === CORRELATION_DATA && bytes[payloadAt] === this.expected.charCodeAt(0)
    if (!isRight || bytes[payloadAt + 1] === MINUS) return
    const headerAt = propertiesAt + CORRELATION_HEAD_BYTES
    this.#traffic.delivered(firstByte, bytes, headerAt, headerAt + MESSAGE_HEADER_BYTES)
  }
}

const MINUS = 0x2d

/** Keys of one client in turn. */
interface KeyTurn {
  readonly sets: readonly PublishTemplate[]
  readonly wanted: readonly PublishTemplate[]
  next: number
}

async function joinState(generator: Generator, verb: Verb): Promise<Steps> {
  const { options, engine } = generator
  const traffic = new Traffic(engine, generator.runId, null)
  const answers = new Answers(traffic)
  const numbers = ownNumbers(generator, options.publishers)
  const clients = await openClients(generator, { kind: 'k', numbers, deliveries: answers })
  const turns = new Map<WindowPublisher, KeyTurn>()
  for (const [at, client] of clients.entries()) {
    const turn = keyTurn(options, numbers[at]!, verb)
    const window = Math.min(options.window, SLOTS_MAX - 1)
    const publisher = new WindowPublisher(
      { id: numbers[at]!, runId: generator.runId, client, template: turn.sets[0]!, window, qos: options.qos, shares: 1 },
      traffic,
    )
    traffic.add(publisher)
    turns.set(publisher, turn)
  }
  const take = (pick: (turn: KeyTurn) => readonly PublishTemplate[], expected: string): void => {
    answers.expected = expected
    traffic.beforePublish = publisher => {
      const turn = turns.get(publisher)!
      publisher.template = pick(turn)[turn.next]!
      turn.next = (turn.next + 1) % turn.sets.length
    }
  }
  return {
    subscribe: async () => {
      await Promise.all(clients.map((client, at) => client.subscribe(responseTopic(options, numbers[at]!), 1)))
      refuseRefused(clients)
      return {}
    },
    publishers: async () => {
      take(turn => turn.sets, '+')
      // Twice as many as there are keys: clients take turns only roughly.
      const count = 2 * clients.length * options.topics
      const { lost } = await traffic.run({ seconds: 0, count, ratePerS: 0, stallS: options.stallS })
      take(turn => turn.wanted, verb === 'SET' ? '+' : '$')
      return { numbers: { lost } }
    },
    ...trafficSteps(generator, traffic),
    close: async () => {
      await closeClients(clients)
      return { numbers: { disconnects: engine.disconnects } }
    },
  }
}

function responseTopic({ prefix }: LoadOptions, client: number): string {
  return `clients/${prefix}-k${client}/services/statestore/_any_/command/invoke/response`
}

function keyTurn(options: LoadOptions, client: number, verb: Verb): KeyTurn {
  const properties = [CORRELATION_DATA, 0, MESSAGE_HEADER_BYTES, ...filler(MESSAGE_HEADER_BYTES)]
  properties.push(RESPONSE_TOPIC, ...utf8(responseTopic(options, client)))
  properties.push(USER_PROPERTY, ...utf8('__ts'), ...utf8(`${systemClock.wallMs()}:0:${options.prefix}-k${client}`))
  const value = Buffer.from(filler(options.sizeBytes)).toString('latin1')
  const request = (elements: readonly string[]): PublishTemplate => {
    const payload = Buffer.from(`*${elements.length}\r\n${elements.map(element => `$${element.length}\r\n${element}\r\n`).join('')}`)
    const template = publishTemplate(5, { topic: REQUEST_TOPIC, qos: 1, properties, payload })
    return { ...template, payloadAt: template.payloadAt - properties.length + CORRELATION_HEAD_BYTES }
  }
  // 16 bytes.
  const keys = Array.from({ length: options.topics }, (_, key) => `k-${String(client).padStart(6, '0')}-${String(key).padStart(7, '0')}`)
  const sets = keys.map(key => request(['SET', key, value]))
  return { sets, wanted: verb === 'SET' ? sets : keys.map(key => request(['GET', key])), next: 0 }
}
