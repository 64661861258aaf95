import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readSnapshot } from './read-snapshot.ts'
import { JsonDocument } from './resource-document.ts'
import { DOCUMENTS_MAX, readYaml } from './yaml-document.ts'

const KINDS = ['Broker', 'BrokerListener', 'BrokerAuthentication', 'BrokerAuthorization', 'ConfigMap', 'Secret', 'ServiceAccount']
const NOTHING_MOUNTED = { mountedSecret: () => null, mountedConfigMap: () => null }

function faultsOf(text: string): readonly string[] {
  const faults: string[] = []
  readSnapshot({ documents: readYaml('a.yaml', text, faults), ...NOTHING_MOUNTED }, faults)
  return faults
}

/** Names that lead deep into the readers, and values that are none of what they expect. */
const FIELDS =
  `spec metadata annotations name namespace data stringData ports port tls automatic manual secretName authenticationMethods method
  x509 x509Settings custom customSettings auth attributes authorizationAttributes authorizationPolicies rules principals clientids brokerResources
  topics listenerRef persistence diagnostics authenticationEnabled authorizationRef stateStoreResources keys __proto__ constructor toString`.split(
    /\s+/,
  )
const { value } = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { maxDepth: 6, depthSize: 'medium' },
    fc.constantFrom<unknown>(null, true, 0, 1883, -1, '', 'X509', 'Publish', 'own', 'a/#', '{principal.clientId}'),
    fc.array(tie('value'), { maxLength: 4 }),
    fc
      .array(fc.tuple(fc.constantFrom(...FIELDS), tie('value')), { maxLength: 6 })
      .map(entries => JSON.parse(objectText(entries)) as unknown),
  ),
}))

/** JSON.parse makes of `__proto__` a name like any other. */
function objectText(entries: readonly (readonly [string, unknown])[]): string {
  return `{${entries.map(([name, field]) => `${JSON.stringify(name)}:${JSON.stringify(field)}`).join()}}`
}

test('no value throws, and none is silently half read', () => {
  fc.assert(
    fc.property(fc.constantFrom(...KINDS), value, fc.jsonValue(), fc.boolean(), (kind, spec, other, isOld) => {
      const apiVersion = KINDS.indexOf(kind) > 3 ? 'v1' : `mqttbroker.iotoperations.azure.com/${isOld ? 'v1beta1' : 'v1'}`
      const documents = [
        new JsonDocument({ apiVersion, kind, metadata: { name: 'default' }, spec, data: spec }, `${kind} ns/default`),
        new JsonDocument({ apiVersion, kind, metadata: spec, spec: other }, 'x'),
        new JsonDocument(other, 'y'),
      ]
      const faults: string[] = []
      const snapshot = readSnapshot({ documents, ...NOTHING_MOUNTED }, faults)
      expect(snapshot.faults.flatMap(found => found.faults)).toEqual(faults)
      expect(faults.some(fault => fault.startsWith('y: '))).toBe(true)
    }),
    { numRuns: 1_000 },
  )
})

test('no text throws', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), text => void faultsOf(text)),
    { numRuns: 500 },
  )
})

test('brackets within brackets', () => {
  expect(faultsOf('['.repeat(20_000))).toContain('a.yaml:1: is nested too deeply')
})

test('aliases that would unfold into a huge value', () => {
  const levels = Array.from(
    { length: 12 },
    (_, index) =>
      `a${index}: &a${index} [${
        index === 0
          ? 'x'
          : Array(10)
              .fill(`*a${index - 1}`)
              .join(', ')
      }]`,
  )
  const faults = faultsOf(levels.join('\n'))
  expect(faults).toHaveLength(1)
  expect(faults[0]).toContain('a.yaml:1: ')
})

test('an alias of what it stands in', () => {
  const head = 'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerListener\nmetadata: {name: own}\n'
  expect(faultsOf(`${head}spec: &s\n  ports: []\n  serviceName: *s`)[0]).toContain('a.yaml:6: spec.serviceName: expected a name')
})

test('twenty thousand wrong entries cost no more than they must', () => {
  const head = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\ndata:\n'
  const entries = Array.from({ length: 20_000 }, (_, index) => `  k${index}: 1`).join('\n')
  expect(faultsOf(head + entries)).toHaveLength(100)
  const subject = `CN=x${' '.repeat(200_000)}y`
  const listener = `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerAuthentication\nmetadata: {name: own}\nspec: {authenticationMethods: [{method: X509, x509Settings: {authorizationAttributes: {a: {subject: "${subject}", attributes: {}}}}}]}`
  expect(faultsOf(listener)[0]).toContain('is no distinguished name: a name of more than 8192 characters')
})

test('a hundred warnings of one document are enough, however many old names it has', () => {
  const rules = '    - {principals: {clientids: [a]}, brokerResources: []}\n'.repeat(500)
  const text = `apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: BrokerAuthorization\nmetadata: {name: own}\nspec:\n  authorizationPolicies:\n    rules:\n${rules}`
  const faults: string[] = []
  const snapshot = readSnapshot({ documents: readYaml('a.yaml', text, faults), ...NOTHING_MOUNTED }, faults)
  expect([faults, snapshot.warnings.length]).toEqual([[], 100])
  expect(snapshot.authorizations.get('own')?.spec.authorizationPolicies.rules?.at(-1)?.principals.clientIds).toEqual(['a'])
})

test('more documents than a file may have are one fault; more faults than a call may have arguments are all told', () => {
  expect(faultsOf('---\n{}\n'.repeat(DOCUMENTS_MAX + 1))).toEqual([`a.yaml:1: more than ${DOCUMENTS_MAX} documents`])
  const documents = Array.from({ length: 150_000 }, (_, at) => new JsonDocument(null, `d${at}`))
  const faults: string[] = []
  readSnapshot({ documents, ...NOTHING_MOUNTED }, faults)
  expect(faults.length).toBeGreaterThanOrEqual(documents.length)
})
