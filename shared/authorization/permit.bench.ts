import { TopicCache } from '../mqtt/topic.ts'
import type { AuthorizationRule } from '../resources/broker-authorization.ts'
import { permitFor } from './permit-for.ts'
import { type Permit, permitBytes } from './permit.ts'
import { compilePolicy, type Policy } from './policy.ts'
import { PermitCache } from './permit-cache.ts'
import type { Subject } from './template.ts'

/** What it costs to compile policies, to let a client in and to decide: `node shared/authorization/permit.bench.ts`. */
const ATTRIBUTES = 10
const TOPICS = 1_000

/** Nanoseconds per call: the fastest of seven rounds, because what else the machine does only ever adds. */
function cost(calls: number, run: (call: number) => unknown): number {
  const rounds: number[] = []
  let used = 0
  for (let round = 0; round < 7; round++) {
    const startMs = performance.now()
    for (let call = 0; call < calls; call++) if (run(call) === true) used++
    rounds.push(((performance.now() - startMs) * 1e6) / calls)
  }
  if (used < 0) throw new Error('nothing decided')
  return Math.min(...rounds)
}

function say(what: string, ns: number): void {
  console.log(
    `${what.padEnd(74)}${ns >= 1e6 ? `${(ns / 1e6).toFixed(1)} ms` : ns >= 1e4 ? `${(ns / 1e3).toFixed(1)} µs` : `${ns.toFixed(0)} ns`}`,
  )
}

const subject: Subject = {
  clientId: 'pump-17',
  userName: 'pump-17',
  attributes: new Map([['site', 'north'], ...Array.from({ length: ATTRIBUTES - 1 }, (_, i): [string, string] => [`a${i}`, `v${i}`])]),
}

/** Half of the filters without wildcards. */
function topicsOf(index: number): string[] {
  return [`plants/${index}/state`, `sites/{principal.attributes.site}/lines/${index}/+/telemetry`]
}

/** Rules that all apply to the client. */
function appliedRules(count: number): AuthorizationRule[] {
  return Array.from({ length: count }, (_, index) => ({
    principals: { attributes: [{ site: 'north' }] },
    brokerResources: [
      { method: 'Connect' },
      { method: 'Publish', topics: topicsOf(index) },
      { method: 'Subscribe', topics: topicsOf(index) },
    ],
    stateStoreResources: [{ method: 'ReadWrite', keys: [`keys/${index}/*`] }],
  }))
}

/** `count` rules of which one applies to the client. */
function othersRules(count: number): AuthorizationRule[] {
  return Array.from({ length: count }, (_, index) => ({
    principals: { clientIds: [`pump-${index}`], attributes: [{ site: 'south', line: `${index}` }] },
    brokerResources: [
      { method: 'Connect' },
      { method: 'Publish', topics: topicsOf(index) },
      { method: 'Subscribe', topics: topicsOf(index) },
    ],
  }))
}

function decisions(what: string, permit: Permit, count: number): void {
  const topics = new TopicCache({ topicsMax: 100_000, levelsMax: 128 })
  const names = Array.from({ length: TOPICS }, (_, i) =>
    i % 2 === 0 ? `plants/${i % count}/state` : `sites/north/lines/${i % count}/m${i}/telemetry`,
  )
  const refused = names.map(name => `${name}/x`)
  const known = names.map(name => topics.fromName(name))
  const keys = names.map((_, i) => Buffer.from(`keys/${i % count}/k${i}`))
  say(
    `${what}: publish, not cached`,
    cost(200_000, call => permit.mayPublish(names[call % TOPICS]!)),
  )
  say(
    `${what}: publish that is refused, not cached`,
    cost(200_000, call => permit.mayPublish(refused[call % TOPICS]!)),
  )
  say(
    `${what}: publish, cached`,
    cost(1_000_000, call => permit.mayPublishTopic(known[call % TOPICS]!)),
  )
  say(
    `${what}: subscribe`,
    cost(50_000, call => permit.maySubscribe(names[call % TOPICS]!)),
  )
  say(
    `${what}: subscribe with a wildcard`,
    cost(50_000, call => permit.maySubscribe(`sites/north/lines/${call % count}/+/telemetry`)),
  )
  say(
    `${what}: key`,
    cost(20_000, call => permit.mayAccessKey(keys[call % TOPICS]!, 'read')),
  )
}

function policies(rules: AuthorizationRule[]): readonly Policy[] {
  return [compilePolicy('bench', { rules })]
}

for (const count of [100, 10_000]) {
  const others = othersRules(count)
  say(
    `${count} rules: compile`,
    cost(3, () => compilePolicy('bench', { rules: others })),
  )
  const compiled = policies(others)
  say(
    `${count} rules, one applies: permit of a client with ${ATTRIBUTES} attributes`,
    cost(20_000, () => permitFor(compiled, subject)),
  )
}
for (const count of [1, 100, 10_000]) {
  const { permit } = permitFor(policies(appliedRules(count)), subject)
  const bytes = permitBytes(permit)
  const cache = new PermitCache()
  say(
    `${count} rules apply: read the permit, ${bytes.length} bytes, known`,
    cost(1_000, () => cache.get(bytes)),
  )
  say(
    `${count} rules apply: read the permit, new`,
    cost(10, () => new PermitCache().get(bytes)),
  )
  decisions(`${count} rules apply`, permit, count)
}
