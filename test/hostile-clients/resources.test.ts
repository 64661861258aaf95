import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { PASSWORD, PolicedBroker, resource } from '../live-change/policed-broker.ts'

const WITHIN_MS = 20_000
const LISTENER_COUNT = 3_000
const SECRET = 'hunter2-of-the-bomb'

test('no file in the directory ends the broker, opens a port or shows a secret: what was in force stays', async () => {
  const policed = await PolicedBroker.start({ alice: { publish: ['own'], subscribe: ['own'] } })
  const { broker } = policed
  const client = await policed.connect('alice')
  for (const round of [LARGE, LISTENERS, BOMBS]) {
    await Promise.all(Object.entries(round).map(([name, text]) => writeFile(join(policed.directory, `${name}.yaml`), text)))
    // Each is told of, none hides another.
    const untold = (): string[] => Object.keys(round).filter(name => !broker.err.includes(`${name}.yaml`))
    await expect.poll(untold, { timeout: WITHIN_MS }).toEqual([])
    expect((await client.publish({ topic: 'own', qos: 1 }))!.reason).toBeLessThan(0x80)
    expect(await client.publish({ topic: 'other', qos: 1 })).toMatchObject({ reason: 0x87 })
    expect((await fetch(`${broker.metricsUrl}/livez`)).status).toBe(200)
    await Promise.all(Object.keys(round).map(name => rm(join(policed.directory, `${name}.yaml`))))
  }
  await expect
    .poll(async () => ((await (await fetch(`${broker.metricsUrl}/readyz`)).json()) as { impaired: unknown }).impaired, {
      timeout: WITHIN_MS,
    })
    .toEqual([])
  for (const secret of [SECRET, PASSWORD]) expect(broker.err.includes(secret)).toBe(false)
  expect(broker.err).not.toContain('uncaught_exception')
  await client.ping()
  client.drop()
}, 60_000)

const manifest = (kind: string, name: string, rest: string): string =>
  `apiVersion: ${kind === 'Secret' ? 'v1' : 'mqttbroker.iotoperations.azure.com/v1'}\nkind: ${kind}\nmetadata: {name: ${name}}\n${rest}\n`
const laughs = [
  'a: &a [x,x,x,x,x,x,x,x,x,x]',
  ...Array.from('bcdefghij', (name, at) => `${name}: &${name} [${`*${'abcdefghi'[at]!},`.repeat(10)}]`),
]
const LARGE = { 'larger-than-a-file-may-be': Buffer.alloc(4 * 1024 * 1024 + 1, '#') }
const LISTENERS = {
  listeners: Array.from({ length: LISTENER_COUNT }, (_, at) =>
    resource('BrokerListener', `l${at}`, { ports: [{ port: 40_000, host: '127.0.0.1' }] }),
  ).join('\n---\n'),
}
const BOMBS = {
  'aliases-of-aliases': laughs.join('\n'),
  'holds-itself': manifest('Broker', 'b', 'spec: &s {x: *s}'),
  brackets: '['.repeat(20_000),
  braces: '{a: '.repeat(20_000),
  indentation: Array.from({ length: 1_000 }, (_, at) => `${' '.repeat(at)}a:`).join('\n'),
  'key-of-a-megabyte': `${'k'.repeat(1_000_000)}: 1`,
  'no-text': Buffer.alloc(10_000, 0xff),
  documents: '---\n{}\n'.repeat(100_000),
  'tag-that-makes-objects': manifest('Broker', 'b', 'spec: !!js/function "function(){process.exit()}"'),
  prototype: resource('BrokerAuthorization', 'proto', JSON.parse('{"__proto__": {"authorizationPolicies": {"rules": []}}}') as object),
  'secret-of-the-wrong-type': manifest('Secret', 'users2', `stringData: {list: [{name: alice, password: ${SECRET}}]}`),
  'secret-that-is-no-yaml': manifest('Secret', 'users3', `stringData: {list: "${SECRET}\n]`),
  'reference-that-leads-elsewhere': resource('BrokerAuthentication', 'up', {
    authenticationMethods: [{ method: 'Password', passwordSettings: { secretRef: '../../../etc/shadow' } }],
  }),
  'name-that-leads-elsewhere': resource('BrokerListener', '../../up', { ports: [{ port: 0 }] }),
}
