import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { crash, type RoundResult } from './rounds.ts'

/** How many of each kind of fault are named. */
const NAMED_MAX = 10

/** The long crash test: `node test/crash/run.ts --rounds 20 --seed 1`. Exit code 1 when anything was lost, doubled or wrong; the data directory then stays. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '20' },
      seed: { type: 'string', default: '1' },
      'load-ms': { type: 'string', default: '2500' },
      durability: { type: 'string', default: 'fsynced' },
    },
  })
  const dataDirectory = await mkdtemp(join(tmpdir(), 'millrace-crash-'))
  const seed = Number(values.seed)
  print(`seed ${seed}, data in ${dataDirectory}`)
  const results = await crash({
    dataDirectory,
    seed,
    rounds: Number(values.rounds),
    loadMsMax: Number(values['load-ms']),
    flags: ['--durability', values.durability],
    onRound: result => print(line(result)),
  })
  const total = (of: (result: RoundResult) => number): number => results.reduce((sum, result) => sum + of(result), 0)
  print(
    `total: ${total(result => result.kills)} kills, ${total(result => result.acknowledged)} acknowledged, ${total(result => result.delivered)} delivered, ` +
      `${total(result => result.lost.length)} lost, ${total(result => result.duplicates.length)} QoS 2 duplicates, ` +
      `${total(result => result.disordered.length)} out of order, ${total(result => result.violations.length)} violations, ` +
      `${total(result => result.repeated)} QoS 1 repeats, ${total(result => result.refused)} refused, ${total(result => result.snapshots)} snapshots`,
  )
  if (total(faults) > 0) process.exitCode = 1
  else await rm(dataDirectory, { recursive: true })
}

function faults({ lost, duplicates, disordered, violations }: RoundResult): number {
  return lost.length + duplicates.length + disordered.length + violations.length
}

function line(result: RoundResult): string {
  const { round, kills, acknowledged, delivered, repeated, refused, lost, duplicates, disordered, violations, snapshots, recoveryMs } =
    result
  const counts =
    `round ${round}: ${kills} kills, ${acknowledged} acknowledged, ${delivered} delivered, ${lost.length} lost, ${duplicates.length} QoS 2 duplicates, ` +
    `${disordered.length} out of order, ${violations.length} violations, ${repeated} QoS 1 repeats, ${refused} refused, ${snapshots} snapshots, ready after ${recoveryMs} ms`
  const named = Object.entries({ lost, duplicates, disordered, violations }).flatMap(([kind, each]) =>
    each.slice(0, NAMED_MAX).map(what => `  ${kind}: ${what}`),
  )
  return [counts, ...named].join('\n')
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

await main()
