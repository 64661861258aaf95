import { expect, test } from 'vitest'
import { snapshotOf } from './snapshot-of.contract.ts'
import { updateFaults } from './update-faults.ts'

function broker(spec: string) {
  return snapshotOf({
    yaml: { 'b.yaml': `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: Broker\nmetadata: {name: default}\nspec: ${spec}` },
  })
}

const chain = (partitions: number, redundancyFactor: number): string =>
  `{cardinality: {backendChain: {partitions: ${partitions}, redundancyFactor: ${redundancyFactor}}}}`

test.each<readonly [name: string, before: string, after: string, faults: readonly string[]]>([
  [
    'more partitions',
    chain(2, 2),
    chain(4, 2),
    ['b.yaml:1: spec.cardinality.backendChain.partitions: was 2 when the broker was created and cannot be changed to 4'],
  ],
  [
    'more shards',
    '{millrace: {shards: 32}}',
    '{millrace: {shards: 64}}',
    ['b.yaml:1: spec.millrace.shards: was 32 when the broker was created and cannot be changed to 64'],
  ],
  ['everything else', chain(2, 2), chain(2, 3).replace('{card', '{memoryProfile: Low, card'), []],
  ['partitions given for the first time', '{}', chain(2, 2), []],
  ['partitions no longer given', chain(2, 2), '{}', []],
])('%s', (_, before, after, faults) => expect(updateFaults(broker(before), broker(after))).toEqual(faults))

test('a Broker that comes or goes', () => {
  const none = snapshotOf({})
  expect([updateFaults(none, broker(chain(2, 2))), updateFaults(broker(chain(2, 2)), none)]).toEqual([[], []])
})
