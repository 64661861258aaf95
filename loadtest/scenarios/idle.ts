import { LoadClient } from '../client.ts'
import { Histogram } from '../histogram.ts'
import { nowMs, sleep } from '../monotonic.ts'
import { rates, resultHead } from '../publish-scenario.ts'
import type { Generator, Scenario, Steps } from '../scenario.ts'
import { closeClients, connectFields, forEachLimited, ownNumbers, refuseRefused, targetOf } from '../scenario.ts'
import { cpuBetween, cpuOf, cpuSeconds, rssOf } from '../usage.ts'

/** Opens many connections with one subscription each, leaves them alone, and looks at the broker's memory. */
export const idle: Scenario = {
  name: 'idle',
  help: 'open --connections (10,000) with one subscription each; memory per connection; --tls for TLS',
  defaults: { connections: 10_000, concurrency: 64, holdS: 2 },
  join: joinIdle,
  async conduct(fleet, options) {
    const rssBefore = rssOf(options.pids)
    const partsBefore = options.parts.map(part => rssOf(part.pids) ?? 0)
    const open = await fleet.measure('open')
    await fleet.step('subscribe')
    await sleep(options.holdS * 1_000)
    const rssUp = rssOf(options.pids)
    const partsUp = options.parts.map(part => rssOf(part.pids) ?? 0)
    const idleBefore = cpuOf(options.pids)
    await sleep(options.holdS * 1_000)
    const idleCpu = cpuBetween(idleBefore, cpuOf(options.pids))
    const end = await fleet.step('close')
    const up = open.numbers['up'] ?? 0
    return {
      ...resultHead('idle', options),
      unit: 'connection',
      ...rates(open, up),
      rssBytes: rssUp,
      latency: open.latency.summary(),
      lost: options.connections - up,
      duplicates: 0,
      disconnects: end.numbers['disconnects'] ?? 0,
      generatorCpuS: open.generatorCpuS,
      extra: {
        rssPerConnectionBytes: rssBefore !== null && rssUp !== null && up > 0 ? Math.round((rssUp - rssBefore) / up) : 0,
        ...Object.fromEntries(
          options.parts.map(({ name }, at) => [
            `rssPerConnectionBytes ${name}`,
            up > 0 ? Math.round((partsUp[at]! - partsBefore[at]!) / up) : 0,
          ]),
        ),
        idleCpuPercent: idleCpu && options.holdS > 0 ? (cpuSeconds(idleCpu) * 100) / options.holdS : 0,
      },
    }
  },
}

async function joinIdle(generator: Generator): Promise<Steps> {
  const { options, engine } = generator
  const numbers = ownNumbers(generator, options.connections)
  const clients: LoadClient[] = []
  return {
    open: async () => {
      const startMs = nowMs()
      const latency = new Histogram()
      const concurrency = Math.max(1, Math.floor(options.concurrency / generator.processes))
      await forEachLimited(numbers, concurrency, async number => {
        const client = new LoadClient(engine, targetOf(options))
        await client.open(connectFields(options, `c${number}`))
        latency.record(client.connectUs)
        clients.push(client)
      })
      return { numbers: { up: clients.length }, seconds: (nowMs() - startMs) / 1_000, latency: latency.snapshot() }
    },
    subscribe: async () => {
      await forEachLimited([...clients.entries()], options.concurrency, ([at, client]) =>
        client.subscribe(`${options.prefix}/dev/${generator.index}/${at}`, 1),
      )
      refuseRefused(clients)
      return {}
    },
    close: async () => {
      const { disconnects } = engine
      await closeClients(clients)
      return { numbers: { disconnects } }
    },
  }
}
