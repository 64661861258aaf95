import { expect, test } from 'vitest'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import { snapshotOf, type WrittenResources } from '#shared/resources/snapshot-of.contract.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { auditChanges, openAudit } from './open-audit.ts'

const API = 'apiVersion: mqttbroker.iotoperations.azure.com/v1'

/** Names the Secret `people` and the ConfigMap `client-ca`. */
const MACHINES = `
${API}
kind: BrokerAuthentication
metadata:
  name: machines
spec:
  authenticationMethods:
    - method: X509
      x509Settings: {}
    - method: Password
      passwordSettings:
        secretRef: people
`

const HELD = { secrets: { 'people/users': 'first', 'other/key': 'unnamed' }, configMaps: { 'client-ca/ca.crt': 'PEM' } }

const resources = (held: WrittenResources, yaml = MACHINES): ResourceSnapshot => snapshotOf({ yaml: { 'a.yaml': yaml }, ...held })

function linesOf(before: ResourceSnapshot | null, after: ResourceSnapshot): unknown[] {
  const log = new RecordingLog()
  auditChanges(openAudit(log, 10), before, after)
  return log.lines.map(({ fields }) => fields)
}

test('a Secret or ConfigMap that a resource names and that changes is a line with kind, name and version', () => {
  const before = resources(HELD)
  const after = resources({ secrets: { ...HELD.secrets, 'people/users': 'second' }, configMaps: { 'client-ca/ca.crt': 'PEM 2' } })
  const version = expect.stringMatching(/^[0-9a-f]{16}$/) as unknown
  expect(linesOf(before, after)).toEqual([
    { audit: true, change: 'content_changed', kind: 'Secret', name: 'people', detail: version },
    { audit: true, change: 'content_changed', kind: 'ConfigMap', name: 'client-ca', detail: version },
  ])
  expect(JSON.stringify(linesOf(before, after))).not.toMatch(/second|PEM 2|users|ca\.crt/)
  expect(linesOf(after, before)[0], 'the version is that of what it holds').toEqual(linesOf(null, before)[1])
})

test('one that goes is gone, one that comes is taken; a key more is another version', () => {
  const [without, with1] = [resources({ configMaps: HELD.configMaps }), resources(HELD)]
  const with2 = resources({ ...HELD, secrets: { ...HELD.secrets, 'people/more': '' } })
  const person = { audit: true, kind: 'Secret', name: 'people' }
  expect(linesOf(with1, without)).toEqual([{ ...person, change: 'content_gone', detail: '' }])
  expect(linesOf(without, with1)).toMatchObject([{ ...person, change: 'content_changed' }])
  expect(linesOf(with1, with2)).toMatchObject([{ ...person, change: 'content_changed' }])
})

test('what nobody names, what is read again as it was, and what is no longer named are no lines', () => {
  const before = resources(HELD)
  expect(linesOf(before, resources({ ...HELD, secrets: { 'other/key': 'changed', 'people/users': 'first' } }))).toEqual([])
  const unnamed = resources(HELD, MACHINES.slice(0, MACHINES.indexOf('    - method: Password')))
  expect(linesOf(before, unnamed)).toMatchObject([{ change: 'resource_taken', kind: 'BrokerAuthentication', name: 'machines' }])
})
