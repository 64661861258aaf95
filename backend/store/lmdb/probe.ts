import { ABORT } from 'lmdb'
import { type Environment, openEnvironment } from './environment.ts'
import { KEY_KIND, recordKey } from './layout.ts'

/** Larger than the chunks and nearly all records, so that the list of free pages is searched. */
const TRIAL_BYTES = 4 * 1024 * 1024
const SEQUENCE_MAX = 2 ** 48 - 1

/**
 * Run by file-check.ts as a process of its own on the file named on the command line: does to it what its owner will,
 * and dies by a signal, or is killed because it takes too long, if that is what a damaged page does to the owner.
 */
function probe(file: string): string | undefined {
  // Nothing is committed, so nothing need be synced.
  const db = openEnvironment(file, 'stored')
  const damage = readAll(db)
  if (!damage) tryWriting(db)
  return damage
}

/** Along the leaves, and down from the root to each key; a damaged tree may lead elsewhere, or in a circle. */
function readAll(db: Environment): string | undefined {
  let former: Buffer | undefined
  for (const { key } of db.getRange({ start: Buffer.from([0]) })) {
    if (former && Buffer.compare(former, key) >= 0) return 'its keys are not in order'
    if (!db.doesExist(key)) return 'a key is in its tree but cannot be found there'
    former = key
  }
  return undefined
}

/** Changes a page of each kind and takes free ones, in a transaction that is then undone. */
function tryWriting(db: Environment): void {
  db.transactionSync(() => {
    const value = Buffer.alloc(TRIAL_BYTES)
    for (const kind of [KEY_KIND.meta, KEY_KIND.pointer, KEY_KIND.chunk]) void db.put(Buffer.from([kind, 255, 255, 255]), value)
    void db.put(recordKey(SEQUENCE_MAX), value)
    return ABORT
  })
}

/** Errors of the operating system are left to the owner, who meets them too and can name them better. */
function damageIn(file: string): string | undefined {
  try {
    return probe(file)
  } catch (error) {
    return error instanceof Error && error.message.includes('MDB_') ? error.message : undefined
  }
}

const damage = damageIn(process.argv[2]!)
if (damage) process.stdout.write(damage)
process.exitCode = damage ? 1 : 0
