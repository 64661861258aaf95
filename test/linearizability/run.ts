import { parseArgs } from 'node:util'
import { FakeBroker } from '../../client/fake-broker.contract.ts'
import type { Defect } from '../../client/fake-store.contract.ts'
import type { SeededRandom } from '#shared/testing/seeded-random.ts'
import { check, type Violation } from './checker.ts'
import type { Operation } from './history.ts'
import { KILLABLE, type Killable, StoreCluster } from './store-cluster.ts'
import { Workload } from './workload.ts'

const HELP = `node test/linearizability/run.ts [--histories N] [--seed FIRST] [--clients N] [--keys N] [--operations N] [--cuts N] [--defect NAME]
  [--cluster [--kill LIST] [--kill-every N]]

Random operations of several clients on the state store of the broker that STATE_STORE_UNDER_TEST names (mqtt://host:port), or of a plain one
in this process; every history is then checked. --cuts: how many connections are cut within each. --defect: the plain one is wrong on purpose
(stale-read, lost-update, double-nx, no-fencing, version-back). --cluster: a real cluster of two frontends, three backends and a Redis with a
replica and a Sentinel, started here; in every N-th history (default: each) something is killed with -9 at a random moment, what is in the list
by turns (default: backends,frontends,redis; redis: the primary is killed, or stopped until the other one has taken its place). Clients of a
frontend that was killed go to the other one. Exit code 1 when a history is wrong.
`

/** Of each wrong history so many lines are printed. */
const LINES_MAX = 60
const FAILURES_MAX = 10

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      histories: { type: 'string', default: '100' },
      seed: { type: 'string', default: '1' },
      clients: { type: 'string', default: '8' },
      keys: { type: 'string', default: '5' },
      operations: { type: 'string', default: '200' },
      cuts: { type: 'string', default: '0' },
      defect: { type: 'string' },
      cluster: { type: 'boolean', default: false },
      kill: { type: 'string', default: KILLABLE.join(',') },
      'kill-every': { type: 'string', default: '1' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return print(HELP)
  const killable = killableOf(values.kill)
  await using cluster = values.cluster ? await StoreCluster.start('trio') : null
  const url = process.env['STATE_STORE_UNDER_TEST']
  const isFake = cluster === null && !url
  await using fake = isFake ? await FakeBroker.start(values.defect === undefined ? {} : { defect: values.defect as Defect }) : null
  await using workload = await Workload.open(cluster?.urls ?? [url || fake!.url], Number(values.clients))
  const totals = { operations: 0, unknown: 0, failures: 0, checkMs: 0 }
  const [first, histories] = [Number(values.seed), Number(values.histories)]
  const startMs = performance.now()
  for (let seed = first; seed < first + histories && totals.failures < FAILURES_MAX; seed++) {
    const [turn, isTurn] = turnOf(seed - first, Number(values['kill-every']))
    const kills = cluster !== null && isTurn ? 1 : 0
    const disturbances = kills + Number(values.cuts)
    let disturbed = 0
    const disturb = (random: SeededRandom): void | Promise<void> => {
      return disturbed++ < kills ? cluster!.kill(killable[turn % killable.length]!, random) : workload.cutOne(random)
    }
    // What is killed, is killed within this history.
    if (kills > 0) await cluster!.isBack()
    const order = { seed, operations: Number(values.operations), keys: Number(values.keys) }
    const history = await workload.run({ ...order, disturbances, disturb })
    const checkedMs = performance.now()
    const violations = check(history)
    totals.checkMs += performance.now() - checkedMs
    totals.operations += history.length
    totals.unknown += history.filter(({ result }) => result === null).length
    if (violations.length > 0) totals.failures++
    for (const violation of violations) report(seed, history, violation)
  }
  const seconds = ((performance.now() - startMs) / 1_000).toFixed(1)
  const { operations, unknown, failures, checkMs } = totals
  const kills = cluster === null ? '' : `killed: ${killsText(cluster)}; `
  print(
    `${histories} histories from seed ${first}: ${operations} operations (${unknown} without answer), ${kills}${failures} wrong; ${seconds} s, of which ${(checkMs / 1_000).toFixed(1)} s checking\n`,
  )
  if (failures > 0) process.exitCode = 1
}

/** @throws something that cannot be killed */
function killableOf(list: string): readonly Killable[] {
  return list.split(',').map(name => {
    const kind = KILLABLE.find(each => each === name)
    if (kind === undefined) throw new Error(`--kill: expected some of ${KILLABLE.join(', ')}: ${name}`)
    return kind
  })
}

/** The how manieth kill this history would have, and whether it has one. */
function turnOf(history: number, every: number): readonly [number, boolean] {
  return [Math.floor(history / every), history % every === 0]
}

function killsText({ kills }: StoreCluster): string {
  return KILLABLE.map(kind => `${kills[kind]} ${kind}`).join(', ')
}

function report(seed: number, history: readonly Operation[], { rule, text, lines }: Violation): void {
  print(`seed ${seed}, ${history.length} operations: ${rule}: ${text}\n`)
  for (const line of lines.slice(-LINES_MAX)) print(`  ${line}\n`)
}

function print(text: string): void {
  process.stdout.write(text)
}

await main()
