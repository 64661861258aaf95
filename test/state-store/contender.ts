import { formatHybridTime } from '../../client/hybrid-clock.ts'
import { LeasedLock } from '../../client/lock.ts'
import { StateStore } from '../../client/state-store.ts'

/**
 * A program that waits for a lock, writes what the lock protects, and holds it until it is killed: `contender.ts URL LOCK PROTECTED TTL_MS`.
 * Says on standard output, a word and a fencing token a line: `waits`, `holds TOKEN`, `wrote TOKEN`.
 */
async function main(url: string, lock: string, protectedKey: string, ttlMs: number): Promise<void> {
  const store = await StateStore.connect(url)
  const say = (text: string): boolean => process.stdout.write(`${text}\n`)
  say('waits')
  const held = await new LeasedLock(store, lock, { ttlMs, holder: store.clientId }).acquire()
  const token = formatHybridTime(held.token)
  say(`holds ${token}`)
  await store.set(protectedKey, store.clientId, { fencingToken: held.token })
  say(`wrote ${token}`)
}

const [url, lock, protectedKey, ttlMs] = process.argv.slice(2)
await main(url!, lock!, protectedKey!, Number(ttlMs))
