import type { BrokerSpec } from './broker.ts'
import type { ResourceSnapshot } from './resource-snapshot.ts'

/** What is fixed once a store has been created: everything else may change while the broker runs. */
const CREATE_ONLY: readonly (readonly [field: string, read: (spec: BrokerSpec) => number | undefined])[] = [
  ['spec.cardinality.backendChain.partitions', spec => spec.cardinality?.backendChain?.partitions],
  ['spec.millrace.shards', spec => spec.millrace?.['shards'] as number | undefined],
]

/**
 * Why `after` cannot follow `before` while the process runs; empty when it can. A field that was not given before, or is not any more,
 * says nothing about the store and is let through: the store itself refuses a number of shards that is not its own.
 */
export function updateFaults(before: Pick<ResourceSnapshot, 'broker'>, after: Pick<ResourceSnapshot, 'broker'>): readonly string[] {
  const { broker: old } = before
  const { broker: now } = after
  if (old === null || now === null) return []
  return CREATE_ONLY.flatMap(([field, read]) => {
    const was = read(old.spec)
    const is = read(now.spec)
    const isSame = was === undefined || is === undefined || was === is
    return isSame ? [] : [`${now.where}: ${field}: was ${was} when the broker was created and cannot be changed to ${is}`]
  })
}
