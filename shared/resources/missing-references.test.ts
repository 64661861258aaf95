import { expect, test } from 'vitest'
import { missingForMethods, missingReferences } from './missing-references.ts'
import { snapshotOf } from './snapshot-of.contract.ts'

const HEAD = 'apiVersion: mqttbroker.iotoperations.azure.com/v1\nkind: '

const yaml = {
  'l.yaml': `${HEAD}BrokerListener
metadata: {name: plant}
spec:
  ports:
  - {port: 1, authenticationRef: who, authorizationRef: [what, more], tls: {mode: Manual, manual: {secretRef: cert}}}
  - {port: 2, authorizationRef: what}
  - {port: 3, tls: {mode: Automatic, certManagerCertificateSpec: {issuerRef: {kind: Issuer, name: i}}}}`,
}

const authentication = `${HEAD}BrokerAuthentication
metadata: {name: who}
spec:
  authenticationMethods:
  - {method: X509, x509Settings: {revocationListConfigMap: crl, additionalValidation: AzureDeviceRegistry, deviceRegistryConfigMap: devices}}
  - {method: Custom, customSettings: {endpoint: 'https://a', caCertConfigMap: ca, auth: {x509: {secretRef: client}}}}
  - {method: Jwt, jwtSettings: {issuer: i, audiences: [a], jwksConfigMap: jwks}}
  - {method: Scram, scramSettings: {secretRef: users}}
  - {method: Password, passwordSettings: {secretRef: users}}`

const authorization = (name: string): string => `${HEAD}BrokerAuthorization\nmetadata: {name: ${name}}\nspec: {authorizationPolicies: {}}`

test('everything that is referred to and is not there', () => {
  expect(missingReferences(snapshotOf({ yaml }))).toEqual([
    'l.yaml:1: spec.ports[0].authenticationRef: there is no BrokerAuthentication who; port 1 stays closed until there is one',
    'l.yaml:1: spec.ports[0].authorizationRef: there is no BrokerAuthorization what; port 1 stays closed until there is one',
    'l.yaml:1: spec.ports[0].authorizationRef: there is no BrokerAuthorization more; port 1 stays closed until there is one',
    'l.yaml:1: spec.ports[0].tls.manual.secretRef: there is no Secret cert; port 1 stays closed until there is one',
    'l.yaml:1: spec.ports[2].tls: there is no Secret plant-3-tls; port 3 stays closed until there is one',
  ])
  const missing = missingReferences(snapshotOf({ yaml: { 'a.yaml': authentication } }))
  expect(missing.map(text => text.replace(/^a\.yaml:1: spec\.authenticationMethods/, '').replace(/; ports that.*/, ''))).toEqual([
    '[0].x509Settings.trustedClientCaCert: there is no ConfigMap client-ca',
    '[0].x509Settings.revocationListConfigMap: there is no ConfigMap crl',
    '[0].x509Settings.deviceRegistryConfigMap: there is no ConfigMap devices',
    '[1].customSettings.caCertConfigMap: there is no ConfigMap ca',
    '[1].customSettings.auth.x509.secretRef: there is no Secret client',
    '[2].jwtSettings.jwksConfigMap: there is no ConfigMap jwks',
    '[3].scramSettings.secretRef: there is no Secret users',
    '[4].passwordSettings.secretRef: there is no Secret users',
  ])
})

test('nothing when all is there', () => {
  const snapshot = snapshotOf({
    yaml: { ...yaml, 'a.yaml': authentication, 'b.yaml': authorization('what'), 'c.yaml': authorization('more') },
    secrets: { 'cert/tls.crt': 'x', 'plant-3-tls/tls.crt': 'x', 'client/tls.crt': 'x', 'users/a': 'x' },
    configMaps: { 'client-ca/a': 'x', 'crl/a': 'x', 'devices/a': 'x', 'ca/a': 'x', 'jwks/a': 'x' },
  })
  expect(missingReferences(snapshot)).toEqual([])
})

test('the first thing that the methods of one BrokerAuthentication lack', () => {
  const lacking = snapshotOf({
    yaml: { 'a.yaml': authentication },
    configMaps: { 'client-ca/a': 'x', 'crl/a': 'x', 'devices/a': 'x', 'ca/a': 'x' },
  })
  expect(missingForMethods(lacking, 'who')).toBe('there is no Secret client')
  expect(missingForMethods(lacking, 'another')).toBeNull()
})
