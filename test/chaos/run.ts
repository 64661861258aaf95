import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ClusterSystem } from './cluster-system.ts'
import { EVENT_KINDS, type EventKind } from './events.ts'
import { faultCount, roundText, summary, summaryText } from './report.ts'
import { chaos } from './rounds.ts'
import { StandaloneSystem } from './standalone-system.ts'
import type { System } from './system.ts'

const USAGE = `Breaks a cluster of real processes under load, and checks what its clients were promised.

  --rounds N           default 5
  --seed S             the same seed plans the same events; default 1
  --first-round R      begins with that round of the seed; default 1
  --events-per-round N default 3
  --events LIST        only these, separated by commas: ${EVENT_KINDS.join(', ')}
  --frontends N        default 2
  --backends N         default 3
  --persistence LEVEL  stored or replicated (default)
  --standalone         'millrace start' instead of a cluster
  --json FILE          everything that was found, as JSON
  --keep               keeps the logs of the processes also when all is well
  -- FLAGS             given to every process

Exit code 1 when anything was lost, doubled, out of order or otherwise wrong; then the logs of the processes stay.
`

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '5' },
      seed: { type: 'string', default: '1' },
      'first-round': { type: 'string', default: '1' },
      'events-per-round': { type: 'string', default: '3' },
      events: { type: 'string', default: '' },
      frontends: { type: 'string', default: '2' },
      backends: { type: 'string', default: '3' },
      persistence: { type: 'string', default: 'replicated' },
      standalone: { type: 'boolean', default: false },
      json: { type: 'string' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  return { ...values, flags: positionals }
}

type Arguments = ReturnType<typeof readArguments>

function openSystem(given: Arguments, folder: string): System {
  const { standalone, frontends, backends, persistence, seed, flags } = given
  if (standalone) return new StandaloneSystem(folder, flags)
  if (persistence !== 'stored' && persistence !== 'replicated') throw new Error('--persistence: stored or replicated')
  return new ClusterSystem({
    folder,
    frontends: Number(frontends),
    backends: Number(backends),
    persistence,
    flags: ['--log-level', 'info', ...flags],
    clusterName: `chaos-${seed}`,
  })
}

function chosenKinds(list: string, possible: readonly EventKind[]): readonly EventKind[] {
  if (list === '') return possible
  return list.split(',').map(name => {
    const kind = possible.find(each => each === name)
    if (kind === undefined) throw new Error(`--events: there is no ${name} here; there are ${possible.join(', ')}`)
    return kind
  })
}

async function run(given: Arguments, system: System): Promise<boolean> {
  const kinds = chosenKinds(given.events, system.kinds)
  const results = await chaos(system, {
    seed: Number(given.seed),
    rounds: Number(given.rounds),
    firstRound: Number(given['first-round']),
    eventsPerRound: Number(given['events-per-round']),
    kinds,
    lossyKinds: given.persistence === 'stored' && !given.standalone ? ['kill-redis', 'stop-redis'] : [],
    onEvent: text => print(`  ${new Date().toISOString().slice(11, 23)} ${text}`),
    onRound: result => print(roundText(result)),
  })
  print(summaryText(results))
  if (given.json !== undefined) await writeFile(given.json, JSON.stringify({ arguments: given, ...summary(results) }, null, 2))
  return results.every(result => faultCount(result) === 0)
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function main(): Promise<void> {
  const given = readArguments()
  if (given.help) return print(USAGE)
  const folder = await mkdtemp(join(tmpdir(), 'millrace-chaos-'))
  print(`seed ${given.seed}, logs in ${folder}`)
  const system = openSystem(given, folder)
  let isGood = false
  try {
    await system.start()
    isGood = await run(given, system)
  } catch (error) {
    print((error as Error).message)
  } finally {
    await system.close()
  }
  if (isGood && !given.keep) await rm(folder, { recursive: true })
  else print(`logs: ${folder}`)
  // Clients that wait for an answer that never comes would keep the process.
  process.exit(isGood ? 0 : 1)
}

await main()
