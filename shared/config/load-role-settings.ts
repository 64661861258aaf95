import { X509Certificate } from 'node:crypto'
import { thrownText } from '../base/thrown.ts'
import type { LinkAddress } from '../rpc/link-address.ts'
import type { ResourceSnapshot } from '../resources/resource-snapshot.ts'
import { limitSettings } from './broker-settings.ts'
import { readPorts } from './listeners.ts'
import { tlsFault } from './tls-fault.ts'
import { resolveLimits, type Surroundings } from './load-broker-settings.ts'
import {
  type Environment,
  flagName,
  type GivenFlags,
  mistypedVariables,
  readFlags,
  resolveSettings,
  variableName,
} from './read-settings.ts'
import type { RedisUrl } from './redis-url.ts'
import {
  type AuthsvcRoleSettings,
  authsvcSettings,
  type BackendRoleSettings,
  backendSettings,
  CLUSTER_KEY_LENGTH_MIN,
  frontendSettings,
  type FrontendRoleSettings,
  type linkSettings,
  type MemberSettings,
  memberSettings,
  type RedisTlsFiles,
  type RpcSettings,
  type RpcTls,
} from './role-settings.ts'
import type { Settings, ValuesOf } from './setting.ts'
import { SettingsError } from './settings-error.ts'
import type { SettingsGroup } from './settings-page.ts'

const MEMBERSHIP: SettingsGroup = { title: 'Membership, links and files', settings: memberSettings }
const LIMITS: SettingsGroup = { title: 'Limits and behaviour, the same in every process of a cluster', settings: limitSettings }

/** The flags of each role, as help and docs list them. */
export const FRONTEND_SETTINGS: readonly SettingsGroup[] = [{ title: 'Ports and workers', settings: frontendSettings }, MEMBERSHIP, LIMITS]
export const BACKEND_SETTINGS: readonly SettingsGroup[] = [{ title: 'Port and state', settings: backendSettings }, MEMBERSHIP, LIMITS]
export const AUTHSVC_SETTINGS: readonly SettingsGroup[] = [{ title: 'Port', settings: authsvcSettings }, MEMBERSHIP, LIMITS]

/** The environment may be one for all roles. */
const ANY_ROLE: Settings = { ...frontendSettings, ...backendSettings, ...memberSettings, ...limitSettings }

/** What the outside world gives to a role. */
export interface RoleSurroundings extends Surroundings {
  readonly hostName: string
}

export interface LoadedRole<T> {
  readonly settings: T
  /** For the log: what was accepted and has no effect, or should be otherwise. */
  readonly warnings: readonly string[]
}

/**
 * All that `millrace frontend` is told, checked and resolved.
 * @throws {SettingsError} with one line for every fault of flags, environment and files
 */
export function loadFrontendSettings(args: readonly string[], surroundings: RoleSurroundings): LoadedRole<FrontendRoleSettings> {
  return load({ ...frontendSettings, ...memberSettings, ...limitSettings }, args, surroundings, (values, member, source) => {
    const { flags, environment, snapshot, faults } = source
    const ports = readPorts({ values, flags, environment, snapshot, readFile: surroundings.readFile }, faults)
    return { ...member, ...ports, workers: values.workers, reusePort: values.reusePort }
  })
}

/** All that `millrace backend` is told. @throws {SettingsError} as above */
export function loadBackendSettings(args: readonly string[], surroundings: RoleSurroundings): LoadedRole<BackendRoleSettings> {
  return load({ ...backendSettings, ...memberSettings, ...limitSettings }, args, surroundings, (values, member, { faults }) => {
    const { redundancyFactor } = values
    return {
      ...member,
      ...readRpc(values, faults),
      redundancyFactor,
      persistence: values.persistence ?? (redundancyFactor >= 2 ? 'replicated' : 'stored'),
    }
  })
}

/** All that `millrace authsvc` is told. @throws {SettingsError} as above */
export function loadAuthsvcSettings(args: readonly string[], surroundings: RoleSurroundings): LoadedRole<AuthsvcRoleSettings> {
  return load({ ...authsvcSettings, ...memberSettings, ...limitSettings }, args, surroundings, (values, member, { faults }) => ({
    ...member,
    ...readRpc(values, faults),
  }))
}

function readRpc({ rpc, advertise }: ValuesOf<typeof authsvcSettings>, faults: string[]): RpcSettings {
  if (advertise === null && isEveryAddress(rpc))
    faults.push('flag --rpc: binds to every address; --advertise says which one others shall dial')
  if (advertise !== null && isEveryAddress(advertise))
    faults.push('flag --advertise: nobody can dial that; give the address of this process')
  return { rpc, advertise }
}

/** Where the values of one role come from. */
interface Source {
  readonly flags: GivenFlags
  readonly environment: Environment
  readonly snapshot: ResourceSnapshot | null
  readonly faults: string[]
}

type MemberValues = ValuesOf<typeof memberSettings & typeof limitSettings>

function load<S extends typeof memberSettings & typeof limitSettings, T>(
  declared: S & Settings,
  args: readonly string[],
  surroundings: RoleSurroundings,
  finish: (values: ValuesOf<S>, member: MemberSettings, source: Source) => T,
): LoadedRole<T> {
  const { environment, snapshot } = surroundings
  const flags = readFlags(declared, args)
  const faults: string[] = []
  const values = resolveSettings(declared, flags, environment, snapshot?.values) as ValuesOf<S>
  const member = resolveMember(values as MemberValues, surroundings, faults)
  const settings = finish(values, member, { flags, environment, snapshot, faults })
  if (faults.length > 0) throw new SettingsError(faults)
  return {
    settings,
    warnings: [
      ...(snapshot?.warnings ?? []),
      ...secretWarnings(flags, values as MemberValues),
      ...mistypedVariables(ANY_ROLE, environment),
    ],
  }
}

function resolveMember(values: MemberValues, surroundings: RoleSurroundings, faults: string[]): MemberSettings {
  const { clusterName, metrics, logLevel, logLinesPerSecond } = values
  const id = values.id ?? surroundings.hostName
  const links = readLinkSettings(values, surroundings.readFile, faults)
  if (values.clusterKey === null && values.clusterKeyFile === null && links.rpcTls === null) faults.push(noProof())
  return {
    clusterName,
    id,
    redis: readRedis(values, surroundings.readFile, faults),
    redisTls: readRedisTls(values, surroundings.readFile, faults),
    ...links,
    metrics,
    logLevel,
    logLinesPerSecond,
    limits: resolveLimits(values, surroundings.memory),
  }
}

function noProof(): string {
  return `environment ${variableName('clusterKey')}: is missing, as are ${flagName('clusterKeyFile')} and --rpc-tls-cert; without one of them anybody could join the cluster`
}

/** Key and certificates of the internal links. */
export function readLinkSettings(
  values: ValuesOf<typeof linkSettings>,
  readFile: (path: string) => string,
  faults: string[],
): Pick<MemberSettings, 'clusterKey' | 'rpcTls'> {
  const clusterKey = readSecret('clusterKey', values.clusterKey, 'clusterKeyFile', values.clusterKeyFile, readFile, faults)
  if (clusterKey !== null && clusterKey.length < CLUSTER_KEY_LENGTH_MIN)
    faults.push(`the cluster key: expected at least ${CLUSTER_KEY_LENGTH_MIN} characters, such as the output of: openssl rand -hex 32`)
  return { clusterKey, rpcTls: readRpcTls(values, readFile, faults) }
}

function readRpcTls(values: ValuesOf<typeof linkSettings>, readFile: (path: string) => string, faults: string[]): RpcTls | null {
  const { encryptInternalTraffic, rpcTlsCert, rpcTlsKey, rpcTlsCa } = values
  if (encryptInternalTraffic === 'Disabled') return null
  if (rpcTlsCert === null && rpcTlsKey === null && rpcTlsCa === null && encryptInternalTraffic === 'Auto') return null
  if (rpcTlsCert === null || rpcTlsKey === null || rpcTlsCa === null) {
    const why =
      encryptInternalTraffic === 'Enabled' ? 'encryptInternalTraffic is Enabled' : 'flags --rpc-tls-cert, --rpc-tls-key, --rpc-tls-ca'
    faults.push(`${why}: mutual TLS needs --rpc-tls-cert FILE, --rpc-tls-key FILE and --rpc-tls-ca FILE`)
    return null
  }
  const [cert, key, ca] = [
    readText('rpcTlsCert', rpcTlsCert, readFile, faults),
    readText('rpcTlsKey', rpcTlsKey, readFile, faults),
    readText('rpcTlsCa', rpcTlsCa, readFile, faults),
  ]
  if (cert === null || key === null || ca === null) return null
  const fault = tlsFault({ cert, key, clientCa: ca }) ?? purposeFault(cert)
  if (fault !== null) faults.push(`flags --rpc-tls-cert, --rpc-tls-key, --rpc-tls-ca: ${fault}`)
  return { cert, key, ca, serverName: values.rpcTlsName }
}

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** A member dials and is dialed with the same certificate; the other end would refuse one for half of that without saying why. */
function purposeFault(cert: string): string | null {
  // Undefined when the certificate does not say: then it is for everything.
  const purposes = new X509Certificate(cert).keyUsage as readonly string[] | undefined
  return purposes === undefined || (purposes.includes(SERVER_AUTH) && purposes.includes(CLIENT_AUTH))
    ? null
    : 'the certificate must be for both ends of a link: extended key usage serverAuth and clientAuth'
}

function readRedisTls(values: MemberValues, readFile: (path: string) => string, faults: string[]): RedisTlsFiles {
  const { redisTlsCa, redisTlsCert, redisTlsKey } = values
  if ((redisTlsCert === null) !== (redisTlsKey === null)) faults.push('flags --redis-tls-cert, --redis-tls-key: each needs the other')
  return {
    ca: redisTlsCa === null ? null : readText('redisTlsCa', redisTlsCa, readFile, faults),
    cert: redisTlsCert === null ? null : readText('redisTlsCert', redisTlsCert, readFile, faults),
    key: redisTlsKey === null ? null : readText('redisTlsKey', redisTlsKey, readFile, faults),
  }
}

const NO_REDIS: RedisUrl = {
  kind: 'standalone',
  addresses: [],
  isTls: false,
  username: '',
  password: '',
  database: 0,
  masterName: '',
  sentinelUsername: '',
  sentinelPassword: '',
}

function readRedis(values: MemberValues, readFile: (path: string) => string, faults: string[]): RedisUrl {
  const password = readSecret('redisPassword', values.redisPassword, 'redisPasswordFile', values.redisPasswordFile, readFile, faults)
  if (values.redis === null) faults.push('flag --redis: is missing: --redis URL, or MILLRACE_REDIS in the environment')
  // What stands here beside a fault is never used.
  return { ...(values.redis ?? NO_REDIS), ...(password !== null && { password }) }
}

/** From the environment or a file; an empty one counts as none. */
function readSecret(
  name: string,
  given: string | null,
  fileName: string,
  file: string | null,
  readFile: (path: string) => string,
  faults: string[],
): string | null {
  if (given !== null && file !== null) {
    faults.push(`flag ${flagName(fileName)}: environment ${variableName(name)} gives the same; keep one of them`)
    return null
  }
  if (file === null) return given
  const found = readText(fileName, file, readFile, faults)
  if (found === null) return null
  const text = found.replace(/\r?\n$/, '')
  if (text === '') faults.push(`flag ${flagName(fileName)}: ${file} is empty`)
  return text
}

function readText(name: string, file: string, readFile: (path: string) => string, faults: string[]): string | null {
  try {
    return readFile(file)
  } catch (error) {
    faults.push(`flag ${flagName(name)}: ${thrownText(error)}`)
    return null
  }
}

function secretWarnings(flags: GivenFlags, values: MemberValues): readonly string[] {
  const isVisible = flags.has('redis') && values.redis !== null && values.redis.password + values.redis.sentinelPassword !== ''
  return isVisible
    ? ['flag --redis: everybody on this machine can read the password there; use MILLRACE_REDIS or --redis-password-file']
    : []
}

function isEveryAddress(address: LinkAddress): boolean {
  return 'host' in address && ['0.0.0.0', '::'].includes(address.host)
}
