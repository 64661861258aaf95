import { Engine } from '../../loadtest/engine.ts'
import { LoadClient } from '../../loadtest/client.ts'
import * as packets from '../conformance/packets.ts'
import type { Address } from '../cast/client.ts'

const NEVER_SECONDS = 0xffff_ffff
/** Connections that are opened at the same time. */
const CONCURRENCY = 200
const ATTEMPTS_MAX = 20

export interface ManySessions {
  readonly sessions: number
  readonly subscriptions: number
  readonly queued: number
  /** Of these, every session of a group has the same topic, so that one publish is queued for all. */
  readonly sessionsPerGroup: number
}

/** Runs `task` for 0 to `count` - 1, some at the same time. */
export async function each(count: number, concurrency: number, task: (at: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await task(next++)
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, worker))
}

/** A connected client with MQTT 5 and a session that stays; refused ones are tried again. */
export async function openClient(engine: Engine, address: () => Address, clientId: string): Promise<LoadClient> {
  for (let attempt = 1; ; attempt++) {
    const client = new LoadClient(engine, { ...address(), protocol: 5, tls: null })
    try {
      await client.open({ clientId, clean: false, keepAliveS: 0, sessionExpiryS: NEVER_SECONDS })
      return client
    } catch (error) {
      if (attempt === ATTEMPTS_MAX) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

/** One SUBSCRIBE for all filters. @throws a filter was refused */
export async function subscribe(client: LoadClient, filters: readonly string[]): Promise<void> {
  const answered = new Promise<void>((resolve, reject) => {
    client.onControlAck = resolve
    client.onLost = why => reject(new Error(why))
  })
  client.write(
    packets.subscribe(
      1,
      filters.map(filter => ({ filter, qos: 1 })),
    ),
  )
  await answered
  client.onLost = null
  if (client.refusedFilters > 0) throw new Error('a subscription was refused')
}

/** Makes the sessions, each with its Subscriptions, and fills their queues while they are away. Answers what it took. */
export async function fill(plan: ManySessions, address: (clientId: string) => Address): Promise<{ sessionsMs: number; queuesMs: number }> {
  const engine = new Engine()
  const startMs = performance.now()
  await each(plan.sessions, CONCURRENCY, async at => {
    const clientId = `many-${at}`
    const client = await openClient(engine, () => address(clientId), clientId)
    const own = Array.from({ length: plan.subscriptions - 1 }, (_, index) => `many/${at}/${index}`)
    await subscribe(client, [groupTopic(plan, at), ...own])
    await client.disconnect()
  })
  const filledMs = performance.now()
  const groups = Math.ceil(plan.sessions / plan.sessionsPerGroup)
  const publisher = await openClient(engine, () => address('filler'), 'filler')
  let acked: () => void = () => undefined
  publisher.acks = { acked: () => acked() }
  for (let message = 0; message < plan.queued * groups; message++) {
    const answered = new Promise<void>(resolve => (acked = resolve))
    const topic = groupTopic(plan, (message % groups) * plan.sessionsPerGroup)
    publisher.write(packets.publish({ topic, qos: 1, packetId: 1, payload: `${Math.floor(message / groups)} `.padEnd(100, '.') }))
    await answered
  }
  await publisher.disconnect()
  return { sessionsMs: Math.round(filledMs - startMs), queuesMs: Math.round(performance.now() - filledMs) }
}

function groupTopic({ sessionsPerGroup }: ManySessions, at: number): string {
  return `group/${Math.floor(at / sessionsPerGroup)}`
}

/** Looks at some of the sessions, evenly chosen. Answers what is wrong with them. */
export async function inspect(plan: ManySessions, sample: number, address: (clientId: string) => Address): Promise<string[]> {
  const engine = new Engine()
  const wrong: string[] = []
  const step = Math.max(1, Math.floor(plan.sessions / sample))
  await each(Math.min(sample, plan.sessions), 20, async index => {
    const clientId = `many-${index * step}`
    let count = 0
    let arrived: () => void = () => undefined
    const all = new Promise<void>(resolve => (arrived = resolve))
    const client = new LoadClient(engine, { ...address(clientId), protocol: 5, tls: null })
    client.deliveries = { delivered: () => (++count === plan.queued ? arrived() : undefined) }
    await client.open({ clientId, clean: false, keepAliveS: 0, sessionExpiryS: NEVER_SECONDS })
    if (!client.sessionPresent) wrong.push(`${clientId}: no session present`)
    const timeout = new Promise(resolve => setTimeout(resolve, 10_000).unref())
    if (plan.queued > 0) await Promise.race([all, timeout])
    if (count !== plan.queued) wrong.push(`${clientId}: ${count} of ${plan.queued} queued messages`)
    await client.disconnect()
  })
  return wrong
}
