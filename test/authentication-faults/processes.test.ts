import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { makePasswordHash } from '../../authsvc/credentials/password-hash.ts'
import { requestOf } from '../../authsvc/methods/method-rig.contract.ts'
import { AuthDialers } from '../../frontend/authentication/auth-dialers.ts'
import { AuthenticationCalls } from '../../frontend/authentication/authentication-calls.ts'
import { linkDialers } from '#shared/cluster/member-dialers.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { ImmediateTurn } from '#shared/base/turn.ts'
import { Membership } from '#shared/cluster/membership.ts'
import { RedisRegistry } from '#shared/cluster/redis-registry.ts'
import { parseRedisUrl, type RedisUrl } from '#shared/config/redis-url.ts'
import { DirectorySource } from '#shared/resources/directory-source.ts'
import type { PortPolicy, Verdict } from '#shared/rpc/authentication.ts'
import { LINK_TICK_MS, LinkHub } from '#shared/rpc/link-hub.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { type RedisServer, startRedis, until } from '#shared/testing/redis-server.ts'

const ROOT = join(import.meta.dirname, '../..')
const KEY = 'a key for tests, long enough'
const CLUSTER = 'authentication-faults'

const LIMITS = { answerMs: 1_000 }
/** At a time: each costs a hash of a password. */
const ASKS = 6

let redis: RedisServer
let directory: string
let policy: PortPolicy
let frontend: Frontend
const children = new Map<string, ChildProcess>()

/** Secrets of the users named, all with their name as password. */
async function writeUsers(...names: readonly string[]): Promise<void> {
  const users = stringify(names.map(name => ({ name, password: makePasswordHash('scrypt', Buffer.from(name)) })))
  const file = join(directory, 'users.yaml')
  await writeFile(`${file}.new`, stringify({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'users' }, stringData: { users } }))
  // At once, as whoever watches must never see half of it.
  await rename(`${file}.new`, file)
}

async function writeResources(): Promise<void> {
  const resource = (kind: string, spec: object) =>
    stringify({ apiVersion: 'mqttbroker.iotoperations.azure.com/v1', kind, metadata: { name: 'main' }, spec })
  await writeFile(
    join(directory, 'policies.yaml'),
    [
      resource('BrokerAuthentication', { authenticationMethods: [{ method: 'Password', passwordSettings: { secretRef: 'users' } }] }),
      resource('BrokerAuthorization', {
        authorizationPolicies: { rules: [{ principals: { usernames: ['alice', 'bob'] }, brokerResources: [{ method: 'Connect' }] }] },
      }),
    ].join('---\n'),
  )
  await writeUsers('alice', 'bob', 'carol')
  const source = new DirectorySource(directory)
  await source.start()
  const { authentications, authorizations } = source.current
  const refOf = ({ name, version }: { readonly name: string; readonly version: string }) => ({ name, version })
  policy = { authentication: refOf(authentications.get('main')!), authorizations: [refOf(authorizations.get('main')!)] }
  await source.stop()
}

function startService(id: string): ChildProcess {
  const flags = ['--redis', redis.url, '--cluster-name', CLUSTER, '--id', id, '--rpc', '127.0.0.1:0', '--metrics', '127.0.0.1:0']
  const environment = { PATH: process.env['PATH'], MILLRACE_CLUSTER_KEY: KEY }
  const args = [join(ROOT, 'bin/main.ts'), 'authsvc', ...flags, '--config', directory, '--shards', '8', '--log-level', 'warn']
  const child = spawn(process.execPath, args, { env: environment, stdio: 'ignore' })
  children.set(id, child)
  return child
}

/** A frontend as far as it has to do with authentication. */
class Frontend {
  readonly calls = new AuthenticationCalls(systemTimers, LIMITS)
  readonly heard: string[] = []
  readonly #log = new RecordingLog()
  readonly #hub: LinkHub = new LinkHub({ turn: new ImmediateTurn([() => this.#hub.endTurn()]), timers: systemTimers, log: this.#log })
  readonly #registry = new RedisRegistry({ url: parseRedisUrl(redis.url) as RedisUrl, clusterName: CLUSTER, log: this.#log })
  readonly #membership: Membership
  readonly #dialers: AuthDialers
  #cancelTick: () => void = () => undefined

  constructor() {
    const self = { role: 'frontend', id: 'f', instance: 'f-1', address: '' } as const
    this.#membership = new Membership({ self, registry: this.#registry, timers: systemTimers, log: this.#log })
    this.#dialers = new AuthDialers({
      membership: this.#membership,
      dialerTo: linkDialers(this.#hub, {
        self: { ...self, cluster: CLUSTER, shards: 8 },
        proof: { is: 'key', key: Buffer.from(KEY) },
        tls: null,
      }),
      calls: this.calls,
      log: this.#log,
    })
    this.calls.listen(name => this.heard.push(name))
    this.#membership.start()
    this.#tick()
  }

  async ask(name: string, password = name): Promise<Verdict> {
    return await this.calls.authenticate(requestOf({ policy, clientId: name, userName: name, password: Buffer.from(password) }))
  }

  async close(): Promise<void> {
    this.#cancelTick()
    this.calls.close()
    this.#dialers.stop()
    this.#hub.closeAll('end of test')
    await this.#membership.leave()
    this.#registry.close()
  }

  #tick(): void {
    this.#hub.tick()
    this.#cancelTick = systemTimers.after(LINK_TICK_MS, () => this.#tick())
  }
}

beforeAll(async () => {
  redis = await startRedis()
  directory = await mkdtemp(join(tmpdir(), 'millrace-authsvc-'))
  await writeResources()
  startService('a-0')
  startService('a-1')
  frontend = new Frontend()
  await until(() => frontend.calls.linkCount === 2, 'both services are linked', 30_000)
}, 60_000)

afterAll(async () => {
  await frontend?.close()
  for (const child of children.values()) child.kill('SIGKILL')
  await redis?.dispose()
  await rm(directory, { recursive: true, force: true })
})

/** In short, what it is and whose. */
function short(verdict: Verdict): string {
  if (verdict.is === 'accepted') return `accepted ${verdict.grant.identity.userName}`
  return verdict.is === 'refused' ? `refused ${verdict.cause}` : `${verdict.is}`
}

test('services decide by the resources of their directory', async () => {
  expect(short(await frontend.ask('alice'))).toBe('accepted alice')
  expect((await frontend.ask('alice', 'wrong')).is).toBe('refused')
  expect(short(await frontend.ask('carol'))).toBe('refused no rule of main allows Connect (user name carol)')
})

test('one that is killed while it is asked: every request is answered all the same, by the other one', async () => {
  const asks = Array.from({ length: ASKS }, () => frontend.ask('alice'))
  children.get('a-0')!.kill('SIGKILL')
  expect(new Set((await Promise.all(asks)).map(short))).toEqual(new Set(['accepted alice']))
  await until(() => frontend.calls.linkCount === 1, 'its link is gone')
  expect(short(await frontend.ask('bob'))).toBe('accepted bob')
  startService('a-0')
  await until(() => frontend.calls.linkCount === 2, 'it is linked again', 30_000)
}, 60_000)

test('one that stands still: the other one is asked as well; it goes on when it moves again', async () => {
  children.get('a-0')!.kill('SIGSTOP')
  const answers = await Promise.all(Array.from({ length: ASKS }, () => frontend.ask('alice')))
  expect(new Set(answers.map(short))).toEqual(new Set(['accepted alice']))
  expect(frontend.calls.counters.resent).toBeGreaterThan(0)
  children.get('a-0')!.kill('SIGCONT')
  await until(() => frontend.calls.linkCount === 2, 'both are linked', 30_000)
}, 60_000)

test('a user that is taken out of the Secret: frontends hear of it, and a recheck by either service refuses', async () => {
  const proofs = await Promise.all(['alice', 'bob'].map(name => frontend.ask(name)))
  const [alice, bob] = proofs.map(verdict => (verdict.is === 'accepted' ? verdict.grant.proof : Buffer.alloc(0)))
  const recheck = async (clientId: string, proof: Uint8Array) =>
    (await frontend.calls.recheck({ policy, clientId, peerCertificates: null, proof })).is
  const twice = async (clientId: string, proof: Uint8Array) => [await recheck(clientId, proof), await recheck(clientId, proof)]
  expect(await twice('bob', bob!)).toEqual(['holds', 'holds'])
  frontend.heard.length = 0
  await writeUsers('alice')
  await until(() => frontend.heard.includes('main'), 'the change was told', 30_000)
  await until(async () => String(await twice('bob', bob!)) === 'refused,refused', 'both have heard of it', 30_000)
  expect((await frontend.ask('bob')).is).toBe('refused')
  expect(await recheck('alice', Buffer.from('made up'))).toBe('refused')
  expect(alice!.length).toBeGreaterThan(0)
}, 60_000)

test('one that is told to stop answers what it was asked, and ends with code 0', async () => {
  const child = children.get('a-0')!
  const ended = once(child, 'exit')
  const asks = Array.from({ length: ASKS }, () => frontend.ask('alice'))
  child.kill('SIGTERM')
  expect(new Set((await Promise.all(asks)).map(short))).toEqual(new Set(['accepted alice']))
  expect(await ended).toEqual([0, null])
  await until(() => frontend.calls.linkCount === 1, 'its link is gone')
  expect(short(await frontend.ask('alice'))).toBe('accepted alice')
}, 60_000)

test('none is left: nobody is let in', async () => {
  children.get('a-1')!.kill('SIGKILL')
  await until(() => frontend.calls.linkCount === 0, 'no link is left')
  expect(await frontend.ask('alice')).toEqual({ is: 'unavailable', cause: 'no authentication service can be reached' })
})
