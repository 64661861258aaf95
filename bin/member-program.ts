import { hostname } from 'node:os'
import type { LiveSettings, LoadedSettings } from '#shared/config/live-settings.ts'
import { systemSurroundings } from '#shared/config/load-broker-settings.ts'
import type { RoleSurroundings } from '#shared/config/load-role-settings.ts'
import type { MemberSettings } from '#shared/config/role-settings.ts'
import type { SettingsGroup } from '#shared/config/settings-page.ts'
import { type Log, openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { openLiveSettings } from './open-live-settings.ts'
import { runProgram } from './program.ts'
import type { RunningRole } from './roles/running-role.ts'

/** Reads what a member of a cluster is told. */
export interface MemberReading<S extends MemberSettings> {
  /** Every setting that the command takes. */
  readonly groups: readonly SettingsGroup[]
  readonly load: (args: readonly string[], surroundings: RoleSurroundings) => LoadedSettings<S>
}

/** What a process of a cluster has before it is anything in particular. */
export interface MemberProcess<S extends MemberSettings> {
  readonly live: LiveSettings<S>
  readonly log: Log
  readonly registry: MetricsRegistry
}

/** @throws {SettingsError} every fault of flags, environment and resources */
export async function openMember<S extends MemberSettings>(
  args: readonly string[],
  { groups, load }: MemberReading<S>,
): Promise<MemberProcess<S>> {
  const log = openLog('info')
  const live = await openLiveSettings(groups, args, log, snapshot =>
    load(args, { ...systemSurroundings(process.env, snapshot), hostName: hostname() }),
  )
  return { live, log, registry: new MetricsRegistry([['host', live.settings.id]]) }
}

/** Runs a member that clients do not connect to, until a signal. Answers the exit code. @throws {SettingsError} as `openMember` */
export async function runMember<S extends MemberSettings>(
  name: string,
  args: readonly string[],
  reading: MemberReading<S>,
  start: (live: LiveSettings<S>, log: Log, metrics: MetricsRegistry) => Promise<RunningRole>,
): Promise<number> {
  const { live, log, registry } = await openMember(args, reading)
  const { metrics, limits } = live.settings
  return runProgram({
    name,
    admin: null,
    metrics,
    drainDelayMs: 0,
    drainTimeoutMs: limits.drainTimeoutMs,
    log,
    registry,
    start: () => start(live, log, registry),
    stopWatching: () => live.stop(),
  })
}
