import type { LoadClient } from '../client.ts'
import { nowMs } from '../monotonic.ts'
import { rates, resultHead } from '../publish-scenario.ts'
import type { Generator, Scenario, Steps } from '../scenario.ts'
import { closeClients, openClients, ownNumbers, refuseRefused } from '../scenario.ts'
import { rssOf } from '../usage.ts'

/** Filters of the churn before they repeat. */
const CHURN_FILTERS = 1_024

/** Clients with many wildcard filters subscribe and unsubscribe, `window` requests in flight each. */
export const subscribe: Scenario = {
  name: 'subscribe',
  help: 'SUBSCRIBE and UNSUBSCRIBE of wildcard filters (--subs 50, each with --filters 100 beforehand)',
  defaults: { subscribers: 50, filters: 100, window: 10 },
  join: joinSubscribe,
  async conduct(fleet, options) {
    await fleet.step('open')
    const rssBefore = rssOf(options.pids)
    await fleet.step('preload')
    const rssAfter = rssOf(options.pids)
    if (options.warmupS > 0) await fleet.step('churn', { seconds: options.warmupS })
    const run = await fleet.measure('churn', { seconds: options.durationS })
    const end = await fleet.step('close')
    const filters = options.subscribers * options.filters
    return {
      ...resultHead('subscribe', options),
      unit: 'acknowledgement',
      ...rates(run, run.numbers['acks'] ?? 0),
      rssBytes: rssAfter,
      latency: null,
      lost: 0,
      duplicates: 0,
      disconnects: end.numbers['disconnects'] ?? 0,
      generatorCpuS: run.generatorCpuS,
      extra: {
        rssPerFilterBytes: rssBefore !== null && rssAfter !== null && filters > 0 ? Math.round((rssAfter - rssBefore) / filters) : 0,
      },
    }
  },
}

async function joinSubscribe(generator: Generator): Promise<Steps> {
  const { options, engine } = generator
  const numbers = ownNumbers(generator, options.subscribers)
  let clients: LoadClient[] = []
  return {
    open: async () => {
      clients = await openClients(generator, { kind: 'c', numbers })
      return {}
    },
    preload: async () => {
      for (let filter = 0; filter < options.filters; filter++) {
        for (const [at, client] of clients.entries()) client.sendSubscribe(`${options.prefix}/base/${numbers[at]!}/+/${filter}`, 0)
        if (filter % 64 === 63) await Promise.all(clients.map(client => client.acksSettled()))
      }
      await Promise.all(clients.map(client => client.acksSettled()))
      refuseRefused(clients)
      return {}
    },
    churn: async given => {
      const startMs = nowMs()
      const before = acksOf(clients)
      const endMs = startMs + (given['seconds'] ?? 0) * 1_000
      await Promise.all(
        clients.map((client, at) => churn(client, `${options.prefix}/churn/${numbers[at]!}`, { window: options.window, endMs })),
      )
      refuseRefused(clients)
      return { numbers: { acks: acksOf(clients) - before }, seconds: (nowMs() - startMs) / 1_000 }
    },
    close: async () => {
      await closeClients(clients)
      return { numbers: { disconnects: engine.disconnects } }
    },
  }
}

function acksOf(clients: readonly LoadClient[]): number {
  return clients.reduce((sum, client) => sum + client.ackCount, 0)
}

/** Each SUBSCRIBE is followed by an UNSUBSCRIBE of the same filter; all are answered before this resolves. */
async function churn(client: LoadClient, stem: string, goal: { readonly window: number; readonly endMs: number }): Promise<void> {
  let step = 0
  const refill = (): void => {
    while (client.isReady && client.pendingAcks < goal.window && nowMs() < goal.endMs) {
      const filter = `${stem}/+/${(step >> 1) % CHURN_FILTERS}/#`
      if (step++ % 2 === 0) client.sendSubscribe(filter, 1)
      else client.sendUnsubscribe(filter)
    }
  }
  client.onControlAck = refill
  refill()
  await client.acksSettled()
  client.onControlAck = null
}
