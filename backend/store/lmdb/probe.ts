import { openEnvironment } from './environment.ts'

/**
 * Run by file-check.ts as a process of its own: reads every key and value of the file named on the command line.
 * Dies by a signal, or says on standard output what is wrong. Errors that lmdb reports are left to whoever opens the
 * file next: they meet them again. The order is checked because a damaged tree may lead in a circle.
 */
function probe(file: string): string | undefined {
  const db = openEnvironment(file, 'stored')
  let former: Buffer | undefined
  for (const { key } of db.getRange({ start: Buffer.from([0]) })) {
    if (former && Buffer.compare(former, key) >= 0) return 'its keys are not in order'
    former = key
  }
  return undefined
}

function isDamaged(): boolean {
  try {
    const damage = probe(process.argv[2]!)
    if (damage) process.stdout.write(damage)
    return damage !== undefined
  } catch {
    return false
  }
}

process.exitCode = isDamaged() ? 1 : 0
