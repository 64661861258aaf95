/** Who takes clients with certificates: a server of node:tls alone, Millrace standalone, and a cluster of one process of each role. */
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import path from 'node:path'
import type { BenchCertificates } from '../authentication/certificates.ts'
import { makeCertificates } from '../authentication/certificates.ts'
import { certificateFiles, certificateMethod, listenerText, policyText, writeResources } from '../authentication/resources.ts'
import type { LoadOptions } from '../options.ts'
import { programBeside } from '../program.ts'
import type { Peer, RunningBroker } from './broker.ts'
import { temporaryDirectory } from './broker.ts'
import { answersReady, clusterPeer } from './cluster.ts'
import { missingMillrace, PROGRAM } from './millrace.ts'
import { accepts, freePort, ServerProcess } from './server-process.ts'

/** Rules of the policy that clients with certificates come in by. */
const RULES = 100

/** The least that a server can do with the same certificates: what a connect costs anyhow. */
export const bareTls = connectingPeer('bare-tls', missingOpenssl, async (directory, port) => {
  const certificates = makeCertificates(path.join(directory, 'pki'))
  const program = programBeside(import.meta.url, path.join('..', 'bare-tls-server'))
  return {
    command: [process.execPath, program, String(port), path.join(directory, 'pki')],
    isReady: () => accepts(port),
    set: { tls: clientTls(certificates) },
  }
})

/** Millrace standalone, everything in memory; method X509 and a policy. */
export const standaloneX509 = connectingPeer('standalone', missingAny, async (directory, port) => {
  const { path: config, set } = writeX509(directory, port)
  const metrics = `127.0.0.1:${await freePort()}`
  const flags = ['--config', config, '--store', 'memory', '--admin', `127.0.0.1:${await freePort()}`, '--metrics', metrics]
  return {
    command: [process.execPath, PROGRAM, 'start', ...flags],
    isReady: () => answersReady(`http://${metrics}/readyz`),
    set: { ...set, metricsUrl: `http://${metrics}/metrics` },
  }
})

/** The same with frontend, authentication service and backend each a process of its own. */
export const clusterX509: Peer = clusterPeer(
  'cluster',
  { persistence: 'memory', redundancyFactor: 1 },
  { frontends: 1, backends: 1, authsvcs: 1, resources: writeX509 },
)

function writeX509(directory: string, port: number): { readonly path: string; readonly set: Partial<LoadOptions> } {
  const certificates = makeCertificates(path.join(directory, 'pki'))
  const config = path.join(directory, 'resources')
  writeResources(config, {
    ...certificateFiles(certificates),
    'listener.yaml': listenerText([{ port, authentication: 'certificates', authorization: 'rules', hasTls: true }]),
    'authentication.yaml': certificateMethod('certificates'),
    'authorization.yaml': policyText('rules', RULES, { cache: 'Enabled' }),
  })
  return { path: config, set: { tls: clientTls(certificates) } }
}

function clientTls({ ca, clientChain, clientKey, issuerKey }: BenchCertificates): LoadOptions['tls'] {
  return { ca, cert: clientChain, key: clientKey, issuerKey }
}

interface ConnectingPlan {
  readonly command: readonly string[]
  readonly isReady: () => Promise<boolean>
  readonly set: Partial<LoadOptions>
}

function connectingPeer(
  name: string,
  missing: () => string | null,
  plan: (directory: string, port: number) => Promise<ConnectingPlan>,
): Peer {
  const start = async (): Promise<RunningBroker> => {
    const directory = temporaryDirectory(name)
    const port = await freePort()
    const { command, isReady, set } = await plan(directory, port)
    const server = new ServerProcess({ name, command, directory, isReady })
    const stop = async (): Promise<void> => {
      await server.stop()
      rmSync(directory, { recursive: true, force: true })
    }
    await server.ready()
    return { name, port, parts: [{ name: 'broker', pids: [server.pid] }], redisPort: null, set, stop }
  }
  return { name, lacks: [], roundsMax: Number.POSITIVE_INFINITY, missing, start }
}

function missingOpenssl(): string | null {
  return spawnSync('openssl', ['version'], { stdio: 'ignore' }).status === 0 ? null : 'openssl is not installed'
}

function missingAny(): string | null {
  return missingMillrace() ?? missingOpenssl()
}
