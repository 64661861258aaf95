import { systemTimers } from '#shared/base/timers.ts'
import { CertificateLab } from '#shared/testing/certificates.ts'
import type { KeyKind } from '#shared/testing/certificates.ts'
import { openWorkers } from '../worker/piscina-workers.ts'
import { verifyChainTask } from './x509-task.ts'
import type { ChainQuestion, SharedTrust } from './x509-task.ts'

/**
 * Microseconds of processor per verification of a leaf and an intermediate below a root: `node authsvc/methods/x509.bench.ts`.
 * First in one thread, with leaves that are new and with leaves seen before; then through the worker threads.
 */
const LEAVES = 100
const lab = new CertificateLab()

function shared(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length))
  copy.set(bytes)
  return copy
}

/** Microseconds of processor, all threads of this process. */
async function cost(count: number, run: () => void | Promise<void>): Promise<string> {
  const before = process.cpuUsage()
  const startMs = performance.now()
  await run()
  const { user, system } = process.cpuUsage(before)
  return `${((user + system) / count).toFixed(1)} µs CPU, ${(((performance.now() - startMs) * 1e3) / count).toFixed(1)} µs`
}

async function measure(key: KeyKind): Promise<void> {
  const root = lab.authority('/CN=root', { key })
  const middle = lab.authority('/CN=middle', { key, issuer: root })
  const leaves = Array.from({ length: LEAVES }, (_, index) => lab.issue({ subject: `/CN=leaf ${index}`, key, issuer: middle }).der)
  const trustOf = (version: string): SharedTrust => ({ version, anchors: shared(root.der), lists: new Uint8Array() })
  const ask = (leaf: Uint8Array, trust: SharedTrust): ChainQuestion => ({
    certificates: [leaf, middle.der].map(der => Uint8Array.from(der)),
    trust,
    nowMs: Date.now(),
  })
  const verify = (trust: SharedTrust): void => {
    for (const leaf of leaves) if (verifyChainTask(ask(leaf, trust)).is !== 'trusted') throw new Error('not trusted')
  }
  verify(trustOf(`${key} warm`))
  const rounds = 5
  // Another version of the trust is another verdict: what is known of the authorities stays.
  const fresh = await cost(rounds * LEAVES, () => {
    for (let round = 0; round < rounds; round++) verify(trustOf(`${key} ${round}`))
  })
  const again = await cost(rounds * LEAVES * 10, () => {
    for (let round = 0; round < rounds * 10; round++) verify(trustOf(`${key} 0`))
  })
  console.log(`${key}: new leaf ${fresh}; seen before ${again}`)
  const workers = openWorkers({ threads: 1, queueMax: 10_000, timers: systemTimers })
  const passOver = async (trust: SharedTrust): Promise<void> => {
    await Promise.all(leaves.map(leaf => workers.run('x509', ask(leaf, trust))))
  }
  await passOver(trustOf('warm'))
  const freshThread = await cost(rounds * LEAVES, async () => {
    for (let round = 0; round < rounds; round++) await passOver(trustOf(String(round)))
  })
  const againThread = await cost(rounds * LEAVES, async () => {
    for (let round = 0; round < rounds; round++) await passOver(trustOf('warm'))
  })
  console.log(`${key}, one worker thread and the way there and back: new leaf ${freshThread}; seen before ${againThread}`)
  await workers.close()
}

for (const key of ['EC', 'RSA', 'Ed25519'] as const) await measure(key)
lab.close()
