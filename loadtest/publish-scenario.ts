/** What fan-out, pairs and the shared group have in common: subscribers, publishers with a window, a warm-up and a measured phase. */
import type { LoadClient } from './client.ts'
import type { Fleet, MeasuredReport } from './fleet.ts'
import type { PublishTemplate } from './frames.ts'
import { filler, publishTemplate } from './frames.ts'
import { LinkMesh } from './link.ts'
import { MESSAGE_HEADER_BYTES, SLOTS_MAX } from './message.ts'
import { sleep } from './monotonic.ts'
import type { LoadOptions } from './options.ts'
import { WindowPublisher } from './publisher.ts'
import type { Generator, ScenarioResult, Steps } from './scenario.ts'
import { closeClients, forgetSessions, openClients, ownNumbers, refuseRefused, share } from './scenario.ts'
import { Traffic } from './traffic.ts'
import { cpuSeconds, rssOf } from './usage.ts'

/** Who subscribes to what, who publishes where. */
export interface Layout {
  readonly subscriptionFilter: (prefix: string, subscriber: number) => string
  /** @param topic 0 to `topics` - 1 */
  readonly publishTopic: (prefix: string, publisher: number, topic: number) => string
  /** Copies of each message over all processes: all subscribers get it, or one does. */
  readonly copies: 'all' | 'one'
}

interface Links {
  mesh: LinkMesh | null
}

/** @throws {Error} a connection or subscription was refused */
export async function joinPublishing(generator: Generator, layout: Layout): Promise<Steps> {
  const { options, engine } = generator
  const links: Links = { mesh: null }
  const ownSubscribers = ownNumbers(generator, options.subscribers)
  const traffic = new Traffic(engine, generator.runId, {
    copies: layout.copies === 'all' ? ownSubscribers.length : 1,
    report: (publisherId, ticket) => links.mesh?.send(publisherId % generator.processes, publisherId, ticket),
  })
  const place = generator.linkDirectory ? { directory: generator.linkDirectory, index: generator.index } : null
  if (place) links.mesh = await LinkMesh.listen(engine, place, (publisherId, ticket) => traffic.arrivedElsewhere(publisherId, ticket))
  const clients: LoadClient[] = []
  return {
    link: async () => {
      await links.mesh?.join(generator.processes)
      return {}
    },
    subscribe: async () => {
      const subscribers = await openClients(generator, { kind: 's', numbers: ownSubscribers, persistent: options.persistent })
      clients.push(...subscribers)
      for (const client of subscribers) client.deliveries = traffic
      await Promise.all(
        subscribers.map((client, at) => client.subscribe(layout.subscriptionFilter(options.prefix, ownSubscribers[at]!), options.qos)),
      )
      refuseRefused(subscribers)
      return { numbers: { sessionPresent: subscribers.filter(client => client.sessionPresent).length } }
    },
    publishers: async () => {
      clients.push(...(await openPublishers(generator, layout, traffic)))
      return {}
    },
    ...trafficSteps(generator, traffic),
    close: async () => {
      await closeClients(clients)
      clients.length = 0
      if (options.persistent) await forgetSessions(generator, 's', ownSubscribers)
      links.mesh?.close()
      return { numbers: { disconnects: engine.disconnects } }
    },
  }
}

async function openPublishers(generator: Generator, layout: Layout, traffic: Traffic): Promise<LoadClient[]> {
  const { options } = generator
  const numbers = ownNumbers(generator, options.publishers)
  const opened = await openClients(generator, { kind: 'p', numbers })
  const turns = new Map<WindowPublisher, TopicTurn>()
  for (const [at, client] of opened.entries()) {
    const id = numbers[at]!
    const templates = Array.from({ length: options.topics }, (_, topic) =>
      publishTemplate(options.protocol, {
        topic: layout.publishTopic(options.prefix, id, topic),
        qos: options.qos,
        payload: filler(Math.max(MESSAGE_HEADER_BYTES, options.sizeBytes)),
      }),
    )
    const window = Math.min(options.window, SLOTS_MAX - 1)
    const [template] = templates
    const publisher = new WindowPublisher(
      { id, runId: generator.runId, client, template: template!, window, qos: options.qos, shares: sharesOf(generator, layout) },
      traffic,
    )
    traffic.add(publisher)
    if (templates.length > 1) turns.set(publisher, { templates, next: 0 })
  }
  if (turns.size > 0) traffic.beforePublish = publisher => takeTurn(publisher, turns.get(publisher)!)
  return opened
}

/** The topics of one publisher. */
interface TopicTurn {
  readonly templates: readonly PublishTemplate[]
  next: number
}

function takeTurn(publisher: WindowPublisher, turn: TopicTurn): void {
  publisher.template = turn.templates[turn.next]!
  turn.next = (turn.next + 1) % turn.templates.length
}

/** Local copies, plus one report from every other process that has subscribers. */
function sharesOf(generator: Generator, layout: Layout): number {
  if (layout.copies === 'one') return 1
  const { subscribers } = generator.options
  const others = Math.min(generator.processes, subscribers) - (generator.index < subscribers ? 1 : 0)
  return ownNumbers(generator, subscribers).length + others
}

/** The steps `reset`, `traffic` (seconds, count, ratePerS) and `counts`, for any scenario with a Traffic. */
export function trafficSteps(generator: Generator, traffic: Traffic): Steps {
  return {
    reset: async () => {
      traffic.reset()
      return {}
    },
    traffic: async given => {
      // Only processes that have publishers share the work: the one publisher of a fan-out does all of it.
      const active = Math.min(generator.processes, generator.options.publishers)
      if (generator.index >= active) return {}
      const count = share(given['count'] ?? 0, generator.index, active)
      if (given['count'] && count === 0) return {}
      const ratePerS = (given['ratePerS'] ?? 0) / active
      const outcome = await traffic.run({ seconds: given['seconds'] ?? 0, count, ratePerS, stallS: generator.options.stallS })
      return { seconds: outcome.seconds, numbers: { lost: outcome.lost } }
    },
    counts: async () => {
      const { latency, ...numbers } = traffic.counts()
      return { numbers: { ...numbers }, latency: latency.snapshot() }
    },
  }
}

/** Subscribes, publishes for the warm-up, then measures. */
export async function conductPublishing(fleet: Fleet, options: LoadOptions, name: string): Promise<ScenarioResult> {
  await fleet.step('subscribe')
  await fleet.step('publishers')
  await sleep(options.settleS * 1_000)
  if (options.warmupS > 0) await fleet.step('traffic', { seconds: options.warmupS, ratePerS: options.ratePerS })
  await fleet.step('reset')
  const run = await fleet.measure('traffic', { seconds: options.durationS, count: options.count, ratePerS: options.ratePerS })
  const counts = await fleet.step('counts')
  const rssBytes = rssOf(options.pids)
  const end = await fleet.step('close')
  const delivered = counts.numbers['delivered'] ?? 0
  return {
    ...resultHead(name, options),
    unit: 'message',
    ...rates(run, delivered),
    rssBytes,
    latency: counts.latency.summary(),
    lost: run.numbers['lost'] ?? 0,
    duplicates: counts.numbers['duplicates'] ?? 0,
    disconnects: end.numbers['disconnects'] ?? 0,
    generatorCpuS: run.generatorCpuS,
    extra: { published: counts.numbers['published'] ?? 0, overruns: counts.numbers['overruns'] ?? 0 },
  }
}

export function resultHead(
  name: string,
  options: LoadOptions,
): Pick<ScenarioResult, 'scenario' | 'protocol' | 'qos' | 'sizeBytes' | 'window'> {
  return { scenario: name, protocol: options.protocol, qos: options.qos, sizeBytes: options.sizeBytes, window: options.window }
}

export function rates(
  { seconds, cpu, partCpuS, redisCommands }: Omit<MeasuredReport, 'numbers' | 'latency' | 'generatorCpuS'>,
  done: number,
): Pick<ScenarioResult, 'seconds' | 'done' | 'perSecond' | 'cpuUs' | 'cpu' | 'partCpuUs' | 'redisCommands'> {
  // The sum of the parts, where there are any: seconds of many processes at once may come from the coarser clock.
  const parts = Object.values(partCpuS)
  const spentS = parts.length > 0 ? parts.reduce((sum, one) => sum + one, 0) : cpu && cpuSeconds(cpu)
  const cpuUs = spentS !== null && done > 0 ? (spentS * 1e6) / done : null
  const partCpuUs = Object.fromEntries(Object.entries(partCpuS).map(([name, spentS]) => [name, done > 0 ? (spentS * 1e6) / done : 0]))
  return {
    seconds,
    done,
    perSecond: seconds > 0 ? done / seconds : 0,
    cpuUs,
    cpu,
    partCpuUs,
    redisCommands: redisCommands === null || done === 0 ? null : redisCommands / done,
  }
}
